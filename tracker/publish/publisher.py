"""All destinations of the settings, each with a worker of its own, and how far behind each of them is.

A destination has a cursor from when ingest first meets its name, at the end that the log had then: one that is added
later does not repeat months of history, and those that are there when a storage is new get its first event. Settings
may be replaced while it runs: a destination that changed gets a new worker, which goes on where the old one was.
"""

import asyncio
import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import assert_never

from tracker.contract.ports import Clock, Entropy
from tracker.contract.settings import EventDestination, Settings
from tracker.publish.jsonl import JsonlWriter
from tracker.publish.metrics import BEHIND, DISABLED, LAG
from tracker.publish.schedule import Schedule, schedule_of
from tracker.publish.stdout import StdoutWriter
from tracker.publish.webhook import WebhookWriter
from tracker.publish.worker import POLL_S, Worker
from tracker.publish.writers import Writer
from tracker.store import deadletters
from tracker.store.database import StorageUnavailableError, Store


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
        schedule: Callable[[EventDestination], Schedule] = schedule_of,
        poll_s: float = POLL_S,
    ) -> None:
        """`writers` replaces those that the settings make, by the name of the destination."""
        self._store = store
        self._settings = settings
        self._clock = clock
        self._entropy = entropy
        self._writers = writers or {}
        self._schedule = schedule
        self._poll_s = poll_s
        self._running: dict[str, tuple[Worker, asyncio.Task[None]]] = {}
        self._is_renewed = asyncio.Event()

    def renew(self, settings: Settings) -> None:
        """Go by other settings from now on, other destinations among them."""
        self._settings = settings
        self._is_renewed.set()

    async def run(self) -> None:
        """Feed the destinations until cancelled; then records in flight are finished or written again next time."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._measure(), name="measure destinations")
            while True:
                self._is_renewed.clear()
                await self._assign(group)
                await self._is_renewed.wait()

    def wake(self) -> None:
        """Look at once instead of at the next poll; to be called on the loop when ingest has committed."""
        for worker, _ in self._running.values():
            worker.news.set()

    async def _assign(self, group: asyncio.TaskGroup) -> None:
        """End the workers of destinations that are gone or changed, and start those that are missing."""
        settings = self._settings
        ended = {
            name: task
            for name, (worker, task) in self._running.items()
            if settings.destinations.get(name) != worker.destination
        }
        for task in ended.values():
            task.cancel()
        if ended:
            await asyncio.wait(ended.values())  # two workers of one destination would write at once
        for name in ended:
            del self._running[name]
            _show(name, 0, 0)
            DISABLED.labels(name).set(0)
        for name, destination in settings.destinations.items():
            if name in self._running:
                self._running[name][0].settings = settings
            else:
                worker = self._make(destination, settings)
                self._running[name] = worker, group.create_task(worker.run(), name=f"publish to {name}")

    def _make(self, destination: EventDestination, settings: Settings) -> Worker:
        return Worker(
            destination,
            lambda wanted: self._writers.get(wanted.name) or make_writer(wanted),
            store=self._store,
            settings=settings,
            clock=self._clock,
            uniform=lambda: int.from_bytes(self._entropy(4), "big") / 2**32,
            schedule=self._schedule(destination),
            poll_s=self._poll_s,
        )

    async def _measure(self) -> None:
        while True:
            try:
                names = tuple(self._settings.destinations)
                found = await self._store.read(partial(deadletters.lags, destinations=names))
            except StorageUnavailableError:  # the store has said so, and the last figures stand
                found = {}
            for name, standing in found.items():
                if name not in self._settings.destinations:  # gone while the storage was asked; 0 is told of it
                    continue
                oldest = standing.oldest
                lag_s = max((self._clock() - oldest).total_seconds(), 0) if oldest is not None else 0
                _show(name, standing.behind, lag_s)
            await asyncio.sleep(self._poll_s)


def _show(name: str, behind: int, lag_s: float) -> None:
    BEHIND.labels(name).set(behind)
    LAG.labels(name).set(lag_s)


def make_writer(destination: EventDestination) -> Writer:
    """Make what writes to a destination. ValueError: a jsonl destination has no path (the configuration sees to it)."""
    match destination.type:
        case "jsonl":
            if destination.path is None:
                raise ValueError(f"event_destination.{destination.name} has no path")
            return JsonlWriter(destination.path, destination.keep)
        case "stdout":
            return StdoutWriter()
        case "webhook":
            return WebhookWriter(destination)
        case "nats":
            from tracker.publish.nats import NatsWriter  # noqa: PLC0415 - only who uses it pays for loading it

            return NatsWriter(destination)
        case _:
            assert_never(destination.type)
