"""Events in JetStream, with a real server: acknowledged, in order, again after a loss, and what is said when not."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.integration.nats_server import BUS, NatsServer, entries, killed_at_the_end, writer
from tests.integration.storage import counted, node, recount, until
from tests.unit.happenings import accepted, after, clicked, delivery, opened
from tracker.contract.events import EventType
from tracker.contract.settings import ConfigurationSet, EventDestination, Settings
from tracker.publish import nats
from tracker.publish.nats import NatsWriter, captures
from tracker.publish.outcome import Dead, Delivered, Outcome, TryAgain
from tracker.publish.publisher import Publisher
from tracker.publish.schedule import Schedule
from tracker.store.publishing import LogEntry

NOON = datetime(2026, 11, 3, 12, tzinfo=UTC)


class Watched:
    """A writer that counts the outcomes that are no success."""

    def __init__(self, inner: NatsWriter) -> None:
        self._inner = inner
        self.failures = 0

    async def write(self, entries: Sequence[LogEntry], now: datetime) -> Outcome:
        outcome = await self._inner.write(entries, now)
        self.failures += not isinstance(outcome, Delivered)
        return outcome

    async def tidy(self, now: datetime) -> None:
        await self._inner.tidy(now)

    async def close(self) -> None:
        await self._inner.close()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    """A server that runs."""
    with killed_at_the_end(NatsServer(tmp_path / "nats")) as made:
        await made.start()
        yield made


async def test_each_type_has_its_subject_and_the_id_is_the_header(server: NatsServer) -> None:
    """What a consumer subscribes to, and drops duplicates by."""
    bus = writer(server)
    wanted = [
        replace(entry, type=kind.value)
        for kind, entry in zip(EventType, entries(len(EventType), body='{"é":%d}'), strict=True)
    ]
    try:
        assert await bus.write(wanted, NOON) == Delivered()
    finally:
        await bus.close()

    assert await server.stored() == [
        (f"mailwake.events.{entry.type}", entry.event_id, entry.body.encode()) for entry in wanted
    ]


async def test_the_stream_that_is_made_is_on_disk_and_ends(server: NatsServer) -> None:
    """Files, 60 days, a duplicate window of ten minutes."""
    bus = writer(server, stream="EVENTS_2")
    await bus.write(entries(1), NOON)
    await bus.close()
    async with server.client() as client:
        config = (await client.jsm().stream_info("EVENTS_2")).config

    assert (config.subjects, config.storage, config.num_replicas) == (["mailwake.events.>"], "file", 1)
    assert (config.max_age, config.duplicate_window) == (60 * 86_400, 600)


async def test_more_than_is_under_way_at_a_time_comes_in_order(server: NatsServer) -> None:
    """A whole page, twice; the second time the server knows the ids and stores none."""
    bus = writer(server)
    page = entries(500)

    assert [await bus.write(page, NOON), await bus.write(page, NOON)] == [Delivered(), Delivered()]
    await bus.close()
    assert [id_ for _, id_, _ in await server.stored()] == [entry.event_id for entry in page]


async def test_a_server_that_is_away_is_tried_again(server: NatsServer) -> None:
    """A kill in between is an outcome, and so is a start in vain; then the events go through."""
    bus = writer(server)
    assert await bus.write(entries(1), NOON) == Delivered()
    server.kill()
    for _ in range(2):
        outcome = await bus.write(entries(2, first=2), NOON)
        assert isinstance(outcome, TryAgain)
        assert outcome.delivered == 0
        assert outcome.reason
    await server.start()

    assert await bus.write(entries(2, first=2), NOON) == Delivered()
    await bus.close()
    assert [id_ for _, id_, _ in await server.stored()] == ["id1", "id2", "id3"]


async def test_a_stream_without_our_subjects_is_said(server: NatsServer) -> None:
    """Its owner mends it, and nothing is lost meanwhile."""
    bus = writer(server)
    async with server.client() as client:
        await client.jsm().add_stream(name="MAILWAKE", subjects=["mailwake.events.open", "other"])

        outcome = await bus.write(entries(1), NOON)
        assert outcome == TryAgain(
            reason="the stream MAILWAKE does not capture mailwake.events.send: add mailwake.events.> to it"
        )

        await client.jsm().update_stream(name="MAILWAKE", subjects=["mailwake.>"])
    assert await bus.write(entries(1), NOON) == Delivered()
    await bus.close()


async def test_a_stream_that_acknowledges_nothing_is_said(server: NatsServer) -> None:
    """Without acknowledgements nothing could ever count as handed over."""
    async with server.client() as client:
        await client.jsm().add_stream(name="MAILWAKE", subjects=["mailwake.events.>"], no_ack=True)
    bus = writer(server)

    outcome = await bus.write(entries(1), NOON)

    assert outcome == TryAgain(reason="the stream MAILWAKE acknowledges nothing: remove its no_ack")
    await bus.close()


async def test_a_full_stream_keeps_the_rest_waiting(server: NatsServer) -> None:
    """What it took counts, what it refused is tried again."""
    async with server.client() as client:
        await client.jsm().add_stream(name="MAILWAKE", subjects=["mailwake.events.>"], max_msgs=7, discard="new")
        bus = writer(server)

        outcome = await bus.write(entries(20), NOON)
        assert outcome == TryAgain(reason="maximum messages exceeded", delivered=7)

        await client.jsm().update_stream(name="MAILWAKE", subjects=["mailwake.events.>"], max_msgs=100, discard="new")
        assert await bus.write(entries(13, first=8), NOON) == Delivered()
    await bus.close()
    assert [id_ for _, id_, _ in await server.stored()] == [f"id{number}" for number in range(1, 21)]


async def test_a_stream_that_is_gone_is_made_again(server: NatsServer) -> None:
    """Somebody removed it between two pages; a refusal closes nothing, so the connection is made anew for it."""
    bus = writer(server)
    await bus.write(entries(1), NOON)
    async with server.client() as client:
        await client.jsm().delete_stream("MAILWAKE")

    outcome = await bus.write(entries(1, first=2), NOON)

    assert outcome == TryAgain(reason="there is no stream MAILWAKE any more")
    assert await bus.write(entries(1, first=2), NOON) == Delivered()
    await bus.close()


@pytest.mark.parametrize("max_msg_size, body", [(-1, "x" * 1_100_000), (4096, "x" * 5000)])
async def test_an_event_that_is_too_large_is_dead_and_the_rest_goes_on(
    server: NatsServer, max_msg_size: int, body: str
) -> None:
    """For the server, which would end the connection, and for the stream."""
    async with server.client() as client:
        await client.jsm().add_stream(name="MAILWAKE", subjects=["mailwake.events.>"], max_msg_size=max_msg_size)
    bus = writer(server)
    page = entries(4)
    page[2] = replace(page[2], body=body)

    outcome = await bus.write(page, NOON)

    assert isinstance(outcome, Dead)
    assert (outcome.delivered, outcome.refused) == (2, 1)
    assert "larger than" in outcome.reason
    assert await bus.write(page[3:], NOON) == Delivered()
    await bus.close()


async def test_a_server_that_never_answers_holds_nothing_up(tmp_path: Path) -> None:
    """It takes the connection, and that is all; the outcome comes in the time that was set for it."""

    async def hold(reader: asyncio.StreamReader, writer_: asyncio.StreamWriter) -> None:
        await reader.read()
        writer_.close()
        await writer_.wait_closed()

    silent = await asyncio.start_server(hold, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    bus = NatsWriter(replace(BUS, servers=(f"nats://127.0.0.1:{port}",)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nats, "CONNECT_S", 0.2)
        outcome = await bus.write(entries(1), NOON)

    assert isinstance(outcome, TryAgain)
    assert (outcome.delivered, outcome.reason) == (0, "no answer in 0 s")
    await bus.close()
    silent.close()
    await silent.wait_closed()


async def test_a_server_without_jetstream_is_said(tmp_path: Path) -> None:
    """The words are the operator's to act on."""
    made = NatsServer(tmp_path / "nats")
    config = tmp_path / "nats" / "nats.conf"
    config.write_text(f'listen: "127.0.0.1:{made.port}"\n')
    with killed_at_the_end(made):
        await made.start()
        bus = writer(made)
        outcome = await bus.write(entries(1), NOON)
        await bus.close()

    assert isinstance(outcome, TryAgain)
    assert outcome.reason == "the server has no JetStream, or this user may not use it"


async def test_an_entry_of_the_page_before_is_not_taken_for_one_of_this(server: NatsServer) -> None:
    """A cancelled write leaves acknowledgements on their way; the next one counts its own."""
    bus = writer(server)
    await bus.write(entries(1), NOON)
    running = asyncio.create_task(bus.write(entries(400, first=2), NOON))
    await asyncio.sleep(0)
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running

    assert await bus.write(entries(400, first=1000), NOON) == Delivered()
    await bus.close()
    assert [f"id{number}" for number in range(1000, 1400)] == [id_ for _, id_, _ in await server.stored()][-400:]


@pytest.mark.parametrize(
    "pattern, takes",
    [
        ("mailwake.events.>", True),
        ("mailwake.events.*", True),
        ("mailwake.events.open", True),
        ("mailwake.>", True),
        (">", True),
        ("*.*.*", True),
        ("*.events.open", True),
        ("mailwake.events", False),
        ("mailwake.events.open.>", False),
        ("mailwake.events.click", False),
        ("*.*", False),
        ("mailwake.*", False),
    ],
)
def test_subjects_capture_as_the_server_has_it(pattern: str, takes: bool) -> None:
    """`*` is one token, `>` is one or more."""
    assert captures(pattern, "mailwake.events.open") is takes


async def test_a_server_killed_again_and_again_gets_every_event(
    tmp_path: Path,
    server: NatsServer,
    count_of: Callable[[int, int], int],
    record_soak: Callable[[str, Mapping[str, object]], None],
) -> None:
    """Each id is in the stream at least once, in the statistics exactly once, and the order of first ones holds."""
    count, kills = count_of(300, 10_000), count_of(2, 10)
    bus = Watched(writer(server))
    settings = Settings(
        base_url="http://127.0.0.1:8080",
        account_set="promo",
        sets={"promo": ConfigurationSet(name="promo", destinations=("bus",))},
        destinations={"bus": EventDestination(name="bus", type="stdout", events=frozenset(EventType))},
    )
    kills_done, began_s = 0, time.monotonic()
    async with node(tmp_path) as here:
        publisher = Publisher(
            store=here.store,
            settings=settings,
            clock=lambda: datetime.now(UTC) + timedelta(seconds=time.monotonic() - began_s),
            writers={"bus": bus},
            schedule=lambda _: Schedule(pauses=[timedelta(milliseconds=20)]),
            poll_s=0.02,
        )
        ingester = here.ingester(["bus"], on_commit=publisher.wake)
        await here.take_in(accepted(), delivery(), ingester=ingester)
        publishing = asyncio.create_task(publisher.run())
        for number in range(2, count, 100):
            records = [
                (clicked if one % 3 == 0 else opened)(one, at=after(one))
                for one in range(number, min(number + 100, count))
            ]
            await here.take_in(*records, ingester=ingester)
            if (number // 100) % max(count // 100 // kills, 1) == 0 and kills_done < kills:
                kills_done += 1
                server.kill()
                before = bus.failures
                await until(lambda before=before: bus.failures > before)  # type: ignore[misc]
                await server.start()
        await until(lambda: here.rows("SELECT seq FROM destination_cursor") == here.rows("SELECT max(seq) FROM event"))
        publishing.cancel()
        with suppress(asyncio.CancelledError):
            await publishing

        stored = await server.stored()
        ids = [id_ for _, id_, _ in stored]
        expected = [id_ for (id_,) in here.rows("SELECT event_id FROM event ORDER BY seq")]
        assert len(expected) == count
        assert set(ids) == set(expected)
        assert all(json.loads(body)["mailwake"]["eventId"] == id_ for _, id_, body in stored)
        assert counted(here) == recount(here)
        assert sum(row[3] + row[5] for row in counted(here).values()) == count - 2
    found = {
        "events": len(expected),
        "kills": kills_done,
        "missing": len(set(expected) - set(ids)),
        "stored_twice": len(ids) - len(set(ids)),
        "tried_again": bus.failures,
    }
    record_soak("nats", found)
    assert (found["missing"], found["kills"]) == (0, kills)
