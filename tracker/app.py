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
from tracker.contract.consent import Persons, SilencedCopies
from tracker.contract.settings import Settings
from tracker.core.hit import HitSettings
from tracker.core.rules import Rules
from tracker.core.visitor import IPNetwork, RecordAddress
from tracker.journal.reader import JournalReader
from tracker.journal.writer import Journal
from tracker.publish.worker import Publisher
from tracker.runtime import slots
from tracker.runtime.secrets import Secrets
from tracker.store import consent
from tracker.store.database import Store
from tracker.store.ingest import Ingester
from tracker.store.purge import Keeping, Purger
from tracker.web.app import TrackingHost

INGESTER_LOCK: Final = "ingester.lock"
_LOCK_POLL_S: Final = 2.0
_SHUTDOWN_S: Final = 2.0
_SETTLE_S: Final = 1.0

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackerOptions:
    """What the tracker goes by. `journal_slot` is this process's folder in `journal_root`; `hostname` is in records.

    `keep` is how long the storage keeps a message, `keep_statistics` how long its totals.
    """

    journal_root: Path
    journal_slot: Path
    journal_keep: timedelta
    storage: Path
    keep: timedelta
    keep_statistics: timedelta
    hostname: str
    record_address: RecordAddress
    trusted_proxies: tuple[IPNetwork, ...]


class Tracker:
    """The tracker of one process: `open`, then any of the `serve_…` in a task group, `drain`, `close`."""

    def __init__(self, options: TrackerOptions, settings: Settings, secrets: Secrets) -> None:
        """Wire it; nothing is opened yet."""
        self._options = options
        self._settings = settings
        self._secrets = secrets
        self._rules = Rules(files("tracker.core").joinpath("data/rules.toml").read_text(encoding="utf-8"))
        self._silenced = consent.watched_silenced(options.storage)
        self._hit_settings = self._make_hit_settings(options)
        self.store = Store(options.storage)
        self.publisher = Publisher(store=self.store, settings=settings, clock=now)
        self.ingester = Ingester(
            reader=JournalReader(options.journal_root, slot_is_free=self._slot_is_free),
            store=self.store,
            clock=now,
            hostname=options.hostname,
            keep=options.journal_keep,
            destinations=settings.destinations,
            on_commit=self.publisher.wake,
            persons=Persons(secrets.person_key),
            collect_for=settings.collect_for,
        )
        self.purger = Purger(store=self.store, keeping=self.keeping, destinations=settings.destinations, clock=now)
        self.journal = Journal(options.journal_slot, clock=now, on_durable=self.ingester.wake)
        self._host = TrackingHost(
            settings=lambda: self._hit_settings,
            record=self.journal.emit_within,
            verification_key=secrets.verification_key,
            clock=now,
        )

    def _make_hit_settings(self, options: TrackerOptions) -> HitSettings:
        return HitSettings(
            keys=self._secrets.tokens,
            rules=self._rules,
            collect_for=self._settings.collect_for,
            record_address=options.record_address,
            trusted_proxies=options.trusted_proxies,
            denied=self._silenced.found or SilencedCopies(),
        )

    def keeping(self) -> Keeping:
        """Return how long the storage keeps things."""
        options = self._options
        return Keeping(
            mail=options.keep,
            statistics=options.keep_statistics,
            collect_for=self._settings.collect_for,
            tombstones=options.keep + options.journal_keep,
        )

    def look(self) -> bool:
        """Take up what commands have stored, True where it is other than before; called once a second. Blocks."""
        before = self._silenced.found
        if not self._silenced.look():
            return False
        self._hit_settings = replace(self._hit_settings, denied=self._silenced.found or SilencedCopies())
        if before is not None:
            _log.info("silence_changed", copies=len(self._silenced.found or ()))
        return True

    def renew(self, options: TrackerOptions, settings: Settings) -> None:
        """Go by other settings from now on. Folders and storage stay those of the start; a new destination waits."""
        self._settings = settings
        self._hit_settings = self._make_hit_settings(options)
        self.ingester.collect_for = settings.collect_for
        self.publisher.renew(self._settings)

    async def open(self) -> None:
        """Open the journal, and look at what commands have stored. OSError: its folder cannot be written."""
        await self.journal.open()
        await asyncio.to_thread(self.look)

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
                group.create_task(self.purger.run(), name="purge")
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
