"""What an operator orders: in a running process and on the files of a slot that nobody owns, by the same rules."""

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from relay.spool import desk, inspection
from relay.spool.inspection import QueueFilter
from relay.spool.layout import Row, State
from relay.spool.transitions import Order
from tests.unit.spool_world import DELIVERED, DOWN, LATER, OK, World, fresh
from tests.unit.spooling import make_entry
from tracker.contract import events
from tracker.contract.ids import MessageId

PUT_OFF = Row(attempts=1, code=451, text="4.3.0 later", next_ms=int(time.time() * 1000) + 86_400_000)
"""It waits for its whole step, however long ago this file was read."""


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A fresh one."""
    return World(tmp_path / "00")


async def test_flushed_mail_goes_at_once(world: World) -> None:
    """It would have waited most of a minute."""
    entry = fresh(1)
    await world.leave(entry, PUT_OFF)
    async with world.running() as runner:
        obeyed = await world.obeyed(runner, Order.FLUSH, entry)
        await world.until_empty()

    assert (obeyed.copies, obeyed.on_their_way) == (1, 0)
    assert len(world.sent) == 1


async def test_a_flush_has_a_troubled_upstream_probed_at_once(world: World) -> None:
    """The operator has mended it, and does not want to wait for the next probe."""
    world.answer = lambda transaction: [DOWN]
    entry = fresh(1)
    async with world.running() as runner:
        await world.accept(runner, entry)
        await world.until(lambda: len(world.sent) == 1)
        await world.until_rows(entry, State.WAITING)
        world.answer = lambda transaction: [OK]
        while world.sent[1:] == []:
            await world.obeyed(runner, Order.FLUSH, entry)
        await world.until_empty()


async def test_held_mail_stays_over_a_restart_until_it_is_released(world: World) -> None:
    """Held on disk, not in memory."""
    entry = fresh(1, "a@x.example", "b@x.example")
    await world.leave(entry, PUT_OFF, DELIVERED.finished())
    async with world.running() as runner:
        await world.obeyed(runner, Order.HOLD, entry)
        assert [row.state for row in world.rows(entry)] == [State.HELD, State.DELIVERED_TOLD]
    world.restart()
    async with world.running() as runner:
        assert (await world.obeyed(runner, Order.FLUSH, entry)).copies == 0
        assert world.sent == []
        await world.obeyed(runner, Order.RELEASE, entry)
        await world.until_empty()

    assert [transaction.recipients for transaction in world.sent] == [("a@x.example",)]


@pytest.mark.parametrize("order, reports", [(Order.REMOVE, 0), (Order.RETURN, 1)])
async def test_a_removed_message_ends_in_bounce_events_and_a_report_only_where_it_is_asked_for(
    world: World, order: Order, reports: int
) -> None:
    """Nothing vanishes silently; the one who was delivered to keeps the delivery."""
    entry = fresh(1, "a@x.example", "b@x.example")
    await world.leave(entry, PUT_OFF, DELIVERED)
    async with world.running() as runner:
        await world.obeyed(runner, order, entry)
        await world.until_empty()

    assert sorted(world.kinds()) == ["Accepted", "Bounce", "Delivery"]
    (bounce,) = (record for record in world.journal if isinstance(record, events.Bounce))
    assert bounce.reply == "554 5.7.0 Removed by an operator"
    assert [transaction.reverse_path for transaction in world.sent] == [""] * reports


async def test_a_copy_on_its_way_is_held_when_it_comes_back(world: World) -> None:
    """It cannot be called back, but it is not sent again either."""
    world.gate.clear()
    world.answer = lambda transaction: [LATER]
    entry = fresh(1)
    async with world.running() as runner:
        await world.accept(runner, entry)
        await world.until(lambda: len(world.sent) == 1)
        obeyed = await world.obeyed(runner, Order.HOLD, entry)
        assert (obeyed.copies, obeyed.on_their_way) == (0, 1)
        world.gate.set()
        await world.until_rows(entry, State.HELD)


class SlowDisk:
    """Lets the writing of rows stop where `stops` says, until `go` is set."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch, stops: Callable[[Row], bool]) -> None:
        self.reached, self.go = asyncio.Event(), asyncio.Event()
        real = world.spool.mark

        async def mark(message: MessageId, rows: Mapping[int, Row], *, durable: bool) -> None:
            if any(map(stops, rows.values())) and not self.go.is_set():
                self.reached.set()
                await self.go.wait()
            await real(message, rows, durable=durable)

        monkeypatch.setattr(world.spool, "mark", mark)


async def test_an_order_that_comes_while_the_outcome_is_written_is_obeyed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the copy would go out once more after it was said to be held."""
    disk = SlowDisk(world, monkeypatch, lambda row: row.code == 451)
    world.answer = lambda transaction: [LATER]
    entry = fresh(1)
    async with world.running() as runner:
        await world.accept(runner, entry)
        await asyncio.wait_for(disk.reached.wait(), 10)
        obeyed = await world.obeyed(runner, Order.HOLD, entry)
        assert (obeyed.copies, obeyed.on_their_way) == (0, 1)
        disk.go.set()
        await world.until_rows(entry, State.HELD)

    assert len(world.sent) == 1


async def test_a_release_that_comes_while_a_hold_is_written_is_obeyed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last word counts: a copy must not stay held that was released."""
    disk = SlowDisk(world, monkeypatch, lambda row: row.state is State.HELD)
    world.gate.clear()
    world.answer = lambda transaction: [LATER]
    entry = fresh(1)
    async with world.running() as runner:
        await world.accept(runner, entry)
        await world.until(lambda: len(world.sent) == 1)
        await world.obeyed(runner, Order.HOLD, entry)
        world.gate.set()
        await asyncio.wait_for(disk.reached.wait(), 10)
        world.answer = lambda transaction: [OK]
        await world.obeyed(runner, Order.RELEASE, entry)
        disk.go.set()
        await world.until_empty()

    assert len(world.sent) == 2


async def test_copies_that_are_being_given_up_take_no_orders(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else one would be queued again, and sent, after its author was told that it had expired."""
    at = datetime.now(UTC) - timedelta(days=5)
    entries = [make_entry(number, at=at, reverse_path="") for number in range(1, 4)]
    for entry in entries:
        await world.leave(entry)
    disk = SlowDisk(world, monkeypatch, lambda row: row.expired)
    runner = world.runner()
    runner._lanes._lane("default").circuit.failed(0.0, probe=False, entropy=0.0)  # long ago: a probe is due at once
    task = asyncio.create_task(runner.run())
    await asyncio.wait_for(disk.reached.wait(), 10)
    obeyed = await world.obeyed(runner, Order.FLUSH, *entries)
    assert (obeyed.copies, obeyed.on_their_way) == (0, 3)
    disk.go.set()
    await world.until_empty()
    await runner.drain(5)
    await task

    assert world.kinds().count("Bounce") == 3
    assert world.sent == []


async def test_a_flush_finds_copies_whose_attempt_broke(world: World) -> None:
    """A fault of ours must not lose a copy until the next start."""
    world.answer = lambda transaction: []  # no outcome for its recipient
    entry = fresh(1)
    async with world.running() as runner:
        await world.accept(runner, entry)
        await world.until(lambda: len(world.sent) == 1 and world.in_flight == 0)
        world.answer = lambda transaction: [OK]
        await world.obeyed(runner, Order.FLUSH, entry)
        await world.until_empty()


async def test_held_copies_are_counted_until_they_are_gone(world: World) -> None:
    """`mailwake_spool_held` is an alarm: it must end when a file goes to the quarantine."""
    entry = fresh(1, "a@x.example", "b@x.example")
    before = REGISTRY.get_sample_value("mailwake_spool_held") or 0.0
    await world.leave(entry, Row(state=State.HELD), Row())
    path = world.spool.directory / "q" / str(entry.id)
    path.write_bytes(path.read_bytes().replace(b"A line.", b"A lime."))
    async with world.running():
        await world.until_empty()

    assert REGISTRY.get_sample_value("mailwake_spool_held") == before


async def test_a_message_is_not_sent_twice_because_it_was_flushed_while_on_its_way(world: World) -> None:
    """A flush of everything meets mail in every state."""
    world.gate.clear()
    entry = fresh(1)
    async with world.running() as runner:
        await world.accept(runner, entry)
        await world.until(lambda: len(world.sent) == 1)
        await world.obeyed(runner, Order.FLUSH, entry)
        world.gate.set()
        await world.until_empty()

    assert len(world.sent) == 1


async def test_foreign_ids_and_mail_that_is_gone_are_left_out(world: World) -> None:
    """An id is text from outside: it is never a path."""
    async with world.running() as runner:
        obeyed = await runner.obey(Order.REMOVE, ["../../etc/passwd", "", str(fresh(1).id)])

    assert obeyed.messages == []


async def test_orders_on_the_files_of_a_free_slot_are_found_by_the_next_process(world: World) -> None:
    """Nobody runs: the rows are changed in place."""
    held, removed, cut = fresh(1), fresh(2), fresh(3)
    await world.leave(held, PUT_OFF)
    await world.leave(removed, PUT_OFF)
    await world.leave(cut, Row(state=State.IN_FLIGHT, attempts=1))
    world.spool.close()
    slot, now_ms = world.spool.directory, int(time.time() * 1000)

    desk.obey_on_files(slot, Order.HOLD, [str(held.id), str(cut.id), "x", str(fresh(9).id)], now_ms=now_ms)
    obeyed = desk.obey_on_files(slot, Order.REMOVE, [str(removed.id)], now_ms=now_ms)

    assert (obeyed.messages, obeyed.copies) == ([str(removed.id)], 1)
    world.restart()
    async with world.running():
        await world.until_left(held.id, cut.id)
    assert world.kinds().count("Bounce") == 1
    assert world.sent == []


async def test_what_waits_is_listed_from_the_files(world: World) -> None:
    """Filters choose; damaged and foreign files are left out."""
    first, second = fresh(1, "a@x.example", "b@x.example"), fresh(2, reverse_path="news@mail.other.example")
    await world.leave(first, PUT_OFF, Row(state=State.HELD, text="why"))
    await world.leave(second)
    queue = world.spool.directory / "q"
    (queue / "foreign").write_bytes(b"x")
    os.mkfifo(queue / str(fresh(3).id))
    root = world.spool.directory.parent

    def ids(**wanted: object) -> list[str]:
        return [mail.id for mail in inspection.waiting(root, QueueFilter(**wanted))]  # type: ignore[arg-type]

    assert ids() == [str(first.id), str(second.id)]
    assert ids(held=True) == [str(first.id)]
    assert ids(domain="other.example") == [str(second.id)]
    assert ids(ids=frozenset({str(second.id), "../x"})) == [str(second.id)]
    assert ids(upstream="other") == []
    (mail,) = inspection.waiting(root, QueueFilter(held=True))
    assert [(one.address, one.state, one.reply) for one in mail.recipients] == [
        ("a@x.example", "waiting", "451 4.3.0 later"),
        ("b@x.example", "held", "why"),
    ]
