"""What is older than it may be goes, in steps so small that nobody notices them.

Owns the order and the size of the steps. A message goes with all that is of it `keep` after its acceptance: events,
copies, probes, counts. Then what has no message: events of unknown ones, Rejects, what was put aside, dead letters.
Then the roll-ups, `keep_statistics` after the time that they count, and the rows that only silence or forget.

Theory: all work on the storage shares one thread, so a step is one short transaction, and its size follows the clock:
it is halved when a step took longer than `STEP_S`, and grows again when it did not. Between two steps the thread is
free for longer than a step takes.

An event that a destination does not have yet stays until it has it, or for `UNPUBLISHED_FOR`; then it goes, and is
counted for that destination. Its message stays as long as one of its events does.

Limits: the file does not shrink; what is freed in it is used again. Of unpublished events the age is bounded, not the
bytes.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Protocol, TypeVar

import sqlalchemy as sa
import structlog
from prometheus_client import Counter

from tracker.contract.ports import Clock
from tracker.store.consent import SILENCED, collected_since
from tracker.store.database import StorageUnavailableError, Store
from tracker.store.schema import aside, copy, destination_cursor, event, forgotten, message, probe, silenced
from tracker.store.times import to_ms
from tracker.store.watched import has_changed

ROLL_UPS: Final = (
    ("roll_up_mail", "start_ms"),
    ("roll_up_event", "start_ms"),
    ("roll_up_hit", "day_ms"),
    ("roll_up_link", "day_ms"),
    ("roll_up_tag", "day_ms"),
    ("roll_up_value", "day_ms"),
)
"""The tables of totals, each with the column of the time that a row counts, in milliseconds."""

UNPUBLISHED_FOR: Final = timedelta(days=7)  # as long as a destination may be down without a loss
EVERY_S: Final = 3600.0
STEP_S: Final = 0.02
PAUSE_S: Final = 0.05
LARGEST: Final = 500
SMALLEST: Final = 10

PURGED: Final = Counter(
    "mailwake_purged_rows_total", "Rows of the storage that were older than it keeps them.", ["table"]
)
DROPPED: Final = Counter(
    "mailwake_events_unpublished_dropped_total",
    "Events that were purged before a destination had them.",
    ["destination"],
)

_DEAD: Final = sa.table("dead_letter", sa.column("event_id"))
_T = TypeVar("_T")
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """How long things are kept. `tombstones` is how long a journal may bring back what was forgotten."""

    mail: timedelta
    statistics: timedelta
    collect_for: timedelta
    tombstones: timedelta


@dataclass(slots=True, kw_only=True)
class Purged:
    """What went: rows by table, and events by the destination that had not got them."""

    rows: dict[str, int] = field(default_factory=dict)
    unpublished: dict[str, int] = field(default_factory=dict)

    def count(self, table: str, rows: int) -> int:
        """Count rows that went, and return their number."""
        if rows:
            self.rows[table] = self.rows.get(table, 0) + rows
            PURGED.labels(table).inc(rows)
        return rows


Step = Callable[[sa.Connection, int], bool]
"""Deletes about so many rows; False where it is done."""


class Purge:
    """One pass over the storage: `steps` in their order, each until it is done."""

    def __init__(self, keeping: Keeping, destinations: Iterable[str], now: datetime) -> None:
        """`destinations` are those whose events are waited for."""
        self.purged = Purged()
        self._destinations = tuple(destinations)
        self._before_ms = to_ms(now - keeping.mail)
        self._statistics_before_ms = to_ms(now - keeping.statistics)
        self._silence_before_ms = collected_since(now, keeping.collect_for)
        self._tombstones_before_ms = to_ms(now - keeping.tombstones)
        self._waited_ms = to_ms(now - UNPUBLISHED_FOR)
        self._place: tuple[int, str] = (-1 << 62, "")

    def steps(self) -> Iterator[Step]:
        """Give the steps."""
        yield self._messages
        yield self._events_alone
        yield self._probes_alone
        yield self._by_time(aside.name, "at_ms", self._before_ms)
        yield self._by_time(_DEAD.name, "at_ms", self._before_ms)
        for table, column in ROLL_UPS:
            yield self._by_time(table, column, self._statistics_before_ms)
        yield self._silence
        yield self._by_time(forgotten.name, "at_ms", self._tombstones_before_ms)

    # --- messages -----------------------------------------------------------------------------------------------

    def _messages(self, connection: sa.Connection, limit: int) -> bool:
        """Delete of the oldest messages; `_place` is behind those that wait for a destination."""
        here = sa.tuple_(message.c.accepted_ms, message.c.message) > self._place
        query = sa.select(message.c.accepted_ms, message.c.message).where(message.c.accepted_ms < self._before_ms, here)
        query = query.order_by(message.c.accepted_ms, message.c.message)
        for accepted_ms, name in connection.execute(query.limit(limit)).all():
            limit -= self._message(connection, name, limit)
            if limit <= 0:
                return True
            self._place = (accepted_ms, name)
        return connection.execute(query.limit(1)).first() is not None

    def _message(self, connection: sa.Connection, name: str, limit: int) -> int:
        """Delete what is of a message, children first, and return how many rows; at least 1 for the look."""
        gone = 1 + self._events(connection, event.c.message == name, limit)
        if connection.execute(sa.select(event.c.seq).where(event.c.message == name).limit(1)).first() is not None:
            return gone
        for table, key in ((probe, "event_id"), (copy, "suffix")):
            if gone >= limit:
                return gone
            column = table.c[key]
            some = sa.select(column).where(table.c.message == name).limit(limit - gone)
            where = (table.c.message == name) & column.in_(some)
            gone += self.purged.count(table.name, connection.execute(table.delete().where(where)).rowcount)
        if gone < limit:
            deleted = connection.execute(message.delete().where(message.c.message == name)).rowcount
            gone += self.purged.count(message.name, deleted)
        return gone

    # --- what has no message ------------------------------------------------------------------------------------

    def _events_alone(self, connection: sa.Connection, limit: int) -> bool:
        has_none = ~sa.exists().where(message.c.message == event.c.message)
        return self._events(connection, (event.c.at_ms < self._before_ms) & has_none, limit) > 0

    def _probes_alone(self, connection: sa.Connection, limit: int) -> bool:
        """Probes stand in the order in which they came, which is about that of their times."""
        rowid = sa.literal_column("rowid", sa.Integer)
        oldest = sa.select(rowid).select_from(probe).order_by(rowid).limit(limit)
        where = rowid.in_(oldest) & (probe.c.at_ms < self._before_ms)
        return self.purged.count(probe.name, connection.execute(probe.delete().where(where)).rowcount) > 0

    def _events(self, connection: sa.Connection, which: sa.ColumnElement[bool], limit: int) -> int:
        """Delete events, but for those that a destination still has to get."""
        cursors = self._cursors(connection)
        got = min(cursors.values(), default=None)
        may_go = sa.true() if got is None else (event.c.seq <= got) | (event.c.at_ms < self._waited_ms)
        rows = connection.execute(sa.select(event.c.seq, event.c.event_id).where(which, may_go).limit(limit)).all()
        if not rows:
            return 0
        numbers = [row.seq for row in rows]
        for name, cursor in cursors.items():
            missed = sum(number > cursor for number in numbers)
            if missed:
                DROPPED.labels(name).inc(missed)
                self.purged.unpublished[name] = self.purged.unpublished.get(name, 0) + missed
        if sa.inspect(connection).has_table(_DEAD.name):
            of_these = sa.delete(_DEAD).where(_DEAD.c.event_id.in_([row.event_id for row in rows]))
            self.purged.count(_DEAD.name, connection.execute(of_these).rowcount)
        connection.execute(event.delete().where(event.c.seq.in_(numbers)))
        return self.purged.count(event.name, len(numbers))

    def _cursors(self, connection: sa.Connection) -> dict[str, int]:
        if not self._destinations:
            return {}
        mine = destination_cursor.c.destination.in_(self._destinations)
        rows = connection.execute(sa.select(destination_cursor.c.destination, destination_cursor.c.seq).where(mine))
        return {name: seq for name, seq in rows}  # noqa: C416 - rows are no pairs to a type checker

    # --- rows by their own time ---------------------------------------------------------------------------------

    def _by_time(self, name: str, column: str, before_ms: int) -> Step:
        def step(connection: sa.Connection, limit: int) -> bool:
            if not sa.inspect(connection).has_table(name):
                return False
            # Key by key: many rows may have one time, and SQLite deletes with no LIMIT, nor by a list of pairs.
            keys: list[sa.ColumnClause[object]] = [
                sa.column(key) for key in sa.inspect(connection).get_pk_constraint(name)["constrained_columns"]
            ]
            table = sa.table(name, *keys)
            old = sa.select(*keys).select_from(table).where(sa.column(column) < before_ms).limit(limit)
            rows = [{f"key_{key}": value for key, value in row.items()} for row in connection.execute(old).mappings()]
            if not rows:
                return False
            is_row = sa.and_(*(key == sa.bindparam(f"key_{key.name}") for key in keys))
            connection.execute(sa.delete(table).where(is_row), rows)
            return self.purged.count(name, len(rows)) > 0

        return step

    def _silence(self, connection: sa.Connection, limit: int) -> bool:
        """Hits of mail that is older than `collect_for` are recorded of nobody."""
        more = self._by_time(silenced.name, "accepted_ms", self._silence_before_ms)(connection, limit)
        if more:
            has_changed(connection, SILENCED)
        return more


class Writer(Protocol):
    """What runs a transaction: a `Store`, or who asks it again while it is busy."""

    async def write(self, work: Callable[[sa.Connection], _T]) -> _T:
        """Run it and return what it returns."""
        ...


async def run(store: Writer, purge: Purge, *, monotonic_s: Callable[[], float] = time.monotonic) -> Purged:
    """Make one pass, step by step. StorageUnavailableError: go on later; what went is gone."""
    rows = SMALLEST
    for step in purge.steps():
        has_more = True
        while has_more:

            def work(connection: sa.Connection, step: Step = step, rows: int = rows) -> tuple[bool, float]:
                began_s = monotonic_s()  # what it waited for the thread is not its own
                return step(connection, rows), began_s

            has_more, began_s = await store.write(work)
            took_s = monotonic_s() - began_s
            rows = max(SMALLEST, rows // 2) if took_s > STEP_S else min(LARGEST, rows + rows // 2)
            if has_more:
                await asyncio.sleep(PAUSE_S)
    return purge.purged


class Purger:
    """Makes a pass now and then, in the process that takes journals in; `run` until cancelled."""

    def __init__(
        self,
        *,
        store: Store,
        keeping: Callable[[], Keeping],
        destinations: Mapping[str, object],
        clock: Clock,
        every_s: float = EVERY_S,
    ) -> None:
        """`keeping` gives what is in force; `destinations` are those that the publisher feeds, by name."""
        self._store = store
        self._keeping = keeping
        self._destinations = destinations
        self._clock = clock
        self._every_s = every_s

    async def run(self) -> None:
        """Purge until cancelled; a pass that meets a locked storage ends, and the next one goes on."""
        while True:
            purge = Purge(self._keeping(), self._destinations, self._clock())
            with suppress(StorageUnavailableError):  # the store has said so
                await run(self._store, purge)
            if purge.purged.rows:
                _log.info("storage_purged", rows=purge.purged.rows, unpublished=purge.purged.unpublished)
            await asyncio.sleep(self._every_s)
