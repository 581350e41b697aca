"""What `mailwake events` and `mailwake stats` ask, of a real file, beside whoever writes it."""

import shutil
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from hypothesis import given
from hypothesis import strategies as st

from tests.integration.storage import Node, node
from tests.unit.happenings import ACCEPTED_AT, accepted, after, bounce, clicked, delivery, message_id, opened
from tracker.core.statistics import CopyCounts, LinkStatistics, count
from tracker.store import reports, schema
from tracker.store.dashboard import Grouping
from tracker.store.database import StorageUnavailableError
from tracker.store.reports import EventFilter
from tracker.store.times import from_ms, to_ms

TWO = ("ana@client.example", "ben@client.example")


async def _filled(here: Node) -> None:
    """Two messages of two sets, a day apart, with what became of them."""
    await here.take_in(
        accepted(1, TWO),
        accepted(2, TWO, at=after(86_400), configuration_set=None, from_domain="other.example", opens=False),
        *(delivery(1, recipient) for recipient in (0, 1)),
        delivery(2, 0, at=after(86_402)),
        bounce(2, 1),
        opened(1, at=after(1000)),
        opened(2, at=after(1100)),
        opened(3, recipient=1, at=after(1000), signals=("ua_scanner:x",)),
        clicked(4, link=0, at=after(1000)),
        clicked(5, link=1, at=after(1100)),
        clicked(6, recipient=1, link=0, at=after(1000)),
        clicked(7, message=2, link=0, at=after(90_000)),
    )


async def test_events_come_in_the_order_of_the_log(tmp_path: Path) -> None:
    """More than a page of them."""
    async with node(tmp_path) as here:
        await here.take_in(accepted(), *(opened(number) for number in range(1, 450)))
        found = list(reports.events(here.database, EventFilter()))

        assert found == here.records()
        assert len(found) == 450


@pytest.mark.parametrize(
    "wanted, expected",
    [
        (EventFilter(types=frozenset({"open"})), 3),
        (EventFilter(types=frozenset({"open", "click"})), 7),
        (EventFilter(message=str(message_id(2))), 5),
        (EventFilter(recipient="ben@client.example"), 6),
        (EventFilter(recipient="ben@CLIENT.example", types=frozenset({"bounce"})), 1),
        (EventFilter(recipient="nobody"), 0),
        (EventFilter(since=after(86_000)), 4),
        (EventFilter(message="' OR 1=1 --"), 0),
    ],
)
async def test_events_are_chosen(tmp_path: Path, wanted: EventFilter, expected: int) -> None:
    """By type, message, recipient and time, and all of them together."""
    async with node(tmp_path) as here:
        await _filled(here)

        assert len(list(reports.events(here.database, wanted))) == expected


async def test_following_may_begin_before_there_is_a_storage(tmp_path: Path) -> None:
    """`--follow` waits for the server's first start, and then gives all there is."""
    async with node(tmp_path / "made") as made:
        await made.take_in(accepted(), opened(1))
        expected = made.records()
    path = tmp_path / "mailwake.db"
    looks = iter(range(100))

    def wait(_seconds: float) -> None:
        if next(looks) == 1:
            shutil.copy(tmp_path / "made" / "mailwake.db", path)

    following = reports.follow(path, EventFilter(), wait=wait)

    assert [next(following), next(following)] == expected


async def test_following_skips_what_was_there(tmp_path: Path) -> None:
    """It gives what comes from now on."""
    async with node(tmp_path) as here:
        await _filled(here)
        following = reports.follow(here.database, EventFilter(), wait=lambda _: _write_one(here.database))

        assert next(following) == "late"


def _write_one(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(
            "INSERT INTO event (event_id, type, at_ms, message, suffix, body) VALUES ('x', 'open', 0, 'm', 's', 'late')"
        )
        connection.commit()


async def test_statistics_by_day(tmp_path: Path) -> None:
    """A row says what became of the mail that was accepted in it, however late a hit came."""
    async with node(tmp_path) as here:
        await _filled(here)
        first, second = reports.statistics(here.database, "day")

        assert [name for name, _ in (first, second)] == ["2026-11-03", "2026-11-04"]
        assert (first[1].sent, first[1].delivered, first[1].bounced) == (2, 2, 0)
        assert (first[1].opens, first[1].unique_opens, first[1].human_unique_opens) == (3, 2, 1)
        assert (first[1].clicks, first[1].unique_clicks, first[1].human_unique_clicks) == (3, 2, 2)
        assert first[1].open_rate == pytest.approx(1 / 2)
        assert (second[1].sent, second[1].delivered, second[1].bounced, second[1].clicks) == (2, 1, 1, 1)
        assert second[1].open_rate is None
        assert second[1].click_rate == pytest.approx(1.0)


@pytest.mark.parametrize(
    "by, names",
    [
        ("hour", ["2026-11-03T08:00Z", "2026-11-04T08:00Z"]),
        ("set", ["", "promo"]),
        ("domain", ["other.example", "shop.example"]),
    ],
)
async def test_statistics_by_other_things(tmp_path: Path, by: Grouping, names: list[str]) -> None:
    """The same copies, in other heaps."""
    async with node(tmp_path) as here:
        await _filled(here)
        found = reports.statistics(here.database, by)

        assert [name for name, _ in found] == names
        assert sum(numbers.clicks for _, numbers in found) == 4


async def test_statistics_since_a_time(tmp_path: Path) -> None:
    """Of mail accepted since then, or since the beginning of that quarter of an hour."""
    async with node(tmp_path) as here:
        await _filled(here)

        assert [name for name, _ in reports.statistics(here.database, "day", since=after(900))] == ["2026-11-04"]


async def test_statistics_by_link_are_by_destination(tmp_path: Path) -> None:
    """Two links to one place are one destination; one that nobody followed is there too."""
    async with node(tmp_path) as here:
        await _filled(here)

        assert reports.link_statistics(here.database) == [
            (
                "https://shop.example/p?id=7&ref=mail",
                LinkStatistics(clicks=4, human_clicks=4, unique_clicks=3, human_unique_clicks=3),
            ),
            ("https://shop.example/login", LinkStatistics()),
        ]


async def test_the_database_counts_as_the_definitions_do(tmp_path: Path) -> None:
    """`tracker.core.statistics.count` over the rows is what the query says."""
    async with node(tmp_path) as here:
        await _filled(here)
        rows = here.rows(
            "SELECT delivered_ms IS NOT NULL, bounced_ms IS NOT NULL, tracks_opens, tracks_clicks, opens, human_opens,"
            " clicks, human_clicks FROM copy JOIN message USING (message) WHERE from_domain = 'shop.example'"
        )
        names = CopyCounts.__slots__
        copies = [CopyCounts(**dict(zip(names, row, strict=True))) for row in rows]

        assert dict(reports.statistics(here.database, "domain"))["shop.example"] == count(copies)


def test_no_storage_is_a_clear_answer(tmp_path: Path) -> None:
    """A report does not make the file that it did not find."""
    with pytest.raises(StorageUnavailableError, match=r"mailwake\.db"):
        reports.statistics(tmp_path / "mailwake.db", "day")
    assert list(tmp_path.iterdir()) == []


async def test_the_migrations_make_the_tables_of_the_schema(tmp_path: Path) -> None:
    """What the code asks for is what a new storage has, and the newest step is the one that the code names."""
    async with node(tmp_path) as here:
        differences = await here.store.read(
            lambda connection: compare_metadata(
                MigrationContext.configure(connection, opts={"compare_type": True}), schema.metadata
            )
        )

        assert differences == []
        assert here.rows("SELECT version_num FROM alembic_version") == [(schema.HEAD,)]


async def test_deleting_a_message_takes_its_rows_with_it(tmp_path: Path) -> None:
    """Foreign keys are on."""
    async with node(tmp_path) as here:
        await _filled(here)
        await here.store.write(lambda connection: connection.execute(schema.message.delete()))

        assert here.rows("SELECT (SELECT count(*) FROM copy) + (SELECT count(*) FROM copy_link)") == [(0,)]


@given(st.integers(min_value=-(10**13), max_value=10**14))
def test_times_survive_the_tables(milliseconds: int) -> None:
    """To the millisecond; a float would lose some."""
    assert to_ms(from_ms(milliseconds)) == milliseconds
    assert to_ms(ACCEPTED_AT + timedelta(microseconds=999)) == to_ms(ACCEPTED_AT)
