"""What a dashboard asks, of a storage that ingest filled: sums over any time, the latest messages, one message."""

from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import get_args

import pytest

from tests.integration.recounts import folded
from tests.integration.storage import Node, node
from tests.unit.happenings import accepted, after, bounce, clicked, delivery, message_id, opened
from tracker.core.statistics import LinkStatistics
from tracker.store import dashboard
from tracker.store.dashboard import EventCount, TraitCount

TWO = ("ana@client.example", "ben@client.example")
DAY_S = 86_400


async def _filled(here: Node) -> None:
    """Three messages: the second on the next day, the third two days later, of another set."""
    await here.take_in(
        accepted(1, TWO),
        accepted(2, at=after(DAY_S), tags=(("campaign", "dec"),)),
        accepted(3, at=after(3 * DAY_S), configuration_set=None, from_domain="other.example"),
        *(delivery(1, recipient) for recipient in (0, 1)),
        bounce(2),
        delivery(3, at=after(3 * DAY_S + 2)),
        folded(opened(1, at=after(1000)), 5, "DE"),
        folded(opened(2, at=after(1100), signals=("ua_scanner:x",)), 1, "FR"),
        folded(opened(3, 3, at=after(3 * DAY_S + 500)), 1, "DE"),
        clicked(4, recipient=1, link=0, at=after(2000)),
        clicked(5, recipient=1, link=1, at=after(3000)),
    )


@pytest.mark.parametrize(
    "since_s, days",
    [(None, 3), (0, 3), (1000, 2), (DAY_S - 3600, 2), (DAY_S + 1000, 1), (3 * DAY_S + 1000, 0)],
)
async def test_mail_since_any_time_is_the_mail_of_its_quarters(tmp_path: Path, since_s: int | None, days: int) -> None:
    """Whole days are added up from days, and what came before the first of them from quarters of an hour."""
    async with node(tmp_path) as here:
        await _filled(here)
        since = None if since_s is None else after(since_s)
        for by in get_args(dashboard.Grouping):
            rows = await here.store.read(partial(dashboard.mail, by=by, since=since))
            assert sum(counts.sent for _, counts in rows) == {3: 4, 2: 2, 1: 1, 0: 0}[days]
            if by == "day":
                assert len(rows) == days


async def test_events_are_counted_by_when_they_happened(tmp_path: Path) -> None:
    """By type and verdict, with how many of them were the first of their kind."""
    async with node(tmp_path) as here:
        await _filled(here)
        rows = await here.store.read(lambda connection: dashboard.events(connection, "hour", since=after(900)))
        totals = await here.store.read(lambda connection: dashboard.event_totals(connection, since=after(-60)))

        assert EventCount(name="2026-11-03T08:00Z", type="open", agent_class="human", count=5, first=1) in rows
        assert EventCount(name="2026-11-03T08:00Z", type="open", agent_class="machine", count=1, first=0) in rows
        assert EventCount(name="2026-11-06T08:00Z", type="send", agent_class="", count=1, first=1) in rows
        assert totals == {"send": 4, "delivery": 3, "bounce": 1, "open": 7, "click": 2}


async def test_tags_countries_and_links_are_those_of_the_days_since(tmp_path: Path) -> None:
    """Most first."""
    async with node(tmp_path) as here:
        await _filled(here)
        tags = await here.store.read(lambda connection: dashboard.tags(connection, since=after(DAY_S), tag="campaign"))
        countries = await here.store.read(lambda connection: dashboard.traits(connection, "country"))
        opens = await here.store.read(lambda connection: dashboard.traits(connection, "country", kind="open", limit=1))
        links = await here.store.read(lambda connection: dashboard.links(connection, since=after(DAY_S)))
        first_link = await here.store.read(lambda connection: dashboard.links(connection, limit=1))

        assert [(row.value, row.statistics.sent, row.statistics.bounced) for row in tags] == [
            ("dec", 1, 1),
            ("nov", 1, 0),
        ]
        assert countries == [
            TraitCount(value="DE", count=6, human=6),
            TraitCount(value="", count=2, human=2),
            TraitCount(value="FR", count=1, human=0),
        ]
        assert opens == countries[:1]
        assert sum(counts.clicks for _, counts in links) == 0
        assert first_link == [
            (
                "https://shop.example/p?id=7&ref=mail",
                LinkStatistics(clicks=2, human_clicks=2, unique_clicks=1, human_unique_clicks=1),
            )
        ]


async def test_the_latest_messages_come_with_their_counts(tmp_path: Path) -> None:
    """Page by page, and one of them with its links, copies and events."""
    async with node(tmp_path) as here:
        await _filled(here)
        one = str(message_id(1))
        latest = await here.store.read(lambda connection: dashboard.latest_messages(connection, limit=2))
        before = latest[-1].accepted_at
        older = await here.store.read(lambda connection: dashboard.latest_messages(connection, before=before))
        statistics = await here.store.read(lambda connection: dashboard.message_statistics(connection, one))
        links = await here.store.read(lambda connection: dashboard.message_links(connection, one))
        copies = await here.store.read(lambda connection: dashboard.recipients(connection, one))
        events = await here.store.read(lambda connection: dashboard.message_events(connection, one))

        assert [line.message for line in (*latest, *older)] == [str(message_id(number)) for number in (3, 2, 1)]
        assert older[0].statistics == statistics
        assert statistics is not None
        assert (statistics.delivered, statistics.opens, statistics.human_opens, statistics.clicks) == (2, 6, 5, 2)
        assert {index: counts.clicks for index, counts in links.items()} == {0: 1, 1: 1}
        assert [row["recipient"] for row in copies] == list(TWO)
        assert len(events) == 8
        nothing = await here.store.read(lambda connection: dashboard.message_statistics(connection, "nothing"))
        assert nothing is None


async def test_a_time_on_the_border_of_a_day_needs_no_quarters(tmp_path: Path) -> None:
    """The day that begins then is whole."""
    async with node(tmp_path) as here:
        await _filled(here)
        midnight = after(DAY_S).replace(hour=0, minute=0, second=0, microsecond=0)
        for since, sent in (
            (midnight, 2),
            (midnight - timedelta(milliseconds=1), 2),
            (midnight + timedelta(days=1), 1),
        ):
            rows = await here.store.read(partial(dashboard.mail, by="set", since=since))
            assert sum(counts.sent for _, counts in rows) == sent
