"""The tracker's parts wired together: journal, storage, ingest, publishing, tracking host, console, metrics.

Owns their order of start and drain, and that one process of a node ingests. Reads no file: it is handed values.

Order of start: journal, storage, then what reads and serves. Drain: no new request, requests in flight answered, then
the background stops; the journal is closed last, by `close`, when nobody has anything to say any more.
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Final

import structlog
from aiohttp import web

from tracker.console import app as console
from tracker.console.overview import ProcessView, look
from tracker.contract.settings import Settings
from tracker.core.hit import HitSettings
from tracker.core.rules import Rules
from tracker.core.visitor import IPNetwork, RecordAddress
from tracker.journal.reader import JournalReader
from tracker.journal.writer import Journal
from tracker.publish.worker import Publisher
from tracker.runtime import slots
from tracker.runtime.secrets import Secrets
from tracker.store.database import Store
from tracker.store.ingest import Ingester
from tracker.web.app import TrackingHost

INGESTER_LOCK: Final = "ingester.lock"
_LOCK_POLL_S: Final = 2.0
_SHUTDOWN_S: Final = 2.0
_SETTLE_S: Final = 1.0

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackerOptions:
    """What the tracker goes by. `journal_slot` is this process's folder in `journal_root`; `hostname` is in records."""

    journal_root: Path
    journal_slot: Path
    journal_keep: timedelta
    storage: Path
    hostname: str
    record_address: RecordAddress
    trusted_proxies: tuple[IPNetwork, ...]
    max_hits: int
    """Of a link in a minute, in this process."""
    max_connections: int
    """Of this process."""
    journal_max_bytes: int


class Tracker:
    """The tracker of one process: `open`, then any of the `serve_…` in a task group, `drain`, `close`."""

    def __init__(self, options: TrackerOptions, settings: Settings, secrets: Secrets) -> None:
        """Wire it; nothing is opened yet."""
        self._options = options
        self._settings = settings
        self._secrets = secrets
        self._rules = Rules(files("tracker.core").joinpath("data/rules.toml").read_text(encoding="utf-8"))
        self._hit_settings = self._make_hit_settings(options)
        self.store = Store(options.storage)
        self.publisher = Publisher(store=self.store, settings=settings, clock=now)
        self.ingester = Ingester(
            reader=JournalReader(
                options.journal_root, slot_is_free=self._slot_is_free, max_bytes=options.journal_max_bytes
            ),
            store=self.store,
            clock=now,
            hostname=options.hostname,
            keep=options.journal_keep,
            destinations=settings.destinations,
            on_commit=self.publisher.wake,
        )
        self.journal = Journal(
            options.journal_slot, clock=now, max_bytes=options.journal_max_bytes, on_durable=self.ingester.wake
        )
        self._host = TrackingHost(
            settings=lambda: self._hit_settings,
            post=self.journal.post,
            verification_key=secrets.verification_key,
            max_hits=lambda: self._options.max_hits,
            max_connections=lambda: self._options.max_connections,
            clock=now,
        )

    def _make_hit_settings(self, options: TrackerOptions) -> HitSettings:
        return HitSettings(
            keys=self._secrets.tokens,
            rules=self._rules,
            collect_for=self._settings.collect_for,
            record_address=options.record_address,
            trusted_proxies=options.trusted_proxies,
        )

    def renew(self, options: TrackerOptions, settings: Settings) -> None:
        """Go by other settings from now on. Folders and storage stay those of the start; a new destination waits."""
        self._settings = settings
        self._options = replace(self._options, max_hits=options.max_hits, max_connections=options.max_connections)
        self._hit_settings = self._make_hit_settings(options)
        self.publisher.renew(self._settings)

    async def open(self) -> None:
        """Open the journal. OSError: its folder cannot be written."""
        await self.journal.open()

    async def serve_hits(self, sockets: Sequence[socket.socket]) -> None:
        """Answer links and pixels from now on."""
        await self._host.start(sockets)

    async def ingest(self) -> None:
        """Take journals in and publish, until cancelled; waits while another process of the node does."""
        lock = await self._take_turn()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.ingester.run(), name="ingest")
                group.create_task(self.publisher.run(), name="publish")
        finally:
            os.close(lock)

    def console(self, process: Callable[[], Awaitable[ProcessView]]) -> web.Application:
        """Make the console of this process."""
        return console.make_app(process, lambda: look(self.store, self._options.journal_root, now()))

    async def drain(self) -> None:
        """Stop listening and answer what is in flight."""
        await self._host.drain()

    async def settle(self) -> None:
        """Give the ingester a moment for what the drain brought; what it does not reach is taken in after the start."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_SETTLE_S):
                await self.ingester.caught_up()

    async def close(self) -> None:
        """Make durable what was handed to the journal, and close journal and storage."""
        await self.journal.close()
        await self.store.close()

    def _slot_is_free(self, slot: str) -> bool:
        return slots.is_free(self._options.journal_root / slot)

    async def _take_turn(self) -> int:
        """Return the lock of the node's ingester, when this process has it."""
        path = self._options.journal_root / INGESTER_LOCK
        lock = slots.lock(path)
        if lock is None:
            _log.info("ingester_waiting")
        while lock is None:
            await asyncio.sleep(_LOCK_POLL_S)
            lock = slots.lock(path)
        return lock


@asynccontextmanager
async def serving(app: web.Application, sockets: Sequence[socket.socket]) -> AsyncIterator[None]:
    """Serve an application of the operator's, console or metrics, on bound sockets while inside."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_S)
    await runner.setup()
    try:
        for one in sockets:
            await web.SockSite(runner, one).start()
        yield
    finally:
        with suppress(TimeoutError):
            async with asyncio.timeout(2 * _SHUTDOWN_S):
                await runner.cleanup()


def now() -> datetime:
    """Return the wall-clock time: the one clock that everything is handed."""
    return datetime.now(UTC)
