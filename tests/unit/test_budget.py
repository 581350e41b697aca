"""Bytes that tasks share: in turn, within the limit, given back in every outcome."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from tracker.runtime.budget import ByteBudget


async def test_who_finds_no_room_waits_until_some_is_given_back() -> None:
    """The wait ends with the room, not with a timer."""
    budget = ByteBudget(10)
    await budget.take(8)
    waiting = asyncio.ensure_future(budget.take(3))
    await asyncio.sleep(0)
    was_done = waiting.done()
    budget.give(8)

    assert await waiting
    assert not was_done
    assert budget.used_bytes == 3


async def test_who_waited_in_vain_has_taken_nothing() -> None:
    """After the wait the answer is no, and the next one in the queue is looked at."""
    budget = ByteBudget(10)
    await budget.take(8)
    in_vain, behind = await asyncio.gather(budget.take(9, 0.01), budget.take(2))

    assert (in_vain, behind) == (False, True)
    assert budget.used_bytes == 10


async def test_more_than_there_is_in_all_is_let_in_alone() -> None:
    """A message of the greatest size must come through a small budget."""
    budget = ByteBudget(10)

    assert await budget.take(50)
    assert not await budget.take(1, 0.0)
    budget.give(50)
    assert await budget.take(10)


async def test_nothing_is_had_at_once() -> None:
    """What needs none of it never waits behind what does."""
    budget = ByteBudget(10)
    await budget.take(50)

    assert await budget.take(0)


async def test_the_first_that_waits_is_the_first_that_gets() -> None:
    """Much to ask for is no reason to wait for ever behind many that ask for little."""
    budget = ByteBudget(10)
    await budget.take(6)
    much = asyncio.ensure_future(budget.take(9))
    await asyncio.sleep(0)
    little = asyncio.ensure_future(budget.take(1))
    await asyncio.sleep(0)
    overtook = little.done()
    budget.give(6)
    await asyncio.gather(much, little)

    assert not overtook


@given(st.lists(st.tuples(st.integers(0, 15), st.booleans()), max_size=12))
def test_all_is_given_back_whoever_is_cancelled(tasks: list[tuple[int, bool]]) -> None:
    """Tasks that are cancelled while they wait, or just as they get their turn, leave nothing taken."""

    async def scenario() -> tuple[int, int]:
        budget = ByteBudget(10)
        most = 0

        async def use(size_bytes: int) -> None:
            nonlocal most
            if await budget.take(size_bytes):
                try:
                    most = max(most, budget.used_bytes)
                    await asyncio.sleep(0)
                finally:
                    budget.give(size_bytes)

        running = [asyncio.ensure_future(use(size_bytes)) for size_bytes, _ in tasks]
        await asyncio.sleep(0)
        for task, (_, is_cancelled) in zip(running, tasks, strict=True):
            if is_cancelled:
                task.cancel()
        async with asyncio.timeout(5):
            await asyncio.gather(*running, return_exceptions=True)
        return budget.used_bytes, most

    used_bytes, most = asyncio.run(scenario())

    assert used_bytes == 0
    assert most <= max([10, *(size_bytes for size_bytes, _ in tasks)])
