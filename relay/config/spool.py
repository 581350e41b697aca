"""`[spool]`: the mail that was accepted and is not delivered yet."""

from datetime import timedelta
from pathlib import Path
from typing import Final

from pydantic import Field

from tracker.runtime.configtypes import Duration, FilePath, Kind, Section, Size


class SpoolSection(Section):
    """`[spool]`: the mail that was accepted and is not delivered yet."""

    directory: FilePath = Field(Path("var/spool"), description="Where it lies, on a local disk.")
    retry_for: Duration = Field(timedelta(days=5), description="How long delivery is tried; then the message bounces.")
    high_water: Size = Field(5 << 30, description="More than this in the spool: 452.")
    min_free: Size = Field(1 << 30, description="Less free than this on its disk, or than 1.5 max_message: 452.")
    dsn: bool = Field(default=True, description="Whether a bounce is reported to its author by mail, too (RFC 3464).")


SPOOL: Final = Kind(name="spool", model=SpoolSection, planned=frozenset({"dsn_sender"}))
