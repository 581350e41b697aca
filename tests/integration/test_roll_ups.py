"""Roll-ups and corrected verdicts: exact whatever the order of records, their repetition and their batches."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.integration import recounts
from tests.integration.recounts import folded
from tests.integration.storage import Node, counted, counted_links, node, recount, recount_links
from tests.unit.happenings import accepted, after, bounce, clicked, delivery, message_id, opened, probed
from tracker.contract import records
from tracker.contract.events import Accepted, JournalRecord
from tracker.store import dashboard, values
from tracker.store.intake import Intake

TWO = ("ana@client.example", "ben@client.example")


def _classes(here: Node) -> dict[str, str]:
    return dict(here.rows("SELECT event_id, agent_class FROM event WHERE hit IS NOT NULL"))


def _agrees(here: Node) -> None:
    recounts.agrees(here)
    assert counted(here) == recount(here)
    assert counted_links(here) == recount_links(here)


async def test_a_sweep_corrects_the_clicks_that_came_before_it(tmp_path: Path) -> None:
    """The third link within half a minute tells what the first two were; their records stay as they were told."""
    async with node(tmp_path) as here:
        await here.take_in(accepted(), delivery(), clicked(1, link=0, at=after(900)))
        await here.take_in(clicked(2, link=1, at=after(901)))
        before = here.bodies()
        assert counted(here)[str(message_id()), "000000000001"][5:] == (2, 2)

        await here.take_in(clicked(3, link=2, at=after(905)))
        assert set(_classes(here).values()) == {"machine"}
        assert here.bodies()[: len(before)] == before
        assert here.bodies()[-1]["mailwake"]["agent"]["reasons"] == ["sweep"]
        assert counted(here)[str(message_id()), "000000000001"][5:] == (3, 0)
        _agrees(here)


async def test_a_head_corrects_the_hit_that_came_before_it(tmp_path: Path) -> None:
    """Within ten seconds, in another batch."""
    async with node(tmp_path) as here:
        await here.take_in(accepted(), delivery(), opened(1, at=after(1000)), opened(2, at=after(1020)))
        await here.take_in(probed(3, at=after(1008)))

        assert list(_classes(here).values()) == ["machine", "human"]
        _agrees(here)


async def test_a_delivery_that_is_learnt_late_corrects_the_hits_at_once_behind_it(tmp_path: Path) -> None:
    """The journals of two slots have no order; a hit before the upstream's reply is the upstream's scanner."""
    async with node(tmp_path) as here:
        await here.take_in(accepted(), clicked(1, at=after(90)), clicked(2, at=after(159)), clicked(3, at=after(161)))
        assert set(_classes(here).values()) == {"human"}

        await here.take_in(delivery(at=after(100)))
        assert list(_classes(here).values()) == ["probable", "probable", "human"]
        _agrees(here)


async def test_the_first_human_hit_moves_when_it_was_none(tmp_path: Path) -> None:
    """`human_opened_ms` is asked of the log again."""
    async with node(tmp_path) as here:
        await here.take_in(accepted(), delivery(), opened(1, at=after(1000)), opened(2, at=after(2000)))
        await here.take_in(probed(3, at=after(1001)))

        times = here.rows("SELECT human_opened_ms - opened_ms FROM copy")
        assert times == [(1_000_000,)]
        _agrees(here)


async def test_a_hit_that_stands_for_several_counts_as_so_many(tmp_path: Path) -> None:
    """One of them at most is the first; a correction moves all of them."""
    async with node(tmp_path) as here:
        await here.take_in(accepted(), delivery(), folded(opened(1, at=after(1000)), 40, "DE"))
        statistics = await here.store.read(
            lambda connection: dashboard.message_statistics(connection, str(message_id()))
        )
        assert statistics is not None
        assert (statistics.opens, statistics.human_opens, statistics.unique_opens) == (40, 40, 1)
        recounts.agrees(here)

        await here.take_in(probed(2, at=after(1001)))
        assert here.rows("SELECT opens, human_opens FROM copy") == [(40, 0)]
        recounts.agrees(here)


@pytest.mark.parametrize("times", [0, -3])
async def test_a_hit_that_stands_for_none_is_put_aside(tmp_path: Path, times: int) -> None:
    """A count from nowhere must not take others' hits away."""
    async with node(tmp_path) as here:
        await here.take_in(accepted(), folded(opened(1), times), opened(2))

        assert here.rows("SELECT count(*) FROM aside") == [(1,)]
        assert here.rows("SELECT opens FROM copy") == [(1,)]
        _agrees(here)


async def test_halves_of_a_batch_with_poison_count_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that fails after its roll-ups were written leaves nothing of them behind."""
    write = Intake._write

    def fail_late(self: Intake) -> None:
        write(self)
        if any(str(row[0]).endswith("2") for row in self._events):
            raise RuntimeError("poison")

    monkeypatch.setattr(Intake, "_write", fail_late)
    async with node(tmp_path) as here:
        await here.take_in(
            accepted(), delivery(), *(folded(clicked(n, link=n % 3, at=after(900 + n)), n) for n in range(1, 6))
        )

        assert here.rows("SELECT count(*) FROM aside") == [(1,)]
        assert here.rows("SELECT sum(clicks) FROM copy") == [(1 + 3 + 4 + 5,)]
        recounts.agrees(here)


async def test_a_tag_has_so_many_values_a_day_and_the_rest_is_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that came first keep their names, over batches and for what happens to their mail later."""
    monkeypatch.setattr(values.Values.name, "__defaults__", (2,))
    async with node(tmp_path) as here:
        for number, value in enumerate(("a", "b", "c", "a", "d"), start=1):
            await here.take_in(accepted(number, TWO, tags=(("campaign", value),)))
        await here.take_in(delivery(3), delivery(1), bounce(5))

        rows = await here.store.read(lambda connection: dashboard.tags(connection, tag="campaign"))
        assert {row.value: (row.statistics.sent, row.statistics.delivered, row.statistics.bounced) for row in rows} == {
            "a": (4, 1, 0),
            "other": (4, 1, 1),
            "b": (2, 0, 0),
        }


async def test_destinations_that_nobody_follows_leave_room_for_those_that_somebody_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message may have links of its own, so their number has a limit that followed ones do not meet as soon."""
    monkeypatch.setattr("tracker.store.rollups.MOST_UNFOLLOWED", 1)
    monkeypatch.setattr("tracker.store.rollups.MOST_DESTINATIONS", 2)
    async with node(tmp_path) as here:
        await here.take_in(accepted(), clicked(1, link=0), clicked(2, link=2))
        found = await here.store.read(dashboard.links)
        assert sorted((url, counts.clicks) for url, counts in found) == [
            ("https://shop.example/login", 1),
            ("https://shop.example/p?id=7&ref=mail", 1),
        ]


def lively() -> list[JournalRecord]:
    """Give some mail with all that may happen to it, hits of machines and of people, folded ones, of several days."""
    return [
        *(accepted(number, TWO) for number in (1, 2)),
        accepted(3, configuration_set=None, from_domain="other.example", at=after(1000), opens=False),
        *(delivery(number, recipient, at=after(40)) for number in (1, 2) for recipient in (0, 1)),
        bounce(3),
        *(folded(opened(10 + n, 1 + n % 2, n % 2, at=after(30 + 9 * n)), 1 + n % 3, "DE") for n in range(6)),
        *(folded(clicked(20 + n, 1 + n % 2, n % 2, link=n % 3, at=after(50 + 11 * n)), 1 + n % 2) for n in range(9)),
        *(clicked(30 + n, 1, link=n, at=after(3600 + 10 * n)) for n in range(3)),
        *(clicked(40 + n, 3, link=n % 3, at=after(90_000 + 17 * n)) for n in range(4)),
        *(probed(50 + n, 1 + n % 2, n % 2, at=after(45 + 31 * n)) for n in range(3)),
        opened(60, 4),
    ]


@given(
    order=st.permutations([*lively(), *lively()[::3]]),
    cuts=st.lists(st.integers(min_value=1, max_value=12), max_size=8),
    pause_s=st.sampled_from([0, 61]),
)
async def test_roll_ups_and_verdicts_are_those_of_a_recount_whatever_the_order(
    order: list[JournalRecord], cuts: list[int], pause_s: int
) -> None:
    """Any order, repetition and batching: in the end all is as if everything had been known from the beginning."""
    with tempfile.TemporaryDirectory() as folder:
        async with node(Path(folder)) as here:
            await here.take_in_pieces(order, cuts, pause_s)

            assert here.rows("SELECT count(*) FROM aside") == [(0,)]
            expected = recounts.verdicts(here, order)
            found = _classes(here)
            assert {event: found[event] for event in expected} == expected
            recounts.agrees(here)
            assert here.rows("SELECT sum(sent) FROM roll_up_tag WHERE tag = 'kind'") == [(5,)]
            assert {type(records.decode(raw)) for (raw,) in here.rows("SELECT facts FROM message")} == {Accepted}
