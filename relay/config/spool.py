"""`[spool]`: the mail that was accepted and is not delivered yet."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final

from pydantic import BeforeValidator, Field

from tracker.contract.address import Address
from tracker.contract.errors import AddressError
from tracker.runtime.configtypes import Count, Duration, FilePath, Kind, Section, Size
from tracker.runtime.units import UnfitError


def _address(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        address = str(Address.parse(value))
    except AddressError as error:
        raise UnfitError(f"{value!r} is no mail address: {error}", 'write it like "bounces@shop.example"') from error
    if not address.isascii():  # every report would need SMTPUTF8 all the way to its reader
        raise UnfitError(f"{value!r} is not ASCII", "give an address of ASCII for reports")
    return address


class SpoolSection(Section):
    """`[spool]`: the mail that was accepted and is not delivered yet."""

    directory: FilePath = Field(Path("var/spool"), description="Where it lies, on a local disk.")
    retry_for: Duration = Field(timedelta(days=5), description="How long delivery is tried; then the message bounces.")
    high_water: Size = Field(5 << 30, description="More than this in the spool: 452.")
    min_free: Size = Field(1 << 30, description="Less free than this on its disk, or than 1.5 max_message: 452.")
    dsn: bool = Field(default=True, description="Whether a bounce is reported to its author by mail, too (RFC 3464).")
    dsn_sender: Annotated[str, BeforeValidator(_address)] | None = Field(
        None, description="Who reports come from, where the upstream refuses the null sender."
    )
    dsn_per_hour: Count = Field(
        100, ge=1, description="The most reports to one address in an hour; above it only the events tell."
    )


SPOOL: Final = Kind(name="spool", model=SpoolSection)
