"""What an operator orders: in a running process and on the files of a slot that nobody owns, by the same rules."""

import os
import time
from pathlib import Path

import pytest

from relay.spool import desk, inspection
from relay.spool.inspection import QueueFilter
from relay.spool.layout import Row, State
from relay.spool.transitions import Order
from tests.unit.spool_world import DELIVERED, DOWN, LATER, OK, World, fresh
from tracker.contract import events


def put_off() -> Row:
    """Return a row that is due in most of a minute from now."""
    return Row(attempts=1, code=451, text="4.3.0 later", next_ms=int(time.time() * 1000) + 50_000)


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A fresh one."""
    return World(tmp_path / "00")


async def test_flushed_mail_goes_at_once(world: World) -> None:
    """It would have waited most of a minute."""
    entry = fresh(1)
    await world.leave(entry, put_off())
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
    await world.leave(entry, put_off(), DELIVERED.finished())
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
    await world.leave(entry, put_off(), DELIVERED)
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
    await world.leave(held, put_off())
    await world.leave(removed, put_off())
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
    await world.leave(first, put_off(), Row(state=State.HELD, text="why"))
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
