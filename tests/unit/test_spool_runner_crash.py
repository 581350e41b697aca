"""The runner on bad days: what a crash at each step, a stop or a failing disk leaves, and what becomes of it."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from relay.core import dsn
from relay.core.attempt import Attempt, Transaction
from relay.spool.entry import SpoolEntry
from relay.spool.files import Spooled, Stored
from relay.spool.layout import Row, State
from tests.unit.spool_world import DELIVERED, FAILED, LATER, World, fresh
from tracker.contract import events
from tracker.contract.ids import MessageId


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A fresh one."""
    return World(tmp_path / "00")


async def test_the_outcome_is_on_disk_before_it_is_told(world: World) -> None:
    """A journal that does not answer leaves the row in D, and later D is told, not sent again."""
    entry = fresh(1)
    world.journal_error = OSError(28, "No space left on device")
    async with world.running() as runner:
        await world.accept(runner, entry)
        await world.until_rows(entry, State.DELIVERED)
    assert world.journal == []

    world.journal_error = None
    world.restart()
    async with world.running():
        await world.until_empty()

    assert world.kinds() == ["Accepted", "Delivery"]
    assert len(world.sent) == 1


async def test_rows_in_d_and_f_are_told_again_under_the_same_ids_and_not_sent(world: World) -> None:
    """A crash between telling and marking repeats the event; ingest drops the twin by its id and content."""
    entry = fresh(1, "a@x.example", "b@x.example")
    world.options = replace(world.options, reports=replace(world.options.reports, enabled=False))
    await world.leave(entry, DELIVERED, FAILED)
    async with world.running():
        await world.until_empty()
    first = list(world.journal)
    world.journal.clear()
    await world.leave(entry, DELIVERED, FAILED)
    async with world.running():
        await world.until_empty()

    assert world.journal == first
    assert world.kinds() == ["Accepted", "Delivery", "Bounce"]
    assert world.sent == []


async def test_a_row_in_flight_is_sent_again_at_start_and_counted_as_a_risk(world: World) -> None:
    """The only duplicates there are, at most one a connection."""
    entry = fresh(1, "a@x.example", "b@x.example")
    await world.leave(entry, Row(state=State.IN_FLIGHT, attempts=1), DELIVERED.finished())
    async with world.running():
        await world.until_empty()

    assert [transaction.recipients for transaction in world.sent] == [("a@x.example",)]
    delivery = world.journal[-1]
    assert isinstance(delivery, events.Delivery)
    assert delivery.attempts == 2


async def test_a_file_whose_rows_are_all_told_is_removed_at_start(world: World) -> None:
    """A power cut may bring back the name of a file that was removed."""
    await world.leave(fresh(1), DELIVERED.finished())
    async with world.running():
        await world.until_empty()

    assert world.sent == []


async def test_a_held_row_is_left_alone(world: World) -> None:
    """H waits for an operator, and keeps its file."""
    entry = fresh(1, "a@x.example", "b@x.example")
    await world.leave(entry, Row(state=State.HELD), DELIVERED)
    async with world.running():
        await world.until_rows(entry, State.HELD, State.DELIVERED_TOLD)

    assert world.sent == []


async def test_a_report_made_twice_is_one_report(world: World) -> None:
    """A crash after the report is in the spool and before the row is f."""
    entry = fresh(1)
    await world.leave(entry, FAILED)
    await world.leave(_report_on(entry), message=b"the first one\r\n")
    async with world.running():
        await world.until_empty()

    assert [b"".join(transaction.data) for transaction in world.sent] == [b"X-Copy: 0\r\nthe first one\r\n"]


async def test_a_report_that_leaves_before_its_outcome_is_told_is_not_made_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same crash, and a long spool: reports are delivered while it is taken up, and gone when F is told."""
    entry = fresh(1)
    report = _report_on(entry)
    await world.leave(entry, FAILED)
    await world.leave(report)
    scan, load = world.spool.scan, world.spool.load

    async def long_scan() -> AsyncIterator[list[Stored]]:
        async for batch in scan():
            yield batch
        await world.until_rows(report, State.DELIVERED)

    async def late_load(message: MessageId) -> Spooled:
        if message == entry.id:
            await world.until_left(entry.id)
        return await load(message)

    monkeypatch.setattr(world.spool, "scan", long_scan)
    monkeypatch.setattr(world.spool, "load", late_load)
    async with world.running():
        await world.until_empty()

    assert [transaction.copies[0].message for transaction in world.sent] == [report.id]
    assert world.kinds() == ["Accepted", "Bounce"]


def _report_on(entry: SpoolEntry) -> SpoolEntry:
    """Make the report on an entry's first copy, under the id that it has."""
    report = fresh(2, "shop@shop.example", reverse_path="", report=True)
    same = dsn.report_id(entry.accepted.copies[0].copy)
    facts = report.accepted.facts
    accepted = events.Accepted(
        facts=events.MessageFacts(
            message=same, accepted_at=facts.accepted_at, source="", source_address="", caller="",
            from_domain="", configuration_set=None, upstream="default",
        ),
        copies=report.accepted.copies,
    )  # fmt: skip
    return SpoolEntry(accepted=accepted, reverse_path="", recipients=report.recipients, upstream="default", report=True)


async def test_draining_awaits_what_is_in_flight_and_starts_nothing_new(world: World) -> None:
    """SIGTERM: dots in flight are awaited, the rest stays for the next start."""
    world.gate.clear()
    world.limits = replace(world.limits, max_connections=1)
    first, second = fresh(1), fresh(2)
    async with world.running() as runner:
        await world.accept(runner, first)
        await world.accept(runner, second)
        await world.until(lambda: len(world.sent) == 1)
        drained = asyncio.create_task(runner.drain(5))
        await asyncio.sleep(0)
        world.gate.set()
        await drained

    assert len(world.sent) == 1
    assert world.kinds() == ["Accepted", "Accepted", "Delivery"]
    assert world.rows(second) == (Row(),)


async def test_what_does_not_end_in_time_is_cut_and_waits_on_disk(world: World) -> None:
    """A container engine kills after ten seconds; the copy is sent again, at worst twice. Our own cut is no crash."""
    world.gate.clear()
    entry = fresh(1)
    before = REGISTRY.get_sample_value("mailwake_duplicate_risk_total") or 0
    async with world.running() as runner:
        await world.accept(runner, entry)
        await world.until(lambda: len(world.sent) == 1)
        await runner.drain(0)

    assert REGISTRY.get_sample_value("mailwake_duplicate_risk_total") == before + 1
    (row,) = world.rows(entry)
    assert (row.state, row.attempts, row.crashes) == (State.WAITING, 1, 0)


async def test_a_stop_in_the_moment_of_the_mark_leaves_nothing_in_flight(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row in flight at a start counts as a crash, and the third one is held: a stop must not count."""
    real, reached, go = os.pwrite, asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def pwrite(descriptor: int, raw: bytes, offset: int) -> int:
        if raw.startswith(b"S"):
            loop.call_soon_threadsafe(reached.set)
            go.wait(10)
        return real(descriptor, raw, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    entry = fresh(1)
    runner = world.runner()
    task = asyncio.create_task(runner.run())
    await world.accept(runner, entry)
    await asyncio.wait_for(reached.wait(), 10)
    loop.call_later(0.05, go.set)
    await runner.drain(0)
    await task
    world.spool.close()

    assert world.rows(entry)[0].state is State.WAITING
    assert world.sent == []


async def test_a_damaged_message_is_put_aside_and_the_others_go_on(world: World) -> None:
    """Found only when the message is read."""
    bad, good = fresh(1), fresh(2)
    await world.leave(bad)
    path = world.spool.directory / "q" / str(bad.id)
    path.write_bytes(path.read_bytes().replace(b"A line.", b"A lime."))
    async with world.running() as runner:
        await world.accept(runner, good)
        await world.until_empty()

    assert [transaction.copies[0].message for transaction in world.sent] == [good.id]
    assert len(list((world.spool.directory / "quarantine").iterdir())) == 1


async def test_a_damaged_message_of_many_is_dropped_as_a_whole(world: World) -> None:
    """One line in the log, not one for each recipient."""
    bad = fresh(1, *(f"{number}@x.example" for number in range(40)))
    await world.leave(bad)
    path = world.spool.directory / "q" / str(bad.id)
    path.write_bytes(path.read_bytes().replace(b"A line.", b"A lime."))
    with capture_logs() as logs:
        async with world.running() as runner:
            await world.until_empty()
    assert runner.waiting == 0

    assert [line["event"] for line in logs] == ["spool_file_quarantined"]


async def test_a_damaged_message_that_cannot_be_put_aside_stops_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk may refuse the quarantine as well: the process must live, and deliver what frees the disk."""

    async def quarantine(*_: object) -> None:
        raise OSError(28, "No space left on device")

    bad, good = fresh(1), fresh(2)
    await world.leave(bad)
    path = world.spool.directory / "q" / str(bad.id)
    path.write_bytes(path.read_bytes().replace(b"A line.", b"A lime."))
    monkeypatch.setattr(world.spool, "quarantine", quarantine)
    async with world.running() as runner:
        await world.accept(runner, good)
        await world.until_left(bad.id)
    assert runner.waiting == 1


async def test_an_outcome_that_cannot_be_written_is_written_later_and_not_sent_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that forgets deliveries must not make us deliver twice; meanwhile nothing new starts."""
    real, broken = world.spool.mark, True

    async def mark(*arguments: object, durable: bool) -> None:
        if durable and broken:
            raise OSError(5, "Input/output error")
        await real(*arguments, durable=durable)  # type: ignore[arg-type]

    async def sleep_not(_: float) -> None:
        nonlocal broken
        broken = False

    monkeypatch.setattr(world.spool, "mark", mark)
    monkeypatch.setattr("relay.spool.runner.asyncio.sleep", sleep_not)
    entry = fresh(1)
    async with world.running() as runner:
        await world.accept(runner, entry)
        await world.until(lambda: "Delivery" in world.kinds())

    assert not broken
    assert len(world.sent) == 1


async def test_a_sender_that_breaks_is_an_unknown_outcome(world: World) -> None:
    """A fault of ours may come after the dot: the copy is tried again, and counted."""

    def answer(transaction: Transaction) -> list[Attempt]:
        raise RuntimeError("a fault of ours")

    world.answer = answer
    entry = fresh(1)
    async with world.running() as runner:
        await world.accept(runner, entry)
        rows = await world.until_rows(entry, State.WAITING)
        while not rows[0].attempts:
            rows = world.rows(entry)
            await asyncio.sleep(0.001)

    assert rows[0].attempts == 1


async def test_a_jump_of_the_date_neither_expires_nor_stops_mail(world: World) -> None:
    """The lifetime is measured by the loop's clock; the date is only written down."""
    now = datetime.now(UTC)
    world.answer = lambda transaction: [LATER]
    entry = fresh(1)
    async with world.running(now=lambda: now) as runner:
        await world.accept(runner, entry)
        now += timedelta(days=400)
        await world.until(lambda: len(world.journal) == 2)

    assert world.kinds() == ["Accepted", "DeliveryDelay"]
    assert world.rows(entry)[0].state is State.WAITING
