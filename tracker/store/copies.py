"""A copy's row while a batch is applied: who it is for, and its counters.

The counters are the roll-up of the log's events of that copy; `count` is the one place where an event changes them, and
`correct` the one where a verdict that has changed does.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from operator import attrgetter, sub
from types import MappingProxyType
from typing import Final, Self, TypeVar

import sqlalchemy as sa

from tracker.contract.events import CopyFacts, EventType, TrackedLink
from tracker.contract.ids import MESSAGE_ID_CHARACTERS, CopyId, MessageId
from tracker.core.statistics import HUMAN, NAMES, Counts, contribution, is_human, link_contribution
from tracker.store import bulk
from tracker.store.schema import copy, copy_link, event

Clicks = tuple[int, int]
"""How often, and how often by humans."""

# Named once: to ask the enumeration for one takes as long as the rest of counting an event.
_DELIVERY, _DELAY, _BOUNCE = EventType.DELIVERY, EventType.DELIVERY_DELAY, EventType.BOUNCE
_OPEN, _CLICK = EventType.OPEN, EventType.CLICK
_Name = TypeVar("_Name", int, str)

_FACTS: Final = ("message", "suffix", "recipient", "tracks_opens", "tracks_clicks")
_COUNTERS: Final = tuple(column.name for column in copy.columns if column.name not in _FACTS)
_KEYS: Final = ("key_message", "key_suffix")
_IS_KEY: Final = (copy.c.message == sa.bindparam("key_message")) & (copy.c.suffix == sa.bindparam("key_suffix"))
_counters: Final[Callable[["CopyRow"], bulk.Row]] = attrgetter(*_COUNTERS)
_NOTHING: Final[Counts] = (0,) * len(NAMES)

_LOAD: Final = bulk.Query(sa.select(copy).where(_IS_KEY), _KEYS)
_LOAD_LINKS: Final = bulk.Query(
    sa.select(copy_link.c.message, copy_link.c.suffix, *copy_link.c["link_index", "clicks", "human_clicks"]).where(
        copy_link.c.message == sa.bindparam("key_message"), copy_link.c.suffix == sa.bindparam("key_suffix")
    ),
    _KEYS,
)
_INSERT: Final = bulk.insert(copy)
_UPDATE: Final = bulk.Bulk(
    copy.update().where(_IS_KEY).values({name: sa.bindparam(f"new_{name}") for name in _COUNTERS}),
    [*(f"new_{name}" for name in _COUNTERS), *_KEYS],
)
_WRITE_LINKS: Final = bulk.replacing(copy_link)


def _first_human(kind: EventType) -> sa.ScalarSelect[int]:
    is_same = (event.c.message == copy.c.message) & (event.c.suffix == copy.c.suffix)
    is_meant = (event.c.type == sa.literal_column(f"'{kind.value}'")) & (
        event.c.agent_class == sa.literal_column(f"'{HUMAN}'")
    )
    return sa.select(sa.func.min(event.c.at_ms)).where(is_same, is_meant).scalar_subquery()


_FIND_FIRST_HUMAN: Final = bulk.Bulk(
    copy.update()
    .where(_IS_KEY)
    .values(human_opened_ms=_first_human(EventType.OPEN), human_clicked_ms=_first_human(EventType.CLICK)),
    _KEYS,
)


class CopyRow:
    """One recipient's copy; `is_new` until it is written, `is_changed` when a counter has moved.

    `links` has the clicks of each link that was followed, all and those by humans; `loaded` what the counters add to
    the statistics as they were read. What has not been set is the class's own: most copies of a batch change little.
    """

    delivered_ms: int | None = None
    bounced_ms: int | None = None
    delays: int = 0
    opens: int = 0
    human_opens: int = 0
    clicks: int = 0
    human_clicks: int = 0
    opened_ms: int | None = None
    human_opened_ms: int | None = None
    clicked_ms: int | None = None
    human_clicked_ms: int | None = None
    is_changed: bool = False
    is_corrected: bool = False
    links: Mapping[int, Clicks] = MappingProxyType({})
    links_before: Mapping[int, Clicks] | None = None
    loaded: Counts = _NOTHING

    def __init__(self, facts: CopyFacts, *, is_new: bool = False) -> None:
        self.facts = facts
        self.is_new = is_new

    @classmethod
    def of(cls, facts: CopyFacts, counters: bulk.Row) -> Self:
        """Make it of a row of the table."""
        row = cls(facts)
        vars(row).update(zip(_COUNTERS, counters, strict=True))
        row.loaded = row.counts()
        return row

    def has_had(self, kind: EventType) -> bool:
        """Say whether an event of that type has been counted."""
        if kind is _OPEN:
            return self.opens > 0
        if kind is _CLICK:
            return self.clicks > 0
        if kind is _DELIVERY:
            return self.delivered_ms is not None
        if kind is _BOUNCE:
            return self.bounced_ms is not None
        if kind is _DELAY:
            return self.delays > 0
        return kind is EventType.SEND and not self.is_new  # a Reject is of no copy that has a row

    def count(
        self, kind: EventType, at_ms: int, agent_class: str | None = None, link_index: int | None = None, times: int = 1
    ) -> None:
        """Count an event, a hit as often as it happened; what comes out does not depend on the order of events."""
        if kind is _OPEN:
            self.opens += times
            self.opened_ms = _earlier(self.opened_ms, at_ms)
            if is_human(agent_class):
                self.human_opens += times
                self.human_opened_ms = _earlier(self.human_opened_ms, at_ms)
        elif kind is _CLICK:
            self.clicks += times
            self.clicked_ms = _earlier(self.clicked_ms, at_ms)
            human_times = 0
            if is_human(agent_class):
                human_times = times
                self.human_clicks += times
                self.human_clicked_ms = _earlier(self.human_clicked_ms, at_ms)
            self._follow(link_index, times, human_times)
        elif kind is _DELIVERY:
            self.delivered_ms = _earlier(self.delivered_ms, at_ms)
        elif kind is _BOUNCE:
            self.bounced_ms = _earlier(self.bounced_ms, at_ms)
        elif kind is _DELAY:
            self.delays += 1
        else:
            return
        self.is_changed = True

    def correct(self, kind: EventType, link_index: int | None, human_times: int) -> None:
        """Take a hit for so many more of a human's, or fewer; when the first of them was is asked of the log later."""
        if kind is _OPEN:
            self.human_opens += human_times
        else:
            self.human_clicks += human_times
            self._follow(link_index, 0, human_times)
        self.is_changed = self.is_corrected = True

    def counts(self) -> Counts:
        """Return what it adds to the statistics."""
        return contribution(
            delivered=self.delivered_ms is not None,
            bounced=self.bounced_ms is not None,
            tracks_opens=self.facts.opens,
            tracks_clicks=self.facts.clicks,
            opens=self.opens,
            human_opens=self.human_opens,
            clicks=self.clicks,
            human_clicks=self.human_clicks,
        )

    def difference(self) -> Counts:
        """Return what it adds to the statistics now, less what it added when it was read."""
        now = self.counts()
        return now if self.is_new else tuple(map(sub, now, self.loaded))

    def link_differences(self) -> Iterator[tuple[int, Counts]]:
        """Give what it adds to the counts of links now, less what it did when it was read."""
        return _differences(self.links_before or {}, self.links)

    def destination_differences(self, links: Mapping[int, TrackedLink]) -> Iterator[tuple[str, Counts]]:
        """Give the same by where the links lead to: two links to one place count as one."""
        return _differences(_by_url(self.links_before or {}, links), _by_url(self.links, links))

    def _follow(self, link_index: int | None, clicks: int, human_clicks: int) -> None:
        if link_index is None:
            return
        if self.links_before is None:
            self.links_before = self.links
        before, human_before = self.links.get(link_index, (0, 0))
        self.links = {**self.links, link_index: (before + clicks, human_before + human_clicks)}


def load(connection: sa.Connection, ids: Iterable[CopyId]) -> dict[str, CopyRow]:
    """Read the rows of those copies that are known, by the text of their ids."""
    by_key = {key(one): one for one in ids}
    found: dict[str, CopyRow] = {}
    for message, suffix, recipient, opens, clicks, *counters in _LOAD.of(connection, by_key):
        one = by_key[message, suffix]
        facts = CopyFacts(copy=one, recipient=recipient, opens=bool(opens), clicks=bool(clicks))
        found[one.text] = CopyRow.of(facts, tuple(counters))
    followed = [key(row.facts.copy) for row in found.values() if row.clicks]
    for message, suffix, link_index, clicks, human_clicks in _LOAD_LINKS.of(connection, followed):
        row = found[f"{message}-{suffix}"]
        row.links = {**row.links, link_index: (clicks, human_clicks)}
    return found


def write(connection: sa.Connection, rows: Collection[CopyRow]) -> None:
    """Insert the new ones and update the changed ones; their message has to be there."""
    changed = [row for row in rows if row.is_changed and not row.is_new]
    _INSERT.run(connection, [_columns(row) for row in rows if row.is_new])
    _UPDATE.run(connection, [(*_counters(row), *key(row.facts.copy)) for row in changed])
    links = [
        (*key(row.facts.copy), index, *clicks)
        for row in rows
        if row.links_before is not None
        for index, clicks in row.links.items()
        if row.links_before.get(index) != clicks
    ]
    _WRITE_LINKS.run(connection, links)


def find_first_human(connection: sa.Connection, rows: Iterable[CopyRow]) -> None:
    """Ask the log for the first human hits of corrected rows: the one that was the first may be no human's any more."""
    _FIND_FIRST_HUMAN.run(connection, [key(row.facts.copy) for row in rows if row.is_corrected])


def key(one: CopyId) -> tuple[str, str]:
    """Return how the tables name a copy: its message's id and its own suffix in hexadecimal."""
    text = one.text
    return text[:MESSAGE_ID_CHARACTERS], text[MESSAGE_ID_CHARACTERS + 1 :]


def copy_id(message: str, suffix: str) -> CopyId:
    """Return the id that `key` was made of."""
    return CopyId(MessageId.parse(message), bytes.fromhex(suffix))


def _by_url(clicks: Mapping[int, Clicks], links: Mapping[int, TrackedLink]) -> dict[str, Clicks]:
    sums: dict[str, Clicks] = {}
    for index, (every, human) in clicks.items():
        if index in links:
            before, human_before = sums.get(links[index].url, (0, 0))
            sums[links[index].url] = (before + every, human_before + human)
    return sums


def _differences(before: Mapping[_Name, Clicks], now: Mapping[_Name, Clicks]) -> Iterator[tuple[_Name, Counts]]:
    for name, clicks in now.items():
        was = before.get(name, (0, 0))
        if was != clicks:
            yield name, tuple(map(sub, link_contribution(*clicks), link_contribution(*was)))


def _earlier(known_ms: int | None, at_ms: int) -> int:
    return at_ms if known_ms is None or at_ms < known_ms else known_ms


def _columns(row: CopyRow) -> bulk.Row:
    facts = row.facts
    return (*key(facts.copy), facts.recipient, facts.opens, facts.clicks, *_counters(row))
