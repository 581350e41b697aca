"""What becomes of a destination that fails: its schedule over restarts, dead letters and their replay, its state."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from tests.integration.endpoint import endless, never, receiving, status, webhook
from tests.integration.storage import Node, node, running, until
from tests.unit.happenings import accepted, clicked, delivery, opened
from tracker.contract.settings import ConfigurationSet, EventDestination, Settings
from tracker.publish.outcome import Dead, Delivered, Disabled, Outcome, TryAgain
from tracker.publish.publisher import Publisher
from tracker.publish.writers import Writer
from tracker.store import deadletters
from tracker.store.publishing import LogEntry, enable


class Scripted:
    """A destination that answers by a script; Delivered when it is at its end."""

    def __init__(self, *outcomes: Outcome) -> None:
        self.outcomes = list(outcomes)
        self.got: list[tuple[str, ...]] = []
        self.closed = 0

    async def write(self, entries: Sequence[LogEntry], now: datetime) -> Outcome:
        self.got.append(tuple(json.loads(entry.body)["eventType"] for entry in entries))
        return self.outcomes.pop(0) if self.outcomes else Delivered()

    async def tidy(self, now: datetime) -> None:
        pass

    async def close(self) -> None:
        self.closed += 1


def _settings(*destinations: EventDestination) -> Settings:
    names = tuple(destination.name for destination in destinations)
    return Settings(
        base_url="http://127.0.0.1:8080",
        account_set="promo",
        sets={"promo": ConfigurationSet(name="promo", destinations=names)},
        destinations={destination.name: destination for destination in destinations},
    )


SHOP = webhook("https://events.shop.example/hook", allow_private=False)


@asynccontextmanager
async def _publishing(here: Node, settings: Settings, **writers: Writer) -> AsyncIterator[Publisher]:
    publisher = Publisher(
        store=here.store,
        settings=settings,
        clock=lambda: here.now,
        entropy=lambda count: b"\x80" + bytes(count - 1),  # no jitter
        writers=writers,
        poll_s=0.01,
    )
    async with running(publisher.run()):
        yield publisher


def _state(here: Node) -> tuple[Any, ...]:
    (row,) = here.rows("SELECT attempts, next_try_ms, last_error, disabled_ms FROM destination_state")
    return row


def _attempts(here: Node) -> int:
    rows = here.rows("SELECT attempts FROM destination_state")
    return int(rows[0][0]) if rows else -1


async def _some_turns(here: Node) -> None:
    """Let the worker look at its destination a few times: the storage serves one after the other."""
    for _ in range(20):
        await here.store.read(lambda connection: connection.exec_driver_sql("SELECT 1").scalar())
        await asyncio.sleep(0)


async def _take_in(here: Node, *names: str) -> None:
    await here.take_in(ingester=here.ingester(names))
    await here.take_in(accepted(), delivery(), opened(1))


async def test_the_schedule_is_that_of_standard_webhooks_and_a_restart_keeps_it(tmp_path: Path) -> None:
    """About 75 hours; then the event at the head is a dead letter, and the rest follows in order."""
    pauses = [5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400]
    async with node(tmp_path) as here:
        await _take_in(here, "shop")
        for number, pause in enumerate(pauses, 1):
            writer = Scripted(TryAgain(reason="HTTP 500"))
            async with _publishing(here, _settings(SHOP), shop=writer):  # each time a process of its own
                await until(lambda: _attempts(here) == number)  # noqa: B023 - awaited here
            _, next_try, error, _ = _state(here)
            assert writer.got == [("Send",)]
            assert next_try == int((here.now.timestamp() + pause) * 1000)
            assert error == "HTTP 500"
            waiting = Scripted()
            here.now += timedelta(seconds=pause - 1)
            async with _publishing(here, _settings(SHOP), shop=waiting):
                await _some_turns(here)
            assert waiting.got == []
            here.now += timedelta(seconds=1)
        last = Scripted(TryAgain(reason="HTTP 500"))
        async with _publishing(here, _settings(SHOP), shop=last):
            await until(lambda: last.got == [("Send",), ("Delivery",), ("Open",)])
            await until(lambda: _state(here) == (0, None, None, None))

        assert here.rows("SELECT type, reason, attempts, destination FROM dead_letter") == [
            ("send", "given up after 10 tries: HTTP 500", 10, "shop")
        ]
        assert here.rows("SELECT seq FROM destination_cursor") == [(3,)]


async def test_a_clock_that_is_put_back_does_not_stop_a_destination(tmp_path: Path) -> None:
    """No pause is longer than a day, and its jitter."""
    async with node(tmp_path) as here:
        await _take_in(here, "shop")
        async with _publishing(here, _settings(SHOP), shop=Scripted(TryAgain(reason="HTTP 500"))):
            await until(lambda: _attempts(here) == 1)
        here.now -= timedelta(days=400)
        writer = Scripted()
        async with _publishing(here, _settings(SHOP), shop=writer):
            await until(lambda: writer.got == [("Send",), ("Delivery",), ("Open",)])


async def test_what_a_receiver_asks_for_makes_a_pause_longer_up_to_a_day(tmp_path: Path) -> None:
    """Retry-After; a year would be a way to switch a destination off unseen."""
    async with node(tmp_path) as here:
        await _take_in(here, "shop")
        for number, (asked, pause) in enumerate([(60, 60), (1, 300), (10**8, 86_400)], 1):
            outcome = TryAgain(reason="HTTP 429", after=timedelta(seconds=asked))
            async with _publishing(here, _settings(SHOP), shop=Scripted(outcome)):
                await until(lambda: _attempts(here) == number)  # noqa: B023 - awaited here
            assert _state(here)[1] == int((here.now.timestamp() + pause) * 1000)
            here.now += timedelta(seconds=pause)


async def test_a_refused_event_is_a_dead_letter_at_once_and_can_be_sent_again(tmp_path: Path) -> None:
    """The next one follows; what is asked for again is sent once, and stays where it is refused again."""
    writer = Scripted(Delivered(), Dead(reason="HTTP 422"))
    async with node(tmp_path) as here:
        await _take_in(here, "shop")
        with capture_logs() as logs:
            async with _publishing(here, _settings(SHOP), shop=writer):
                await until(lambda: here.rows("SELECT seq FROM destination_cursor") == [(3,)])
                assert here.rows("SELECT type, reason, attempts FROM dead_letter") == [("delivery", "HTTP 422", 1)]
                assert writer.got == [("Send",), ("Delivery",), ("Open",)]

                writer.outcomes = [Dead(reason="HTTP 400")]
                await here.store.write(lambda c: deadletters.ask_again(c, "shop", at=here.now))
                await until(lambda: here.rows("SELECT reason, attempts FROM dead_letter") == [("HTTP 400", 2)])
                writer.outcomes = [TryAgain(reason="HTTP 500")]
                await here.store.write(lambda c: deadletters.ask_again(c, "shop", at=here.now, ids=[1]))
                await until(lambda: here.rows("SELECT reason, attempts FROM dead_letter") == [("HTTP 500", 3)])
                assert here.rows("SELECT replay_ms FROM dead_letter") == [(None,)]

                here.now += timedelta(seconds=5)
                assert await here.store.write(lambda c: deadletters.ask_again(c, "shop", at=here.now, ids=[2])) == 0
                await here.store.write(lambda c: deadletters.ask_again(c, "shop", at=here.now))
                await until(lambda: here.rows("SELECT * FROM dead_letter") == [])

    assert writer.got[3:] == [("Delivery",)] * 3
    assert [entry["event"] for entry in logs].count("events_dead") == 1


async def test_dead_letters_do_not_hold_up_new_events(tmp_path: Path) -> None:
    """Each that is asked for again is tried once between two pages of the log."""
    writer = Scripted(*[Dead(reason="HTTP 422")] * 3)
    async with node(tmp_path) as here:
        await _take_in(here, "shop")
        async with _publishing(here, _settings(SHOP), shop=writer) as publisher:
            await until(lambda: len(here.rows("SELECT * FROM dead_letter")) == 3)
            writer.outcomes = [Delivered(), *[Dead(reason="HTTP 422")] * 3]
            await here.take_in(clicked(2))
            await here.store.write(lambda c: deadletters.ask_again(c, "shop", at=here.now))
            publisher.wake()
            await until(lambda: here.rows("SELECT attempts FROM dead_letter") == [(2,)] * 3)

        assert writer.got[3:] == [("Click",), ("Send",), ("Delivery",), ("Open",)]


async def test_an_erased_event_does_not_come_back_as_a_dead_letter(tmp_path: Path) -> None:
    """Whoever was forgotten while a request was under way is forgotten here, too."""
    writer = Scripted()
    async with node(tmp_path) as here:
        await _take_in(here, "shop")
        erased = asyncio.Event()

        async def write(entries: Sequence[LogEntry], now: datetime) -> Outcome:
            await erased.wait()
            return Dead(reason="HTTP 422")

        writer.write = write  # type: ignore[method-assign]
        async with _publishing(here, _settings(SHOP), shop=writer):
            await until(lambda: here.rows("SELECT * FROM destination_state") != [])
            await here.store.write(lambda c: c.exec_driver_sql("DELETE FROM event WHERE type = 'send'"))
            erased.set()
            await until(lambda: here.rows("SELECT seq FROM destination_cursor") == [(3,)])

        assert here.rows("SELECT type FROM dead_letter ORDER BY id") == [("delivery",), ("open",)]


async def test_gone_disables_until_somebody_enables_or_the_configuration_changes(tmp_path: Path) -> None:
    """410 is final for a receiver, not for its events: they wait."""
    async with node(tmp_path) as here:
        await _take_in(here, "shop")
        writer = Scripted(Delivered(), Disabled(reason="HTTP 410"), Disabled(reason="HTTP 410"))
        with capture_logs() as logs:
            async with _publishing(here, _settings(SHOP), shop=writer):
                await until(
                    lambda: _state(here)[3] is not None if here.rows("SELECT 1 FROM destination_state") else False
                )
                here.now += timedelta(days=30)
                assert REGISTRY.get_sample_value("mailwake_destination_disabled", {"destination": "shop"}) == 1
                assert _state(here)[2] == "HTTP 410"
                assert writer.got == [("Send",), ("Delivery",)]

                assert await here.store.write(lambda c: enable(c, "shop"))
                await until(lambda: len(writer.got) == 3)
                await until(lambda: _state(here)[3] is not None)
        assert [entry["event"] for entry in logs].count("destination_disabled") == 2

        changed = replace(SHOP, url="https://events.shop.example/other")
        async with _publishing(here, _settings(changed), shop=writer):
            await until(lambda: writer.got[3:] == [("Delivery",), ("Open",)])


async def test_settings_are_taken_up_while_it_runs(tmp_path: Path) -> None:
    """A new destination begins, a changed one goes on with a new writer where the old one was, a removed one ends."""
    old, changed, more = Scripted(), Scripted(), Scripted()
    made: list[Scripted] = [old, changed]

    async with node(tmp_path) as here:
        await _take_in(here, "shop")
        async with _publishing(here, _settings(SHOP), shop=old) as publisher:
            await until(lambda: len(old.got) == 3)
            publisher._writers = {"shop": changed, "more": more}
            publisher.renew(_settings(replace(SHOP, secrets=("whsec_another",)), replace(SHOP, name="more")))
            await until(lambda: len(here.rows("SELECT * FROM destination_cursor")) == 2)
            await here.take_in(clicked(2))
            publisher.wake()
            await until(lambda: changed.got == [("Click",)] and more.got == [("Click",)])
            assert old.closed == 1

            publisher.renew(_settings())
            await until(lambda: changed.closed == 1 and more.closed == 1)
    assert [len(writer.got) for writer in made] == [3, 1]


async def test_machines_can_be_left_out(tmp_path: Path) -> None:
    """Opens and clicks of the class machine alone: a privacy proxy's are people's."""
    every, people = Scripted(), Scripted()
    destinations = (replace(SHOP, name="every"), replace(SHOP, name="people", exclude_machine=True))
    async with node(tmp_path) as here:
        await here.take_in(ingester=here.ingester(["every", "people"]))
        await here.take_in(accepted(), opened(1), opened(2, signals=("ua_tool",)))
        await here.store.write(
            lambda c: c.exec_driver_sql("UPDATE event SET agent_class = 'privacy_proxy' WHERE agent_class = 'human'")
        )
        async with _publishing(here, _settings(*destinations), every=every, people=people):
            await until(lambda: here.rows("SELECT seq FROM destination_cursor") == [(3,), (3,)])

    assert every.got == [("Send",), ("Open",), ("Open",)]
    assert people.got == [("Send",), ("Open",)]


async def test_a_fault_of_a_writer_is_its_own(tmp_path: Path) -> None:
    """It is tried again, said in the log, and every other destination goes on."""
    quick = Scripted()

    class Broken(Scripted):
        async def write(self, entries: Sequence[LogEntry], now: datetime) -> Outcome:
            raise KeyError("a bug")

    async with node(tmp_path) as here:
        await _take_in(here, "broken", "quick")
        settings = _settings(replace(SHOP, name="broken"), replace(SHOP, name="quick"))
        with capture_logs() as logs:
            async with _publishing(here, settings, broken=Broken(), quick=quick):
                await until(lambda: len(quick.got) == 3)
                await until(lambda: any(entry["event"] == "destination_failed" for entry in logs))

    assert any(entry["event"] == "destination_broken" for entry in logs)


async def test_destinations_that_hang_flood_or_fail_do_not_delay_another(tmp_path: Path) -> None:
    """All of them at once, over HTTP; the lag of each is told."""
    bad = [
        never,
        status(500),
        status(302, "Location: /"),
        endless(200, b"x" * 65536, []),
        status(429, "Retry-After: 9"),
    ]

    async with node(tmp_path) as here, receiving() as good:
        names = [f"bad{number}" for number in range(len(bad))]
        await here.take_in(ingester=here.ingester(["good", *names]))
        async with (
            receiving(bad[0]) as one,
            receiving(bad[1]) as two,
            receiving(bad[2]) as three,
            receiving(bad[3]) as four,
            receiving(bad[4]) as five,
        ):
            endpoints = dict(zip(names, [one, two, three, four, five], strict=True))
            destinations = [webhook(endpoint.url, name=name) for name, endpoint in endpoints.items()]
            await here.take_in(accepted(), *(opened(number) for number in range(1, 30)))
            settings = _settings(webhook(good.url, name="good"), *destinations)
            async with _publishing(here, settings):
                await until(lambda: len(good.requests) == 30)
                await until(lambda: all(endpoint.requests for endpoint in endpoints.values()))
                await until(lambda: _sample("behind_events", "good") == 0 and _sample("behind_events", "bad1") == 30)

                assert _sample("lag_seconds", "good") == 0
                assert _sample("lag_seconds", "bad1") > 1000  # of an event that was an hour ago by the test's clock

        assert [request.events for request in good.requests] == [
            [body["mailwake"]["eventId"]] for body in here.bodies()
        ]


def _sample(what: str, destination: str) -> float:
    return REGISTRY.get_sample_value(f"mailwake_destination_{what}", {"destination": destination}) or 0


async def test_a_destination_that_goes_leaves_no_lag_behind(tmp_path: Path) -> None:
    """Not even where it goes while the storage is asked: the alarm for it would never end."""
    asked, may_answer = asyncio.Event(), asyncio.Event()

    async with node(tmp_path) as here:
        await here.take_in(accepted(), ingester=here.ingester(["gone"]))
        read = here.store.read

        async def slow(work: Any) -> Any:  # noqa: ANN401 - what the work returns
            found = await read(work)
            if isinstance(found, dict) and "gone" in found and not asked.is_set():
                asked.set()
                await may_answer.wait()
                found = {"gone": replace(found["gone"], behind=7)}
            return found

        here.store.read = slow  # type: ignore[method-assign]
        async with _publishing(
            here, _settings(replace(SHOP, name="gone")), gone=Scripted(), shop=Scripted()
        ) as publisher:
            await asked.wait()
            publisher.renew(_settings())
            await until(lambda: not publisher._running)
            may_answer.set()
            publisher.renew(_settings(SHOP))
            await until(lambda: bool(publisher._running))
            await asyncio.sleep(0)

        assert REGISTRY.get_sample_value("mailwake_destination_behind_events", {"destination": "gone"}) == 0
