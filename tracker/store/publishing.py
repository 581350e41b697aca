"""The log as destinations read it: a page from a cursor, the cursor moved, how a destination fares.

Each function runs inside a transaction of `Store.read` or `Store.write`. What a destination did not take is in
`deadletters.py`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from tracker.store.bodies import Bodies
from tracker.store.schema import dead_letter, destination_cursor, destination_state, event
from tracker.store.times import from_ms, to_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEntry:
    """An event of the log: its number, its id, what destinations choose by, and its record.

    `type` is a value of EventType, `agent_class` the verdict on a hit, None of other events.
    """

    seq: int
    event_id: str
    type: str
    configuration_set: str | None
    agent_class: str | None
    body: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What follows a destination's cursor, `after`; it has no entries where there is nothing new."""

    after: int
    entries: tuple[LogEntry, ...]

    @property
    def last(self) -> int:
        """Where the cursor stands once the page is handed over."""
        return self.entries[-1].seq if self.entries else self.after


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationState:
    """How a destination fares, across restarts.

    `fingerprint` stands for its configuration. `attempts` failed since the last success; `since` is when that began.
    `last_error` is why, or why it was disabled.
    """

    fingerprint: str
    attempts: int = 0
    since: datetime | None = None
    next_try: datetime | None = None
    last_error: str | None = None
    last_success: datetime | None = None
    disabled_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What came of a page: the cursor goes from `after` to `to`, and `dead` events are put away, for `reason`."""

    after: int
    to: int
    state: DestinationState
    at: datetime
    dead: tuple[LogEntry, ...] = ()
    reason: str = ""
    attempts: int = 1


def read_on(connection: sa.Connection, destination: str, limit: int) -> Page:
    """Return the next events behind the destination's cursor, in order; none where it is not entered yet."""
    place = sa.select(destination_cursor.c.seq).where(destination_cursor.c.destination == destination)
    after = connection.execute(place).scalar()
    if after is None:
        return Page(after=0, entries=())
    columns = [event.c[name] for name in (*LogEntry.__slots__, "message")]
    rows = connection.execute(sa.select(*columns).where(event.c.seq > after).order_by(event.c.seq).limit(limit))
    bodies = Bodies(connection)
    return Page(after=after, entries=tuple(_entry(row, bodies) for row in rows.mappings()))


def settle(connection: sa.Connection, destination: str, progress: Progress) -> None:
    """Write down what came of a page.

    Of the page itself nothing is said where the cursor is not where it was read from: the storage has been made anew
    since then, and its numbers are others. An event that was erased meanwhile does not come back as a dead letter.
    """
    write_state(connection, destination, progress.state)
    here = (destination_cursor.c.destination == destination) & (destination_cursor.c.seq == progress.after)
    moved = connection.execute(destination_cursor.update().where(here).values(seq=progress.to)).rowcount
    if not moved or not progress.dead:
        return
    names = ("seq", "event_id", "type", "message", "suffix", "body")
    ids = [entry.event_id for entry in progress.dead]
    put_away = sa.select(*(event.c[name] for name in names)).where(event.c.event_id.in_(ids)).order_by(event.c.seq)
    added = {
        "destination": destination,
        "at_ms": to_ms(progress.at),
        "reason": progress.reason,
        "attempts": progress.attempts,
    }
    bodies = Bodies(connection)
    for row in connection.execute(put_away).mappings().all():
        letter = {**row, **added, "body": bodies.whole(row["message"], row["body"])}
        connection.execute(dead_letter.insert(), letter)


def read_state(connection: sa.Connection, destination: str) -> DestinationState | None:
    """Return how a destination fares; None: it has not been met yet."""
    query = sa.select(destination_state).where(destination_state.c.destination == destination)
    row = connection.execute(query).mappings().one_or_none()
    return None if row is None else state_of(row)


def begin(connection: sa.Connection, destination: str, state: DestinationState) -> None:
    """Enter a destination that is new or was configured otherwise."""
    enter(connection, [destination])
    write_state(connection, destination, state)


def write_state(connection: sa.Connection, destination: str, state: DestinationState) -> None:
    """Write how a destination fares, in place of what was known before."""
    connection.execute(destination_state.delete().where(destination_state.c.destination == destination))
    connection.execute(
        destination_state.insert(),
        {
            "destination": destination,
            "fingerprint": state.fingerprint,
            "attempts": state.attempts,
            "since_ms": _ms(state.since),
            "next_try_ms": _ms(state.next_try),
            "last_error": state.last_error,
            "last_success_ms": _ms(state.last_success),
            "disabled_ms": _ms(state.disabled_at),
        },
    )


def enable(connection: sa.Connection, destination: str) -> bool:
    """Have a destination tried at once, whatever it said and however long it should wait; False: it never failed."""
    tried_at_once = {"attempts": 0, "next_try_ms": None, "disabled_ms": None}
    here = destination_state.c.destination == destination
    return connection.execute(destination_state.update().where(here).values(**tried_at_once)).rowcount > 0


def cursors(connection: sa.Connection) -> dict[str, int]:
    """Return where each destination stands."""
    rows = connection.execute(sa.select(destination_cursor.c.destination, destination_cursor.c.seq))
    return {name: seq for name, seq in rows}  # noqa: C416 - rows are no pairs to a type checker


def last_number(connection: sa.Connection) -> int:
    """Return the last number that the log has given."""
    given = sa.text("SELECT seq FROM sqlite_sequence WHERE name = 'event'")
    number: int | None = connection.execute(given).scalar()
    return number or 0


def enter(connection: sa.Connection, destinations: Iterable[str]) -> None:
    """Give a cursor at the end of the log to the destinations that have none.

    To be called before the first events are taken in, so that a new storage's destinations get all of them.
    """
    known = set(connection.execute(sa.select(destination_cursor.c.destination)).scalars())
    new = sorted(set(destinations) - known)
    if new:
        end = connection.execute(sa.select(sa.func.max(event.c.seq))).scalar() or 0
        connection.execute(destination_cursor.insert(), [{"destination": name, "seq": end} for name in new])


def state_of(row: sa.RowMapping) -> DestinationState:
    """Read a row of `destination_state`."""
    return DestinationState(
        fingerprint=row["fingerprint"],
        attempts=row["attempts"],
        since=_time(row["since_ms"]),
        next_try=_time(row["next_try_ms"]),
        last_error=row["last_error"],
        last_success=_time(row["last_success_ms"]),
        disabled_at=_time(row["disabled_ms"]),
    )


def _entry(row: sa.RowMapping, bodies: Bodies) -> LogEntry:
    fields = dict(row)
    fields["body"] = bodies.whole(fields.pop("message"), row["body"])
    return LogEntry(**fields)


def _ms(moment: datetime | None) -> int | None:
    return None if moment is None else to_ms(moment)


def _time(milliseconds: int | None) -> datetime | None:
    return None if milliseconds is None else from_ms(milliseconds)
