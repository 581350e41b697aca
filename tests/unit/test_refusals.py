"""Refusals at MAIL: of their senders, or of us."""

import asyncio

from relay.core.attempt import UpstreamReply
from relay.spool.refusals import Refusals

SUSPENDED = UpstreamReply(550, "5.7.1 account suspended")


async def _ask(refusals: Refusals, *senders: str) -> list["asyncio.Task[bool]"]:
    tasks: list[asyncio.Task[bool]] = []
    for sender in senders:
        assert not refusals.is_about_us(
            sender, UpstreamReply(550, f"5.7.1 <{sender}>: Sender rejected (id 4F{len(tasks)})")
        )
        tasks.append(asyncio.create_task(refusals.verdict()))
    await asyncio.sleep(0)
    return tasks


async def test_the_fifth_sender_acquits_the_first_four() -> None:
    """Words that differ with the sender count as the same; from then on each refusal is about us at once."""
    refusals = Refusals()
    waiting = await _ask(refusals, "a@x.example", "b@x.example", "c@y.example", "d@z.example")

    assert refusals.is_about_us("e@x.example", UpstreamReply(550, "5.7.1 <e@x.example>: Sender rejected (id 99)"))
    assert await asyncio.gather(*waiting) == [True] * 4
    assert refusals.is_about_us("a@x.example", UpstreamReply(550, "5.7.1 <a@x.example>: Sender rejected (id 1)"))


async def test_one_that_passes_condemns_those_that_wait() -> None:
    """The upstream takes mail: it was their senders."""
    refusals = Refusals()
    waiting = await _ask(refusals, "a@x.example", "b@x.example", "c@x.example", "d@x.example")
    refusals.passed()

    assert await asyncio.gather(*waiting) == [False] * 4
    assert not refusals.is_about_us("e@x.example", SUSPENDED)


async def test_one_sender_alone_says_nothing_of_us() -> None:
    """However often it is refused; after a while, a minute, the verdict is the upstream's word."""
    assert Refusals().wait_s == 60
    refusals = Refusals(wait_s=0.02)
    waiting = await _ask(refusals, *["a@x.example"] * 20)

    assert await asyncio.gather(*waiting) == [False] * 20


async def test_another_reply_begins_a_new_row() -> None:
    """The row is of one reply."""
    refusals = Refusals()
    waiting = await _ask(refusals, "a@x.example", "b@x.example")

    assert not refusals.is_about_us("c@x.example", SUSPENDED)
    assert await asyncio.gather(*waiting) == [False] * 2
    for sender in ("d@x.example", "e@x.example", "f@x.example"):
        assert not refusals.is_about_us(sender, SUSPENDED)
    assert refusals.is_about_us("g@x.example", SUSPENDED)


async def test_a_stop_condemns_nobody() -> None:
    """They are asked again after the start."""
    refusals = Refusals()
    waiting = await _ask(refusals, "a@x.example")
    refusals.stop()

    assert await asyncio.gather(*waiting) == [True]
