"""What is asked of the storage: events in the order of the log, and statistics of the mail of a time.

Owns the queries of `mailwake events` and `mailwake stats`. Opens the storage read-only for each page, beside a running
server: a read transaction that stayed open would let the WAL grow. What the numbers mean is said in
`tracker.core.statistics`.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal, assert_never

import sqlalchemy as sa

from tracker.contract.address import Address
from tracker.contract.errors import AddressError
from tracker.core.statistics import LinkStatistics, Statistics
from tracker.store import schema
from tracker.store.database import StorageUnavailableError, reading
from tracker.store.times import from_ms, to_ms

Grouping = Literal["day", "hour", "set", "domain"]

_PAGE: Final = 200
_BUCKET_MS: Final = {"day": 86_400_000, "hour": 3_600_000}


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
    """Count the mail accepted since then, a row for each day, hour, set or sender domain, in their order.

    A row's name is `"2026-11-03"`, `"2026-11-03T08:00Z"`, a set's name or a domain, empty where there is none.
    StorageUnavailableError as of `events`.
    """
    group = _group(by)
    query = (
        sa.select(group.label("name"), *_sums())
        .select_from(schema.copy.join(schema.message, schema.copy.c.message == schema.message.c.message))
        .group_by(group)
        .order_by(group)
    )
    if since is not None:
        query = query.where(schema.message.c.accepted_ms >= to_ms(since))
    with reading(path) as connection:
        rows = connection.execute(query).mappings().all()
    return [(_name(by, row["name"]), Statistics(**{k: v for k, v in row.items() if k != "name"})) for row in rows]


def link_statistics(path: Path, *, since: datetime | None = None) -> list[tuple[str, LinkStatistics]]:
    """Count the clicks on each destination in the mail accepted since then, most followed first; unfollowed ones too.

    A copy that followed two links to one destination counts once. Raises as `events` does.
    """
    link, hits = schema.link.c, schema.copy_link.c
    copy_of_message = hits.message + "-" + hits.suffix
    query = (
        sa.select(
            link.url,
            sa.func.coalesce(sa.func.sum(hits.clicks), 0),
            sa.func.count(sa.distinct(copy_of_message)),
            sa.func.count(sa.distinct(sa.case((hits.human_clicks > 0, copy_of_message)))),
        )
        .select_from(
            schema.link.join(schema.message, link.message == schema.message.c.message).outerjoin(
                schema.copy_link, (hits.message == link.message) & (hits.link_index == link.link_index)
            )
        )
        .group_by(link.url)
        .order_by(sa.desc(sa.func.coalesce(sa.func.sum(hits.clicks), 0)), link.url)
    )
    if since is not None:
        query = query.where(schema.message.c.accepted_ms >= to_ms(since))
    with reading(path) as connection:
        rows = connection.execute(query).all()
    return [
        (url, LinkStatistics(clicks=clicks, unique_clicks=unique, human_unique_clicks=human))
        for url, clicks, unique, human in rows
    ]


def _page(path: Path, wanted: EventFilter, after: int) -> list[StoredEvent]:
    with reading(path) as connection:
        return [StoredEvent(seq=seq, body=body) for seq, body in connection.execute(page_query(wanted, after))]


def page_query(wanted: EventFilter, after: int) -> sa.Select[Any]:
    """Ask for the next page; one message or one recipient is found by an index, however long the log is."""
    event, copy = schema.event.c, schema.copy.c
    query = sa.select(event.seq, event.body).where(event.seq > after).order_by(event.seq).limit(_PAGE)
    if wanted.types:
        query = query.where(event.type.in_(sorted(wanted.types)))
    if wanted.message is not None:
        query = query.where(event.message == wanted.message)
    if wanted.recipient is not None:
        recipient = _normalize(wanted.recipient)
        copies = sa.select(copy.message, copy.suffix).where(copy.recipient.collate("NOCASE") == recipient)
        of_copies = sa.select(event.seq).where(sa.tuple_(event.message, event.suffix).in_(copies))
        is_reject = event.type == sa.literal_column("'reject'")  # in letters: else its index is not used
        of_reject = sa.func.json_extract(event.body, "$.mailwake.recipient").collate("NOCASE") == recipient
        query = query.where(event.seq.in_(of_copies.union(sa.select(event.seq).where(is_reject, of_reject))))
    if wanted.since is not None:
        query = query.where(event.at_ms >= to_ms(wanted.since))
    return query


def _before(path: Path, wanted: EventFilter) -> int:
    """Return where to begin; events come late but rarely long after, so most of an old log need not be read."""
    if wanted.since is None:
        return 0
    with reading(path) as connection:
        first = sa.select(sa.func.min(schema.event.c.seq)).where(schema.event.c.at_ms >= to_ms(wanted.since))
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


def _group(by: Grouping) -> sa.ColumnElement[Any]:
    match by:
        case "day" | "hour":
            # Whole division of milliseconds: the same on every database, unlike its functions for dates.
            return schema.message.c.accepted_ms // sa.literal_column(str(_BUCKET_MS[by]), sa.BigInteger)
        case "set":
            return sa.func.coalesce(schema.message.c.configuration_set, "")
        case "domain":
            return sa.type_coerce(schema.message.c.from_domain, sa.Text)
        case _:
            assert_never(by)


def _name(by: Grouping, group: int | str) -> str:
    if isinstance(group, str):
        return group
    start = from_ms(group * _BUCKET_MS[by])
    return start.strftime("%Y-%m-%d" if by == "day" else "%Y-%m-%dT%H:%MZ")


def _sums() -> list[sa.ColumnElement[int]]:
    """The definitions of `tracker.core.statistics.count`, as the database counts them."""
    copy = schema.copy.c
    delivered, bounced = copy.delivered_ms.is_not(None), copy.bounced_ms.is_not(None)
    pixel, links = delivered & copy.tracks_opens, delivered & copy.tracks_clicks
    return [
        sa.func.count().label("sent"),
        _how_many(delivered).label("delivered"),
        _how_many(bounced).label("bounced"),
        sa.func.sum(copy.opens).label("opens"),
        _how_many(copy.opens > 0).label("unique_opens"),
        _how_many(copy.human_opens > 0).label("human_unique_opens"),
        sa.func.sum(copy.clicks).label("clicks"),
        _how_many(copy.clicks > 0).label("unique_clicks"),
        _how_many(copy.human_clicks > 0).label("human_unique_clicks"),
        _how_many(pixel).label("open_base"),
        _how_many(pixel & (copy.human_opens > 0)).label("open_share"),
        _how_many(links).label("click_base"),
        _how_many(links & (copy.human_clicks > 0)).label("click_share"),
    ]


def _how_many(condition: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
    return sa.func.count(sa.case((condition, 1)))
