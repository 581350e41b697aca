"""The journals of the node, taken into the storage: exactly once, late where the storage is late.

Owns the loop: read on from the cursor, apply a batch and move the cursor in ONE transaction, wake who waits for events,
prune the journal. What a transaction does with a record is in `intake.py`. Alone in writing events, so it also enters
new destinations, before the first event.

Theory: the cursor is in the storage, beside what it stands for. A crash, a kill or a lock between reading and
committing leaves both as they were, and the batch is read again. A storage that was removed has no cursor, so all that
the journal still keeps is taken in again. The cursor is compared inside the transaction: a batch that was read from
another one is thrown away.

A record that cannot be read or applied is put aside with the reason, and the rest goes on.

Limits: one ingester a storage; a second one would read in vain, not twice.
"""

import asyncio
import collections
import gc
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Final

import sqlalchemy as sa
import structlog
from prometheus_client import Counter
from sqlalchemy.dialects.sqlite import insert as upsert

from tracker.contract.consent import Persons
from tracker.contract.errors import RecordError
from tracker.contract.ports import Clock
from tracker.journal.reader import Batch, Damaged, JournalReader, Position
from tracker.runtime import turns
from tracker.store.database import StorageUnavailableError, Store, is_unavailable
from tracker.store.gate import Gate
from tracker.store.intake import Entry, Intake
from tracker.store.publishing import enter
from tracker.store.schema import aside, cursor, pending
from tracker.store.times import to_ms

BATCH: Final = 500  # of each slot, unless it is behind and its records are small
BATCH_BEHIND: Final = 16_000
BATCH_BYTES: Final = 32 * 1024 * 1024  # records are not read by the thousand where these would be more
INTAKE_BYTES: Final = 16 * 1024 * 1024  # a message to 1,000 is 100 KB, and its records are some 100 bytes each
LONG_WORK: Final = 100  # records, some 5 ms of work: beside more, hits and mail are answered in short turns
PATIENCE_MS: Final = 60_000  # how long an event waits for its message
POLL_S: Final = 1.0  # other processes of the node write journals too, and wake nobody here
GATHER_S: Final = 0.05  # so that hits which come one by one are not a transaction each
RETRY_AFTER_S: Final = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
PRUNE_EVERY_S: Final = 30.0  # a journal that has reached its size waits for it

TAKEN: Final = Counter("mailwake_ingest_events_total", "Events taken into the storage.", ["type"])
ASIDE: Final = Counter("mailwake_ingest_aside_total", "Journal records that could not be read or applied.")

ALONE: Final = Counter(
    "mailwake_ingest_alone_total", "Events that waited in vain for the acceptance of their message: it is not known."
)

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class _State:
    """What a transaction leaves behind: where to read on, since when the first event waits, what was taken in."""

    cursor: Mapping[str, Position]
    waiting_since_ms: int | None
    taken: Mapping[str, int] = field(default_factory=dict)  # by type


class Ingester:
    """Takes the journals in; `run` until cancelled, `wake` when a journal has something new."""

    def __init__(
        self,
        *,
        reader: JournalReader,
        store: Store,
        clock: Clock,
        hostname: str,
        keep: timedelta,
        destinations: Collection[str] = (),
        on_commit: Callable[[], None] = lambda: None,
        persons: Persons | None = None,
        collect_for: timedelta = timedelta(days=60),
        poll_s: float = POLL_S,
        gather_s: float = GATHER_S,
        retry_after_s: Sequence[float] = RETRY_AFTER_S,
    ) -> None:
        """`hostname` is the reporting MTA of the records, `keep` how long a journal is kept beyond being taken in.

        `destinations` are the names of the event destinations; `on_commit` is called on the loop when there are new
        events. `persons` makes the hashes that consent is kept by; hits are recorded for `collect_for`.
        `destinations` and `collect_for` may be set to others later.
        """
        self.collect_for = collect_for
        self.destinations = destinations
        self._persons = persons
        self._reader = reader
        self._store = store
        self._clock = clock
        self._hostname = hostname
        self._keep = keep
        self._on_commit = on_commit
        self._poll_s = poll_s
        self._gather_s = gather_s
        self._retry_after_s = retry_after_s
        self._batch = BATCH
        self._news = asyncio.Event()
        self._caught_up = asyncio.Event()
        self._state: _State | None = None
        self._failures = 0
        self._pruned_at_s = -math.inf

    async def run(self) -> None:
        """Take in what comes, until cancelled; a transaction in progress is then finished or undone, as a whole."""
        while True:
            self._news.clear()
            try:
                has_more = await self.advance()
                await self._prune()
            except StorageUnavailableError:  # the store has said so
                await self._pause()
            except (OSError, RecordError) as error:
                if not self._failures:
                    _log.error("journal_unreadable", error=str(error))
                await self._pause()
            else:
                self._failures = 0
                if not has_more:
                    if not self._news.is_set():  # else what is new may have come behind what was read
                        self._caught_up.set()
                    await self._rest()

    def wake(self) -> None:
        """Look at once instead of at the next poll; to be called on the loop."""
        self._news.set()

    async def caught_up(self) -> None:
        """Return when all that is in the journals by now is taken in, which `run` has to do meanwhile."""
        self._caught_up.clear()
        self.wake()
        await self._caught_up.wait()

    async def advance(self) -> bool:
        """Take one batch of each slot in; False where there was nothing to do.

        StorageUnavailableError: nothing was taken in. OSError, RecordError: a journal cannot be read.
        """
        state, self._state = self._state, None  # whatever fails below: ask the storage again where it stands
        if state is None:
            state = await self._store.write(self._begin)
        batches = await asyncio.to_thread(self._reader.read, state.cursor, max_records=self._batch)
        self._batch = _next_batch(batches, self._batch)
        if not batches and not _is_over(self._clock(), state.waiting_since_ms):
            self._state = state
            return False
        self._state = await self._write(state, batches)
        taken = self._state.taken if self._state is not None else {}
        for kind, count in taken.items():
            TAKEN.labels(kind).inc(count)
        if taken:
            self._on_commit()
        return True

    async def _write(self, state: _State, batches: Sequence[Batch]) -> _State | None:
        """Take batches in, in one transaction.

        Hardly ever has a journal a record that cannot be applied, or an event for the second time. So it is tried
        without looking, and what fails is undone as a whole, and done again with care.
        """
        count = sum(len(batch.entries) for batch in batches)
        with turns.short() if count > LONG_WORK else nullcontext():
            return await self._write_whole(state, batches)

    async def _write_whole(self, state: _State, batches: Sequence[Batch]) -> _State | None:
        is_whole = not any(isinstance(one, Damaged) for batch in batches for one in batch.entries)
        commit = partial(self._commit, state=state, batches=batches)
        if is_whole and not _is_over(self._clock(), state.waiting_since_ms):
            try:
                return await self._store.write(partial(commit, is_careful=False))
            except Exception as error:
                if is_unavailable(error):
                    raise
        return await self._store.write(partial(commit, is_careful=True))

    # --- inside a transaction, on the storage's thread ---------------------------------------------------------

    def _begin(self, connection: sa.Connection) -> _State:
        enter(connection, self.destinations)
        return _State(cursor=_load_cursor(connection), waiting_since_ms=_waiting_since(connection))

    def _commit(
        self, connection: sa.Connection, state: _State, batches: Sequence[Batch], *, is_careful: bool
    ) -> _State | None:
        """Apply what was read; None where the storage is not the one that the cursor came from."""
        with _without_collector():
            return self._take_in(connection, state, batches, is_careful=is_careful)

    def _take_in(
        self, connection: sa.Connection, state: _State, batches: Sequence[Batch], *, is_careful: bool
    ) -> _State | None:
        if _load_cursor(connection) != state.cursor:
            return None
        enter(connection, self.destinations)  # a storage that was made anew has none, and may have the empty cursor
        now = self._clock()
        apply = partial(self._apply if is_careful else self._try, connection, now)
        taken: collections.Counter[str] = collections.Counter()
        for batch in batches:
            for damaged in batch.entries:
                if isinstance(damaged, Damaged):
                    _put_aside(connection, now, Entry(slot=batch.slot, raw=b""), _describe(damaged))
            for raws in _portions([raw for raw in batch.entries if not isinstance(raw, Damaged)]):
                taken += apply([Entry(batch.slot, raw) for raw in raws])
            _move_cursor(connection, batch)
        alone = _waited_out(connection, now)
        ALONE.inc(len(alone))
        taken += apply(alone)
        return _State(
            cursor={**state.cursor, **{batch.slot: batch.after for batch in batches}},
            waiting_since_ms=_waiting_since(connection),
            taken=taken,
        )

    def _apply(self, connection: sa.Connection, now: datetime, entries: Sequence[Entry]) -> collections.Counter[str]:
        """Take the entries in; where that fails, each half alone, down to the one that cannot be, which goes aside."""
        try:
            with connection.begin_nested():
                return self._try(connection, now, entries, is_careful=True)
        except Exception as error:
            if is_unavailable(error):
                raise
            if len(entries) == 1:
                _put_aside(connection, now, entries[0], f"{type(error).__name__}: {error}")
                return collections.Counter()
            middle = len(entries) // 2
            return self._apply(connection, now, entries[:middle]) + self._apply(connection, now, entries[middle:])

    def _try(
        self, connection: sa.Connection, now: datetime, entries: Sequence[Entry], *, is_careful: bool = False
    ) -> collections.Counter[str]:
        if not entries:
            return collections.Counter()
        gate = Gate(connection, persons=self._persons, collect_for=self.collect_for, now=now)
        intake = Intake(connection, now=now, hostname=self._hostname, is_careful=is_careful)
        intake.take(_admitted(gate, entries))
        return intake.taken

    # --- between batches --------------------------------------------------------------------------------------

    async def _prune(self) -> None:
        """Delete what the storage has, and has had for long enough."""
        now_s = asyncio.get_running_loop().time()
        if self._state is None or now_s < self._pruned_at_s + PRUNE_EVERY_S:
            return
        self._pruned_at_s = now_s
        try:
            await asyncio.to_thread(self._reader.prune, self._state.cursor, before=self._clock() - self._keep)
        except OSError as error:
            _log.warning("journal_not_pruned", error=str(error))

    async def _pause(self) -> None:
        pause_s = self._retry_after_s[min(self._failures, len(self._retry_after_s) - 1)]
        self._failures += 1
        await asyncio.sleep(pause_s)

    async def _rest(self) -> None:
        try:
            async with asyncio.timeout(self._poll_s):
                await self._news.wait()
        except TimeoutError:
            return
        await asyncio.sleep(self._gather_s)


def _next_batch(batches: Sequence[Batch], asked: int) -> int:
    """Say how many records to ask for: many, where there are more than came, and those that came were small."""
    is_behind = any(len(batch.entries) >= asked for batch in batches)
    size_bytes = sum(len(raw) for batch in batches for raw in batch.entries if not isinstance(raw, Damaged))
    would_be_bytes = size_bytes * BATCH_BEHIND // asked
    return BATCH_BEHIND if is_behind and would_be_bytes <= BATCH_BYTES else BATCH


def _portions(raws: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """Cut a batch where its records are large: what is made of them is in memory at once."""
    start, size_bytes = 0, 0
    for index, raw in enumerate(raws):
        if size_bytes and size_bytes + len(raw) > INTAKE_BYTES:
            yield raws[start:index]
            start, size_bytes = index, 0
        size_bytes += len(raw)
    if start < len(raws):
        yield raws[start:]


@contextmanager
def _without_collector() -> Iterator[None]:
    """Work without the collector of cycles: a batch makes a hundred thousand objects, none of them in a cycle, that
    live until its end; looking through them again and again takes as long as the work itself.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _admitted(gate: Gate, entries: Sequence[Entry]) -> list[Entry]:
    """Leave out what consent forbids to take in."""
    admitted = zip(entries, gate.admit([entry.raw for entry in entries]), strict=True)
    return [entry if raw is entry.raw else entry._replace(raw=raw) for entry, raw in admitted if raw is not None]


def _load_cursor(connection: sa.Connection) -> dict[str, Position]:
    rows = connection.execute(sa.select(cursor.c.slot, cursor.c.segment, cursor.c.offset))
    return {slot: Position(segment=segment, offset=offset) for slot, segment, offset in rows}


def _move_cursor(connection: sa.Connection, batch: Batch) -> None:
    place = {"segment": batch.after.segment, "offset": batch.after.offset}
    insert = upsert(cursor).values(slot=batch.slot, **place)
    connection.execute(insert.on_conflict_do_update(index_elements=["slot"], set_=place))


def _waiting_since(connection: sa.Connection) -> int | None:
    since_ms: int | None = connection.execute(sa.select(sa.func.min(pending.c.since_ms))).scalar()
    return since_ms


def _is_over(now: datetime, since_ms: int | None) -> bool:
    """Say whether the patience has ended; a clock that went back must not make it endless."""
    return since_ms is not None and abs(to_ms(now) - since_ms) >= PATIENCE_MS


def _waited_out(connection: sa.Connection, now: datetime) -> list[Entry]:
    now_ms = to_ms(now)
    is_over = (pending.c.since_ms <= now_ms - PATIENCE_MS) | (pending.c.since_ms >= now_ms + PATIENCE_MS)
    rows = connection.execute(sa.select(pending.c.record).where(is_over).order_by(pending.c.since_ms).limit(BATCH))
    return [Entry(slot="", raw=raw, is_expired=True) for raw in rows.scalars()]


def _put_aside(connection: sa.Connection, now: datetime, entry: Entry, error: str) -> None:
    ASIDE.inc()
    _log.warning("record_put_aside", slot=entry.slot, error=error.partition(":")[0])  # the rest may quote the record
    connection.execute(aside.insert(), {"at_ms": to_ms(now), "slot": entry.slot, "error": error, "raw": entry.raw})
    if entry.is_expired:
        connection.execute(pending.delete().where(pending.c.record == entry.raw))


def _describe(damaged: Damaged) -> str:
    place = damaged.position
    return f"Damaged: {damaged.fault.value} at {place.segment}:{place.offset}, {damaged.lost_bytes} bytes not read"
