"""Orders, attempts, stops and starts in any mixture: no copy is lost, none ends twice, few are sent twice."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from relay.core.attempt import Attempt, Deferred, Phase, Transaction, Unknown, UpstreamReply
from relay.spool.entry import SpoolEntry
from relay.spool.runner import Runner
from relay.spool.transitions import Order
from tests.unit.spool_world import DOWN, LATER, NO, OK, World, fresh
from tracker.contract.events import Bounce, Delivery
from tracker.contract.ids import CopyId

TOO_FAST = Deferred(
    reply=UpstreamReply(454, "4.7.0 Throttling failure"), phase=Phase.MAIL, of_upstream=True, throttled=True, detail="x"
)
ANSWERS: tuple[Attempt, ...] = (OK, OK, NO, LATER, LATER, TOO_FAST, Unknown(detail="lost"), DOWN)
ORDERS = (*[Order.FLUSH] * 3, Order.HOLD, Order.RELEASE, Order.RELEASE, Order.REMOVE)


class Chance:
    """An operator, clients and an upstream that do what the dice say."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.dice = random.Random(seed)
        self.entries: list[SpoolEntry] = []
        self.taken: Counter[CopyId] = Counter()
        self.is_calm = False
        world.answer = self.answer

    def answer(self, transaction: Transaction) -> list[Attempt]:
        """All recipients meet a condition of the upstream, or each has an answer of its own."""
        if self.is_calm:
            answers: list[Attempt] = [OK] * len(transaction.recipients)
        else:
            answers = [self.dice.choice(ANSWERS) for _ in transaction.recipients]
        if DOWN in answers:
            return [DOWN] * len(answers)
        self.taken.update(copy for copy, said in zip(transaction.copies, answers, strict=True) if said is OK)
        return answers

    async def live(self, runner: Runner) -> None:
        """Let many things happen."""
        for _ in range(40):
            await asyncio.sleep(self.dice.random() * 0.002)
            if self.dice.random() < 0.4:
                number = len(self.entries) + 1
                count = self.dice.choice((1, 1, 3))
                entry = fresh(number, *(f"r{index}@x.example" for index in range(count)))
                self.entries.append(entry)
                await self.world.accept(runner, entry)
            elif self.entries:
                order = self.dice.choice(ORDERS)
                most = 1 if order is Order.REMOVE else 10
                chosen = self.dice.sample(self.entries, min(len(self.entries), self.dice.randint(1, most)))
                await runner.obey(order, [str(entry.id) for entry in chosen])

    async def end(self, runner: Runner) -> None:
        """Let all that waits go."""
        self.is_calm = True
        async with asyncio.timeout(30):
            while any((self.world.spool.directory / "q").iterdir()):
                await runner.obey(Order.RELEASE, [str(entry.id) for entry in self.entries])
                await runner.obey(Order.FLUSH, [str(message) for message in runner._messages])
                await asyncio.sleep(0.005)


async def one_story(directory: Path, seed: int) -> int:
    """Three lives of a process, and a fourth in which all comes to its end; return the number of copies."""
    world = World(directory / "00")
    world.limits = replace(world.limits, max_connections=4)
    chance = Chance(world, seed)
    for life in (chance.live, chance.live, chance.live, chance.end):
        runner = world.runner()
        task = asyncio.create_task(runner.run())
        await life(runner)
        await runner.drain(5 if life == chance.end else chance.dice.choice((0, 0.001, 1)))
        await task
        world.restart()
    world.spool.close()
    ends: dict[CopyId, set[type]] = {}
    for record in world.journal:
        if isinstance(record, Delivery | Bounce):
            ends.setdefault(record.copy, set()).add(type(record))
    copies = {facts.copy for entry in chance.entries for facts in entry.accepted.copies}
    assert ends.keys() == copies
    assert all(len(kinds) == 1 for kinds in ends.values())
    assert {copy for copy in chance.taken if copy in copies} == {copy for copy in copies if ends[copy] == {Delivery}}
    assert sum(count - 1 for count in chance.taken.values()) <= 3 * 4  # at most the connections in flight at each stop
    return len(copies)


async def test_whatever_happens_every_copy_comes_to_one_end(
    tmp_path: Path, count_of: Callable[[int, int], int], record_soak: Callable[[str, Mapping[str, object]], None]
) -> None:
    """After 250 every recipient becomes finished, once, whatever an operator orders and whenever the process stops."""
    stories = count_of(3, 300)
    copies = [await one_story(tmp_path / str(seed), seed) for seed in range(stories)]

    record_soak("spool-at-random", {"stories": stories, "copies": sum(copies)})
