"""The layout of a spool file, version 1. This docstring is the specification; docs/reference/spool.md has a vector.

All numbers are big-endian and unsigned. A file is one message:

    offset  bytes  what
         0      8  magic, "MWSPOOL" and LF
         8      2  version, 1
        10      2  size of a row, 256
        12      4  number of rows, one for each recipient, in the envelope's order
        16      4  length E of the envelope
        20      8  length M of the message
        28      4  CRC-32 of the envelope
        32      4  CRC-32 of the bytes 0 to 31
        36      E  envelope, JSON (`relay/spool/entry.py`)
      36+E      M  message, as it was accepted
    36+E+M      4  "END" and LF
    40+E+M      4  CRC-32 of everything before these four bytes
    44+E+M         zeros up to a multiple of 512: the table begins there
                   the rows

    a row   bytes  what
         0      1  state: " " waiting, "S" in flight, "D" delivered, "F" failed, "d" and "f" the same and told,
                   "H" held back until an operator releases it
         1      1  phase of the last outcome: its place in `relay.core.attempt.Phase`, from 1; 0 for none
         2      2  attempts that count
         4      1  lower four bits: delays told (DeliveryDelay events); upper four: the upstream of the last attempt, by
                   its place in the envelope's list, from 0
         5      1  flags: 1 a failed copy was given up at the end of its lifetime, 2 no report is made of its failure,
                   4 the journal has the message's acceptance, 8 the upstream that took a copy reports on it,
                   as it offers DSN; the upper four bits: crashes with the row in flight, one after the other
         6      2  code of the last reply, 0 for none
         8      8  next attempt, Unix milliseconds
        16      8  last change, Unix milliseconds
        24      2  length of the text
        26    226  text of the last reply, or what was wrong instead: ASCII, cut; then zeros
       252      4  CRC-32 of the bytes 0 to 251

All above the table is written once. Rows are overwritten in place; each lies within one sector of the disk, so that a
power cut leaves the old or the new one, and one that is torn all the same has a wrong CRC and counts as waiting: at
worst a duplicate, never a loss. CRC-32 is that of zlib. Bytes said to be zero are written as such and not looked at.

Every later version keeps the first 36 bytes and their meaning, so that a reader can tell a file of the future
(`SpoolVersionError`: left alone, nothing is started) from a damaged one (`SpoolDamagedError`: quarantine).
"""

import io
import os
import struct
import zlib
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import BinaryIO, Final

from relay.core.attempt import Phase, UpstreamReply
from relay.spool.errors import SpoolDamagedError, SpoolVersionError

VERSION: Final = 1
ROW_BYTES: Final = 256
HEADER_BYTES: Final = 36
MAX_TEXT_BYTES: Final = 226
MAX_ENVELOPE_BYTES: Final = 1 << 26  # a thousand recipients and 10 KB of headers are 0.3 MB: more is no envelope

_MAGIC: Final = b"MWSPOOL\n"
_BEGINNING: Final = _MAGIC + VERSION.to_bytes(2, "big")
_END: Final = b"END\n"
_ALIGN: Final = 512
_HEADER: Final = struct.Struct(">8sHHIIQI")
_CRC: Final = struct.Struct(">I")
_ROW: Final = struct.Struct(">cBHBBHQQH226s")
_PHASES: Final = tuple(Phase)
_MAX_U16: Final = 0xFFFF
_MAX_U4: Final = 0xF
_EXPIRED, _UNREPORTED, _ANNOUNCED, _UPSTREAM_REPORTS = 1, 2, 4, 8
_CRASHES_SHIFT, _MAX_CRASHES = 4, 15


class State(StrEnum):
    """Where a recipient is between acceptance and its end."""

    WAITING = " "
    IN_FLIGHT = "S"
    DELIVERED = "D"
    FAILED = "F"
    DELIVERED_TOLD = "d"
    FAILED_TOLD = "f"
    HELD = "H"

    @property
    def is_finished(self) -> bool:
        """True where nothing is left to do, not even to tell."""
        return self in (State.DELIVERED_TOLD, State.FAILED_TOLD)

    @property
    def is_untold(self) -> bool:
        """True where the outcome is certain, but its event not yet durable."""
        return self in (State.DELIVERED, State.FAILED)

    @property
    def is_certain(self) -> bool:
        """True where the row must be on disk before anything follows from it."""
        return self.is_untold or self is State.HELD


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A recipient's row. `text` is sanitised by whoever makes it; times are Unix milliseconds.

    `upstream` is the place of the last attempt's upstream in the list of the envelope: 0 for the first.
    `upstream_reports`: whoever took the copy offers DSN, so that it reports the delivery, not we.
    `crashes`: how often in a row the process ended without a word while the copy was in flight. `unreported`: its
    failure makes an event, but no report. `announced`: the journal is known to have the acceptance of the message.
    """

    state: State = State.WAITING
    phase: Phase | None = None
    attempts: int = 0
    delays_told: int = 0
    upstream: int = 0
    expired: bool = False
    upstream_reports: bool = False
    unreported: bool = False
    announced: bool = False
    crashes: int = 0
    code: int = 0
    next_ms: int = 0
    changed_ms: int = 0
    text: str = ""

    @property
    def reply(self) -> UpstreamReply | None:
        """The last reply; None where there was none."""
        return UpstreamReply(self.code, self.text) if self.code else None

    def finished(self) -> "Row":
        """Return the row of a certain outcome (D, F) as told (d, f)."""
        told = {State.DELIVERED: State.DELIVERED_TOLD, State.FAILED: State.FAILED_TOLD}
        return replace(self, state=told.get(self.state, self.state))


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The lengths of a file, from its first 36 bytes."""

    rows: int
    envelope_bytes: int
    message_bytes: int
    envelope_crc: int

    @property
    def end(self) -> int:
        """Where the END record stands."""
        return HEADER_BYTES + self.envelope_bytes + self.message_bytes

    @property
    def table_at(self) -> int:
        """Where the first row stands, a multiple of 512."""
        return -(-(self.end + 8) // _ALIGN) * _ALIGN

    @property
    def file_bytes(self) -> int:
        """How long the file is: exactly so, or it is damaged."""
        return self.table_at + self.rows * ROW_BYTES

    def row_at(self, index: int) -> int:
        """Return the offset of a row; IndexError for one that is not there."""
        if not 0 <= index < self.rows:
            raise IndexError(f"row {index} of {self.rows}")
        return self.table_at + index * ROW_BYTES


def pack(envelope: bytes, message: bytes | memoryview, rows: int) -> tuple[Header, list[bytes | memoryview]]:
    """Lay a new file out, all rows waiting and due; return its header and the pieces to write one after the other."""
    if len(envelope) > MAX_ENVELOPE_BYTES:
        raise ValueError("the envelope is longer than a reader would take")
    header = Header(
        rows=rows, envelope_bytes=len(envelope), message_bytes=len(message), envelope_crc=zlib.crc32(envelope)
    )
    start = _HEADER.pack(_MAGIC, VERSION, ROW_BYTES, rows, len(envelope), len(message), header.envelope_crc)
    start += _CRC.pack(zlib.crc32(start))
    crc = zlib.crc32(_END, zlib.crc32(message, zlib.crc32(envelope, zlib.crc32(start))))
    tail = _END + _CRC.pack(crc)
    tail += bytes(header.table_at - header.end - len(tail))
    return header, [start, envelope, message, tail + pack_row(Row()) * rows]


def is_of_this_version(raw: bytes) -> bool:
    """Say whether a file begins as one of this version does; nothing else of it is looked at."""
    return raw.startswith(_BEGINNING)


def unpack_header(raw: bytes) -> Header:
    """Read the first 36 bytes. SpoolVersionError: a later version; SpoolDamagedError: not ours, or damaged."""
    if len(raw) < HEADER_BYTES or not raw.startswith(_MAGIC):
        raise SpoolDamagedError("it does not begin as a spool file does")
    _, version, row_bytes, rows, envelope_bytes, message_bytes, envelope_crc = _HEADER.unpack_from(raw)
    if zlib.crc32(raw[:32]) != _CRC.unpack_from(raw, 32)[0]:
        raise SpoolDamagedError("the checksum of its header is wrong")
    if version > VERSION:
        raise SpoolVersionError(f"it has version {version}; this release reads up to {VERSION}")
    if version < 1 or row_bytes != ROW_BYTES or envelope_bytes > MAX_ENVELOPE_BYTES or rows == 0:
        raise SpoolDamagedError("its header makes no sense")
    return Header(rows=rows, envelope_bytes=envelope_bytes, message_bytes=message_bytes, envelope_crc=envelope_crc)


def check_envelope(header: Header, envelope: bytes) -> None:
    """Compare an envelope with the header. SpoolDamagedError: it is cut or changed."""
    if len(envelope) != header.envelope_bytes or zlib.crc32(envelope) != header.envelope_crc:
        raise SpoolDamagedError("the checksum of its envelope is wrong")


def unpack(raw: bytes) -> tuple[Header, bytes, bytes, tuple[Row, ...]]:
    """Read a whole file: header, envelope, message, rows. SpoolDamagedError, SpoolVersionError: as `unpack_header`."""
    return read(io.BytesIO(raw))


def read(file: BinaryIO) -> tuple[Header, bytes, bytes, tuple[Row, ...]]:
    """Read a whole file as `unpack` does, with the message in memory once."""
    start = file.read(HEADER_BYTES)
    header = unpack_header(start)
    size = file.seek(0, os.SEEK_END)
    if size != header.file_bytes:  # before anything is read by a length that may be wrong
        raise SpoolDamagedError(f"it has {size} bytes, not {header.file_bytes}")
    file.seek(HEADER_BYTES)
    envelope, message, end, crc = (file.read(n) for n in (header.envelope_bytes, header.message_bytes, 4, 4))
    if (
        end != _END
        or zlib.crc32(end, zlib.crc32(message, zlib.crc32(envelope, zlib.crc32(start)))) != _CRC.unpack(crc)[0]
    ):
        raise SpoolDamagedError("its checksum is wrong")
    file.seek(header.table_at)
    return header, envelope, message, unpack_rows(file.read())


def pack_row(row: Row) -> bytes:
    """Return the 256 bytes of a row."""
    text = row.text.encode("ascii", "replace")[:MAX_TEXT_BYTES]
    flags = row.expired * _EXPIRED | row.unreported * _UNREPORTED | row.announced * _ANNOUNCED
    flags |= row.upstream_reports * _UPSTREAM_REPORTS
    raw = _ROW.pack(
        row.state.encode(),
        _PHASES.index(row.phase) + 1 if row.phase else 0,
        min(row.attempts, _MAX_U16),
        min(row.delays_told, _MAX_U4) | min(row.upstream, _MAX_U4) << 4,
        flags | min(row.crashes, _MAX_CRASHES) << _CRASHES_SHIFT,
        row.code if 0 < row.code <= _MAX_U16 else 0,
        max(row.next_ms, 0),
        max(row.changed_ms, 0),
        len(text),
        text,
    )
    return raw + _CRC.pack(zlib.crc32(raw))


def unpack_row(raw: bytes) -> Row:
    """Read 256 bytes; a row that is torn or makes no sense counts as a fresh one, waiting."""
    if raw == _FRESH:
        return _FRESH_ROW  # one object for all that wait for their first attempt
    if len(raw) != ROW_BYTES or zlib.crc32(raw[:-4]) != _CRC.unpack_from(raw, ROW_BYTES - 4)[0]:
        return Row()
    state, phase, attempts, delays, flags, code, next_ms, changed_ms, length, text = _ROW.unpack_from(raw)
    try:
        return Row(
            state=State(state.decode("latin-1")),
            phase=_PHASES[phase - 1] if 0 < phase <= len(_PHASES) else None,
            attempts=attempts,
            delays_told=delays & _MAX_U4,
            upstream=delays >> 4,
            expired=bool(flags & _EXPIRED),
            upstream_reports=bool(flags & _UPSTREAM_REPORTS),
            unreported=bool(flags & _UNREPORTED),
            announced=bool(flags & _ANNOUNCED),
            crashes=flags >> _CRASHES_SHIFT,
            code=code,
            next_ms=next_ms,
            changed_ms=changed_ms,
            text=text[:length].decode("ascii", "replace"),
        )
    except ValueError:
        return Row()


def unpack_rows(table: bytes) -> tuple[Row, ...]:
    """Read the table that ends the file."""
    return tuple(unpack_row(table[at : at + ROW_BYTES]) for at in range(0, len(table), ROW_BYTES))


_FRESH_ROW: Final = Row()
_FRESH: Final = pack_row(_FRESH_ROW)
