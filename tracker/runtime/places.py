"""Where addresses are, and whose network they belong to: from databases in MaxMind's format that the operator brings.

Owns the reading of the files, and that a lookup never fails: what a damaged file answers is nothing. A file is read
whole into memory: one that is overwritten in place would pull a mapping away from under the process.

Standards: MaxMind DB file format specification 2.0. Of a record are read `country.iso_code`, else that of
`registered_country`; `autonomous_system_number`; and the flat spellings `country_code`, `country`, `asn`.

Limits: the databases say where a network is registered or seen, and are wrong for some.
"""

import io
import re
import struct
from collections.abc import Iterator, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, Self

import structlog

from tracker.runtime.units import UnfitError

if TYPE_CHECKING:
    from maxminddb import Reader

MAX_FILE_BYTES: Final = 512 << 20  # the largest that are sold have about half
_ADDRESSES_REMEMBERED: Final = 4096  # a lookup costs as much as all else of a hit
_RECORDS_TRIED: Final = 1000
_COUNTRY: Final = re.compile(r"[A-Z]{2}")
_AS_NUMBER: Final = re.compile(r"(?:AS)?([0-9]{1,10})")
_REMEDY: Final = "name a country, city or ASN database in MaxMind's format (.mmdb), or fetch it again"
# What the library lets through where a file is damaged: pointers and sizes lead anywhere.
_DAMAGED: Final = (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError, struct.error)

_log = structlog.get_logger()


class Place(NamedTuple):
    """What is known of an address: the country as ISO 3166 has it, `"DE"`, and the autonomous system's number, 8075."""

    country: str = ""
    as_number: int = 0


class Places:
    """The databases of a process, by what each knows; none of them knows nothing."""

    def __init__(self, readers: "Sequence[Reader]" = ()) -> None:
        self._readers = tuple((reader, reader.metadata().ip_version) for reader in readers)
        self._has_failed = False
        self.find = lru_cache(maxsize=_ADDRESSES_REMEMBERED)(self._find)
        """Returns the `Place` of an address; total."""

    @classmethod
    def read(cls, paths: Sequence[Path]) -> Self:
        """Read the files. UnfitError: one cannot be read, is no such database, or knows nothing that is asked here."""
        return cls([_open(path) for path in paths])

    def country_of(self, address: IPv4Address | IPv6Address) -> str:
        """Return the country of an address, `"DE"`, empty where it is not known."""
        return self.find(address).country

    def as_number_of(self, address: IPv4Address | IPv6Address) -> int:
        """Return the number of an address's autonomous system, 0 where it is not known."""
        return self.find(address).as_number

    def _find(self, address: IPv4Address | IPv6Address) -> Place:
        country, as_number = "", 0
        for reader, version in self._readers:
            if address.version > version:
                continue
            try:
                place = _place_of(reader.get(address))
            except _DAMAGED as error:
                self._warn(error)
                continue
            country, as_number = country or place.country, as_number or place.as_number
        return Place(country, as_number)

    def _warn(self, error: Exception) -> None:
        if not self._has_failed:
            self._has_failed = True
            _log.warning("place_not_found", error=type(error).__name__)


def _open(path: Path) -> "Reader":
    import maxminddb  # noqa: PLC0415 - a tenth of a second, which only those pay who have a file

    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise UnfitError(
            f"{path} cannot be read: {error.strerror}", "name a file that is there, or remove it"
        ) from error
    if len(raw) > MAX_FILE_BYTES:
        raise UnfitError(f"{path} is larger than {MAX_FILE_BYTES >> 20} MiB", "name a smaller one")
    try:
        reader = maxminddb.open_database(io.BytesIO(raw), maxminddb.MODE_FD)
        is_of_use = any(place != Place() for place in _some_places(reader))
    except _DAMAGED as error:
        raise UnfitError(f"{path} is no database of places, or a damaged one", _REMEDY) from error
    if not is_of_use:
        kind = reader.metadata().database_type
        raise UnfitError(f"{path}, {kind!r}, knows neither countries nor numbers of networks", _REMEDY)
    return reader


def _some_places(reader: "Reader") -> Iterator[Place]:
    for _network, record in islice(reader, _RECORDS_TRIED):
        yield _place_of(record)


def _place_of(record: object) -> Place:
    """Read a record, of whatever shape it is."""
    if not isinstance(record, dict):
        return Place()
    country = ""
    for name in ("country", "registered_country", "country_code"):
        value = record.get(name)
        code = value.get("iso_code") if isinstance(value, dict) else value
        if isinstance(code, str) and _COUNTRY.fullmatch(code):
            country = code
            break
    number = record.get("autonomous_system_number", record.get("asn"))
    match = _AS_NUMBER.fullmatch(str(number)) if isinstance(number, int | str) else None
    return Place(country, int(match[1]) if match is not None else 0)
