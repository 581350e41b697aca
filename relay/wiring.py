"""The relay of one process, wired: listener, pipeline, spool, runner, sampler and upstreams.

Owns their order of start and drain. Which processes there are and what else runs in them is `relay/app.py`.
"""

import asyncio
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from socket import socket
from typing import Final

import msgspec
import structlog

from relay import roomoptions
from relay.appconfig import Config
from relay.core import reply as replies
from relay.core.attempt import Attempt, Transaction, UpstreamReply
from relay.core.consent import Consents
from relay.core.dkim import Signer
from relay.core.outgoing import OutgoingFields
from relay.core.reply import Reply
from relay.pipeline import Pipeline, Ports
from relay.signedmail import SignedMail
from relay.smtp.access import Access
from relay.smtp.auth import Gate
from relay.smtp.guessing import FREE_TRIES, Guesses
from relay.smtp.listener import Listener
from relay.smtp.memory import MessageMemory
from relay.smtp.ourselves import Sign
from relay.smtp.passwords import Passwords
from relay.smtp.pool import make_upstream
from relay.smtp.tls import EXPIRY, relay_tls
from relay.smtp.upstreams import Upstream
from relay.spool.desk import Obeyed, QueueRequest
from relay.spool.entry import SpoolEntry
from relay.spool.errors import SpoolRestoredError, SpoolVersionError
from relay.spool.files import QUEUE, Spool
from relay.spool.runner import Runner
from relay.spool.space import SpaceGate
from relay.spool.stamp import Stamp, twin_of
from relay.verification.sampling import Sampler
from tracker.app import now
from tracker.contract.consent import ConsentBook, Persons
from tracker.contract.credentials import Credential
from tracker.contract.events import Rejected
from tracker.contract.ports import EventSink
from tracker.contract.settings import Settings
from tracker.runtime import serve, slots
from tracker.runtime.budget import ByteBudget
from tracker.runtime.configfile import ConfigError, Problem
from tracker.runtime.control import Handler
from tracker.runtime.keysfile import KeysFile
from tracker.runtime.memory import MemoryWatch, soft_limit_bytes
from tracker.runtime.seat import Seat
from tracker.runtime.slots import Slot
from tracker.runtime.tls import ServerTls, TlsError

DRAIN_S: Final = 8.0  # container engines kill after 10 s
_FAREWELL_S: Final = 0.5
_LOOK_FOR_SLOTS_S: Final = 5.0
_SPOOL: Final = "spool.directory"

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rules:
    """What the pipeline goes by, replaced as a whole by a reload."""

    settings: Settings
    signers: Mapping[str, Signer]
    fields: Mapping[str, OutgoingFields]


class Relay:
    """Listener, pipeline, spool, runner and sampler of a process, and the upstreams that they send through."""

    def __init__(
        self, config: Config, settings: Settings, keys: KeysFile, *, own_slot: Slot, journal: EventSink, seat: Seat
    ) -> None:
        """Open the spool; alone, adopt what others left. ConfigError: a spool file or a certificate cannot be used.

        One of several processes adopts later: they are claiming their own slots just now.
        """
        share = seat.share
        self._share = share
        self._config = config
        self._is_draining = False
        self._journal = journal
        self._inline_wait_s = config.relay.inline_wait.total_seconds()
        self._sign = Sign(keys.secrets.sign_key)
        self._consents = Consents(persons=Persons(keys.secrets.person_key), book=None)
        in_flight_bytes = config.relay.memory_in_flight // share.count
        self._loads = ByteBudget(in_flight_bytes // 2)
        adopted = slots.adopt(_SPOOL, config.spool.directory, QUEUE) if seat.is_alone else []
        self._spools = [open_spool(slot, self._loads, config.journal.directory) for slot in (own_slot, *adopted)]
        self._gate = SpaceGate(self._spools, roomoptions.space_options(config), seat.counts)
        self._upstreams = {name: self._make_upstream(config, name) for name in config.upstreams}
        self._rules = _rules(config, settings)
        self._signed_mail = SignedMail(time.monotonic)
        sampled = config.tracking.verify_sample
        self._sampler = Sampler(sampled, os.urandom) if sampled else None
        self._adopting: asyncio.Task[None] | None = None
        self._sampling: asyncio.Task[None] | None = None
        pipeline = Pipeline(
            config.site,
            Ports(
                settings=lambda: self._rules.settings,
                keys=lambda: keys.tokens,
                put=self._spools[0].put,
                take_out=self._spools[0].remove,
                queue=self._queue,
                clock=now,
                entropy=os.urandom,
                reject=self._tell_reject,
                signers=lambda: self._rules.signers,
                consents=lambda: self._consents,
                verify=self._sampler.offer if self._sampler is not None else None,
                fields=lambda upstream: self._rules.fields[upstream],
                verdict=self._queue_and_wait if config.relay.inline_wait else None,
                accept_deadline_s=config.relay.accept_deadline.total_seconds(),
            ),
        )
        self._runner = Runner(
            spools=self._spools,
            upstreams=roomoptions.upstream_limits(config, share),
            send=self._send,
            copy_of=pipeline.copy_of,
            sink=journal,
            options=roomoptions.runner_options(config, share),
            clock=now,
            entropy=os.urandom,
        )
        self._passwords = Passwords(time.monotonic)
        self._book = roomoptions.credential_book(config)
        self._access = Access(
            gate=Gate(lambda: self._book, self._passwords),
            guesses=Guesses(
                limit=share.at_least_of(config.relay.max_auth_failures, FREE_TRIES),
                block_s=config.relay.auth_block_for.total_seconds(),
                monotonic_s=time.monotonic,
            ),
        )
        self._secure(config, _load_tls(config))
        self._listener = Listener(
            roomoptions.listener_options(config, self._sign),
            pipeline.accept,
            self.admit,
            self._access,
            now,
            memory=MessageMemory(
                hold_bytes=in_flight_bytes // 8,
                load_bytes=in_flight_bytes * 3 // 8,
                scratch=self._spools[0].scratch,
                is_short=MemoryWatch((config.relay.max_memory or soft_limit_bytes()) // share.count).is_short,
            ),
            counts=seat.counts,
        )

    @property
    def waiting(self) -> int:
        """How many messages wait."""
        return self._runner.waiting

    def admit(self) -> Reply | None:
        """Return the reply that refuses all mail now, or None."""
        return None if self._gate.admits() else replies.SPOOL_FULL

    def commands(self) -> dict[str, Handler]:
        """What the command line may ask of this relay."""

        async def queue(line: bytes) -> Obeyed:
            request = msgspec.json.decode(line, type=QueueRequest)
            return await self._runner.obey(request.order, request.ids)

        return {"queue": queue}

    async def start(self, group: asyncio.TaskGroup, sockets: list[socket]) -> None:
        """Take up what the spool holds, then listen."""
        group.create_task(self._runner.run(), name="deliver")
        self._adopting = group.create_task(self._adopt_what_is_left(), name="adopt")
        if self._sampler is not None:
            self._sampling = group.create_task(self._sampler.run(), name="verify")
        plain, with_tls = serve.by_scheme(sockets, self._config.relay.listen)
        await self._listener.start(plain, tls_sockets=with_tls)

    async def reload(self, config: Config, settings: Settings) -> None:
        """Take up another configuration; no connection is dropped. What wants a restart stays as it was.

        ConfigError: the certificate, or one of an upstream's, cannot be used, and nothing has changed.
        """
        tls = await asyncio.to_thread(_load_tls, config)
        changed = [
            name
            for name, section in config.upstreams.items()
            if name not in self._upstreams or section != self._config.upstreams[name]
        ]
        made = {name: await asyncio.to_thread(self._make_upstream, config, name) for name in changed}
        gone = [upstream for name, upstream in self._upstreams.items() if name in made or name not in config.upstreams]
        self._config = config
        self._upstreams = {name: made.get(name) or self._upstreams[name] for name in config.upstreams}
        self._rules = _rules(config, settings)
        self._secure(config, tls)
        self._book = replace(self._book, declared=roomoptions.credential_book(config).declared)
        self._gate.options = roomoptions.space_options(config)
        self._listener.configure(roomoptions.listener_options(config, self._sign))
        self._runner.renew(
            roomoptions.upstream_limits(config, self._share), roomoptions.runner_options(config, self._share)
        )
        await asyncio.gather(*(upstream.close() for upstream in gone))

    async def _tell_reject(self, record: Rejected) -> None:
        """Journal a refusal; the client gets it all the same where the journal cannot be written."""
        try:
            await self._journal.emit([record])
        except OSError as error:
            _log.error("reject_not_told", message_ref=str(record.facts.message), error=str(error))

    def know_stored(self, found: Mapping[str, Credential] | None) -> None:
        """Let in the logins that the storage has; None: it could not be read yet."""
        self._book = replace(self._book, stored=found)

    def know_consent(self, found: ConsentBook | None) -> None:
        """Go by what recipients decided; None: it could not be read yet."""
        self._consents = replace(self._consents, book=found)

    def _secure(self, config: Config, tls: ServerTls | None) -> None:
        """Use a certificate for connections that come from now on."""
        self._access.tls, self._access.require_tls = tls, tls is not None and config.relay_tls.require
        if tls is None:
            EXPIRY.set(0)
        else:
            tls.warn(now())

    def _make_upstream(self, config: Config, name: str) -> Upstream:
        section = config.upstreams[name]
        try:
            return make_upstream(roomoptions.upstream_options(name, section, config.hostname, self._share, self._sign))
        except OSError as error:
            wrong = f"{section.tls_ca} cannot be used: {error}"
            problem = Problem(key=f"upstream.{name}.tls_ca", wrong=wrong, remedy="name a PEM file with certificates")
            raise ConfigError(None, [problem]) from error

    async def _adopt_what_is_left(self) -> None:
        """Take over the slots of processes that are gone, and tell the others how much mail waits here.

        A slot must be found free twice: whoever was just started in the place of another comes for it first.
        """
        root = self._config.spool.directory
        before: set[int] = set()
        unusable: set[int] = set()
        while True:
            await asyncio.sleep(_LOOK_FOR_SLOTS_S)
            self._gate.publish()
            self._runner.tell_oldest()
            try:
                free = await asyncio.to_thread(slots.left, root, QUEUE) - unusable
                for slot in await asyncio.to_thread(slots.adopt, _SPOOL, root, QUEUE, free & before):
                    if not await self._adopt(slot):
                        unusable.add(slot.number)
                before = free
            except (ConfigError, OSError) as error:
                _log.error("slots_not_seen", error=str(error))

    async def _adopt(self, slot: Slot) -> bool:
        try:
            spool = await asyncio.to_thread(open_spool, slot, self._loads, self._config.journal.directory)
        except ConfigError as error:
            slot.close()
            _log.error("slot_not_adopted", slot=slot.number, error=str(error))
            return False
        try:
            await self._runner.adopt(spool)
        except OSError as error:  # what is known by now is delivered; the rest waits for the next process
            _log.error("slot_not_adopted", slot=slot.number, error=str(error))
        else:
            _log.info("slot_adopted", slot=slot.number)
        return True

    async def drain(self) -> None:
        """Take no more mail, end what is on its way. What was accepted meanwhile is in the spool and waits there."""
        self._is_draining = True
        if self._adopting is not None:
            self._adopting.cancel()
        await asyncio.gather(self._listener.drain(DRAIN_S), self._runner.drain(DRAIN_S))
        if self._sampling is not None:
            self._sampling.cancel()
        with suppress(TimeoutError):
            async with asyncio.timeout(_FAREWELL_S):
                await asyncio.gather(*(upstream.close() for upstream in self._upstreams.values()))

    def close(self) -> None:
        """End the threads."""
        self._passwords.close()
        for spool in self._spools:
            spool.close()

    def _queue(self, entry: SpoolEntry) -> None:
        """Hand a message that is safe now to the runner; in a drain the next process takes it up from the spool."""
        facts = entry.accepted.facts
        self._signed_mail.saw(facts)
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

    async def _queue_and_wait(self, entry: SpoolEntry) -> UpstreamReply | None:
        """Do as `_queue`, and return the reply by which the upstream refused all recipients, if it comes in time."""
        self._runner.expect(entry.id)
        self._queue(entry)
        return await self._runner.verdict(entry.id, self._inline_wait_s)

    async def _send(self, upstream: str, transaction: Transaction) -> list[Attempt]:
        return await self._upstreams[upstream].send(transaction)


def open_spool(slot: Slot, loads: ByteBudget, journal: Path) -> Spool:
    """Open the spool of a slot that is ours. ConfigError: a file of it, or its folder, cannot be used."""
    spool = Spool(slot.directory, loads, Stamp(slot.directory, twin_of(journal, slot.number)))
    try:
        spool.open()
    except SpoolRestoredError as error:
        raise ConfigError(None, [Problem(key=_SPOOL, wrong=str(error), remedy=error.remedy)]) from error
    except (SpoolVersionError, OSError) as error:
        wrong = f"{slot.directory} cannot be used: {error}"
        remedy = "start the version that wrote it, or mend the folder"
        raise ConfigError(None, [Problem(key=_SPOOL, wrong=wrong, remedy=remedy)]) from error
    return spool


def _rules(config: Config, settings: Settings) -> _Rules:
    fields = {name: roomoptions.outgoing_fields(section) for name, section in config.upstreams.items()}
    return _Rules(settings=settings, signers=roomoptions.signers(config), fields=fields)


def _load_tls(config: Config) -> ServerTls | None:
    """Load the certificate; None where there is none. ConfigError: it cannot be used."""
    files = roomoptions.tls_files(config)
    try:
        return None if files is None else relay_tls(files)
    except TlsError as error:
        raise ConfigError(None, [roomoptions.tls_problem(error)]) from error
