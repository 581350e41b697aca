"""Spool, runner and a real server in bad days: what is the upstream's fault costs no mail."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from relay.smtp.pool import make_upstream
from relay.smtp.upstreams import UpstreamOptions
from relay.spool import metrics
from relay.spool.files import Spool
from relay.spool.lane import UpstreamLimits
from relay.spool.reporter import ReportOptions
from relay.spool.runner import Runner, RunnerOptions
from relay.spool.transitions import Order
from tests.integration.smtp_script import Script
from tests.integration.test_runner import Journal, smtp_target
from tests.unit.spooling import MESSAGE, make_entry
from tracker.contract.events import Accepted, Bounce, Delivery, DeliveryDelay

THROTTLED = "454 4.7.0 Throttling failure: Maximum sending rate exceeded."
_LATE_S = 10.0


@dataclass
class Throttling(Script):
    """Says that it gets too much to every so many-th message."""

    every: int = 20
    count: int = 0

    def _reply(self, phase: str, polite: str) -> str:
        if phase == "dot":
            self.count += 1
            if self.count % self.every == 0:
                return THROTTLED
        return super()._reply(phase, polite)


@dataclass
class World:
    """A runner with its spool and journal."""

    spool: Spool
    runner: Runner
    journal: Journal
    ids: list[str] = field(default_factory=list)

    async def accept(
        self, number: int, sender: str = "shop@shop.example", upstreams: Sequence[str] = ("default",)
    ) -> None:
        now = datetime.now(UTC)
        entry = make_entry(number, at=now, reverse_path=sender, upstream=upstreams[0], fallbacks=tuple(upstreams[1:]))
        self.ids.append(str(entry.id))
        await self.spool.put(entry, MESSAGE)
        self.runner.notify(entry)

    async def until(self, condition: Callable[[], bool], timeout_s: float = 20) -> None:
        async with asyncio.timeout(timeout_s):
            while not condition():  # noqa: ASYNC110 - told by another party
                await asyncio.sleep(0.005)

    async def flush(self) -> None:
        await self.runner.obey(Order.FLUSH, self.ids)

    def count(self, kind: type) -> int:
        return sum(isinstance(record, kind) for record in self.journal.records)


@asynccontextmanager
async def world(
    directory: Path, servers: Mapping[str, Script], limits: UpstreamLimits | None = None, **options: object
) -> AsyncIterator[World]:
    """A runner that sends to scripted servers, by the names of their upstreams."""
    upstreams = {
        name: make_upstream(
            UpstreamOptions(name=name, target=smtp_target(server.port), hostname="relay.example.com", **options)  # type: ignore[arg-type]
        )
        for name, server in servers.items()
    }
    spool, journal = Spool(directory), Journal()
    spool.open()
    runner = Runner(
        spools=[spool],
        upstreams=dict.fromkeys(servers, limits or UpstreamLimits(max_connections=8)),
        send=lambda name, transaction: upstreams[name].send(transaction),
        copy_of=lambda entry, message, index, form: [memoryview(message)],
        sink=journal,
        options=RunnerOptions(reports=ReportOptions(hostname="relay.example.com")),
        clock=lambda: datetime.now(UTC),
        entropy=bytes,
    )
    task = asyncio.create_task(runner.run())
    try:
        yield World(spool, runner, journal)
    finally:
        await runner.drain(5)
        await task
        for upstream in upstreams.values():
            await upstream.close()
        spool.close()


async def test_a_password_that_expires_bounces_nothing(tmp_path: Path) -> None:
    """Mail flows, the login is refused, mail waits without an attempt that counts; mended, all of it arrives, once."""
    count = 30
    refused = metrics.LOGIN_REFUSED.labels("default")
    before = refused._value.get()
    async with Script() as server, world(tmp_path / "00", {"default": server}, username="u", password="p") as here:
        await here.accept(0)
        await here.until(lambda: here.count(Delivery) == 1)
        server.replies["auth"] = "535 5.7.8 Authentication credentials invalid"
        server.hang_up()
        for number in range(1, count + 1):
            await here.accept(number)
        await here.until(lambda: refused._value.get() > before)
        assert here.runner.waiting == count
        assert here.count(Bounce) == here.count(DeliveryDelay) == 0
        del server.replies["auth"]
        await here.flush()
        await here.until(lambda: here.count(Delivery) == count + 1 and not here.runner.waiting, 120)

    deliveries = [record for record in here.journal.records if isinstance(record, Delivery)]
    assert here.count(Bounce) == here.count(DeliveryDelay) == 0
    assert len(server.messages) == count + 1
    assert {delivery.attempts for delivery in deliveries} == {1}


async def test_a_wrong_password_is_mended_by_a_restart(tmp_path: Path) -> None:
    """What waited under the wrong one leaves under the right one."""
    async with Script(replies={"auth": "535 5.7.8 no"}) as server:
        async with world(tmp_path / "00", {"default": server}, username="u", password="wrong") as here:
            for number in range(5):
                await here.accept(number)
            await here.until(lambda: bool(server.commands))
        server.replies.clear()
        async with world(tmp_path / "00", {"default": server}, username="u", password="right") as after:
            await after.until(lambda: after.count(Delivery) == 5)

    assert here.count(Bounce) + after.count(Bounce) == 0
    assert len(server.messages) == 5


async def test_throttling_keeps_no_copy_waiting(
    tmp_path: Path, count_of: Callable[[int, int], int], record_soak: Callable[[str, Mapping[str, object]], None]
) -> None:
    """5 % throttling replies at 200 messages a second: no copy waits longer than 10 s, none counts an attempt more."""
    count = count_of(120, 6000)
    loop = asyncio.get_running_loop()
    async with (
        Throttling() as server,
        world(tmp_path / "00", {"default": server}, UpstreamLimits(max_connections=20)) as here,
    ):
        start_s = loop.time()
        for number in range(count):
            await asyncio.sleep(max(0.0, start_s + number / 200 - loop.time()))
            await here.accept(number)
        await here.until(lambda: here.count(Delivery) == count and not here.runner.waiting, 60)
        took_s = loop.time() - start_s

    deliveries = [record for record in here.journal.records if isinstance(record, Delivery)]
    accepted_at = {r.facts.message: r.facts.accepted_at for r in here.journal.records if isinstance(r, Accepted)}
    waits_s = [(record.at - accepted_at[record.copy.message]).total_seconds() for record in deliveries]
    figures = {"messages": count, "longest_wait_s": round(max(waits_s), 3), "took_s": round(took_s, 2)}
    record_soak("throttling-runner", figures)
    assert max(waits_s) < _LATE_S
    assert here.count(DeliveryDelay) == here.count(Bounce) == 0
    assert {record.attempts for record in deliveries} == {1}
    assert server.count > count


async def test_the_next_upstream_takes_over_while_one_cannot_be_used(tmp_path: Path) -> None:
    """And the event says who took it; a restart of the first brings mail back to it."""
    async with (
        Script(replies={"greeting": "554 5.3.2 closed"}) as first,
        Script() as second,
        world(tmp_path / "00", {"first": first, "second": second}) as here,
    ):
        for number in range(6):
            await here.accept(number, upstreams=["first", "second"])
        await here.until(lambda: here.count(Delivery) == 6)
        by = {record.upstream for record in here.journal.records if isinstance(record, Delivery)}
        first.replies.clear()
        for lane in here.runner._lanes:
            lane.circuit.hasten(asyncio.get_running_loop().time())
        await here.accept(7, upstreams=["first", "second"])
        await here.until(lambda: here.count(Delivery) == 7)

    assert by == {"second"}
    assert len(second.messages) == 6
    assert len(first.messages) == 1


async def test_what_one_upstream_refuses_is_not_offered_to_the_next(tmp_path: Path) -> None:
    """A refusal and a delay are answers: only an upstream that cannot be used is passed over."""
    async with (
        Script(replies={"rcpt": "550 5.1.1 no"}) as first,
        Script() as second,
        world(tmp_path / "00", {"first": first, "second": second}) as here,
    ):
        await here.accept(1, "", ["first", "second"])
        await here.until(lambda: here.count(Bounce) == 1)

    assert not second.messages
    assert not second.commands
    (bounce,) = [record for record in here.journal.records if isinstance(record, Bounce)]
    assert bounce.upstream == "first"


async def test_five_senders_refused_with_one_reply_bounce_nothing(tmp_path: Path) -> None:
    """An account that was suspended: all wait, also the first four, and leave when it is mended."""
    replies = {"mail": "550 5.7.1 your account is suspended"}
    async with Script(replies=replies) as server, world(tmp_path / "00", {"default": server}) as here:
        for number in range(8):
            await here.accept(number, f"s{number}@shop.example")
        await here.until(lambda: any(lane.circuit.is_open and not lane.running for lane in here.runner._lanes))
        assert here.count(Bounce) == 0
        server.replies.clear()
        await here.flush()
        await here.until(lambda: here.count(Delivery) == 8)

    assert here.count(Bounce) == here.count(DeliveryDelay) == 0


async def test_a_refused_sender_bounces_when_another_is_taken(tmp_path: Path) -> None:
    """As soon as it is known that the upstream takes mail; nothing else waits for it."""
    async with Script() as server, world(tmp_path / "00", {"default": server}) as here:
        server.replies["mail"] = "550 5.7.1 not you"
        server.once = True
        await here.accept(1, "bad@shop.example")
        await here.until(lambda: not server.replies)
        await here.accept(2)
        await here.until(lambda: here.count(Delivery) >= 1 and here.count(Bounce) == 1)

    assert server.messages
