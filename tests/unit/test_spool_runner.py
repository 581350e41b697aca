"""The runner: every recipient becomes finished, and nobody is asked more than they should."""

import asyncio
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from relay.core.attempt import Attempt, Unknown
from relay.spool.layout import State
from tests.unit.spool_world import DOWN, LATER, NO, OK, World, fresh
from tests.unit.spooling import MESSAGE, make_entry
from tracker.contract import events
from tracker.contract.ids import EventId


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A fresh one."""
    return World(tmp_path / "00")


async def test_a_message_is_announced_delivered_told_and_removed(world: World) -> None:
    """The acceptance comes before every other record of the message."""
    entry = fresh(1)
    async with world.running() as runner:
        await world.accept(runner, entry)
        await world.until_empty()

    accepted, delivery = world.journal
    assert accepted == entry.accepted
    assert isinstance(delivery, events.Delivery)
    copy = entry.accepted.copies[0].copy
    assert delivery.event == EventId.of_outcome(copy, "delivery")
    assert (delivery.reply, delivery.final, delivery.attempts) == ("250 2.0.0 Ok: queued as 77", True, 1)
    assert world.sent[0].copies == (copy,)
    assert b"".join(world.sent[0].data) == b"X-Copy: 0\r\n" + MESSAGE
    assert runner.waiting == 0
    assert world.spool.usage_bytes == 0


async def test_a_mixed_outcome_is_kept_for_each_recipient(world: World) -> None:
    """One delivered, one refused, one put off: the first two are finished, the third waits a minute."""
    entry = fresh(1, "a@x.example", "b@x.example", "c@x.example", reverse_path="")
    answers: dict[str, Attempt] = {"a@x.example": OK, "b@x.example": NO, "c@x.example": LATER}
    world.answer = lambda transaction: [answers[recipient] for recipient in transaction.recipients]
    async with world.running() as runner:
        await world.accept(runner, entry)
        rows = await world.until_rows(entry, State.DELIVERED_TOLD, State.FAILED_TOLD, State.WAITING)
        await world.until(lambda: len(world.journal) == 4)

    assert sorted(world.kinds()) == ["Accepted", "Bounce", "Delivery", "DeliveryDelay"]
    assert world.kinds()[0] == "Accepted"
    assert rows[2].next_ms - rows[2].changed_ms == 60_000
    assert (rows[2].attempts, rows[2].code, rows[2].text) == (1, 451, "4.3.0 later")
    bounce = next(record for record in world.journal if isinstance(record, events.Bounce))
    assert (bounce.phase, bounce.reply, bounce.expired) == ("rcpt", "550 5.1.1 no such user", False)


async def test_untouched_mail_shares_transactions_up_to_max_recipients(world: World) -> None:
    """Five recipients, two a transaction; all run at once within the upstream's connections."""
    world.gate.clear()
    entry = fresh(1, *(f"{n}@x.example" for n in range(5)))
    async with world.running() as runner:
        await world.accept(runner, entry)
        await world.until(lambda: len(world.sent) == 3)
        world.gate.set()
        await world.until_empty()

    assert sorted(len(transaction.recipients) for transaction in world.sent) == [1, 2, 2]


@pytest.mark.parametrize("octets, is_apart", [(300_000, True), (1_000, False)])
async def test_a_large_copy_is_made_in_a_thread(world: World, octets: int, is_apart: bool) -> None:
    """Signing 25 MB takes half a second, in which no hit would be answered and no client."""
    async with world.running() as runner:
        await world.accept(runner, fresh(1), MESSAGE + b"x" * octets)
        await world.until_empty()

    assert [thread is not threading.main_thread() for thread in world.copied_in] == [is_apart]


async def test_no_more_run_at_once_than_the_upstream_has_connections(world: World) -> None:
    """The bound on duplicates after a crash is the bound on what is in flight."""
    async with world.running() as runner:
        for number in range(20):
            await world.accept(runner, fresh(number))
        await world.until_empty()

    assert world.most_in_flight <= 3
    assert len(world.sent) == 20


async def test_no_more_are_sent_in_a_second_than_the_upstream_has_as_its_rate(world: World) -> None:
    """`max_rate`: of five, at 5 a second, the last one leaves after four fifths of a second."""
    world.limits = replace(world.limits, max_rate_per_s=5.0)
    loop = asyncio.get_running_loop()
    async with world.running() as runner:
        start_s = loop.time()
        for number in range(5):
            await world.accept(runner, fresh(number))
        await world.until(lambda: len(world.sent) == 5)
        took_s = loop.time() - start_s
        await world.until_empty()

    assert took_s >= 0.79


async def test_a_condition_of_the_upstream_counts_no_attempt_and_stops_all_but_a_probe(world: World) -> None:
    """The circuit: one fails, the others wait; no attempt, no delay event, nothing bounces."""
    world.answer = lambda transaction: [DOWN] * len(transaction.recipients)
    first = fresh(1)
    async with world.running() as runner:
        await world.accept(runner, first)
        await world.until(lambda: len(world.sent) == 1)
        rows = await world.until_rows(first, State.WAITING)
        for number in range(2, 10):
            await world.accept(runner, fresh(number))
        await world.until(lambda: len(world.journal) == 9)

    assert len(world.sent) == 1
    assert (rows[0].attempts, rows[0].text) == (0, "refused")
    assert set(world.kinds()) == {"Accepted"}


async def test_mail_for_an_upstream_that_is_not_configured_any_more_waits(world: World) -> None:
    """It is a condition of the upstream: the operator may bring it back."""
    entry = make_entry(1, at=datetime.now(UTC), upstream="gone")
    async with world.running() as runner:
        await world.accept(runner, entry)
        async with asyncio.timeout(10):
            while world.rows(entry)[0].text == "":  # noqa: ASYNC110 - marked in threads
                await asyncio.sleep(0.001)

    assert world.rows(entry)[0].text == "no upstream 'gone' is configured"
    assert world.rows(entry)[0].state is State.WAITING


@pytest.mark.parametrize("attempt", [LATER, DOWN, Unknown(detail="lost")])
async def test_at_the_end_of_its_lifetime_a_copy_bounces_as_expired(world: World, attempt: Attempt) -> None:
    """Five days old and still no luck; what the upstream itself is to blame for expires, too."""
    entry = make_entry(1, at=datetime.now(UTC) - timedelta(days=5), reverse_path="")
    world.answer = lambda transaction: [attempt]
    await world.leave(entry)
    async with world.running():
        await world.until_empty()

    bounce = world.journal[-1]
    assert isinstance(bounce, events.Bounce)
    assert bounce.expired
    assert len(world.sent) == 1


async def test_mail_expires_while_the_circuit_is_open(world: World) -> None:
    """Only one copy is probed with; the others must not wait for ever."""
    at = datetime.now(UTC) - timedelta(days=5)
    world.answer = lambda transaction: [DOWN]
    world.limits = replace(world.limits, max_connections=1)
    for number in range(1, 4):
        await world.leave(make_entry(number, at=at, reverse_path=""))
    runner = world.runner()
    lane = runner._lanes._lane("default")
    lane.circuit.failed(0.0, probe=False, entropy=0.0)  # long ago: a probe is due at once
    task = asyncio.create_task(runner.run())
    await world.until_empty()
    await runner.drain(5)
    await task

    assert world.kinds().count("Bounce") == 3
    assert len(world.sent) == 0


async def test_a_refusal_is_reported_to_the_author(world: World) -> None:
    """The report is in the spool before the row is f, leaves from the null sender, and has no events of its own."""
    world.answer = lambda transaction: [NO if transaction.reverse_path else OK] * len(transaction.recipients)
    entry = fresh(1)
    async with world.running() as runner:
        await world.accept(runner, entry)
        await world.until_empty()

    report = world.sent[1]
    assert (report.reverse_path, report.recipients) == ("", ("shop@shop.example",))
    assert b"Final-Recipient: rfc822; ana@a.example\r\n" in b"".join(report.data)
    assert b"Remote-MTA: dns; smtp.example.com\r\n" in b"".join(report.data)
    assert world.kinds() == ["Accepted", "Bounce"]


async def test_a_report_that_is_refused_ends_there(world: World) -> None:
    """No report of a report: the defence against bounce loops."""
    world.answer = lambda transaction: [NO] * len(transaction.recipients)
    async with world.running() as runner:
        await world.accept(runner, fresh(1))
        await world.until_empty()

    assert len(world.sent) == 2
    assert world.kinds() == ["Accepted", "Bounce"]


@pytest.mark.parametrize("case", ["null sender", "automatic", "switched off"])
async def test_no_report_is_made(world: World, case: str) -> None:
    """Not to the null sender, not of what a machine sent, not where the operator wants none; the event comes anyway."""
    world.answer = lambda transaction: [NO] * len(transaction.recipients)
    world.options = replace(world.options, reports=replace(world.options.reports, enabled=case != "switched off"))
    message = b"Auto-Submitted: auto-generated\r\n" + MESSAGE if case == "automatic" else MESSAGE
    async with world.running() as runner:
        entry = fresh(1, reverse_path="" if case == "null sender" else "a@shop.example")
        await world.accept(runner, entry, message)
        await world.until_empty()

    assert len(world.sent) == 1
    assert world.kinds() == ["Accepted", "Bounce"]
