"""What is older than the storage keeps it goes, in small steps, and not before who waits for it has it."""

import asyncio
import json
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner
from prometheus_client import REGISTRY

from relay.cli.main import main
from tests.integration.serving import LIMIT_S, configure, serving
from tests.integration.storage import Node, give_up, node, running
from tests.integration.tracking import tracker_options
from tests.unit.happenings import ACCEPTED_AT, accepted, after, clicked, copy_id, delivery, opened, probed
from tracker.app import Tracker
from tracker.contract.events import Rejected
from tracker.contract.settings import EventDestination, Settings
from tracker.runtime import secrets
from tracker.runtime.keysfile import KeysFile
from tracker.store import purge
from tracker.store.purge import Keeping, Purge, Purged, run
from tracker.store.schema import aside, event, roll_up_value
from tracker.store.times import to_ms

DAY = timedelta(days=1)
KEEPING = Keeping(mail=60 * DAY, statistics=1825 * DAY, collect_for=60 * DAY, tombstones=61 * DAY)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(purge, "PAUSE_S", 0)


async def _purge(here: Node, now: datetime, *destinations: str, keeping: Keeping = KEEPING) -> Purged:
    return await run(here.store, Purge(keeping, destinations, now))


def _count(here: Node, *tables: str) -> list[int]:
    return [here.rows(f"SELECT count(*) FROM {table}")[0][0] for table in tables]


async def test_all_of_a_message_goes_its_time_after_acceptance(tmp_path: Path) -> None:
    """However young its hits are; a younger message stays whole."""
    tables = ("message", "copy", "copy_link", "event", "probe")
    old, young = ACCEPTED_AT, ACCEPTED_AT + DAY
    async with node(tmp_path) as here:
        await here.take_in(
            accepted(1, recipients=[f"r{n}@client.example" for n in range(30)], at=old),
            accepted(2, at=young),
            *(clicked(number, 1, number % 30, at=old + 59 * DAY) for number in range(40)),
            clicked(90, 2, at=young),
            probed(91, 1, at=old + 59 * DAY),
            probed(92, 2, at=young + 59 * DAY),
        )
        assert _count(here, *tables) == [2, 31, 31, 31 + 41, 2]

        gone = await _purge(here, old + 60 * DAY)
        assert gone.rows == {}
        gone = await _purge(here, old + 60 * DAY + timedelta(seconds=1))
        assert gone.rows == {"event": 70, "probe": 1, "copy": 30, "message": 1}
        assert _count(here, *tables) == [1, 1, 1, 2, 1]


async def test_what_has_no_message_goes_by_its_own_time(tmp_path: Path) -> None:
    """Events of unknown messages, Rejects, probes, what was put aside; later tombstones, and what is silenced."""
    rejected = Rejected(facts=accepted(4).facts, copies=accepted(4).copies, reply="550 5.7.1 This login may not")
    async with node(tmp_path) as here:
        await here.take_in(opened(1, 9), probed(2, 9), rejected)
        here.now += timedelta(seconds=61)
        await here.take_in()

        def prepare(connection: sa.Connection) -> None:
            at = {"at_ms": int(ACCEPTED_AT.timestamp() * 1000)}
            message = {"message": str(copy_id().message), "suffix": "00", "accepted_ms": at["at_ms"]}
            connection.execute(sa.text("INSERT INTO aside (at_ms, slot, error, raw) VALUES (:at_ms, '', '', '')"), at)
            connection.execute(sa.text("INSERT INTO forgotten (person, at_ms) VALUES (x'78', :at_ms)"), at)
            silence = "INSERT INTO silenced (message, suffix, accepted_ms) VALUES (:message, :suffix, :accepted_ms)"
            connection.execute(sa.text(silence), message)

        await here.store.write(prepare)
        tables = ("event", "probe", "aside", "forgotten", "silenced")
        assert (await _purge(here, after(59 * 86_400))).rows == {}
        await _purge(here, after(60 * 86_400 + 3_600))
        assert _count(here, *tables) == [0, 0, 0, 1, 1]
        await _purge(here, after(62 * 86_400))
        assert _count(here, *tables) == [0, 0, 0, 0, 0]


async def test_an_event_stays_until_its_destination_has_it_or_for_a_week(tmp_path: Path) -> None:
    """Then it is counted for the destination that missed it, and for no other; one that is gone is not waited for."""

    def dropped() -> float:
        labels = {"destination": "slow"}
        return REGISTRY.get_sample_value("mailwake_events_unpublished_dropped_total", labels) or 0.0

    now = ACCEPTED_AT + 61 * DAY
    async with node(tmp_path) as here:
        ingester = here.ingester(["slow", "quick", "removed"])
        await here.take_in(accepted(1), delivery(1), ingester=ingester)
        await here.take_in(opened(1, at=now - DAY), accepted(2, at=now), ingester=ingester)
        await here.store.write(lambda connection: connection.exec_driver_sql("UPDATE destination_cursor SET seq = 3"))
        slow = "UPDATE destination_cursor SET seq = 0 WHERE destination IN ('slow', 'removed')"
        await here.store.write(lambda connection: connection.exec_driver_sql(slow))
        before = dropped()

        gone = await _purge(here, now, "slow", "quick")
        assert gone.rows == {"event": 2}
        assert gone.unpublished == {"slow": 2}
        assert _count(here, "message", "copy", "event") == [2, 2, 2]
        assert dropped() - before == 2

        await here.store.write(lambda connection: connection.exec_driver_sql("UPDATE destination_cursor SET seq = 3"))
        assert (await _purge(here, now, "slow", "quick")).unpublished == {}
        assert _count(here, "message", "event") == [1, 1]


async def test_a_destination_that_came_with_a_reload_is_waited_for(tmp_path: Path) -> None:
    """And where the storage is made anew, it gets all that is taken in again."""
    old = datetime.now(UTC) - 61 * DAY
    keys = secrets.create(tmp_path / "keys.json", now=old, entropy=os.urandom)
    options = tracker_options(tmp_path)
    tracker = Tracker(options, Settings(base_url=""), KeysFile(tmp_path / "keys.json", keys))
    crm = EventDestination(name="crm", type="stdout", events=frozenset({"open"}))
    tracker.renew(options, Settings(base_url="", destinations={"crm": crm}))
    await tracker.open()
    await tracker.journal.emit([accepted(1, at=old), opened(1, at=datetime.now(UTC))])
    while await tracker.ingester.advance():
        pass

    def is_done(connection: sa.Connection) -> bool:
        return connection.scalar(sa.select(sa.func.count()).select_from(aside)) == 0

    row = {"at_ms": to_ms(old), "slot": "00", "error": "", "raw": b""}
    await tracker.store.write(lambda connection: connection.execute(aside.insert(), row))
    async with running(tracker.purger.run()):
        while not await tracker.store.read(is_done):
            pass
    left = await tracker.store.read(lambda connection: connection.execute(sa.select(event.c.type)).scalars().all())
    await tracker.close()

    assert left == ["open"]


async def test_a_dead_letter_goes_with_its_message(tmp_path: Path) -> None:
    """However late it was given up, and whatever has become of its event; of no message, it goes by its own time."""
    async with node(tmp_path) as here:
        await here.take_in(accepted(1), accepted(2, at=ACCEPTED_AT + DAY), delivery(9))
        here.now = ACCEPTED_AT + 61 * DAY
        await here.take_in()
        await give_up(here)

        assert (await _purge(here, here.now)).rows["dead_letter"] == 1
        assert here.rows("SELECT id FROM dead_letter") == [(2,), (3,)]
        assert (await _purge(here, here.now + DAY)).rows["dead_letter"] == 1
        assert here.rows("SELECT type FROM dead_letter") == [("delivery",)]
        assert (await _purge(here, here.now + 61 * DAY)).rows == {"dead_letter": 1}


async def test_a_step_that_takes_long_is_followed_by_a_shorter_one(tmp_path: Path) -> None:
    """The thread of the storage is free between them, and a step has at most the largest number of rows."""
    sizes: list[int] = []
    ticks = iter([value for n in range(1, 200) for value in (n, n + (0.5 if n < 20 else 0))])

    async with node(tmp_path) as here:
        await here.take_in(accepted(1), *(opened(number) for number in range(300)))
        everything = Purge(KEEPING, (), ACCEPTED_AT + 61 * DAY)
        real = everything._messages

        def counting(connection: sa.Connection, limit: int) -> bool:
            sizes.append(limit)
            return real(connection, limit)

        everything._messages = counting  # type: ignore[method-assign]
        await run(here.store, everything, monotonic_s=lambda: next(ticks))

        assert sizes[:15] == [purge.SMALLEST] * 15
        assert sizes[-1] > purge.SMALLEST
        assert max(sizes) <= purge.LARGEST
        assert _count(here, "event", "message") == [0, 0]


async def test_totals_are_kept_longer(tmp_path: Path) -> None:
    """By the time that they count; many of one time go in several steps."""
    ages = (1_825 * DAY + timedelta(seconds=1), 1_199), (DAY, 1)
    rows = [
        {"day_ms": to_ms(ACCEPTED_AT - age), "kind": "tag", "value": str(number)}
        for age, count in ages
        for number in range(count)
    ]
    async with node(tmp_path) as here:
        await here.store.write(lambda connection: connection.execute(roll_up_value.insert(), rows))
        assert (await _purge(here, ACCEPTED_AT)).rows == {"roll_up_value": 1_199}
        assert _count(here, "roll_up_value") == [1]


async def test_ingest_goes_on_while_much_is_purged(tmp_path: Path) -> None:
    """Both share a thread: neither waits for the other's end."""
    async with node(tmp_path) as here:
        await here.take_in(accepted(1), *(opened(number) for number in range(1_000)))
        purging = asyncio.create_task(_purge(here, ACCEPTED_AT + 61 * DAY))
        ingester = here.ingester()
        taken = 0
        while not purging.done():
            await here.take_in(accepted(2 + taken, at=ACCEPTED_AT + 61 * DAY), ingester=ingester)
            taken += 1

        assert (await purging).rows["event"] == 1_001
        assert taken > 2
        assert _count(here, "message") == [taken]


def test_the_service_purges_by_itself_and_a_command_by_hand(tmp_path: Path) -> None:
    """By `storage.keep`, or what the command says; where there is no storage, there is nothing to do."""
    config = configure(tmp_path)
    assert CliRunner().invoke(main, ["purge", "--config", str(config)]).exit_code == 1
    told = ["consent", "allow", "bo@home.example", "--config", str(config)]  # makes the keys, and the storage
    assert CliRunner().invoke(main, told).exit_code == 0

    async def fill() -> None:
        async with node(tmp_path / "var") as here:
            ages = (1, 100), (2, 400)
            await here.take_in(*(accepted(number, at=datetime.now(UTC) - age * DAY) for number, age in ages))

    asyncio.run(fill())
    (tmp_path / "var/journal").chmod(0o700)
    done = CliRunner().invoke(main, ["purge", "--older-than", "300d", "--json", "--config", str(config)])
    assert json.loads(done.stdout)["rows"] == {"event": 1, "copy": 1, "message": 1}
    with serving(config) as server:
        ends_at = time.monotonic() + LIMIT_S
        while "storage_purged" not in server.log():
            assert time.monotonic() < ends_at
            time.sleep(0.02)
        assert server.run("events").exit_code == 1
        assert server.stop() == 0
    assert "There is nothing so old." in CliRunner().invoke(main, ["purge", "--config", str(config)]).output
