"""From the journal into the storage: exactly once, joined with the message, in whatever order records come."""

import asyncio
import tempfile
from datetime import timedelta
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tests.integration.storage import counted, counted_links, drain, node, recount, recount_links, until
from tests.unit.happenings import (
    accepted,
    after,
    bounce,
    clicked,
    delay,
    delivery,
    message_id,
    opened,
    probed,
)
from tracker.contract.events import Accepted, JournalRecord, Probe, Rejected

TWO = ("ana@client.example", "ben@client.example")

_FIREFOX = {"client": "Firefox 140", "device": "desktop", "os": "Linux"}


async def test_an_event_is_joined_with_its_message(tmp_path: Path) -> None:
    """A hit knows a copy and a link index; recipient, tags and the link's text come from the storage."""
    async with node(tmp_path) as here:
        await here.take_in(accepted(recipients=TWO), delivery(recipient=1), opened(1, recipient=1), clicked(2, link=0))

        send, other_send, handed_over, open_, click = here.bodies()
        assert [send["eventType"], other_send["eventType"]] == ["Send", "Send"]
        assert handed_over["mail"]["destination"] == ["ben@client.example"]
        assert handed_over["mailwake"]["upstreamMessageId"] == "4F2C"
        assert handed_over["delivery"]["reportingMTA"] == "relay1.shop.example"
        assert open_["mailwake"]["recipient"] == "ben@client.example"
        assert open_["mail"]["tags"]["campaign"] == ["nov"]
        assert click["click"]["linkTags"] == {"place": ["header", "top"], "product": ["lamp"]}
        assert click["mailwake"]["linkText"] == "Lamp"
        assert click["mailwake"]["recipients"] == 2


async def test_the_same_journal_twice_leaves_the_same_rows(tmp_path: Path) -> None:
    """A restart emits outcomes again, and a journal may be read again: the twin of an event id is dropped."""
    everything: list[JournalRecord] = [accepted(recipients=TWO), delivery(), delay(recipient=1), opened(1), probed(2)]
    async with node(tmp_path) as here:
        await here.take_in(*everything)
        before = here.rows("SELECT * FROM event ORDER BY seq"), counted(here)
        await here.take_in(*everything)
        await here.take_in(*reversed(everything))

        assert (here.rows("SELECT * FROM event ORDER BY seq"), counted(here)) == before
        assert len(before[0]) == 5


async def test_only_the_first_of_its_kind_is_first(tmp_path: Path) -> None:
    """`first` is per copy and type, over batches."""
    async with node(tmp_path) as here:
        await here.take_in(accepted(recipients=TWO), opened(1), opened(2), opened(3, recipient=1))
        await here.take_in(opened(4), clicked(5))

        hits = [body for body in here.bodies() if body["eventType"] in ("Open", "Click")]
        assert [body["mailwake"]["first"] for body in hits] == [True, False, True, False, True]


async def test_a_hit_that_comes_before_its_message_waits_and_nothing_behind_it_does(tmp_path: Path) -> None:
    """Slots are read one after the other, so a click may be met before the acceptance that it belongs to."""
    async with node(tmp_path) as here:
        await here.take_in(clicked(1, message=2), accepted(1), opened(2, message=1))
        assert [body["eventType"] for body in here.bodies()] == ["Send", "Open"]

        await here.take_in(accepted(2))
        assert here.bodies()[-1]["mailwake"]["linkText"] == "Lamp"
        assert here.rows("SELECT count(*) FROM pending") == [(0,)]
        assert counted(here) == recount(here)


async def test_a_hit_whose_message_stays_unknown_is_told_without_a_recipient(tmp_path: Path) -> None:
    """After 60 seconds it is an event with a short `mail`; the message that comes still later counts it."""
    async with node(tmp_path) as here:
        ingester = here.ingester()
        await here.take_in(opened(1), ingester=ingester)
        here.now += timedelta(seconds=59)
        assert not await ingester.advance()
        assert here.bodies() == []

        here.now += timedelta(seconds=1)
        await drain(ingester)
        (body,) = here.bodies()
        assert body["mail"]["messageId"] == str(message_id())
        assert body["mail"]["destination"] == []
        assert "recipient" not in body["mailwake"]
        assert "first" not in body["mailwake"]

        await here.take_in(opened(1), accepted(), ingester=ingester)
        assert len(here.bodies()) == 2
        assert counted(here) == recount(here) == {(str(message_id()), "000000000001"): (0, 0, 0, 1, 1, 0, 0)}


async def test_a_clock_that_went_back_does_not_make_an_event_wait_for_ever(tmp_path: Path) -> None:
    """Stored times are wall-clock times."""
    async with node(tmp_path) as here:
        await here.take_in(opened(1))
        here.now -= timedelta(days=1)
        await drain(here.ingester())

        assert len(here.bodies()) == 1


async def test_an_outcome_waits_for_its_message_too(tmp_path: Path) -> None:
    """The journals of two slots have no order between them."""
    async with node(tmp_path) as here:
        await here.take_in(delivery(), bounce(recipient=1))
        await here.take_in(accepted(recipients=TWO))

        assert [body["eventType"] for body in here.bodies()] == ["Send", "Send", "Delivery", "Bounce"]


async def test_a_head_beside_a_hit_makes_it_a_machines(tmp_path: Path) -> None:
    """Within ten seconds, before or after it; another copy's hits are not concerned."""
    async with node(tmp_path) as here:
        await here.take_in(accepted(recipients=TWO), delivery(), probed(1, at=after(1000)))
        await here.take_in(opened(2, at=after(1010)), opened(3, at=after(1011)), opened(4, recipient=1, at=after(1000)))
        await here.take_in(opened(5, at=after(2000)), probed(6, at=after(2001)))

        agents = {body["mailwake"]["eventId"][-1]: body["mailwake"].get("agent") for body in here.bodies()}
        assert agents["2"] == {"class": "machine", "reasons": ["probed"], **_FIREFOX}
        assert agents["3"] == {"class": "human", "reasons": [], **_FIREFOX}
        assert agents["4"] == {"class": "human", "reasons": [], **_FIREFOX}
        assert agents["5"] == {"class": "machine", "reasons": ["probed"], **_FIREFOX}


async def test_a_sweep_over_the_links_is_a_machines(tmp_path: Path) -> None:
    """Three different links of a copy within half a minute, also over batches."""
    async with node(tmp_path) as here:
        await here.take_in(accepted(), clicked(1, link=0, at=after(900)), clicked(2, link=1, at=after(901)))
        await here.take_in(clicked(3, link=2, at=after(905)), clicked(4, link=0, at=after(1000)))

        reasons = [body["mailwake"]["agent"]["reasons"] for body in here.bodies() if body["eventType"] == "Click"]
        assert reasons == [[], [], ["sweep"], []]


async def test_a_hit_right_after_delivery_says_so(tmp_path: Path) -> None:
    """Measured from the upstream's reply, which the message's rows know."""
    async with node(tmp_path) as here:
        await here.take_in(accepted(), delivery(at=after(100)), clicked(1, at=after(103)))

        assert here.bodies()[-1]["mailwake"]["agent"] == {"class": "probable", "reasons": ["instant"], **_FIREFOX}


async def test_a_redacted_link_leaves_no_query_in_the_storage(tmp_path: Path) -> None:
    """A sign-in link's query is a secret, in events and in the tables alike."""
    async with node(tmp_path) as here:
        leaky = clicked(1, link=2)
        await here.take_in(
            accepted(),
            type(leaky)(
                event=leaky.event,
                copy=leaky.copy,
                hit=leaky.hit,
                link_index=2,
                part="html",
                url="https://shop.example/login?t=s3cret",
            ),
        )

        assert b"s3cret" not in b"".join(path.read_bytes() for path in tmp_path.glob("mailwake.db*"))


async def test_a_running_ingester_wakes_those_who_wait(tmp_path: Path) -> None:
    """Publishers and `events --follow` need not poll in the process that ingests."""
    async with node(tmp_path) as here:
        ingester = here.ingester()
        running = asyncio.create_task(ingester.run())
        await here.journal.emit([accepted(), delivery()])
        ingester.wake()
        await until(lambda: here.commits > 0)
        running.cancel()

        assert len(here.bodies()) == 2


_RECORDS: list[JournalRecord] = [
    *(accepted(number, TWO) for number in (1, 2)),
    *(delivery(number, recipient) for number in (1, 2) for recipient in (0, 1)),
    delay(1, 0),
    delay(1, 0, number=2),
    bounce(2, 1),
    *(opened(10 + n, 1 + n % 2, n % 2, at=after(50 + 7 * n)) for n in range(4)),
    *(clicked(20 + n, 1 + n % 2, n % 2, link=n % 3, at=after(50 + 7 * n)) for n in range(6)),
    opened(30, 3),
    clicked(31, 3, link=1),
    probed(40, 1, 0, at=after(60)),
]


@given(
    order=st.lists(st.sampled_from(_RECORDS), min_size=len(_RECORDS) // 2, max_size=3 * len(_RECORDS)),
    cuts=st.lists(st.integers(min_value=1, max_value=20), max_size=6),
)
async def test_the_counters_are_those_of_a_recount_whatever_the_order(
    order: list[JournalRecord], cuts: list[int]
) -> None:
    """Any order, duplication and batching of records: every event once, and the roll-ups agree with the log."""
    with tempfile.TemporaryDirectory() as folder:
        async with node(Path(folder)) as here:
            await here.take_in_pieces(order, cuts, 25)

            ids = [row for (row,) in here.rows("SELECT event_id FROM event")]
            assert len(ids) == len(set(ids))
            assert here.rows("SELECT count(*) FROM pending") == [(0,)]
            assert here.rows("SELECT count(*) FROM aside") == [(0,)]
            assert counted(here) == recount(here)
            assert counted_links(here) == recount_links(here)
            journalled = {str(record.event) for record in order if not isinstance(record, Accepted | Probe | Rejected)}
            assert journalled - set(ids) == set()
