"""The relay of one process, wired: listener, pipeline, spool, runner, sampler and upstreams.

Owns their order of start and drain. Which processes there are and what else runs in them is `relay/app.py`.
"""

import asyncio
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from socket import socket
from typing import Final

import msgspec
import structlog

from relay.appconfig import Config
from relay.config.upstream import UpstreamSection
from relay.core import providers
from relay.core import reply as replies
from relay.core.attempt import Attempt, Transaction, UpstreamReply
from relay.core.dkim import Signer, is_aligned
from relay.core.outgoing import OutgoingFields
from relay.core.reply import Reply
from relay.dkimkeys import GOOD_RSA_BITS
from relay.pipeline import Pipeline, Ports
from relay.signedmail import SignedMail
from relay.smtp.access import Access
from relay.smtp.auth import Gate
from relay.smtp.guessing import Guesses
from relay.smtp.listener import Listener
from relay.smtp.memory import MessageMemory
from relay.smtp.options import ListenerOptions
from relay.smtp.ourselves import Sign
from relay.smtp.passwords import Passwords
from relay.smtp.pool import make_upstream
from relay.smtp.tls import EXPIRES_SOON, ServerTls, TlsError, TlsFiles
from relay.smtp.upstreams import MaildirTarget, Security, SmtpTarget, Target, Upstream, UpstreamOptions
from relay.spool.desk import Obeyed, QueueRequest
from relay.spool.entry import SpoolEntry
from relay.spool.errors import SpoolVersionError
from relay.spool.files import Spool
from relay.spool.lane import UpstreamLimits
from relay.spool.reporter import ReportOptions
from relay.spool.runner import Runner, RunnerOptions
from relay.spool.space import SpaceGate, SpoolOptions
from relay.verification.sampling import Sampler
from tracker.app import now
from tracker.contract.credentials import Credential, CredentialBook, Permission
from tracker.contract.events import Rejected
from tracker.contract.ports import EventSink
from tracker.contract.settings import Settings
from tracker.runtime import slots
from tracker.runtime.budget import ByteBudget
from tracker.runtime.configfile import ConfigError, Problem
from tracker.runtime.control import Handler
from tracker.runtime.memory import MemoryWatch, soft_limit_bytes
from tracker.runtime.secrets import Secrets
from tracker.runtime.slots import Slot

DRAIN_S: Final = 8.0  # container engines kill after 10 s
_FAREWELL_S: Final = 0.5

_log = structlog.get_logger()


class Relay:
    """Listener, pipeline, spool, runner and sampler of a process, and the upstreams that they send through."""

    def __init__(self, config: Config, settings: Settings, keys: Secrets, own_slot: Slot, journal: EventSink) -> None:
        """Open the spool, adopt what others left. ConfigError: a spool file or a certificate cannot be used."""
        self._is_draining = False
        self._journal = journal
        self._inline_wait_s = config.relay.inline_wait.total_seconds()
        adopted = slots.adopt("spool.directory", config.spool.directory, "q")
        in_flight_bytes = config.relay.memory_in_flight
        loads = ByteBudget(in_flight_bytes // 2)
        self._spools = [_open_spool(slot, loads) for slot in (own_slot, *adopted)]
        self._gate = SpaceGate(
            self._spools,
            SpoolOptions(
                high_water_bytes=config.spool.high_water,
                min_free_bytes=config.spool.min_free,
                max_message_bytes=config.relay.max_message,
            ),
        )
        sign = Sign(keys.sign_key)
        self._upstreams = {
            name: _make_upstream(name, section, config.hostname, sign) for name, section in config.upstreams.items()
        }
        signers = _signers(config)
        self._signed_mail = SignedMail(time.monotonic)
        share = config.tracking.verify_sample
        self._sampler = Sampler(share, os.urandom) if share else None
        self._sampling: asyncio.Task[None] | None = None
        pipeline = Pipeline(
            config.site,
            Ports(
                settings=lambda: settings,
                keys=lambda: keys.tokens,
                put=self._spools[0].put,
                take_out=self._spools[0].remove,
                queue=self._queue,
                clock=now,
                entropy=os.urandom,
                reject=self._tell_reject,
                signers=lambda: signers,
                verify=self._sampler.offer if self._sampler is not None else None,
                fields={name: _fields(section) for name, section in config.upstreams.items()}.__getitem__,
                verdict=self._queue_and_wait if config.relay.inline_wait else None,
                accept_deadline_s=config.relay.accept_deadline.total_seconds(),
            ),
        )
        self._runner = Runner(
            spools=self._spools,
            upstreams={
                name: UpstreamLimits(
                    max_connections=section.max_connections,
                    max_recipients=section.max_recipients,
                    max_rate_per_s=section.max_rate,
                    provider=section.provider,
                    final=section.final,
                    host=section.url.host or config.hostname,
                )
                for name, section in config.upstreams.items()
            },
            send=self._send,
            copy_of=pipeline.copy_of,
            sink=journal,
            options=RunnerOptions(reports=_report_options(config), retry_for=config.spool.retry_for),
            clock=now,
            entropy=os.urandom,
        )
        self._passwords = Passwords(time.monotonic)
        self._book = credential_book(config)
        self._access = Access(
            gate=Gate(lambda: self._book, self._passwords),
            guesses=Guesses(
                limit=config.relay.max_auth_failures,
                block_s=config.relay.auth_block_for.total_seconds(),
                monotonic_s=time.monotonic,
            ),
        )
        self._secure(config)
        self._tls_listens = [bool(address.scheme) for address in config.relay.listen]
        self._listener = Listener(
            replace(listener_options(config), sign=sign),
            pipeline.accept,
            self.admit,
            self._access,
            now,
            memory=MessageMemory(
                hold_bytes=in_flight_bytes // 8,
                load_bytes=in_flight_bytes * 3 // 8,
                scratch=self._spools[0].scratch,
                is_short=MemoryWatch(config.relay.max_memory or soft_limit_bytes()).is_short,
            ),
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
        if self._sampler is not None:
            self._sampling = group.create_task(self._sampler.run(), name="verify")
        plain, with_tls = (
            [sock for sock, is_tls in zip(sockets, self._tls_listens, strict=True) if is_tls is wanted]
            for wanted in (False, True)
        )
        await self._listener.start(plain, tls_sockets=with_tls)

    async def reload(self, config: Config) -> None:
        """Take up the certificate and the logins of a new configuration; no connection is dropped.

        ConfigError: the certificate cannot be used, and nothing has changed.
        """
        await asyncio.to_thread(self._secure, config)
        self._book = replace(self._book, declared=credential_book(config).declared)

    async def _tell_reject(self, record: Rejected) -> None:
        """Journal a refusal; the client gets it all the same where the journal cannot be written."""
        try:
            await self._journal.emit([record])
        except OSError as error:
            _log.error("reject_not_told", message_ref=str(record.facts.message), error=str(error))

    def know_stored(self, found: Mapping[str, Credential] | None) -> None:
        """Let in the logins that the storage has; None: it could not be read yet."""
        self._book = replace(self._book, stored=found)

    def _secure(self, config: Config) -> None:
        """Load the certificate, for connections that come from now on."""
        files = tls_files(config)
        if files is None:
            self._access.tls, self._access.require_tls = None, False
            return
        try:
            tls = ServerTls(files)
        except TlsError as error:
            raise ConfigError(None, [tls_problem(error)]) from error
        self._access.tls, self._access.require_tls = tls, config.relay_tls.require
        if tls.expires_at - now() < EXPIRES_SOON:
            _log.warning("certificate_expires", path=str(files.certificate), at=tls.expires_at.isoformat())

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


def _signers(config: Config) -> dict[str, Signer]:
    """Return who signs for each table `[dkim.NAME]`."""
    for name, section in config.dkims.items():
        if section.key.rsa_bits is not None and section.key.rsa_bits < GOOD_RSA_BITS:
            _log.warning("dkim_key_weak", table=name, bits=section.key.rsa_bits)
    return {name: section.signer for name, section in config.dkims.items()}


def _report_options(config: Config) -> ReportOptions:
    """Reports are signed by the table of the account's set where its domain speaks for their From."""
    chosen = config.sets.get(config.tracking.configuration_set)
    table = chosen.dkim if chosen is not None else None
    author = (config.spool.dsn_sender or "").rpartition("@")[2] or config.hostname
    return ReportOptions(
        dkim=table if table is not None and is_aligned(config.dkims[table].domain, author) else None,
        hostname=config.hostname,
        enabled=config.spool.dsn,
        sender=config.spool.dsn_sender or "",
        per_hour=config.spool.dsn_per_hour,
    )


def listener_options(config: Config) -> ListenerOptions:
    """Translate the table `[relay]` into what the listener takes."""
    relay = config.relay
    return ListenerOptions(
        hostname=config.hostname,
        max_message_bytes=relay.max_message,
        max_recipients=relay.max_recipients,
        max_connections=relay.max_connections,
        max_connections_per_address=relay.max_connections_per_address,
        allow_networks=relay.allow_networks,
        dsn=config.spool.dsn,
        max_errors=relay.max_errors,
        max_junk_commands=relay.max_junk_commands,
        command_timeout_s=relay.command_timeout.total_seconds(),
        stranger_timeout_s=relay.login_timeout.total_seconds(),
        session_timeout_s=relay.session_timeout.total_seconds(),
        data_timeout_s=relay.data_timeout.total_seconds(),
        min_data_bytes_per_s=relay.min_data_rate,
    )


def _open_spool(slot: Slot, loads: ByteBudget) -> Spool:
    spool = Spool(slot.directory, loads)
    try:
        spool.open()
    except (SpoolVersionError, OSError) as error:
        wrong = f"{slot.directory} cannot be used: {error}"
        remedy = "start the version that wrote it, or mend the folder"
        raise ConfigError(None, [Problem(key="spool.directory", wrong=wrong, remedy=remedy)]) from error
    return spool


def tls_files(config: Config) -> TlsFiles | None:
    """Return the files of `[relay.tls]`, None where there are none."""
    section = config.relay_tls
    if section.certificate is None or section.key is None:
        return None
    return TlsFiles(certificate=section.certificate, key=section.key)


def tls_problem(error: TlsError) -> Problem:
    """Say in the file's words what is wrong with a certificate or key."""
    return Problem(key=f"relay.tls.{error.part}", wrong=error.wrong, remedy=error.remedy)


def credential_book(config: Config) -> CredentialBook:
    """Return the logins of the file."""
    declared = {
        name: Credential(
            name=name,
            password_hash=section.password_hash.get_secret_value(),
            permission=Permission(sender_domains=section.sender_domains, configuration_sets=section.configuration_sets),
        )
        for name, section in config.credentials.items()
    }
    return CredentialBook(declared=declared, stored=None)


def _make_upstream(name: str, section: UpstreamSection, hostname: str, sign: Sign) -> Upstream:
    try:
        return make_upstream(replace(upstream_options(name, section, hostname), sign=sign))
    except OSError as error:
        wrong = f"{section.tls_ca} cannot be used: {error}"
        problem = Problem(key=f"upstream.{name}.tls_ca", wrong=wrong, remedy="name a PEM file with certificates")
        raise ConfigError(None, [problem]) from error


def _fields(section: UpstreamSection) -> OutgoingFields:
    always = tuple(section.set_headers.items())
    return OutgoingFields(
        always=always,
        with_set=providers.NO_TRACKING[section.provider],
        replaced=providers.REPLACED[section.provider],
    )


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
        provider=section.provider,
        max_connections=section.max_connections,
        max_messages_per_connection=section.max_messages_per_connection,
    )
