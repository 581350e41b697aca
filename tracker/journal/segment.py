"""A segment of the journal as bytes: its name, its header, its records. This docstring is the specification, version 1.

A segment is written by one process, from its creation to its end, and never opened for writing again.

Name
    `SEQUENCE-RANDOM.mwj` in the folder of its slot, `journal/NN/`. SEQUENCE is 16 decimal digits: the Unix time of
    creation in milliseconds, or one more than the newest segment's where that is later, so that names sort by age
    even where the clock went back or the folder was emptied. RANDOM is 8 random bytes as 16 lower-case hexadecimal
    digits.

Header (26 bytes; integers are big-endian)
    ====== ====== ==========================================================================================
    offset bytes  field
    ====== ====== ==========================================================================================
    0      4      magic: `MWJL`
    4      2      version: 1
    6      8      random: the same bytes as in the name
    14     8      created, Unix milliseconds
    22     4      CRC-32 of the 22 bytes before it
    ====== ====== ==========================================================================================

Record, as often as there are any
    ====== ====== ==========================================================================================
    0      4      n: length of the payload, 1 to 16 MiB
    4      4      CRC-32 of random, the four bytes of n, and the payload
    8      n      payload: one record in the JSON of `tracker/contract/records.py`
    ====== ====== ==========================================================================================

    CRC-32 is that of RFC 1952 §8 (zlib). It covers the length, so a run of zeros, which a crash may leave at the end
    of a file, is never a record; and the segment's random bytes, so neither is what the disk kept of an older file.

Reading
    The records of a segment are those before its first bad one: cut off, of an impossible length, or with a wrong
    checksum. What follows a bad record is not looked at: nothing says where the next one begins.

Limits: a record of more than 16 MiB cannot be written. The largest, of a message with 1,000 recipients and the most
links with the longest addresses, has less than 3 MiB.
"""

import re
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self

from tracker.contract.errors import RecordError

VERSION: Final = 1
RANDOM_BYTES: Final = 8
MAX_PAYLOAD_BYTES: Final = 16 * 1024 * 1024

_MAGIC: Final = b"MWJL"
_HEADER: Final = struct.Struct(">4sH8sQ")
_CRC: Final = struct.Struct(">I")
_FRAME: Final = struct.Struct(">II")
_NAME: Final = re.compile(r"(\d{16})-([0-9a-f]{16})\.mwj")

HEADER_BYTES: Final = _HEADER.size + _CRC.size
FRAME_BYTES: Final = _FRAME.size


class Fault(StrEnum):
    """Why a segment ends before its last byte."""

    CUT_OFF = "cut_off"
    """The last record is not whole: what a killed writer leaves; it was never answered for."""
    LENGTH = "length"
    CHECKSUM = "checksum"
    HEADER = "header"


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentName:
    """The name of a segment; `str` gives `"0001767225600000-9f86d081884c7d65.mwj"`, which sorts as `sequence` does."""

    sequence: int
    random: bytes

    def __str__(self) -> str:
        return f"{self.sequence:016d}-{self.random.hex()}.mwj"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read a file's name; None where it is no segment's."""
        match = _NAME.fullmatch(text)
        return None if match is None else cls(sequence=int(match[1]), random=bytes.fromhex(match[2]))


def names_in(files: Iterable[str]) -> list[SegmentName]:
    """Return the segments among the files of a slot, oldest first; other files are none of ours and left alone."""
    names = [name for file in files if (name := SegmentName.parse(file)) is not None]
    return sorted(names, key=lambda name: (name.sequence, name.random))


def next_name(newest: SegmentName | None, *, unix_ms: int, entropy: bytes) -> SegmentName:
    """Name a new segment, behind the newest of its slot; `entropy` is 8 random bytes."""
    return SegmentName(sequence=max(unix_ms, newest.sequence + 1 if newest else 0), random=entropy)


def header(name: SegmentName, *, unix_ms: int) -> bytes:
    """Return the header of a segment that is created now."""
    fields = _HEADER.pack(_MAGIC, VERSION, name.random, unix_ms)
    return fields + _CRC.pack(zlib.crc32(fields))


def check_header(raw: bytes, name: SegmentName) -> Fault | None:
    """Say what is wrong with the first bytes of a segment, if anything. RecordError: a later version wrote it."""
    if len(raw) < HEADER_BYTES:
        return Fault.CUT_OFF
    magic, version, random, _created = _HEADER.unpack_from(raw)
    (checksum,) = _CRC.unpack_from(raw, _HEADER.size)
    if magic != _MAGIC or checksum != zlib.crc32(raw[: _HEADER.size]) or random != name.random:
        return Fault.HEADER
    if version != VERSION:
        raise RecordError(f"segment {name} of the journal has version {version}; this release reads version {VERSION}")
    return None


class Framer:
    """Puts payloads into the frames of one segment, and takes them out."""

    __slots__ = ("_seed",)

    def __init__(self, name: SegmentName) -> None:
        self._seed = zlib.crc32(name.random)

    def frame(self, payload: bytes) -> bytes:
        """Return the record of a payload of 1 to `MAX_PAYLOAD_BYTES` bytes."""
        length = len(payload).to_bytes(4, "big")
        return b"%b%b%b" % (length, zlib.crc32(payload, zlib.crc32(length, self._seed)).to_bytes(4, "big"), payload)

    def unframe(self, raw: bytes, start: int) -> tuple[bytes, int] | Fault:
        """Read the record at `start`: its payload and where the next one begins, or what is wrong with it."""
        if len(raw) - start < FRAME_BYTES:
            return Fault.CUT_OFF
        length, checksum = _FRAME.unpack_from(raw, start)
        if not 0 < length <= MAX_PAYLOAD_BYTES:
            return Fault.LENGTH
        end = start + FRAME_BYTES + length
        if end > len(raw):
            return Fault.CUT_OFF
        payload = raw[start + FRAME_BYTES : end]
        if checksum != self._checksum(raw[start : start + _CRC.size], payload):
            return Fault.CHECKSUM
        return payload, end

    def _checksum(self, length: bytes, payload: bytes) -> int:
        return zlib.crc32(payload, zlib.crc32(length, self._seed))
