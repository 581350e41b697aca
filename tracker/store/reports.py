"""What is asked of the storage: events in the order of the log, and statistics of the mail of a time.

Owns the queries of `mailwake events` and `mailwake stats`. Opens the storage read-only for each page, beside a running
server: a read transaction that stayed open would let the WAL grow. The sums are `dashboard.py`'s.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from tracker.contract.address import Address
from tracker.contract.errors import AddressError
from tracker.core.statistics import LinkStatistics, Statistics
from tracker.store import dashboard, schema
from tracker.store.bodies import Bodies
from tracker.store.dashboard import Grouping
from tracker.store.database import StorageUnavailableError, reading
from tracker.store.times import to_ms

_PAGE: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter:
    """Which events; an empty filter takes all. `types` are values of EventType, `since` is the time of the event."""

    types: frozenset[str] = frozenset()
    message: str | None = None
    recipient: str | None = None
    since: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvent:
    """A record with its place in the log."""

    seq: int
    body: str


def events(path: Path, wanted: EventFilter) -> Iterator[str]:
    """Give the records of the wanted events, oldest in the log first, each one line of JSON.

    StorageUnavailableError: there is no storage, or it cannot be read.
    """
    after = _before(path, wanted)
    while page := _page(path, wanted, after):
        yield from (row.body for row in page)
        after = page[-1].seq


def follow(
    path: Path, wanted: EventFilter, *, poll_s: float = 0.5, wait: Callable[[float], object] = time.sleep
) -> Iterator[str]:
    """Give the wanted events from now on, or since the time that is wanted, for ever.

    A storage that is not there or locked is waited for; one that was made anew is read from its beginning.
    """
    after: int | None = None
    while True:
        try:
            if after is None:
                after = _before(path, wanted) if wanted.since is not None else _last_seq(path)
            page = _page(path, wanted, after)
            if not page:
                after = min(after, _last_seq(path))
        except StorageUnavailableError:
            page = []
            if not path.exists():
                after = 0  # whatever is in it once it is there is new
        yield from (row.body for row in page)
        if page:
            after = page[-1].seq
        else:
            wait(poll_s)


def statistics(path: Path, by: Grouping, *, since: datetime | None = None) -> list[tuple[str, Statistics]]:
    """Count the mail accepted since then, as `dashboard.mail` does. StorageUnavailableError as of `events`."""
    with reading(path) as connection:
        return dashboard.mail(connection, by, since=since)


def link_statistics(path: Path, *, since: datetime | None = None) -> list[tuple[str, LinkStatistics]]:
    """Count the clicks on each destination in it, as `dashboard.links` does. StorageUnavailableError as of `events`."""
    with reading(path) as connection:
        return dashboard.links(connection, since=since)


def _page(path: Path, wanted: EventFilter, after: int) -> list[StoredEvent]:
    with reading(path) as connection:
        bodies = Bodies(connection)
        rows = connection.execute(page_query(wanted, after))
        return [StoredEvent(seq=row.seq, body=bodies.whole(row.message, row.body)) for row in rows]


def page_query(wanted: EventFilter, after: int) -> sa.Select[Any]:
    """Ask for the next page; one message or one recipient is found by an index, however long the log is."""
    event, copy = schema.event.c, schema.copy.c
    query = sa.select(event.seq, event.message, event.body).where(event.seq > after).order_by(event.seq).limit(_PAGE)
    if wanted.types:
        query = query.where(event.type.in_(sorted(wanted.types)))
    if wanted.message is not None:
        query = query.where(event.message == wanted.message)
    if wanted.recipient is not None:
        recipient = _normalize(wanted.recipient)
        is_of_copy = (event.message == copy.message) & (event.suffix == copy.suffix)
        is_theirs = copy.recipient.collate("NOCASE") == recipient
        of_copies = sa.select(event.seq).join_from(schema.copy, schema.event, is_of_copy).where(is_theirs)
        is_reject = event.type == sa.literal_column("'reject'")  # in letters: else its index is not used
        of_reject = sa.func.json_extract(event.body, "$.mailwake.recipient").collate("NOCASE") == recipient
        query = query.where(event.seq.in_(of_copies.union(sa.select(event.seq).where(is_reject, of_reject))))
    if wanted.since is not None:
        # The sum keeps the database from going by the times' index: it would sort all events since then for each page.
        query = query.where(event.at_ms + sa.literal_column("0") >= to_ms(wanted.since))
    return query


def _before(path: Path, wanted: EventFilter) -> int:
    """Return where to begin; events come late but rarely long after, so most of an old log need not be read."""
    if wanted.since is None:
        return 0
    with reading(path) as connection:
        # The sum keeps the database from looking for the smallest number by reading the log from its beginning.
        number = schema.event.c.seq + sa.literal_column("0")
        first = sa.select(sa.func.min(number)).where(schema.event.c.at_ms >= to_ms(wanted.since))
        seq: int | None = connection.execute(first).scalar()
    return seq - 1 if seq is not None else _last_seq(path)


def _last_seq(path: Path) -> int:
    with reading(path) as connection:
        return connection.execute(sa.select(sa.func.max(schema.event.c.seq))).scalar() or 0


def _normalize(recipient: str) -> str:
    """Spell an address as it was stored; what is no address is looked for as it is, and not found."""
    try:
        return str(Address.parse(recipient))
    except AddressError:
        return recipient
