"""A spool with an upstream and a journal in memory, for the tests of the runner."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from relay.core.attempt import Accepted, Attempt, CopyForm, Deferred, Phase, Rejected, Transaction, UpstreamReply
from relay.spool import layout
from relay.spool.desk import Obeyed
from relay.spool.entry import SpoolEntry
from relay.spool.files import Spool
from relay.spool.lane import UpstreamLimits
from relay.spool.layout import Row, State
from relay.spool.reporter import ReportOptions
from relay.spool.runner import Runner, RunnerOptions
from relay.spool.transitions import Order
from tests.unit.spooling import MESSAGE, make_entry
from tracker.contract.events import JournalRecord
from tracker.contract.ids import MessageId

OK = Accepted(reply=UpstreamReply(250, "2.0.0 Ok: queued as 77"))
NO = Rejected(reply=UpstreamReply(550, "5.1.1 no such user"), phase=Phase.RCPT)
LATER = Deferred(reply=UpstreamReply(451, "4.3.0 later"), phase=Phase.RCPT, of_upstream=False, detail="x")
DOWN = Deferred(reply=None, phase=Phase.CONNECT, of_upstream=True, detail="refused")
DELIVERED = Row(state=State.DELIVERED, phase=Phase.FINAL_DOT, attempts=1, code=250, changed_ms=7, text="2.0.0 Ok")
FAILED = Row(state=State.FAILED, phase=Phase.RCPT, attempts=1, code=550, changed_ms=7, text="5.1.1 no")


class World:
    """A spool, an upstream that answers as told, and a journal in memory."""

    def __init__(self, directory: Path) -> None:
        self.spool = Spool(directory)
        self.spool.open()
        self.answer: Callable[[Transaction], list[Attempt]] = lambda transaction: [OK] * len(transaction.recipients)
        self.sent: list[Transaction] = []
        self.copied_in: list[threading.Thread] = []
        self.in_flight = self.most_in_flight = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.journal: list[JournalRecord] = []
        self.journal_error: OSError | None = None
        self.limits = UpstreamLimits(max_connections=3, max_recipients=2, final=True, host="smtp.example.com")
        self.options = RunnerOptions(reports=ReportOptions(hostname="relay.example.com"))
        self.changed = asyncio.Condition()

    async def send(self, upstream: str, transaction: Transaction) -> list[Attempt]:
        assert upstream == "default"
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            async with self.changed:
                self.sent.append(transaction)
                self.changed.notify_all()
            await self.gate.wait()
            return self.answer(transaction)
        finally:
            self.in_flight -= 1

    def copy_of(self, _entry: SpoolEntry, message: bytes, index: int, _form: CopyForm) -> list[bytes | memoryview]:
        self.copied_in.append(threading.current_thread())
        return [b"X-Copy: %d\r\n" % index, message]

    async def emit(self, records: Sequence[JournalRecord]) -> None:
        if self.journal_error:
            raise self.journal_error
        async with self.changed:
            self.journal.extend(records)
            self.changed.notify_all()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10), self.changed:
            await self.changed.wait_for(condition)

    async def until_empty(self) -> None:
        await self.until_left()

    async def until_left(self, *messages: MessageId) -> None:
        queue, left = self.spool.directory / "q", set(map(str, messages))
        async with asyncio.timeout(10):
            while {path.name for path in queue.iterdir()} != left:  # noqa: ASYNC110 - files are removed in threads
                await asyncio.sleep(0.001)

    def rows(self, entry: SpoolEntry) -> tuple[Row, ...]:
        return layout.unpack((self.spool.directory / "q" / str(entry.id)).read_bytes())[3]

    async def until_rows(self, entry: SpoolEntry, *states: State) -> tuple[Row, ...]:
        async with asyncio.timeout(10):
            while tuple(row.state for row in self.rows(entry)) != states:  # noqa: ASYNC110 - marked in threads
                await asyncio.sleep(0.001)
        return self.rows(entry)

    def runner(self, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Runner:
        return Runner(
            spools=[self.spool],
            upstreams={"default": self.limits},
            send=self.send,
            copy_of=self.copy_of,
            sink=self,
            options=self.options,
            clock=now,
            entropy=lambda count: b"\x80" + bytes(count - 1),
        )

    @asynccontextmanager
    async def running(self, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> AsyncIterator[Runner]:
        runner = self.runner(now=now)
        task = asyncio.create_task(runner.run())
        try:
            yield runner
        finally:
            await runner.drain(5)
            async with asyncio.timeout(5):
                await task

    def kinds(self) -> list[str]:
        return [type(record).__name__ for record in self.journal]

    async def obeyed(self, runner: Runner, order: Order, *entries: SpoolEntry) -> Obeyed:
        """Give an order once the spool is taken up."""
        async with asyncio.timeout(10):
            while not (await runner.obey(Order.FLUSH, [])).is_complete:  # noqa: ASYNC110 - no event says so
                await asyncio.sleep(0.001)
        return await runner.obey(order, [str(entry.id) for entry in entries])

    async def accept(self, runner: Runner, entry: SpoolEntry, message: bytes = MESSAGE) -> None:
        await self.spool.put(entry, message)
        runner.notify(entry)

    async def leave(self, entry: SpoolEntry, *rows: Row, message: bytes = MESSAGE) -> None:
        """Leave a file as a process that died would."""
        other = Spool(self.spool.directory)
        await other.put(entry, message)
        await other.mark(entry.id, dict(enumerate(rows)), durable=False)
        other.close()
        self.restart()

    def restart(self) -> None:
        """Open the spool as the next process does."""
        self.spool.close()
        self.spool = Spool(self.spool.directory)
        self.spool.open()


def fresh(number: int, *recipients: str, **changes: object) -> SpoolEntry:
    """Make an entry that was accepted just now."""
    return make_entry(number, *recipients, at=datetime.now(UTC), **changes)  # type: ignore[arg-type]
