"""One process, wired together: the relay on top of the tracker, and the order in which both start and drain.

A process serves alone, or is one of several workers that `relay/node.py` starts on the same sockets.

Order of start: keys, slots, spool, journal, storage, and the listeners last, on sockets that were bound before anything
else. Order of drain: listeners closed and sessions ended, copies in flight awaited, hits answered; then the
background stops, and the journal is closed last.

A background task that fails ends the process with an error: whoever supervises it starts a whole one.
"""

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from importlib.metadata import version
from socket import socket
from typing import Final

import structlog

from relay import appconfig, roomoptions
from relay.appconfig import Config
from relay.reloading import Reloaded, taken_up, wants_restart
from relay.smtp.listener import silence_library_log
from relay.wiring import Relay
from tracker.app import Tracker, TrackerOptions, now, serving
from tracker.config import rulefile
from tracker.console.overview import ProcessView
from tracker.contract.credentials import Credential
from tracker.contract.settings import Settings
from tracker.runtime import control, inherited, keysfile, memory, observe, secrets, serve, slots
from tracker.runtime.configfile import ConfigError, Problem
from tracker.runtime.control import ControlServer, Handler, Status
from tracker.runtime.keysfile import KeysFile
from tracker.runtime.places import Places
from tracker.runtime.seat import Seat
from tracker.runtime.secrets import Secrets
from tracker.runtime.units import ListenAddress
from tracker.store import consent, credentials
from tracker.store.watched import LOOK_EVERY_S, Watched

PARTS: Final = ("relay", "tracker", "console")
_RELOAD_LIMIT_S: Final = 20.0

_log = structlog.get_logger()

Ready = Callable[[Status], None]


def run(config: Config, parts: Sequence[str], ready: Ready) -> int:
    """Run the parts in this process until a signal, and return the exit code; `ready` is called once they listen.

    ConfigError, KeysError: something stands in the way of the start, and nothing was started.
    """
    prepare(config, parts)
    bound = serve.bind(listens(config, parts), inherited.take(os.environ))
    try:
        keys = load_secrets(config, may_create=True)
        return run_process(config, keys, bound, Seat(), ready)
    finally:
        serve.close(bound)


def prepare(config: Config, parts: Sequence[str]) -> None:
    """Make a serving process of this one, before anything is opened. ConfigError: these parts cannot run."""
    _check_parts(config, parts)
    serve.harden()
    memory.return_what_is_freed()
    observe.configure_logging(level=config.log.level, form=config.log.format, addresses=config.log.addresses)
    silence_library_log()


def run_process(config: Config, keys: Secrets, bound: Mapping[str, list[socket]], seat: Seat, ready: Ready) -> int:
    """Run the parts whose sockets are bound. Raises ConfigError."""

    def main(stop: asyncio.Event, reload: asyncio.Event) -> Coroutine[None, None, None]:
        return _Process(config, keys, bound, seat).run(stop, reload, ready)

    return serve.run(main, seat.lifeline)


def listens(config: Config, parts: Sequence[str]) -> dict[str, Sequence[ListenAddress]]:
    """Return what a process with these parts listens on."""
    by_part = {"relay": config.relay.listen, "tracker": config.tracker_listen, "console": config.console.listen}
    return {**{part: by_part[part] for part in PARTS if part in parts}, "metrics": [config.metrics.listen]}


def load_secrets(config: Config, *, may_create: bool) -> Secrets:
    """Load the keys file; make it where nothing was ever kept that could depend on one. KeysError as of `secrets`."""
    path = config.keys.file
    is_new = slots.is_unused([config.spool.directory, config.journal.directory]) and not config.storage.path.exists()
    if may_create and is_new and not path.exists():
        _log.info("keys_created", path=str(path))
        return secrets.create(path, now=now(), entropy=os.urandom)
    return secrets.load(path)


def _check_parts(config: Config, parts: Sequence[str]) -> None:
    """Refuse to make links to a port that only another process knows."""
    tracker = config.tracker
    if "relay" in parts and "tracker" not in parts and tracker.public_url is None and not tracker.listen[0].port:
        wrong = "is missing, and tracker.listen has port 0: links would lead nowhere"
        remedy = "write it, or give tracker.listen the port of the process that serves it"
        raise ConfigError(None, [Problem(key="tracker.public_url", wrong=wrong, remedy=remedy)])


def _check_senders(config: Config, stored: Watched[Mapping[str, Credential]]) -> None:
    """Refuse a relay that nobody could send through: an empty list must never come to mean everybody."""
    if not roomoptions.may_anybody_send(config, stored.found):
        wrong = "is empty, and there is no login: nobody could send"
        remedy = 'run `mailwake credentials add NAME`, or write ["127.0.0.0/8", "::1/128"] for this machine alone'
        raise ConfigError(None, [Problem(key="relay.allow_networks", wrong=wrong, remedy=remedy)])


async def watch(every_s: float, look: Callable[[], bool], take_up: Callable[[], None] = lambda: None) -> None:
    """Look, on a thread, again and again; where something is other than before, take it up.

    A fault of ours there is no reason to stop: what was in force stays so.
    """
    has_failed = False
    while True:
        await asyncio.sleep(every_s)
        try:
            if await asyncio.to_thread(look):
                take_up()
            has_failed = False
        except Exception:  # noqa: BLE001 - a worker's iteration
            if not has_failed:  # a line a second would say no more
                _log.exception("look_failed")
            has_failed = True


class _Process:
    """The parts of one process, from its slots to its last flush."""

    def __init__(self, config: Config, keys: Secrets, bound: Mapping[str, list[socket]], seat: Seat) -> None:
        """Claim the slots and wire the parts. ConfigError: a folder or a spool file cannot be used."""
        self._config = self._opened = config
        self._seat = seat
        self._bound = bound
        self._listens = listens(config, tuple(bound))
        self._started_at = now()
        self._is_stopping = False
        roots = {"journal.directory": config.journal.directory}
        if "relay" in bound:
            roots["spool.directory"] = config.spool.directory
        for key, root in roots.items():
            slots.prepare_root(root, key)
        slots.prepare_file(config.storage.path, "storage.url")
        self._slots = slots.claim(roots)
        self._reloads: list[asyncio.Future[Reloaded]] = []
        self._keys = KeysFile(config.keys.file, keys)
        self._keys.look()  # of a worker: what came since the node was started
        settings = self._settings(config)
        self._tracker = Tracker(self._tracker_options(config, roomoptions.places(config)), settings, self._keys)
        if "tracker" in bound:
            self._tracker.secure(roomoptions.load_tracker_tls(config))
        self._relay: Relay | None = None
        self._stored = credentials.watched(config.storage.path)
        self._consent = consent.watched(config.storage.path)
        if "relay" in bound:
            self._stored.look()
            self._consent.look()
            _check_senders(config, self._stored)
            self._relay = Relay(
                config,
                settings,
                self._keys,
                own_slot=self._slots["spool.directory"],
                journal=self._tracker.journal,
                seat=seat,
            )
            self._relay.know_stored(self._stored.found)
            self._relay.know_consent(self._consent.found)

    def _settings(self, config: Config) -> Settings:
        bound = self._bound.get("tracker")
        return config.settings(serve.addresses_of(bound)[0] if bound else None)

    def _tracker_options(self, config: Config, places: Places) -> TrackerOptions:
        return TrackerOptions(
            journal_root=config.journal.directory,
            journal_slot=self._slots["journal.directory"].directory,
            journal_keep=config.journal.keep,
            storage=config.storage.path,
            keep=config.storage.keep,
            keep_statistics=config.storage.keep_statistics,
            hostname=config.hostname,
            record_address=config.tracker.record_address,
            trusted_proxies=config.tracker.trusted_proxies,
            rules=rulefile.rules(config.tracker.rules),
            places=places,
            max_hits=self._seat.share.at_least_of(round(config.tracker.max_hits * 60)),
            max_connections=self._seat.share.at_least_of(config.tracker.max_connections),
            journal_max_bytes=config.journal.max_size,
        )

    async def run(self, stop: asyncio.Event, reload: asyncio.Event, ready: Ready) -> None:
        """Serve until `stop` is set, then drain; `reload` has the configuration read again."""
        try:
            await self._open()
            async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
                background = await self._start(stack, group)
                background.append(group.create_task(self._reload_whenever(reload), name="reload"))
                _log.info("process_started", version=self.status().version, slot=self.status().slot)
                observe.SERVING.set(1)
                memory.spare_what_stays()
                ready(self.status())
                await stop.wait()
                self._is_stopping = True
                await self._drain()
                if "tracker" in self._bound:
                    await self._tracker.settle()
                for task in background:
                    task.cancel()
        finally:
            await self._tracker.close()
            if self._relay is not None:
                self._relay.close()
        _log.info("process_stopped")

    async def _open(self) -> None:
        try:
            await self._tracker.open()
        except OSError as error:
            wrong = f"{error.filename or self._config.journal.directory} cannot be written: {error.strerror}"
            remedy = "make room, let this user write there, or name another folder"
            raise ConfigError(None, [Problem(key="journal.directory", wrong=wrong, remedy=remedy)]) from error

    def status(self) -> Status:
        """Say what the process is and where it listens."""
        return Status(
            pid=os.getpid(),
            version=version("mailwake"),
            slot=self._slots["journal.directory"].number,
            started_at=self._started_at.isoformat(timespec="seconds"),
            listening={
                part: [
                    wanted.scheme + str(address)
                    for wanted, address in zip(self._listens[part], serve.addresses_of(sockets), strict=True)
                ]
                for part, sockets in self._bound.items()
            },
            queue=self._relay.waiting if self._relay is not None else 0,
            supervisor=None if self._seat.is_alone else os.getppid(),
        )

    async def _start(self, stack: AsyncExitStack, group: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
        """Start everything, the listeners of strangers last; return the tasks that only a cancel ends."""
        await stack.enter_async_context(serving(observe.make_metrics_app(self._not_ready), self._bound["metrics"]))
        control = ControlServer(self._config.run_directory / f"{self.status().slot:02d}.sock", self._commands())
        await control.start()
        stack.push_async_callback(control.close)
        background = []
        if "tracker" in self._bound:
            background.append(group.create_task(self._tracker.ingest(), name="ingest and publish"))
        if "console" in self._bound:
            await stack.enter_async_context(serving(self._tracker.console(self._view), self._bound["console"]))
        if "tracker" in self._bound:
            plain, with_tls = serve.by_scheme(self._bound["tracker"], self._listens["tracker"])
            await self._tracker.serve_hits(plain, with_tls)
        if self._relay is not None:
            await self._relay.start(group, self._bound["relay"])
        background += [group.create_task(watching, name="look") for watching in self._watching()]
        return background

    def _watching(self) -> Iterator[Coroutine[None, None, None]]:
        """Yield what looks for changes that come from outside: of the keys file, and of settings in the storage.

        Each looks for itself: a storage that does not answer must not hold up the keys.
        """
        yield watch(keysfile.LOOK_EVERY_S, self._keys.look, self._tracker.take_up)
        yield watch(LOOK_EVERY_S, self._tracker.look, self._tracker.take_up)
        relay = self._relay
        if relay is not None:
            yield watch(LOOK_EVERY_S, self._stored.look, lambda: self._know_logins(relay))
            yield watch(LOOK_EVERY_S, self._consent.look, lambda: self._know_consent(relay))

    async def _reload_whenever(self, wanted: asyncio.Event) -> None:
        while True:
            await wanted.wait()
            wanted.clear()
            waiting, self._reloads = self._reloads, []  # who asks from now on may have changed the file since
            reloaded = await self._reload()
            for outcome in waiting:
                if not outcome.done():
                    outcome.set_result(reloaded)

    async def _reload(self) -> Reloaded:
        """Take up what can change while it serves. A file that is broken is refused whole, and the old one stays."""
        try:
            found = await asyncio.to_thread(appconfig.load, self._config.source.path, os.environ)
            roomoptions.check_shares(found, self._seat.share.count)
            config = taken_up(self._opened, found)
            settings = self._settings(config)
            options = self._tracker_options(config, await asyncio.to_thread(roomoptions.places, config))
            tls = await asyncio.to_thread(roomoptions.load_tracker_tls, config) if "tracker" in self._bound else None
            if self._relay is not None:
                await self._relay.reload(config, settings)
        except ConfigError as error:
            reloaded = Reloaded(problems=[str(problem) for problem in error.problems])
            observe.RELOADS.labels("refused").inc()
            _log.error("reload_refused", problems=reloaded.problems)
            return reloaded
        self._tracker.renew(options, settings)
        if "tracker" in self._bound:
            self._tracker.secure(tls)
        reloaded = Reloaded(restart=wants_restart(self._opened, found))
        self._config = config
        observe.RELOADS.labels("done").inc()
        _log.info("configuration_reloaded", path=str(config.source.path))
        if reloaded.restart:
            _log.warning("reload_needs_restart", keys=reloaded.restart)
        return reloaded

    async def _reload_all(self) -> Reloaded:
        """Reload as at SIGHUP, where there are more workers all of them, and say what came of it here."""
        if not self._seat.is_alone:
            try:
                await asyncio.to_thread(appconfig.load, self._config.source.path, os.environ)
            except ConfigError as error:  # the supervisor would refuse it too, and not tell
                return Reloaded(problems=[str(problem) for problem in error.problems])
        outcome: asyncio.Future[Reloaded] = asyncio.get_running_loop().create_future()
        self._reloads.append(outcome)
        os.kill(os.getpid() if self._seat.is_alone else os.getppid(), signal.SIGHUP)
        try:
            async with asyncio.timeout(_RELOAD_LIMIT_S):
                return await outcome
        except TimeoutError:
            return Reloaded(problems=["nothing came of it in time: the log of the service may say why"])

    def _know_logins(self, relay: Relay) -> None:
        """Take up what `mailwake credentials` has stored."""
        relay.know_stored(self._stored.found)
        _log.info("logins_changed", stored=len(self._stored.found or {}))

    def _know_consent(self, relay: Relay) -> None:
        """Take up what `mailwake consent` has stored."""
        relay.know_consent(self._consent.found)
        _log.info("consent_changed", decisions=len(self._consent.found or ()))

    def _commands(self) -> dict[str, Handler]:
        """What the command line may ask of this process."""

        async def status(_: bytes) -> Status:
            return self.status()

        async def reload(_: bytes) -> Reloaded:
            return await self._reload_all()

        relay = self._relay.commands() if self._relay is not None else {}
        return {"status": status, "reload": reload, **relay}

    async def _drain(self) -> None:
        parts = [self._tracker.drain()]
        if self._relay is not None:
            parts.append(self._relay.drain())
        await asyncio.gather(*parts)

    def _not_ready(self) -> str | None:
        if self._is_stopping:
            return "stopping"
        if self._relay is not None and self._relay.admit() is not None:
            return "the spool is full"
        return self._tracker.journal.trouble

    async def _view(self) -> ProcessView:
        own = self.status()
        found = [own] if self._seat.is_alone else await asyncio.to_thread(control.running, self._config.run_directory)
        others = [status for status in found if status.pid != own.pid and status.supervisor == own.supervisor]
        return ProcessView(
            version=own.version,
            pids=[own.pid, *(status.pid for status in others)],
            started_at=self._started_at,
            config_path=str(self._config.source.path),
            listening=own.listening,
            upstreams={name: str(section.url) for name, section in self._config.upstreams.items()},
            queue=own.queue + sum(status.queue for status in others),
        )
