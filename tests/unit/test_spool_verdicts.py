"""A client that waits for the first attempt's verdict: what it is told, and what its author is told besides."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest

from relay.core.attempt import Attempt, UpstreamReply
from relay.spool.entry import SpoolEntry
from relay.spool.layout import Row, State
from relay.spool.runner import Runner
from tests.unit.spool_world import DOWN, LATER, NO, OK, World, fresh
from tests.unit.spooling import MESSAGE
from tracker.contract.ids import MessageId


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A fresh one."""
    return World(tmp_path / "00")


async def verdict(world: World, runner: Runner, entry: SpoolEntry, wait_s: float = 10) -> UpstreamReply | None:
    """Accept a message as the pipeline does that waits."""
    await world.spool.put(entry, MESSAGE)
    runner.expect(entry.id)
    runner.notify(entry)
    return await runner.verdict(entry.id, wait_s)


async def test_a_refusal_of_all_recipients_is_the_verdict_and_makes_no_report(world: World) -> None:
    """The client has been told: a report would tell its author a second time. The events are there."""
    entry = fresh(1, *(f"{number}@x.example" for number in range(5)))
    world.answer = lambda transaction: [NO] * len(transaction.recipients)
    async with world.running() as runner:
        assert await verdict(world, runner, entry) == NO.reply
        await world.until_empty()

    assert sorted(world.kinds()) == ["Accepted", *["Bounce"] * 5]
    assert all(transaction.reverse_path for transaction in world.sent)


@pytest.mark.parametrize("other", [OK, LATER, DOWN])
async def test_anything_else_is_no_verdict_and_is_told_as_ever(world: World, other: Attempt) -> None:
    """A mixed outcome has no reply in SMTP: the refused recipient makes a report."""
    entry = fresh(1, "a@x.example", "b@x.example")
    answers = {"a@x.example": NO, "b@x.example": other, "shop@shop.example": OK}
    world.answer = lambda transaction: [answers[recipient] for recipient in transaction.recipients]
    async with world.running() as runner:
        async with asyncio.timeout(5):  # at once: the client need not wait for what is decided
            assert await verdict(world, runner, entry) is None
        await world.until(lambda: "Bounce" in world.kinds())
        answers["b@x.example"] = OK
        await world.until(lambda: any(not transaction.reverse_path for transaction in world.sent))


async def test_a_verdict_that_does_not_come_in_time_is_none_and_the_report_follows(world: World) -> None:
    """The client has its 250, so the author is told by mail."""
    world.gate.clear()
    world.answer = lambda transaction: [NO if transaction.reverse_path else OK]
    entry = fresh(1)
    async with world.running() as runner:
        assert await verdict(world, runner, entry, 0.01) is None
        world.gate.set()
        await world.until_empty()

    assert world.kinds() == ["Accepted", "Bounce"]
    assert [bool(transaction.reverse_path) for transaction in world.sent] == [True, False]


async def test_a_crash_before_the_client_is_told_tells_the_author_as_ever(world: World) -> None:
    """The outcome is on disk, the decision is not: the client has no answer and sends again."""
    entry = fresh(1)
    world.answer = lambda transaction: [NO if transaction.reverse_path else OK]
    real = world.spool.mark
    reached, never = asyncio.Event(), asyncio.Event()

    async def mark(*arguments: object, durable: bool) -> None:
        if any(row.unreported for row in arguments[1].values()):  # type: ignore[attr-defined]
            reached.set()
            await never.wait()
        await real(*arguments, durable=durable)  # type: ignore[arg-type]

    world.spool.mark = mark  # type: ignore[method-assign, assignment]
    async with world.running() as runner:
        waiting = asyncio.create_task(verdict(world, runner, entry))
        await reached.wait()
        assert world.rows(entry)[0].state is State.FAILED
        assert world.journal == [entry.accepted]
        frozen = (world.spool.directory / "q" / str(entry.id)).read_bytes()
        never.set()
        await waiting
    sent = len(world.sent)
    (world.spool.directory / "q" / str(entry.id)).write_bytes(frozen)
    world.restart()
    async with world.running():
        await world.until_empty()

    assert [transaction.reverse_path for transaction in world.sent[sent:]] == [""]


async def test_a_stop_while_the_verdict_is_written_lets_nobody_wait(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client gets its 250: what is on disk is told after the start."""
    real, reached = world.spool.mark, asyncio.Event()

    async def mark(message: MessageId, rows: Mapping[int, Row], *, durable: bool) -> None:
        if any(row.unreported for row in rows.values()):
            reached.set()
            await asyncio.Event().wait()
        await real(message, rows, durable=durable)

    monkeypatch.setattr(world.spool, "mark", mark)
    world.answer = lambda transaction: [NO]
    async with world.running() as runner:
        waiting = asyncio.create_task(verdict(world, runner, fresh(1)))
        await asyncio.wait_for(reached.wait(), 10)
        await runner.drain(0)
        assert await asyncio.wait_for(waiting, 5) is None
