"""Copies that were in flight when the process crashed: tried alone after two crashes, held after the third."""

import asyncio
from pathlib import Path

import pytest

from relay.core.attempt import Phase
from relay.spool import suspects
from relay.spool.layout import Row, State
from relay.spool.transitions import Order
from tests.unit.spool_world import LATER, World, fresh


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A fresh one."""
    return World(tmp_path / "00")


def in_flight(crashes: int) -> Row:
    """A row as a process leaves it that ends while the copy is on its way."""
    return Row(state=State.IN_FLIGHT, attempts=1, crashes=crashes)


async def crash(world: World, number: int) -> None:
    """Begin every attempt and end the process in the middle."""
    world.gate.clear()
    before = len(world.sent)
    runner = world.runner()
    task = asyncio.create_task(runner.run())
    await world.until(lambda: len(world.sent) - before == number)
    frozen = {path: path.read_bytes() for path in (world.spool.directory / "q").iterdir()}
    await runner.drain(0)
    await task
    for path, raw in frozen.items():
        path.write_bytes(raw)
    world.gate.set()
    world.restart()


async def test_a_copy_that_crashes_the_process_is_held_after_the_third_time_and_the_others_go_on(world: World) -> None:
    """Twice with others in flight, once alone: then it waits for an operator."""
    poison, sound = fresh(1), fresh(2)
    await world.leave(poison, in_flight(0))
    await crash(world, 1)
    assert world.rows(poison)[0].crashes == 1
    await crash(world, 1)
    assert (world.rows(poison)[0].state, world.rows(poison)[0].crashes) == (State.IN_FLIGHT, 2)

    sent = len(world.sent)
    async with world.running() as runner:
        await world.accept(runner, sound)
        await world.until_rows(poison, State.HELD)
        await world.until(lambda: "Delivery" in world.kinds())

    assert [transaction.copies[0].message for transaction in world.sent[sent:]] == [sound.id]
    assert "three times" in world.rows(poison)[0].text


async def test_many_copies_in_flight_at_two_kills_are_tried_one_after_the_other_and_pass(world: World) -> None:
    """An operator who kills the service must not have innocent mail held."""
    for number in range(1, 9):
        await world.leave(fresh(number), in_flight(1))
    async with world.running():
        await world.until_empty()

    assert world.most_in_flight == 1
    assert len(world.sent) == 8


async def test_nothing_else_starts_while_a_suspect_is_tried(world: World) -> None:
    """Else a third crash would not say who it was."""
    suspect, other = fresh(1), fresh(2)
    world.gate.clear()
    await world.leave(suspect, in_flight(1))
    async with world.running() as runner:
        await world.until(lambda: len(world.sent) == 1)
        await world.accept(runner, other)
        await asyncio.sleep(0)
        assert world.in_flight == 1
        world.gate.set()
        await world.until_empty()

    assert world.most_in_flight == 1
    assert [transaction.copies[0].message for transaction in world.sent] == [suspect.id, other.id]


async def test_a_stop_starts_no_suspect_that_waits_for_others_to_end(world: World) -> None:
    """It would be cut in the middle, perhaps behind the dot."""
    await world.leave(fresh(1), in_flight(0))
    await world.leave(fresh(2), in_flight(1))
    world.gate.clear()
    runner = world.runner()
    task = asyncio.create_task(runner.run())
    await world.until(lambda: len(world.sent) == 1)
    world.journal_error = OSError(28, "No space left on device")  # the stop waits a second for it
    drained = asyncio.create_task(runner.drain(5))
    await asyncio.sleep(0)
    world.gate.set()
    await drained
    await task

    assert len(world.sent) == 1


async def test_a_suspect_that_only_hangs_is_cleared_and_lets_the_others_go(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upstream that does not answer must not stop all others, nor condemn the copy that waits for it."""
    monkeypatch.setattr(suspects, "ALONE_S", 0.01)
    suspect = fresh(1)
    world.gate.clear()
    await world.leave(suspect, in_flight(1))
    async with world.running() as runner:
        await world.until(lambda: len(world.sent) == 1)
        await world.accept(runner, fresh(2))
        await world.until(lambda: len(world.sent) == 2)
        assert world.rows(suspect)[0].crashes == 0
        world.gate.set()
        await world.until_empty()


async def test_an_attempt_that_ends_clears_its_copy(world: World) -> None:
    """What failed in the usual way crashed nothing."""
    entry = fresh(1)
    await world.leave(entry, Row(state=State.IN_FLIGHT, attempts=1, crashes=1, phase=Phase.RCPT))
    world.answer = lambda transaction: [LATER]
    async with world.running():
        await world.until_rows(entry, State.WAITING)

    assert world.rows(entry)[0].crashes == 0


async def test_a_stop_sets_the_count_of_crashes_back(world: World) -> None:
    """It ended in order, whatever was cut."""
    entry = fresh(1)
    await world.leave(entry, in_flight(0))
    world.gate.clear()
    async with world.running() as runner:
        await world.until(lambda: len(world.sent) == 1)
        assert world.rows(entry)[0].crashes == 1
        await runner.drain(0)

    assert (world.rows(entry)[0].state, world.rows(entry)[0].crashes) == (State.WAITING, 0)


@pytest.mark.parametrize("order, state", [(Order.REMOVE, None), (Order.HOLD, State.HELD), (Order.FLUSH, State.WAITING)])
async def test_a_suspect_that_waits_for_its_turn_takes_orders(world: World, order: Order, state: State | None) -> None:
    """Whoever knows which mail crashes the process need not have it tried once more; flushed, it is tried alone."""
    suspect, other = fresh(1), fresh(2)
    await world.leave(suspect, in_flight(1))
    runner = world.runner()
    lane = runner._lanes._lane("default")
    lane.circuit.failed(asyncio.get_running_loop().time(), probe=False, entropy=0.5)  # it is not probed for a while
    task = asyncio.create_task(runner.run())
    obeyed = await world.obeyed(runner, order, suspect)
    assert (obeyed.copies, obeyed.on_their_way) == (1, 0)
    if state is None:
        await world.until_empty()
        assert world.kinds() == ["Accepted", "Bounce"]
    elif order is Order.FLUSH:
        world.gate.clear()
        await world.until(lambda: len(world.sent) == 1)
        await world.accept(runner, other)
        await asyncio.sleep(0)
        assert world.in_flight == 1
        world.gate.set()
        await world.until_empty()
    else:
        assert world.rows(suspect)[0].state is state
    await runner.drain(5)
    await task

    assert [sent.reverse_path for sent in world.sent if sent.copies[0].message == suspect.id] == [
        "shop@shop.example"
    ] * (order is Order.FLUSH)
