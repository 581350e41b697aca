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
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import structlog
from aiohttp import web

from tracker.console import app as console
from tracker.console.overview import ProcessView, look
from tracker.contract.consent import Persons, SilencedCopies
from tracker.contract.settings import Settings
from tracker.contract.token import TokenPayload
from tracker.core.hit import HitSettings
from tracker.core.rules import Rules
from tracker.core.visitor import IPNetwork, RecordAddress
from tracker.journal.reader import JournalReader
from tracker.journal.writer import Journal
from tracker.publish.publisher import Publisher
from tracker.runtime import slots
from tracker.runtime.keysfile import KeysFile
from tracker.runtime.places import Places
from tracker.runtime.tls import Door, ServerTls
from tracker.store import agents, blocks, consent
from tracker.store.backlog import BacklogWatch
from tracker.store.database import Store
from tracker.store.ingest import Ingester
from tracker.store.purge import Keeping, Purger
from tracker.store.watched import Watched
from tracker.web.app import TrackingHost
from tracker.web.tls import EXPIRY, open_door

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
    rules: Rules
    places: Places
    max_hits: int
    """Of a link in a minute, in this process."""
    max_connections: int
    """Of this process."""
    journal_max_bytes: int


class Tracker:
    """The tracker of one process: `open`, then any of the `serve_…` in a task group, `drain`, `close`."""

    def __init__(self, options: TrackerOptions, settings: Settings, keys: KeysFile) -> None:
        """Wire it; nothing is opened yet. What the storage has of settings is read, where it can be."""
        self._options = options
        self._settings = settings
        self._keys = keys
        self._blocks = blocks.watched(options.storage)
        self._silenced = consent.watched_silenced(options.storage)
        self._watched: tuple[Watched[Any], ...] = (self._blocks, self._silenced)
        for watched in self._watched:
            watched.look()
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
            persons=Persons(keys.secrets.person_key),
            collect_for=settings.collect_for,
        )
        self._backlog = BacklogWatch(self.store, options.journal_root, now)
        self.purger = Purger(
            store=self.store, keeping=self.keeping, destinations=lambda: self._settings.destinations, clock=now
        )
        self.journal = Journal(
            options.journal_slot, clock=now, max_bytes=options.journal_max_bytes, on_durable=self.ingester.wake
        )
        self._door: Door | None = None
        self._host = TrackingHost(
            settings=lambda: self._hit_settings,
            post=self.journal.post,
            verification_key=keys.secrets.verification_key,
            is_ours=lambda host: host in {urlsplit(f"//{own}").hostname for own in self._settings.own_hosts},
            max_hits=lambda: self._options.max_hits,
            max_connections=lambda: self._options.max_connections,
            clock=now,
        )

    def _make_hit_settings(self, options: TrackerOptions) -> HitSettings:
        return HitSettings(
            keys=self._keys.tokens,
            rules=options.rules,
            collect_for=self._settings.collect_for,
            record_address=options.record_address,
            trusted_proxies=options.trusted_proxies,
            blocked=self._why_blocked,
            denied=self._silenced.found or SilencedCopies(),
            country_of=options.places.country_of,
            as_number_of=options.places.as_number_of,
            is_https=self._settings.base_url.startswith("https:"),
        )

    def _why_blocked(self, payload: TokenPayload) -> str | None:
        stored = self._blocks.found
        return None if stored is None else stored.reason(payload)

    def look(self) -> bool:
        """Look at what commands have stored; True: something of it is other than before. Blocks."""
        changed = [watched.subject for watched in self._watched if watched.look()]
        if changed:
            _log.info("stored_settings_changed", subjects=changed)
        return bool(changed)

    def take_up(self) -> None:
        """Go by what was looked at since: the keys of the keys file, copies that are silenced."""
        self._hit_settings = self._make_hit_settings(self._options)

    def keeping(self) -> Keeping:
        """Return how long the storage keeps things."""
        options = self._options
        return Keeping(
            mail=options.keep,
            statistics=options.keep_statistics,
            collect_for=self._settings.collect_for,
            tombstones=options.keep + options.journal_keep,
        )

    def renew(self, options: TrackerOptions, settings: Settings) -> None:
        """Go by other settings from now on. Folders and storage stay those of the start."""
        self._options, self._settings = options, settings
        self._hit_settings = self._make_hit_settings(options)
        self.ingester.collect_for, self.ingester.destinations = settings.collect_for, settings.destinations
        self.publisher.renew(self._settings)

    async def open(self) -> None:
        """Open the journal. OSError: its folder cannot be written."""
        await self.journal.open()

    async def serve_hits(self, sockets: Sequence[socket.socket], tls_sockets: Sequence[socket.socket] = ()) -> None:
        """Answer links and pixels from now on, on some sockets by TLS; its certificates were given by `secure`."""
        await self._host.start(sockets, tls_sockets=tls_sockets, door=self._door)

    def secure(self, tls: ServerTls | None) -> None:
        """Use these certificates for connections that come from now on. None: the host speaks no TLS."""
        if tls is None:
            EXPIRY.set(0)
        else:
            self._door = self._door or open_door(tls, now)
            self._door.use(tls)

    async def ingest(self) -> None:
        """Take journals in and publish, until cancelled; waits while another process of the node does."""
        lock = await self._take_turn()
        try:
            await asyncio.to_thread(agents.warm_up)
            async with asyncio.TaskGroup() as group:
                group.create_task(self.ingester.run(), name="ingest")
                group.create_task(self.publisher.run(), name="publish")
                group.create_task(self._backlog.run(), name="backlog")
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
