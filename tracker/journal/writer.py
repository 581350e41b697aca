"""The writing half of the journal: records in, durable when `emit` returns.

Owns one slot's folder and the segment that is open in it. Does not own the slot's lock, nor the reading and deleting of
segments (`reader.py`).

Theory: group commit without a timer. Two threads stand behind the event loop. One writes all that has come since its
last write; the other then makes durable all that has been written since its last `fdatasync`. While one is busy, what
comes gathers, so a group grows with the load and a lonely record waits for nobody. They are two, because a record
must reach the kernel, where a killed process cannot lose it, even while the disk takes its time over an earlier
group. Neither is the loop's thread, because on a stuck disk even `write` waits, and redirects must not.

A failed write or `fdatasync` ends its segment. The `fdatasync` is never tried again: it may then report success for
data that is gone. The next record opens a new segment, so a full disk heals by itself once it has room.

Limits: `emit` may fail for records that are read back all the same, where the disk refused the flush but not the write.
"""

import asyncio
import errno
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Final, TypeVar

import structlog
from prometheus_client import Counter

from tracker.contract.events import JournalRecord
from tracker.contract.ports import Clock, Entropy
from tracker.contract.records import encode
from tracker.journal.file import SegmentFile
from tracker.journal.segment import MAX_PAYLOAD_BYTES
from tracker.runtime.durable import NO_ROOM

HIT_WAIT_S: Final = 0.05  # a person does not notice; on a healthy disk a flush takes a tenth of it
SEGMENT_BYTES: Final = 16 * 1024 * 1024
FAILING_S: Final = 10.0
MAX_WAITING_BYTES: Final = 64 * 1024 * 1024  # a stuck disk may cost this much memory, no more

EVENTS_DROPPED: Final = Counter("mailwake_events_dropped", "Hits that were answered but could not be recorded.")

_T = TypeVar("_T")
_log = structlog.get_logger()


class Kept(StrEnum):
    """How safe a hit's record was when its time was up."""

    DURABLE = "durable"
    """On the disk."""
    WRITTEN = "written"
    """In the kernel: safe from the death of this process, not from a power cut."""
    WAITING = "waiting"
    """Not even written: the disk is stuck."""
    DROPPED = "dropped"
    """It cannot be written; counted."""


class Journal:
    """The journal of one slot, `open` before and `close` after use, on one event loop."""

    def __init__(
        self,
        directory: Path,
        *,
        clock: Clock = lambda: datetime.now(UTC),
        entropy: Entropy = os.urandom,
        hit_wait_s: float = HIT_WAIT_S,
        segment_bytes: int = SEGMENT_BYTES,
        max_waiting_bytes: int = MAX_WAITING_BYTES,
        on_durable: Callable[[], None] | None = None,
    ) -> None:
        """`directory` is the slot's, `journal/00`; `on_durable` is called on the loop when a group is durable."""
        self._directory = directory
        self._clock = clock
        self._entropy = entropy
        self._segment_bytes = segment_bytes
        self._max_waiting_bytes = max_waiting_bytes
        self._hit_wait_s = hit_wait_s
        self._on_durable = on_durable
        self._gathering: list[_Entry] = []
        self._waiting_bytes = 0
        self._to_write: SimpleQueue[list[_Entry] | None] = SimpleQueue()
        self._to_flush: SimpleQueue[_Written | SegmentFile | None] = SimpleQueue()
        self._current: SegmentFile | None = None
        self._threads: list[threading.Thread] = []
        self._is_open = False
        self._failed_at_s: float | None = None

    @property
    def is_failing(self) -> bool:
        """Say whether a write failed a moment ago, and none has succeeded since.

        It ends by itself: who is sent nothing any more for it would never find out that the disk has room again.
        """
        return self._failed_at_s is not None and self._loop.time() - self._failed_at_s < FAILING_S

    async def open(self) -> None:
        """Create the folder and the first segment. OSError: it cannot be written, which is told now, not at a hit.

        A full disk is none: it gets room, and a relay that does not start would not even deliver what waits.
        """
        try:
            self._current = await asyncio.to_thread(self._create)
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            _log.error("journal_write_failed", error=error.strerror, entries=0)
        self._loop = asyncio.get_running_loop()
        self._ended = self._loop.create_future()
        self._threads = [
            threading.Thread(target=self._write_groups, name="journal-write", daemon=True),
            threading.Thread(target=self._flush_groups, name="journal-flush", daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        self._is_open = True

    async def emit(self, records: Sequence[JournalRecord]) -> None:
        """Append the records, in order, and return when they are durable.

        OSError: they are not, and the caller still has them. A caller that is cancelled does not take its records back.
        ValueError: a record is larger than a segment's record may be, a broken contract.
        """
        if not records:
            return
        entry = self._enqueue([encode(record) for record in records], is_hit=False)
        if isinstance(entry, OSError):
            raise entry
        outcome = await entry.outcome
        if isinstance(outcome, OSError):
            raise OSError(outcome.errno, outcome.strerror, outcome.filename) from outcome

    async def emit_within(self, record: JournalRecord) -> Kept:
        """Append the record of a hit and wait until it is durable, at most `hit_wait_s`; never raises OSError.

        Whatever is not DROPPED is still on its way and becomes durable later, if the disk allows it.
        """
        entry = self._enqueue([encode(record)], is_hit=True)
        if isinstance(entry, OSError):
            EVENTS_DROPPED.inc()
            return Kept.DROPPED
        outcome = await entry.outcome
        return Kept.DROPPED if isinstance(outcome, OSError) else outcome

    async def close(self) -> None:
        """Write and flush what has been handed over, close the segment, end the threads; once closed, stays closed."""
        if not self._is_open:
            return
        self._is_open = False
        self._hand_over()
        self._to_write.put(None)
        await self._ended
        for thread in self._threads:
            thread.join()

    def _enqueue(self, payloads: list[bytes], *, is_hit: bool) -> "_Entry | OSError":
        size_bytes = 0
        for payload in payloads:
            if len(payload) > MAX_PAYLOAD_BYTES:
                raise ValueError(f"a journal record of {len(payload)} bytes is larger than a segment can hold")
            size_bytes += len(payload)
        if not self._is_open:
            return OSError(errno.EBADF, "the journal is closed")
        if self._waiting_bytes + size_bytes > self._max_waiting_bytes:
            return OSError(errno.ENOBUFS, "the journal's disk does not keep up")
        self._waiting_bytes += size_bytes
        entry = _Entry(payloads, size_bytes, self._loop.create_future(), is_hit=is_hit)
        if not self._gathering:
            self._loop.call_soon(self._hand_over)  # all that this turn of the loop brings wakes the thread once
        self._gathering.append(entry)
        return entry

    def _hand_over(self) -> None:
        if self._gathering:
            self._to_write.put(self._gathering)
            if any(entry.is_hit for entry in self._gathering):
                self._loop.call_later(self._hit_wait_s, _stop_waiting, self._gathering)  # one timer for all of them
            self._gathering = []

    # --- the writing thread ---------------------------------------------------------------------------------

    def _write_groups(self) -> None:
        is_last = False
        while not is_last:
            groups = _take_all(self._to_write)
            is_last = groups[-1] is None
            entries = [entry for group in groups if group is not None for entry in group]
            if entries:
                self._write(entries)
        self._retire()
        self._to_flush.put(None)

    def _write(self, entries: "list[_Entry]") -> None:
        try:
            if self._current is None or self._current.has_failed_flush:
                self._retire()
                self._current = self._create()
            current = self._current
            current.append(payload for entry in entries for payload in entry.payloads)
        except Exception as error:  # noqa: BLE001 - whatever it is, who waits must be told, and the thread goes on
            self._retire()
            failure = error if isinstance(error, OSError) else OSError(errno.EIO, f"a fault: {type(error).__name__}")
            _log.error("journal_write_failed", error=failure.strerror, entries=len(entries))
            self._tell(entries, failure)
            return
        for entry in entries:
            entry.is_written = True
        self._to_flush.put(_Written(current, entries))
        if current.size_bytes >= self._segment_bytes:
            self._retire()

    def _retire(self) -> None:
        """Leave the segment to the flushing thread, which closes it after its last flush."""
        if self._current is not None:
            self._to_flush.put(self._current)
            self._current = None

    def _create(self) -> SegmentFile:
        return SegmentFile.create(self._directory, unix_ms=_unix_ms(self._clock()), entropy=self._entropy)

    # --- the flushing thread --------------------------------------------------------------------------------

    def _flush_groups(self) -> None:
        is_last = False
        while not is_last:
            written: list[_Written] = []
            for item in _take_all(self._to_flush):
                match item:
                    case _Written():
                        written.append(item)
                    case SegmentFile():
                        self._flush(written)
                        written = []
                        item.close()
                    case None:
                        is_last = True
            self._flush(written)
        self._call_loop(self._ended.set_result, None)

    def _flush(self, written: "list[_Written]") -> None:
        """Make durable what was written into one segment, and tell those who wait."""
        if not written:
            return
        failure = written[-1].file.flush()
        entries = [entry for part in written for entry in part.entries]
        if failure is not None:
            _log.error("journal_flush_failed", error=failure.strerror, entries=len(entries))
        self._tell(entries, failure)

    def _tell(self, entries: list["_Entry"], failure: OSError | None) -> None:
        self._call_loop(self._settle, entries, failure)

    def _call_loop(self, callback: Callable[..., object], *args: object) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:  # the loop was closed without closing the journal: nobody waits any more
            _log.warning("journal_left_open")

    # --- on the loop again ----------------------------------------------------------------------------------

    def _settle(self, entries: list["_Entry"], failure: OSError | None) -> None:
        for entry in entries:
            self._waiting_bytes -= entry.size_bytes
            if failure is not None and entry.is_hit:
                EVENTS_DROPPED.inc()
            if not entry.outcome.done():
                entry.outcome.set_result(failure or Kept.DURABLE)
        self._failed_at_s = None if failure is None else self._loop.time()
        if failure is None and self._on_durable is not None:
            self._on_durable()


class _Entry:
    """The records of one call, and the future that its caller waits for."""

    __slots__ = ("is_hit", "is_written", "outcome", "payloads", "size_bytes")

    def __init__(
        self, payloads: list[bytes], size_bytes: int, outcome: "asyncio.Future[Kept | OSError]", *, is_hit: bool
    ) -> None:
        self.payloads = payloads
        self.size_bytes = size_bytes
        self.outcome = outcome
        self.is_hit = is_hit
        self.is_written = False


@dataclass(frozen=True, slots=True)
class _Written:
    """What the flushing thread is handed: entries, and the segment that they are in."""

    file: SegmentFile
    entries: list[_Entry]


def _stop_waiting(entries: list[_Entry]) -> None:
    """Let the hits go whose time is up."""
    for entry in entries:
        if entry.is_hit and not entry.outcome.done():
            entry.outcome.set_result(Kept.WRITTEN if entry.is_written else Kept.WAITING)


def _take_all(queue: "SimpleQueue[_T]") -> list[_T]:
    """Wait for something to come, and take all that is there."""
    items = [queue.get()]
    try:
        while True:
            items.append(queue.get_nowait())
    except Empty:
        return items


def _unix_ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
