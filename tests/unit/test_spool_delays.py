"""When a copy that waits is told of: at its first deferral, and when it has waited for four hours."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from relay.spool.layout import State
from relay.spool.runner import Runner
from relay.spool.transitions import Order
from tests.unit.spool_world import DOWN, LATER, OK, World, fresh
from tests.unit.spooling import make_entry
from tracker.contract import events
from tracker.contract.ids import EventId


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A fresh one."""
    return World(tmp_path / "00")


def delays(world: World) -> list[events.DeliveryDelay]:
    """What was told."""
    return [record for record in world.journal if isinstance(record, events.DeliveryDelay)]


async def again(runner: Runner, is_enough: Callable[[], bool]) -> None:
    """Have everything tried again and again."""
    async with asyncio.timeout(10):
        while not is_enough():
            await runner.obey(Order.FLUSH, [str(message) for message in runner._messages])
            await asyncio.sleep(0.001)


async def test_only_the_first_deferral_of_the_first_hours_is_told(world: World) -> None:
    """Whoever listens wants to know that it waits, not how often it was tried."""
    world.answer = lambda transaction: [LATER]
    entry = fresh(1)
    async with world.running() as runner:
        await world.accept(runner, entry)
        await again(runner, lambda: len(world.sent) >= 3)
        world.answer = lambda transaction: [OK]
        await again(runner, lambda: len(world.sent) >= 4)
        await world.until_empty()

    (told,) = delays(world)
    assert told.event == EventId.of_outcome(entry.accepted.copies[0].copy, "delivery_delay:1")
    assert (told.reply, told.attempts) == ("451 4.3.0 later", 1)
    assert told.expires_at == entry.accepted.facts.accepted_at + timedelta(days=5)


async def test_a_deferral_after_four_hours_is_told_once_more(world: World) -> None:
    """Under an id of its own; where it is the first one, there is this one alone."""
    world.answer = lambda transaction: [LATER]
    entry = make_entry(1, at=datetime.now(UTC) - timedelta(hours=4))
    await world.leave(entry)
    async with world.running() as runner:
        await again(runner, lambda: len(world.sent) >= 3)
        await world.until_rows(entry, State.WAITING)

    (told,) = delays(world)
    assert told.event == EventId.of_outcome(entry.accepted.copies[0].copy, "delivery_delay:2")


async def test_mail_that_waits_four_hours_for_an_upstream_that_is_down_is_told_of(world: World) -> None:
    """No attempt of it was made, but its author should know; younger mail and reports are not told of."""
    world.answer = lambda transaction: [DOWN]
    old = [make_entry(number, at=datetime.now(UTC) - timedelta(hours=4)) for number in (1, 2)]
    report = make_entry(4, at=datetime.now(UTC) - timedelta(hours=4), report=True)
    for entry in (*old, fresh(3), report):
        await world.leave(entry)
    async with world.running() as runner:
        await again(runner, lambda: len(delays(world)) >= 2)

    copies = {entry.accepted.copies[0].copy for entry in old}
    assert {told.event for told in delays(world)} == {EventId.of_outcome(copy, "delivery_delay:2") for copy in copies}
    assert len(delays(world)) == 2
    assert {told.phase for told in delays(world)} == {"connect"}
    assert "Bounce" not in world.kinds()
