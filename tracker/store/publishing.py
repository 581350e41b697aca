"""The log as destinations read it: a page from a cursor, the cursor moved, a new destination entered.

Each function runs inside a transaction of `Store.read` or `Store.write`.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import sqlalchemy as sa

from tracker.store.schema import destination_cursor, event


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


def read_on(connection: sa.Connection, destination: str, limit: int) -> Page:
    """Return the next events behind the destination's cursor, in order; none where it is not entered yet."""
    place = sa.select(destination_cursor.c.seq).where(destination_cursor.c.destination == destination)
    after = connection.execute(place).scalar()
    if after is None:
        return Page(after=0, entries=())
    columns = [event.c[name] for name in LogEntry.__slots__]
    rows = connection.execute(sa.select(*columns).where(event.c.seq > after).order_by(event.c.seq).limit(limit))
    entries = tuple(LogEntry(**row) for row in rows.mappings())
    return Page(after=after, entries=entries)


def move(connection: sa.Connection, destination: str, page: Page) -> None:
    """Say that the destination is done with a page.

    Nothing is said where the cursor is not where the page was read from: the storage has been made anew since then, and
    its numbers are others.
    """
    here = (destination_cursor.c.destination == destination) & (destination_cursor.c.seq == page.after)
    connection.execute(destination_cursor.update().where(here).values(seq=page.last))


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
