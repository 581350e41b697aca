"""The writing half of the journal: records in, durable when `emit` returns.

Owns one slot's folder and the segment that is open in it. Does not own the slot's lock, nor the reading and deleting of
segments (`reader.py`).

Theory: group commit without a timer. Two threads stand behind the event loop, and either does the whole of a group: it
writes all that has come since the last write, makes durable all that has been written since the last `fdatasync`, and
tells. While that goes on, what comes gathers, so a group grows with the load and a lonely record waits for nobody. They
are two, because a record must reach the kernel, where a killed process cannot lose it, even while the disk takes its
time over an earlier group: after `GATHERING_S` the other thread writes what has gathered, and leaves the flush to the
one that is at it. Neither is the loop's thread, because on a stuck disk even `write` waits, and redirects must not.
Few groups, and none that goes through both threads: to wake a thread costs as much as a few hits.

A failed write or `fdatasync` ends its segment. The `fdatasync` is never tried again: it may then report success for
data that is gone. The next record opens a new segment, so a full disk heals by itself once it has room.

What is dropped is counted by what was written: a hit that was written and could not be flushed is read back as long as
the machine runs, so it is not dropped. The log has one line when writing begins to fail, and one when it works again.

Limits: `emit` may fail for records that are read back all the same, where the disk refused the flush but not the write.
"""

import asyncio
import errno
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue
from typing import Final, TypeVar

import structlog
from prometheus_client import Counter

from tracker.contract.events import JournalRecord
from tracker.contract.ports import Clock, Entropy
from tracker.contract.records import encode, encode_hit
from tracker.core.hit import HitRecord
from tracker.journal.file import SegmentFile
from tracker.journal.group import Group, Kept, Tell
from tracker.journal.segment import FRAME_BYTES, MAX_PAYLOAD_BYTES
from tracker.journal.space import LOOK_EVERY_S, Space
from tracker.runtime.durable import NO_ROOM

HIT_WAIT_S: Final = 0.05  # a person does not notice; on a healthy disk a flush takes a tenth of it
GATHERING_S: Final = 0.005  # records wait so long for a flush to be done; then they are written beside it
SEGMENT_BYTES: Final = 16 * 1024 * 1024
FAILING_S: Final = 10.0
MAX_WAITING_BYTES: Final = 64 * 1024 * 1024  # a stuck disk may cost this much memory, no more
MAX_BYTES: Final = 5 * 1024**3

EVENTS_DROPPED: Final = Counter("mailwake_events_dropped", "Hits that were answered but could not be recorded.")

_T = TypeVar("_T")
_log = structlog.get_logger()


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
        max_bytes: int = MAX_BYTES,
        on_durable: Callable[[], None] | None = None,
    ) -> None:
        """`directory` is the slot's, `journal/00`; `on_durable` is called on the loop when a group is durable.

        `max_bytes` is the limit of all slots together.
        """
        self._directory = directory
        self._clock = clock
        self._entropy = entropy
        self._segment_bytes = segment_bytes
        self._max_waiting_bytes = max_waiting_bytes
        self._hit_wait_s = hit_wait_s
        self._on_durable = on_durable
        self._space = Space(directory.parent, max_bytes)
        self._gathering: Group | None = None
        self._in_flight = 0
        """How many groups are with the threads."""
        self._waiting_bytes = 0
        self._refused_at_s = 0.0
        self._to_write: deque[Group] = deque()
        self._calls: SimpleQueue[bool] = SimpleQueue()
        """Wakes one of the threads, each time that there is something to write; false: for the last time."""
        self._writing = threading.Lock()
        self._to_flush: deque[_Written | SegmentFile] = deque()
        self._flushing = threading.Lock()
        self._current: SegmentFile | None = None
        self._threads: list[threading.Thread] = []
        self._is_open = False
        self._is_told = False
        self._is_full = False
        self._failed_at_s: float | None = None

    @property
    def trouble(self) -> str | None:
        """Say why records were not kept a moment ago, where nothing has shown since that they can be; else None.

        It ends by itself: who is sent nothing any more for it would never find out that there is room again.
        """
        since_s = self._loop.time() - FAILING_S
        if self._failed_at_s is not None and self._failed_at_s > since_s:
            return "the journal cannot be written"
        if self._is_full and self._refused_at_s > since_s:
            return "the journal is full"
        return None

    async def open(self) -> None:
        """Create the folder and the first segment. OSError: it cannot be written, which is told now, not at a hit.

        A full disk is none: it gets room, and a relay that does not start would not even deliver what waits.
        """
        try:
            self._current = await asyncio.to_thread(self._create)
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            self._fails(error, 0)
        self._space.look()
        self._loop = asyncio.get_running_loop()
        self._threads = [
            threading.Thread(target=self._keep_groups, name=f"journal-{number}", daemon=True) for number in (1, 2)
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
        group = self._enqueue([encode(record) for record in records], is_hit=False)
        if isinstance(group, OSError):
            raise group
        future: asyncio.Future[OSError | None] = self._loop.create_future()
        group.callers.append(future)
        failure = await future
        if failure is not None:
            raise OSError(failure.errno, failure.strerror, failure.filename) from failure

    def post(self, record: HitRecord, tell: Tell) -> None:
        """Append the record of a hit, and `tell` how safe it is: when it is durable, at the latest after `hit_wait_s`.

        Never raises OSError. Whatever is not DROPPED is still on its way and becomes durable later, if the disk allows
        it. `tell` may be called before this returns.
        """
        count = record.hit.count
        group = self._enqueue([encode_hit(record)], is_hit=True)
        if isinstance(group, OSError):
            EVENTS_DROPPED.inc(count)
            tell(Kept.DROPPED)
            return
        group.hits.append(tell)
        group.hits_count += count

    async def emit_within(self, record: HitRecord) -> Kept:
        """Do as `post`, and return how safe the record is."""
        future: asyncio.Future[Kept] = asyncio.get_running_loop().create_future()

        def tell(kept: Kept) -> None:
            if not future.done():  # who waited may be gone
                future.set_result(kept)

        self.post(record, tell)
        return await future

    async def close(self) -> None:
        """Write and flush what has been handed over, close the segment, end the threads; once closed, stays closed."""
        if not self._is_open:
            return
        self._is_open = False
        self._hand_over()
        for _ in self._threads:
            self._calls.put(False)
        for thread in self._threads:
            await asyncio.to_thread(thread.join)
        self._retire()
        self._flush_written()

    def _enqueue(self, payloads: list[bytes], *, is_hit: bool) -> Group | OSError:
        """Put the payloads into the group that gathers; the caller enters who waits for them."""
        size_bytes = 0
        for payload in payloads:
            if len(payload) > MAX_PAYLOAD_BYTES:
                raise ValueError(f"a journal record of {len(payload)} bytes is larger than a segment can hold")
            size_bytes += len(payload) + FRAME_BYTES
        if not self._is_open:
            return OSError(errno.EBADF, "the journal is closed")
        waiting_bytes = self._waiting_bytes + size_bytes
        if waiting_bytes > self._max_waiting_bytes:
            return OSError(errno.ENOBUFS, "the journal's disk does not keep up")
        if self._space.is_full(waiting_bytes, for_hits=is_hit):
            return self._refuse()
        self._waiting_bytes = waiting_bytes
        group = self._gathering
        if group is None:
            group = self._gathering = Group()
            self._loop.call_later(self._hit_wait_s, group.let_hits_go)  # one timer for all of them
            if self._in_flight == 0:
                self._loop.call_soon(self._hand_over)  # all that this turn of the loop brings wakes a thread once
            else:
                self._loop.call_later(GATHERING_S, self._hand_over)  # or sooner, when the flush is done
        group.payloads += payloads
        group.size_bytes += size_bytes
        return group

    def _refuse(self) -> OSError:
        """Say that the journal has its size, and have somebody look whether that is still so."""
        error = OSError(errno.EDQUOT, "the journal has reached journal.max_size", str(self._directory.parent))
        now_s = self._loop.time()
        if not self._is_full:
            self._is_full = True
            _log.error("journal_full", error=error.strerror)
        if now_s > self._refused_at_s + LOOK_EVERY_S:
            self._refused_at_s = now_s
            self._calls.put(True)
        return error

    def _hand_over(self) -> None:
        group, self._gathering = self._gathering, None
        if group is not None:
            self._in_flight += 1
            self._to_write.append(group)
            self._calls.put(True)

    def _fails(self, error: OSError, entries: int) -> None:
        """Say once that records cannot be written."""
        if not self._is_told:
            self._is_told = True
            _log.error("journal_write_failed", error=error.strerror, entries=entries)

    # --- the two threads ------------------------------------------------------------------------------------

    def _keep_groups(self) -> None:
        is_open = True
        while is_open:
            is_open = self._calls.get()
            with self._writing:  # in the order in which they came
                groups = _take_all(self._to_write)
                if groups:
                    self._write(groups)
                self._space.look()
                if self._is_full and not self._space.is_full(0, for_hits=False):
                    self._is_full = False
                    _log.info("journal_has_room")
            # Where the other is at it, it looks again when it is done, so nothing stays behind.
            while self._to_flush and self._flushing.acquire(blocking=False):
                try:
                    self._flush_written()
                finally:
                    self._flushing.release()

    def _write(self, groups: list[Group]) -> None:
        try:
            if self._current is None or self._current.has_failed_flush:
                self._retire()
                self._current = self._create()
            current = self._current
            before_bytes = current.size_bytes
            current.append(payload for group in groups for payload in group.payloads)
        except Exception as error:  # noqa: BLE001 - whatever it is, who waits must be told, and the thread goes on
            self._retire()
            failure = error if isinstance(error, OSError) else OSError(errno.EIO, f"a fault: {type(error).__name__}")
            self._fails(failure, sum(len(group.payloads) for group in groups))
            self._tell(groups, failure)
            return
        self._space.add(current.size_bytes - before_bytes)
        for group in groups:
            group.is_written = True
        if self._is_told:
            self._is_told = False
            _log.info("journal_writes_again")
        self._to_flush.append(_Written(current, groups))
        if current.size_bytes >= self._segment_bytes:
            self._retire()

    def _retire(self) -> None:
        """Leave the segment to whoever flushes, who closes it after its last flush."""
        if self._current is not None:
            self._to_flush.append(self._current)
            self._current = None

    def _create(self) -> SegmentFile:
        created = SegmentFile.create(self._directory, unix_ms=_unix_ms(self._clock()), entropy=self._entropy)
        self._space.add(created.size_bytes)
        return created

    def _flush_written(self) -> None:
        written: list[_Written] = []
        for item in _take_all(self._to_flush):
            if isinstance(item, _Written):
                written.append(item)
            else:
                self._flush(written)
                written = []
                item.close()
        self._flush(written)

    def _flush(self, written: "list[_Written]") -> None:
        """Make durable what was written into one segment, and tell those who wait."""
        if not written:
            return
        failure = written[-1].file.flush()
        groups = [group for part in written for group in part.groups]
        if failure is not None:
            entries = sum(len(group.payloads) for group in groups)
            _log.error("journal_flush_failed", error=failure.strerror, entries=entries)
        self._tell(groups, failure)

    def _tell(self, groups: list[Group], failure: OSError | None) -> None:
        self._call_loop(self._settle, groups, failure)

    def _call_loop(self, callback: Callable[..., object], *args: object) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:  # the loop was closed without closing the journal: nobody waits any more
            _log.warning("journal_left_open")

    # --- on the loop again ----------------------------------------------------------------------------------

    def _settle(self, groups: list[Group], failure: OSError | None) -> None:
        self._in_flight -= len(groups)
        if self._in_flight == 0:
            self._hand_over()
        for group in groups:
            self._waiting_bytes -= group.size_bytes
            if not group.is_written:
                EVENTS_DROPPED.inc(group.hits_count)
            group.settle(failure)
        self._failed_at_s = None if failure is None else self._loop.time()
        if failure is None and self._on_durable is not None:
            self._on_durable()


@dataclass(frozen=True, slots=True)
class _Written:
    """What is to be flushed: groups, and the segment that they are in."""

    file: SegmentFile
    groups: list[Group]


def _take_all(waiting: "deque[_T]") -> list[_T]:
    """Take all that is there; others may append meanwhile."""
    return [waiting.popleft() for _ in range(len(waiting))]


def _unix_ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
