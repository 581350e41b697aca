"""One process, wired together: the relay on top of the tracker, and the order in which both start and drain.

Order of start: keys, slots, spool, journal, storage, and the listeners last, on sockets that were bound before anything
else. Order of drain: listeners closed and sessions ended, copies in flight awaited, hits answered; then the
background stops, and the journal is closed last.

A background task that fails ends the process with an error: whoever supervises it starts a whole one.
"""

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from importlib.metadata import version
from socket import socket
from typing import Final

import structlog

from relay.appconfig import Config
from relay.config import UpstreamSection
from relay.core import reply as replies
from relay.core.attempt import Attempt, Transaction
from relay.core.prepare import Site
from relay.core.reply import Reply
from relay.pipeline import Pipeline, Ports
from relay.smtp.listener import Listener, silence_library_log
from relay.smtp.options import ListenerOptions
from relay.smtp.pool import make_upstream
from relay.smtp.upstreams import MaildirTarget, Security, SmtpTarget, Target, Upstream, UpstreamOptions
from relay.spool.entry import SpoolEntry
from relay.spool.errors import SpoolVersionError
from relay.spool.files import Spool
from relay.spool.lane import UpstreamLimits
from relay.spool.runner import Runner, RunnerOptions
from relay.spool.space import SpaceGate, SpoolOptions
from relay.verification.sampling import Sampler
from tracker.app import Tracker, TrackerOptions, now, serving
from tracker.console.overview import ProcessView
from tracker.contract.ports import EventSink
from tracker.contract.settings import Settings
from tracker.runtime import observe, secrets, serve, slots
from tracker.runtime.configfile import ConfigError, Problem
from tracker.runtime.control import ControlServer, Status
from tracker.runtime.secrets import Secrets
from tracker.runtime.slots import Slot
from tracker.runtime.units import ListenAddress

PARTS: Final = ("relay", "tracker", "console")
DRAIN_S: Final = 8.0  # container engines kill after 10 s
_FAREWELL_S: Final = 0.5

_log = structlog.get_logger()

Ready = Callable[[Status], None]


def run(config: Config, parts: Sequence[str], ready: Ready) -> int:
    """Run the parts until a signal, and return the exit code; `ready` is called once everything listens.

    ConfigError, KeysError: something stands in the way of the start, and nothing was started.
    """
    _check_parts(config, parts)
    serve.harden()
    observe.configure_logging(level=config.log.level, form=config.log.format, addresses=config.log.addresses)
    silence_library_log()
    bound = serve.bind(listens(config, parts))
    try:
        keys = load_secrets(config, may_create=True)
        return serve.run(lambda stop: _Process(config, keys, bound).run(stop, ready))
    finally:
        serve.close(bound)


def listens(config: Config, parts: Sequence[str]) -> dict[str, Sequence[ListenAddress]]:
    """Return what a process with these parts listens on."""
    by_part = {"relay": config.relay.listen, "tracker": config.tracker.listen, "console": config.console.listen}
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


class _Process:
    """The parts of one process, from its slots to its last flush."""

    def __init__(self, config: Config, keys: Secrets, bound: Mapping[str, list[socket]]) -> None:
        """Claim the slots and wire the parts. ConfigError: a folder or a spool file cannot be used."""
        self._config = config
        self._bound = bound
        self._started_at = now()
        self._is_stopping = False
        roots = {"journal.directory": config.journal.directory}
        if "relay" in bound:
            roots["spool.directory"] = config.spool.directory
        for key, root in roots.items():
            slots.prepare_root(root, key)
        slots.prepare_file(config.storage.path, "storage.url")
        self._slots = slots.claim(roots)
        listening = serve.addresses_of(bound["tracker"])[0] if "tracker" in bound else None
        settings = config.settings(listening)
        self._tracker = Tracker(
            TrackerOptions(
                journal_root=config.journal.directory,
                journal_slot=self._slots["journal.directory"].directory,
                journal_keep=config.journal.keep,
                storage=config.storage.path,
                hostname=config.hostname,
                record_address=config.tracker.record_address,
                trusted_proxies=config.tracker.trusted_proxies,
            ),
            settings,
            keys,
        )
        self._relay: _Relay | None = None
        if "relay" in bound:
            self._relay = _Relay(config, settings, keys, self._slots["spool.directory"], self._tracker.journal)

    async def run(self, stop: asyncio.Event, ready: Ready) -> None:
        """Serve until `stop` is set, then drain."""
        try:
            await self._open()
            async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
                background = await self._start(stack, group)
                _log.info("process_started", version=self.status().version, slot=self.status().slot)
                ready(self.status())
                await stop.wait()
                self._is_stopping = True
                await self._drain()
                if background:
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
                part: [str(address) for address in serve.addresses_of(sockets)] for part, sockets in self._bound.items()
            },
            queue=self._relay.waiting if self._relay is not None else 0,
        )

    async def _start(self, stack: AsyncExitStack, group: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
        """Start everything, the listeners of strangers last; return the tasks that only a cancel ends."""
        await stack.enter_async_context(serving(observe.make_metrics_app(self._not_ready), self._bound["metrics"]))
        control = ControlServer(self._config.run_directory / f"{self.status().slot:02d}.sock", self.status)
        await control.start()
        stack.push_async_callback(control.close)
        background = []
        if "tracker" in self._bound:
            background.append(group.create_task(self._tracker.ingest(), name="ingest and publish"))
        if "console" in self._bound:
            await stack.enter_async_context(serving(self._tracker.console(self._view), self._bound["console"]))
        if "tracker" in self._bound:
            await self._tracker.serve_hits(self._bound["tracker"])
        if self._relay is not None:
            await self._relay.start(group, self._bound["relay"])
        return background

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
        return None

    def _view(self) -> ProcessView:
        status = self.status()
        return ProcessView(
            version=status.version,
            pid=status.pid,
            started_at=self._started_at,
            config_path=str(self._config.source.path),
            listening=status.listening,
            upstreams={name: str(section.url) for name, section in self._config.upstreams.items()},
            queue=status.queue,
        )


class _Relay:
    """Listener, pipeline, spool, runner and sampler of a process, and the upstreams that they send through."""

    def __init__(self, config: Config, settings: Settings, keys: Secrets, own_slot: Slot, journal: EventSink) -> None:
        """Open the spool, adopt what others left. ConfigError: a spool file or a certificate cannot be used."""
        self._is_draining = False
        adopted = slots.adopt("spool.directory", config.spool.directory, "q")
        self._spools = [_open_spool(slot) for slot in (own_slot, *adopted)]
        self._gate = SpaceGate(
            self._spools,
            SpoolOptions(
                high_water_bytes=config.spool.high_water,
                min_free_bytes=config.spool.min_free,
                max_message_bytes=config.relay.max_message,
            ),
        )
        self._upstreams = {
            name: _make_upstream(name, section, config.hostname) for name, section in config.upstreams.items()
        }
        share = config.tracking.verify_sample
        self._sampler = Sampler(share, os.urandom) if share else None
        self._sampling: asyncio.Task[None] | None = None
        pipeline = Pipeline(
            Site(hostname=config.hostname, instance=config.instance, bare_line_ends=config.relay.bare_line_ends),
            Ports(
                settings=lambda: settings,
                keys=lambda: keys.tokens,
                put=self._spools[0].put,
                queue=self._queue,
                clock=now,
                entropy=os.urandom,
                verify=self._sampler.offer if self._sampler is not None else None,
            ),
        )
        self._runner = Runner(
            spools=self._spools,
            upstreams={
                name: UpstreamLimits(
                    max_connections=section.max_connections,
                    max_recipients=section.max_recipients,
                    final=section.final,
                    host=section.url.host or config.hostname,
                )
                for name, section in config.upstreams.items()
            },
            send=self._send,
            copy_of=pipeline.copy_of,
            sink=journal,
            options=RunnerOptions(hostname=config.hostname, retry_for=config.spool.retry_for, dsn=config.spool.dsn),
            clock=now,
            entropy=os.urandom,
        )
        self._listener = Listener(
            ListenerOptions(
                hostname=config.hostname,
                max_message_bytes=config.relay.max_message,
                max_recipients=config.relay.max_recipients,
                max_connections=config.relay.max_connections,
                max_connections_per_address=config.relay.max_connections_per_address,
                allow_networks=config.relay.allow_networks,
            ),
            pipeline.accept,
            self.admit,
            now,
        )

    @property
    def waiting(self) -> int:
        """How many messages wait."""
        return self._runner.waiting

    def admit(self) -> Reply | None:
        """Return the reply that refuses all mail now, or None."""
        return None if self._gate.admits() else replies.SPOOL_FULL

    async def start(self, group: asyncio.TaskGroup, sockets: list[socket]) -> None:
        """Take up what the spool holds, then listen."""
        group.create_task(self._runner.run(), name="deliver")
        if self._sampler is not None:
            self._sampling = group.create_task(self._sampler.run(), name="verify")
        await self._listener.start(sockets)

    async def drain(self) -> None:
        """Take no more mail, end what is on its way. What was accepted meanwhile is in the spool and waits there."""
        self._is_draining = True
        await asyncio.gather(self._listener.drain(DRAIN_S), self._runner.drain(DRAIN_S))
        if self._sampling is not None:
            self._sampling.cancel()
        with suppress(TimeoutError):
            async with asyncio.timeout(_FAREWELL_S):
                await asyncio.gather(*(upstream.close() for upstream in self._upstreams.values()))

    def close(self) -> None:
        """End the spool's threads."""
        for spool in self._spools:
            spool.close()

    def _queue(self, entry: SpoolEntry) -> None:
        """Hand a message that is safe now to the runner; in a drain the next process takes it up from the spool."""
        facts = entry.accepted.facts
        _log.info(
            "message_accepted",
            message_ref=str(facts.message),
            recipients=len(entry.recipients),
            size_bytes=facts.size_bytes,
            configuration_set=facts.configuration_set,
            sender=facts.source,
        )
        if not self._is_draining:
            self._runner.notify(entry)

    async def _send(self, upstream: str, transaction: Transaction) -> list[Attempt]:
        return await self._upstreams[upstream].send(transaction)


def _open_spool(slot: Slot) -> Spool:
    spool = Spool(slot.directory)
    try:
        spool.open()
    except (SpoolVersionError, OSError) as error:
        wrong = f"{slot.directory} cannot be used: {error}"
        remedy = "start the version that wrote it, or mend the folder"
        raise ConfigError(None, [Problem(key="spool.directory", wrong=wrong, remedy=remedy)]) from error
    return spool


def _make_upstream(name: str, section: UpstreamSection, hostname: str) -> Upstream:
    try:
        return make_upstream(upstream_options(name, section, hostname))
    except OSError as error:
        wrong = f"{section.tls_ca} cannot be used: {error}"
        problem = Problem(key=f"upstream.{name}.tls_ca", wrong=wrong, remedy="name a PEM file with certificates")
        raise ConfigError(None, [problem]) from error


def upstream_options(name: str, section: UpstreamSection, hostname: str) -> UpstreamOptions:
    """Translate a table `[upstream.NAME]` into what the SMTP client takes."""
    url = section.url
    target: Target
    if url.maildir is not None:
        target = MaildirTarget(url.maildir)
    else:
        target = SmtpTarget(url.host, url.port, Security(url.scheme))
    return UpstreamOptions(
        name=name,
        target=target,
        hostname=hostname,
        username=section.username or "",
        password=section.password.get_secret_value() if section.password is not None else "",
        tls_ca=section.tls_ca,
        max_connections=section.max_connections,
        max_messages_per_connection=section.max_messages_per_connection,
    )
