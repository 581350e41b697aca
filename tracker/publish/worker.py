"""One worker a destination: reads the log from its cursor, hands over what the destination takes, moves the cursor.

Owns order and promise: at least once, in the order of the log, one write in flight. The cursor moves after the
destination has the records, so a crash between the two repeats them; `mailwake.eventId` is how a reader tells. A
destination that fails is tried again by a growing schedule, and holds up no other: each has a task of its own.

A destination has a cursor from when ingest first meets its name, at the end that the log had then: one that is added
later does not repeat months of history, and those that are there when a storage is new get its first event.

Limits: an event that its destination refuses for ever is tried for ever (files and pipes refuse none for its content).
"""

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from datetime import date, timedelta
from typing import Final, assert_never

import structlog
from prometheus_client import Counter

from tracker.contract.backoff import delay
from tracker.contract.ports import Clock, Entropy
from tracker.contract.settings import EventDestination, Settings
from tracker.publish.jsonl import JsonlWriter
from tracker.publish.outcome import Delivered, Outcome
from tracker.publish.stdout import StdoutWriter
from tracker.publish.writers import Writer
from tracker.store.database import StorageUnavailableError, Store
from tracker.store.publishing import LogEntry, Page, move, read_on

PAGE: Final = 500
POLL_S: Final = 1.0  # another process may ingest; its commits wake nobody here
RETRY_AFTER: Final = tuple(timedelta(seconds=seconds) for seconds in (1, 5, 15, 60, 300))

PUBLISHED: Final = Counter("mailwake_events_published_total", "Events that a destination has.", ["type"])
FAILURES: Final = Counter("mailwake_publish_failures_total", "Writes to a destination that failed.", ["type"])

_log = structlog.get_logger()


class Publisher:
    """Feeds every destination of the settings; `run` until cancelled, `wake` when there is something new."""

    def __init__(
        self,
        *,
        store: Store,
        settings: Settings,
        clock: Clock,
        entropy: Entropy = os.urandom,
        writers: Mapping[str, Writer] | None = None,
        retry_after: Sequence[timedelta] = RETRY_AFTER,
        poll_s: float = POLL_S,
    ) -> None:
        """`writers` replaces those that the settings make, by the name of the destination."""
        made = {name: make_writer(destination) for name, destination in settings.destinations.items()}
        self._workers = [
            _Worker(
                destination,
                {**made, **(writers or {})}[destination.name],
                store=store,
                settings=settings,
                clock=clock,
                pause=lambda failures: delay(retry_after, failures, _uniform(entropy)).total_seconds(),
                poll_s=poll_s,
            )
            for destination in settings.destinations.values()
        ]

    def renew(self, settings: Settings) -> None:
        """Go by other sets from now on. The destinations stay those that were there at first."""
        for worker in self._workers:
            worker.settings = settings

    async def run(self) -> None:
        """Feed the destinations until cancelled; then records in flight are finished or written again next time."""
        async with asyncio.TaskGroup() as group:
            for worker in self._workers:
                group.create_task(worker.run())

    def wake(self) -> None:
        """Look at once instead of at the next poll; to be called on the loop when ingest has committed."""
        for worker in self._workers:
            worker.news.set()


def make_writer(destination: EventDestination) -> Writer:
    """Make what writes to a destination. ValueError: a jsonl destination has no path (the configuration sees to it)."""
    match destination.type:
        case "jsonl":
            if destination.path is None:
                raise ValueError(f"event_destination.{destination.name} has no path")
            return JsonlWriter(destination.path, destination.keep)
        case "stdout":
            return StdoutWriter()
        case "webhook" | "nats":
            raise NotImplementedError(destination.type)
        case _:
            assert_never(destination.type)


class _Worker:
    def __init__(
        self,
        destination: EventDestination,
        writer: Writer,
        *,
        store: Store,
        settings: Settings,
        clock: Clock,
        pause: Callable[[int], float],
        poll_s: float,
    ) -> None:
        self.news = asyncio.Event()
        self._destination = destination
        self._writer = writer
        self._store = store
        self.settings = settings
        self._clock = clock
        self._pause = pause
        self._poll_s = poll_s
        self._failures = 0
        self._handed_over: Page | None = None  # while the storage is locked, not to be handed over again
        self._tidied: date | None = None

    async def run(self) -> None:
        try:
            while True:
                self.news.clear()
                try:
                    outcome, has_more = await self._advance()
                except StorageUnavailableError:  # the store has said so
                    await asyncio.sleep(self._poll_s)
                    continue
                if not isinstance(outcome, Delivered):
                    await self._fail(outcome.reason)
                    continue
                self._recover()
                if not has_more:
                    await self._rest()
        finally:
            await self._writer.close()

    async def _advance(self) -> tuple[Outcome, bool]:
        """Hand one page over; False where there was none."""
        name = self._destination.name
        if self._handed_over is None:
            page = await self._store.read(lambda connection: read_on(connection, name, PAGE))
            taken = [entry for entry in page.entries if self._takes(entry)]
            if taken:
                outcome = await self._writer.write(taken, self._clock())
                if not isinstance(outcome, Delivered):
                    return outcome, True
                PUBLISHED.labels(self._destination.type).inc(len(taken))
            self._handed_over = page if page.entries else None
        done = self._handed_over
        if done is not None:
            await self._store.write(lambda connection: move(connection, name, done))
            self._handed_over = None
        now = self._clock()
        if self._tidied != now.date():
            await self._writer.tidy(now)
            self._tidied = now.date()
        return Delivered(), done is not None

    def _takes(self, entry: LogEntry) -> bool:
        if entry.type not in self._destination.events:
            return False
        return self._destination in self.settings.destinations_of(entry.configuration_set)

    async def _fail(self, reason: str) -> None:
        FAILURES.labels(self._destination.type).inc()
        if not self._failures:
            _log.warning("destination_failed", destination=self._destination.name, error=reason)
        self._failures += 1
        await asyncio.sleep(self._pause(self._failures))

    def _recover(self) -> None:
        if self._failures:
            _log.info("destination_recovered", destination=self._destination.name, failures=self._failures)
            self._failures = 0

    async def _rest(self) -> None:
        try:
            async with asyncio.timeout(self._poll_s):
                await self.news.wait()
        except TimeoutError:
            pass


def _uniform(entropy: Entropy) -> float:
    return int.from_bytes(entropy(4), "big") / 2**32
