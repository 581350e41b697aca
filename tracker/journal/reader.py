"""The reading half of the journal: records of all slots from a cursor, in order, as they are written.

Owns what ends a segment, and the deletion of segments that are done with. Keeps no state: the cursor is the caller's,
stored with what it made of the records, so a crash between reading and storing repeats and loses nothing. Blocking:
call it from a thread that may wait for the disk.

Theory: a record is bad until it is whole, so the end of a segment that is being written always looks damaged. It is
final once nobody can be writing: a newer segment of the slot exists (a writer opens one when it is done with the
last), or the slot's lock is free (its process is gone, and the next one opens a segment of its own). Both are looked
at before the segment is read; afterwards would be too late, since records may have come in between.

Limits: a damaged record in a segment that is still written holds up its slot until the segment ends.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import structlog
from prometheus_client import Counter

from tracker.journal.segment import (
    FRAME_BYTES,
    HEADER_BYTES,
    MAX_PAYLOAD_BYTES,
    Fault,
    Framer,
    SegmentName,
    check_header,
    names_in,
)
from tracker.journal.space import used_bytes

DAMAGED: Final = Counter("mailwake_journal_damaged", "Segments of the journal that ended in a bad record.", ["fault"])

_CHUNK_BYTES: Final = 1024 * 1024
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """A place in a slot's journal: the name of a segment and a byte offset in it, 0 being before its header."""

    segment: str
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Damaged:
    """A segment ended at a bad record; what followed it, `lost_bytes`, is not read."""

    slot: str
    position: Position
    fault: Fault
    lost_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What was read of one slot: payloads for `records.decode` in their order, and where to go on when they are
    stored.
    """

    slot: str
    after: Position
    entries: tuple[bytes | Damaged, ...]


class JournalReader:
    """Reads `root`, the folder of all slots' folders."""

    def __init__(self, root: Path, *, slot_is_free: Callable[[str], bool], max_bytes: int | None = None) -> None:
        """`slot_is_free` says of a slot (`"00"`) that no process holds its lock; it must not keep the lock itself.

        `max_bytes` is the size that the journal may have; None is none.
        """
        self._root = root
        self._slot_is_free = slot_is_free
        self._max_bytes = max_bytes

    def read(self, cursor: Mapping[str, Position], *, max_records: int = 1000) -> list[Batch]:
        """Read on from a cursor, at most `max_records` of each slot; an empty list where nothing is new.

        The cursor has the `after` of the last stored batch of each slot; slots that it lacks are read from their
        beginning. A batch may have no entries, where only a segment ended. RecordError: a later release wrote the
        journal. OSError: it cannot be read.
        """
        batches = (self._read_slot(slot, cursor.get(slot), max_records) for slot in self._slots())
        return [batch for batch in batches if batch is not None]

    def prune(self, cursor: Mapping[str, Position], *, before: datetime) -> int:
        """Delete the segments behind the cursor that were last written before a time; return how many.

        Where the journal has more than half of its size, those behind the cursor go whatever their age, the oldest of
        each slot first: what keeps it for longer is a convenience, and room for what comes is not. The cursor's own
        segment stays, so that its slot's sequence goes on. OSError: one cannot be deleted.
        """
        deleted = 0
        too_many_bytes = 0 if self._max_bytes is None else used_bytes(self._root) - self._max_bytes // 2
        for slot in self._slots():
            position = cursor.get(slot)
            for name in self._segments(slot) if position is not None else ():
                path = self._root / slot / str(name)
                if position is None or str(name) >= position.segment:
                    break
                found = path.stat()
                if found.st_mtime < before.timestamp() or too_many_bytes > 0:
                    path.unlink()
                    deleted += 1
                    too_many_bytes -= found.st_size
        return deleted

    def _slots(self) -> list[str]:
        try:
            return sorted(path.name for path in self._root.iterdir() if len(path.name) == 2 and path.name.isdecimal())
        except FileNotFoundError:
            return []

    def _segments(self, slot: str) -> list[SegmentName]:
        return names_in(path.name for path in (self._root / slot).iterdir())

    def _read_slot(self, slot: str, position: Position | None, max_records: int) -> Batch | None:
        segments = self._segments(slot)  # this and the lock are looked at before any record is: see "Theory"
        is_free = self._slot_is_free(slot)
        ahead = [name for name in segments if position is None or str(name) >= position.segment]
        after = position
        entries: list[bytes | Damaged] = []
        for index, name in enumerate(ahead):
            start = after.offset if after is not None and after.segment == str(name) else 0
            is_final = is_free or index + 1 < len(ahead)
            end = _read_segment(self._root / slot / str(name), name, start, max_records - len(entries), entries)
            after = Position(segment=str(name), offset=end.offset)
            if end.has_more or not is_final:
                break
            if end.fault is not None:
                entries.append(_report(slot, after, end, end.fault))
                after = Position(segment=str(name), offset=end.offset + end.rest_bytes)
        if after is None or after == position:
            return None
        return Batch(slot=slot, after=after, entries=tuple(entries))


@dataclass(frozen=True, slots=True, kw_only=True)
class _End:
    """Where reading a segment stopped: at a fault, because enough was read (`has_more`), or at its last byte."""

    offset: int
    fault: Fault | None = None
    rest_bytes: int = 0
    has_more: bool = False


def _read_segment(path: Path, name: SegmentName, offset: int, budget: int, entries: list[bytes | Damaged]) -> _End:
    """Append the payloads from `offset` on to `entries`, as many as the budget allows."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size_bytes = os.fstat(descriptor).st_size
        if offset >= size_bytes:
            return _End(offset=offset)
        fault = check_header(os.pread(descriptor, HEADER_BYTES, 0), name)
        if fault is not None:
            return _End(offset=offset, fault=fault, rest_bytes=size_bytes - offset)
        source = _Source(descriptor=descriptor, size_bytes=size_bytes, framer=Framer(name))
        return _read_records(source, max(offset, HEADER_BYTES), budget, entries)
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    descriptor: int
    size_bytes: int
    framer: Framer


def _read_records(source: _Source, offset: int, budget: int, entries: list[bytes | Damaged]) -> _End:
    size_bytes = source.size_bytes
    wanted_bytes = _CHUNK_BYTES
    while offset < size_bytes and budget > 0:
        asked_bytes = min(wanted_bytes, size_bytes - offset)
        raw = os.pread(source.descriptor, asked_bytes, offset)
        if not raw:  # a writer took a failed write back
            break
        reaches_end = len(raw) < asked_bytes or offset + asked_bytes == size_bytes
        payloads, start, fault = _unframe_all(source.framer, raw, budget)
        entries += payloads
        budget -= len(payloads)
        offset += start
        if fault is Fault.CUT_OFF and not reaches_end:
            wanted_bytes = _CHUNK_BYTES if start else FRAME_BYTES + MAX_PAYLOAD_BYTES  # it goes on behind the chunk
        elif fault is not None:
            return _End(offset=offset, fault=fault, rest_bytes=size_bytes - offset)
    return _End(offset=offset, has_more=offset < size_bytes)


def _unframe_all(framer: Framer, raw: bytes, budget: int) -> tuple[list[bytes], int, Fault | None]:
    """Take up to `budget` records out of a chunk: the payloads, where they end, and the fault that ended them."""
    payloads: list[bytes] = []
    start = 0
    while start < len(raw) and len(payloads) < budget:
        found = framer.unframe(raw, start)
        if isinstance(found, Fault):
            return payloads, start, found
        payload, start = found
        payloads.append(payload)
    return payloads, start, None


def _report(slot: str, at: Position, end: _End, fault: Fault) -> Damaged:
    DAMAGED.labels(fault=fault.value).inc()
    _log.warning("journal_segment_damaged", slot=slot, segment=at.segment, offset=at.offset, fault=fault.value)
    return Damaged(slot=slot, position=at, fault=fault, lost_bytes=end.rest_bytes)
