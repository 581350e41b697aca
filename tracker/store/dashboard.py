"""What a dashboard asks of the storage: sums over roll-ups, the latest messages, and one message with all its counts.

Each function runs inside a transaction of `Store.read` or `reading`. None reads the log, but for the events of one
message and the newest page, which are found by an index. What the numbers mean is said in `tracker.core.statistics`.

A time from which on something is counted is rounded down to what the roll-up knows: to the quarter of an hour of mail
and of events, to the day (UTC) of tags, destinations, devices and countries.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, assert_never

import sqlalchemy as sa

from tracker.core.statistics import HUMAN, LINK_NAMES, NAMES, LinkStatistics, Statistics
from tracker.store.bodies import Bodies
from tracker.store.rollups import DAY_MS, QUARTER_MS
from tracker.store.schema import (
    copy,
    event,
    link_count,
    message,
    message_count,
    roll_up_event,
    roll_up_hit,
    roll_up_link,
    roll_up_mail,
    roll_up_tag,
)
from tracker.store.times import from_ms, to_ms

Grouping = Literal["day", "hour", "set", "domain"]
Trait = Literal["device", "country"]

HOUR_MS: Final = 3_600_000
_BUCKET_MS: Final = {"day": DAY_MS, "hour": HOUR_MS}


@dataclass(frozen=True, slots=True, kw_only=True)
class EventCount:
    """How many events of a type and verdict there were; `name` is the hour, day, set or domain.

    `agent_class` is empty of all but hits. `first` are those that were the first of their kind for their copy.
    """

    name: str
    type: str
    agent_class: str
    count: int
    first: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TagStatistics:
    """What became of the mail with a tag of a value; `other` are the values beyond the 200 of a day."""

    tag: str
    value: str
    statistics: Statistics


@dataclass(frozen=True, slots=True, kw_only=True)
class TraitCount:
    """Hits from a device (`"mobile"`) or country (`"DE"`), empty where nobody knows."""

    value: str
    count: int
    human: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageLine:
    """A message in a list; the id is that of its 250 reply."""

    message: str
    accepted_at: datetime
    configuration_set: str | None
    from_domain: str
    recipients: int
    statistics: Statistics


def mail(connection: sa.Connection, by: Grouping, *, since: datetime | None = None) -> list[tuple[str, Statistics]]:
    """Count the mail accepted since then, a row for each day, hour, set or sender domain, in their order.

    A row's name is `"2026-11-03"`, `"2026-11-03T08:00Z"`, a set's name or a domain, empty where there is none.
    """
    rows = _spans(roll_up_mail, since, by)
    group = _group(rows, by)
    sums = [sa.func.sum(rows.c[name]).label(name) for name in NAMES]
    found = connection.execute(sa.select(group, *sums).group_by(group).order_by(group))
    return [(_name(by, name), _statistics(counts)) for name, *counts in found]


def events(connection: sa.Connection, by: Grouping, *, since: datetime | None = None) -> list[EventCount]:
    """Count the events that happened since then, by day, hour, set or sender domain, and by type and verdict."""
    rows = _spans(roll_up_event, since, by)
    group = _group(rows, by)
    first = sa.func.sum(sa.case((rows.c.first, rows.c.count), else_=0))
    keys = (group, rows.c.type, rows.c.agent_class)
    found = connection.execute(sa.select(*keys, sa.func.sum(rows.c.count), first).group_by(*keys).order_by(*keys))
    return [
        EventCount(name=_name(by, name), type=kind, agent_class=agent_class, count=count, first=firsts)
        for name, kind, agent_class, count, firsts in found
    ]


def event_totals(connection: sa.Connection, *, since: datetime) -> dict[str, int]:
    """Count the events that happened since then, by type; a type that did not happen is absent."""
    rows = _spans(roll_up_event, since, "set")
    found = connection.execute(sa.select(rows.c.type, sa.func.sum(rows.c.count)).group_by(rows.c.type))
    return {str(kind): int(count) for kind, count in found}


def tags(
    connection: sa.Connection, *, since: datetime | None = None, tag: str | None = None, limit: int = 50
) -> list[TagStatistics]:
    """Count the mail accepted since then by tag and value, most mail first."""
    columns = roll_up_tag.c
    sums = [sa.func.sum(columns[name]).label(name) for name in NAMES]
    query = sa.select(columns.tag, columns.value, *sums).where(columns.day_ms >= _day(since))
    if tag is not None:
        query = query.where(columns.tag == tag)
    query = query.group_by(columns.tag, columns.value).order_by(sa.desc("sent"), columns.tag, columns.value)
    return [
        TagStatistics(tag=name, value=value, statistics=_statistics(counts))
        for name, value, *counts in connection.execute(query.limit(limit))
    ]


def links(
    connection: sa.Connection, *, since: datetime | None = None, limit: int | None = None
) -> list[tuple[str, LinkStatistics]]:
    """Count the clicks on each destination in the mail accepted since then, most followed first.

    A copy that followed two links of its message to one destination counts once. Those that nobody followed are there
    too; beyond the limits of `values.py` destinations are counted as `other`.
    """
    columns = roll_up_link.c
    sums = [sa.func.sum(columns[name]).label(name) for name in LINK_NAMES]
    query = sa.select(columns.url, *sums).where(columns.day_ms >= _day(since)).group_by(columns.url)
    query = query.order_by(sa.desc("clicks"), columns.url).limit(limit)
    return [(url, _link_statistics(counts)) for url, *counts in connection.execute(query)]


def traits(
    connection: sa.Connection, trait: Trait, *, since: datetime | None = None, kind: str | None = None, limit: int = 50
) -> list[TraitCount]:
    """Count the opens and clicks since then by device or country, most first; `kind` is `"open"` or `"click"`."""
    columns = roll_up_hit.c
    count = sa.func.sum(columns.count).label("hits")
    human = sa.func.sum(sa.case((columns.agent_class == HUMAN, columns.count), else_=0))
    query = sa.select(columns.value, count, human).where(columns.day_ms >= _day(since), columns.trait == trait)
    if kind is not None:
        query = query.where(columns.type == kind)
    query = query.group_by(columns.value).order_by(sa.desc("hits"), columns.value).limit(limit)
    return [TraitCount(value=value, count=hits, human=humans) for value, hits, humans in connection.execute(query)]


def latest_messages(connection: sa.Connection, *, before: datetime | None = None, limit: int = 50) -> list[MessageLine]:
    """Return the messages that were accepted last, with what became of their copies, newest first."""
    query = (
        sa.select(
            *message.c["message", "accepted_ms", "configuration_set", "from_domain", "recipients"],
            *message_count.c[NAMES],
        )
        .join_from(message, message_count, message.c.message == message_count.c.message)
        .order_by(message.c.accepted_ms.desc())
        .limit(limit)
    )
    if before is not None:
        query = query.where(message.c.accepted_ms < to_ms(before))
    return [
        MessageLine(
            message=text,
            accepted_at=from_ms(accepted_ms),
            configuration_set=configuration_set,
            from_domain=from_domain,
            recipients=recipients,
            statistics=_statistics(counts),
        )
        for text, accepted_ms, configuration_set, from_domain, recipients, *counts in connection.execute(query)
    ]


def message_statistics(connection: sa.Connection, text: str) -> Statistics | None:
    """Return what became of a message's copies; None where there is no such message."""
    row = connection.execute(sa.select(*message_count.c[NAMES]).where(message_count.c.message == text)).one_or_none()
    return None if row is None else _statistics(row)


def message_links(connection: sa.Connection, text: str) -> dict[int, LinkStatistics]:
    """Return how the links of a message were followed, by index; a link that nobody followed is absent."""
    query = sa.select(link_count.c.link_index, *link_count.c[LINK_NAMES]).where(link_count.c.message == text)
    return {index: _link_statistics(counts) for index, *counts in connection.execute(query)}


def recipients(connection: sa.Connection, text: str, *, limit: int = 100) -> Sequence[sa.RowMapping]:
    """Return the rows of a message's copies, at most so many."""
    return connection.execute(sa.select(copy).where(copy.c.message == text).limit(limit)).mappings().all()


def message_events(connection: sa.Connection, text: str, *, limit: int = 200) -> list[str]:
    """Return the records of a message's events as they were told, in the order of the log."""
    query = sa.select(event.c.message, event.c.body).where(event.c.message == text).order_by(event.c.seq).limit(limit)
    return Bodies(connection).all((message_id, body) for message_id, body in connection.execute(query))


def _spans(table: sa.Table, since: datetime | None, by: Grouping) -> sa.Subquery | sa.Table:
    """Return the rows of the time since then: whole days where they do, quarters of an hour where they must."""
    columns = table.c
    if since is None or by == "hour":
        from_ms_ = 0 if since is None else to_ms(since) // QUARTER_MS * QUARTER_MS
        span_ms = QUARTER_MS if by == "hour" else DAY_MS
        return sa.select(table).where(columns.span_ms == span_ms, columns.start_ms >= from_ms_).subquery()
    start_ms = to_ms(since) // QUARTER_MS * QUARTER_MS
    whole_ms = -(-start_ms // DAY_MS) * DAY_MS
    begun = sa.select(table).where(
        columns.span_ms == QUARTER_MS, columns.start_ms >= start_ms, columns.start_ms < whole_ms
    )
    whole = sa.select(table).where(columns.span_ms == DAY_MS, columns.start_ms >= whole_ms)
    return sa.union_all(begun, whole).subquery()


def _group(rows: sa.FromClause, by: Grouping) -> sa.ColumnElement[Any]:
    match by:
        case "day" | "hour":
            # Whole division of milliseconds: the same on every database, unlike its functions for dates.
            return rows.c.start_ms // sa.literal_column(str(_BUCKET_MS[by]), sa.BigInteger)
        case "set":
            return rows.c.configuration_set
        case "domain":
            return rows.c.from_domain
        case _:
            assert_never(by)


def _name(by: Grouping, group: int | str) -> str:
    if isinstance(group, str):
        return group
    start = from_ms(group * _BUCKET_MS[by])
    return start.strftime("%Y-%m-%d" if by == "day" else "%Y-%m-%dT%H:%MZ")


def _day(since: datetime | None) -> int:
    return 0 if since is None else to_ms(since) // DAY_MS * DAY_MS


def _statistics(counts: Sequence[int]) -> Statistics:
    return Statistics(**dict(zip(NAMES, counts, strict=True)))


def _link_statistics(counts: Sequence[int]) -> LinkStatistics:
    return LinkStatistics(**dict(zip(LINK_NAMES, counts, strict=True)))
