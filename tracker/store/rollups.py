"""What a batch adds to the roll-ups, gathered and then written with one statement for each table.

Owns the keys of the roll-ups. What the counts mean is `tracker.core.statistics`'; what a batch adds is `intake.py`'s
to find out. All of it is added, never set, and may be negative: a correction takes away where it was and adds where
it is.

Theory: a roll-up of mail is kept by differences. What a copy adds to the statistics is a function of its row; so what
it adds after a batch, less what it added before, keeps every sum exact, in whatever order events come.

Limits: a correction takes a hit from the device that its user agent is read as now; where a later version reads it
otherwise, the sums of two devices are off by that hit.
"""

from collections.abc import Mapping
from operator import add
from typing import Final, NamedTuple

import sqlalchemy as sa

from tracker.contract import ses
from tracker.core.statistics import LINK_NAMES, Counts
from tracker.store import bulk, schema
from tracker.store.times import to_ms
from tracker.store.values import MOST_DESTINATIONS, MOST_UNFOLLOWED, OTHER, Values

QUARTER_MS: Final = 900_000
DAY_MS: Final = 86_400_000

_ADD_EVENTS: Final = bulk.adding(schema.roll_up_event)
_ADD_MAIL: Final = bulk.adding(schema.roll_up_mail)
_ADD_TAGS: Final = bulk.adding(schema.roll_up_tag)
_ADD_LINKS: Final = bulk.adding(schema.roll_up_link)
_ADD_HITS: Final = bulk.adding(schema.roll_up_hit)
_ADD_TO_MESSAGE: Final = bulk.adding(schema.message_count)
_ADD_TO_LINK: Final = bulk.adding(schema.link_count)
_NO_CLICKS: Final[Counts] = (0,) * len(LINK_NAMES)


class Message:
    """A message as a batch knows it: what its events are joined with, and where its copies are counted."""

    __slots__ = (
        "accepted_ms", "configuration_set", "day_ms", "from_domain", "link_kind", "mail", "mail_key", "text",
    )  # fmt: skip

    def __init__(self, mail: ses.Mail) -> None:
        facts = mail.facts
        self.mail = mail
        self.text = facts.message.text
        self.accepted_ms = to_ms(facts.accepted_at)
        self.day_ms = day_of(self.accepted_ms)
        self.configuration_set = facts.configuration_set or ""
        self.from_domain = facts.from_domain
        self.link_kind = f"link:{self.configuration_set}"
        self.mail_key = (quarter_of(self.accepted_ms), self.configuration_set, self.from_domain)


class EventKey(NamedTuple):
    """What an event is counted by: the quarter of an hour in which it happened (`quarter_of`), and to what mail;
    `agent_class` is empty of all but hits.
    """

    quarter_ms: int
    configuration_set: str
    from_domain: str
    type: str
    agent_class: str
    first: bool


class RollUps:
    """The sums of a batch."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        self._values = Values(connection)
        self._events: dict[bulk.Row, int] = {}
        self._hits: dict[tuple[EventKey, str, str], int] = {}
        self._messages: dict[Message, Counts] = {}
        self._links: dict[bulk.Row, Counts] = {}
        self._destinations: dict[bulk.Row, Counts] = {}

    def add_event(self, key: EventKey, count: int = 1) -> None:
        """Count an event; of a hit that stands for several, one at most is the first."""
        if count not in {1, -1} and key.first:
            one = 1 if count > 0 else -1
            self.add_event(key._replace(first=False), count - one)
            count = one
        self._events[key] = self._events.get(key, 0) + count

    def add_hit(self, key: EventKey, device: str, country: str, count: int) -> None:
        """Count a hit as an event, by its device and by its country."""
        self.add_event(key, count)
        row = (key, device, country)
        self._hits[row] = self._hits.get(row, 0) + count

    def add_copies(self, message: Message, counts: Counts) -> None:
        """Add to what became of a message's copies."""
        before = self._messages.get(message)
        self._messages[message] = counts if before is None else tuple(map(add, before, counts))

    def know_links(self, message: Message) -> None:
        """Give the destinations of a new message a row each, so that those which nobody follows are there, too."""
        if self._values.is_full(message.day_ms, message.link_kind, MOST_UNFOLLOWED):
            return
        for url in {link.url for link in message.mail.links.values()}:
            if self._values.enter(message.day_ms, message.link_kind, url, MOST_UNFOLLOWED):
                self._destinations[message.day_ms, message.configuration_set, url] = _NO_CLICKS

    def add_clicks(self, message: Message, link_index: int, counts: Counts) -> None:
        """Add to how one link of a message was followed."""
        _add(self._links, (message.text, link_index), counts)

    def add_destination(self, message: Message, url: str, counts: Counts) -> None:
        """Add to how a destination was followed, by whichever link of the message."""
        name = self._values.name(message.day_ms, message.link_kind, url, MOST_DESTINATIONS)
        _add(self._destinations, (message.day_ms, message.configuration_set, name), counts)

    def write(self) -> None:
        """Add all of it to the tables; the messages have to be there."""
        mail: dict[bulk.Row, Counts] = {}
        tagged: dict[bulk.Row, Counts] = {}
        for message, counts in self._messages.items():
            _add(mail, message.mail_key, counts)
            _add(tagged, (message.day_ms, message.mail.facts.tags), counts)
        tags: dict[bulk.Row, Counts] = {}
        for (day_ms, pairs), counts in tagged.items():
            for tag, value in dict.fromkeys(pairs):
                _add(tags, self._tag_key(day_ms, tag, value), counts)
        hits = self._hits_by_trait()
        self._values.write()
        _ADD_TO_MESSAGE.run(self._connection, [(one.text, *counts) for one, counts in self._messages.items()])
        _ADD_TO_LINK.run(self._connection, _flat(self._links))
        _ADD_MAIL.run(self._connection, _flat(_both_spans(mail)))
        _ADD_TAGS.run(self._connection, _flat(tags))
        _ADD_LINKS.run(self._connection, _flat(self._destinations))
        _ADD_HITS.run(self._connection, [(*key, count) for key, count in hits.items()])
        events = _both_spans({key: (count,) for key, count in self._events.items()})
        _ADD_EVENTS.run(self._connection, _flat(events))

    def _hits_by_trait(self) -> dict[bulk.Row, int]:
        sums: dict[bulk.Row, int] = {}
        for (key, *traits), count in self._hits.items():
            day_ms = day_of(key.quarter_ms)
            for trait, value in zip(("device", "country"), traits, strict=True):
                name = self._values.name(day_ms, trait, value) if value else ""
                row = (day_ms, trait, name, key.configuration_set, key.type, key.agent_class)
                sums[row] = sums.get(row, 0) + count
        return sums

    def _tag_key(self, day_ms: int, tag: str, value: str) -> bulk.Row:
        name = self._values.name(day_ms, "tag", tag)
        return day_ms, name, self._values.name(day_ms, f"tag:{tag}", value) if name == tag else OTHER


def quarter_of(at_ms: int) -> int:
    """Return the millisecond in which the quarter of an hour begins."""
    return at_ms - at_ms % QUARTER_MS


def day_of(at_ms: int) -> int:
    """Return the millisecond in which the day begins, in UTC."""
    return at_ms - at_ms % DAY_MS


def _add(sums: dict[bulk.Row, Counts], key: bulk.Row, counts: Counts) -> None:
    before = sums.get(key)
    sums[key] = counts if before is None else tuple(map(add, before, counts))


def _both_spans(quarters: Mapping[bulk.Row, Counts]) -> dict[bulk.Row, Counts]:
    """Take sums by quarter of an hour, the first of the key; return them and those of the days, by span and start."""
    sums = {(QUARTER_MS, *key): counts for key, counts in quarters.items()}
    for (start_ms, *rest), counts in quarters.items():
        _add(sums, (DAY_MS, day_of(start_ms), *rest), counts)
    return sums


def _flat(sums: Mapping[bulk.Row, Counts]) -> list[bulk.Row]:
    return [key + counts for key, counts in sums.items()]
