"""One SMTP connection to an upstream, driven step by step, so that every failure has its phase.

Owns the dialogue: connecting, TLS, login, MAIL, RCPT, DATA, the final dot. Does not own how many connections there are
and which is used again (`pool.py`), nor what a reply means (`relay/core/attempt.py`).

The library (aiosmtplib) gives the connection: sockets, TLS, reading replies with limits (8 KiB a line, 32 KiB a
reply), AUTH, and the check that no argument holds a control character. Not used are its `mail`, `rcpt` and `data`:
they re-parse addresses, take only 250 for success, rewrite the body by regex, and give up 60 s after the final dot.
The few private names that replace them are pinned in tests/seams/test_aiosmtplib.py.

Standards: RFC 5321 §3.3, §4.5.3.2; RFC 1870 (SIZE); RFC 6152 §3 (8BITMIME); RFC 6531 §3.1 (SMTPUTF8); RFC 3207
(STARTTLS); RFC 4954 (AUTH); RFC 3461 §5.2.1 (DSN).

What an upstream offers is read anew at each connection. A copy in 8 bits for one without 8BITMIME is asked for in 7
(`Transaction.remake`); one that is larger than its SIZE is asked for as the author wrote it, without tracking.

Theory:
    A reply that nobody asked for would be taken for the answer to the next command, and every reply after it for that
    to the command before. What has arrived before a command is sent can only be such a reply: the connection ends.

Limits: commands are not pipelined. A stray reply that arrives between two commands, and not with the reply before, is
thrown away by the library; one that arrives after the next command was sent is taken for its reply.
"""

import asyncio
import ipaddress
import ssl
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Final

import aiosmtplib
from aiosmtplib.errors import (
    SMTPConnectError,
    SMTPConnectResponseError,
    SMTPException,
    SMTPHeloError,
    SMTPResponseException,
    SMTPServerDisconnected,
    SMTPTimeoutError,
)
from aiosmtplib.protocol import SMTPProtocol
from aiosmtplib.response import SMTPResponse

from relay.core.attempt import (
    OFF_LOOP_BYTES,
    Accepted,
    Attempt,
    Deferred,
    Phase,
    Rejected,
    Transaction,
    Unknown,
)
from relay.core.dsnrequest import RecipientRequest, utf8_address
from relay.smtp.dotstuffing import wire_blocks
from relay.smtp.fitting import Offers, fit, needs_smtputf8
from relay.smtp.ourselves import IS_OURSELVES
from relay.smtp.upstreams import Security, SmtpTarget, UpstreamOptions
from relay.smtp.verdicts import condition, judge, overlong, what_happened

_CLOSING: Final = 421
_SIZE_DIGITS: Final = 20  # RFC 1870 §4
_QUIT_TIMEOUT_S: Final = 5.0


class _Ended(Exception):  # noqa: N818 - the dialogue ended; that is an outcome, not an error
    """Carries what came of it out of the steps."""

    def __init__(self, attempt: Attempt) -> None:
        super().__init__()
        self.attempt = attempt


class Connection:
    """One connection. Use: `open`, then `send` while `is_reusable`; `quit` or `abort` at the end.

    `is_reusable`: the last transaction ended with every reply read. `was_stale`: the last one failed before MAIL was
    answered, by loss or 421, so that nothing was learned of it but that this connection was too old.
    """

    def __init__(self, options: UpstreamOptions, target: SmtpTarget, tls: ssl.SSLContext) -> None:
        """Take the settings and the verifying TLS context; nothing is opened yet."""
        self._options = options
        self._target = target
        self._tls = tls
        self._smtp = aiosmtplib.SMTP(
            hostname=target.host,
            port=target.port,
            use_tls=target.security is Security.IMPLICIT,
            start_tls=False,
            tls_context=tls,
            local_hostname=options.hostname,
            timeout=options.command_timeout_s,
        )
        self.is_reusable = False
        self.was_stale = False
        self.messages = 0

    async def open(self) -> Attempt | None:
        """Connect, greet, encrypt and log in, as the settings have it. None: ready; else what stood in the way."""
        try:
            await self._connect()
            await self._hello()
            if await self._start_tls():
                await self._hello()
            await self._login()
            self.is_reusable = True
        except _Ended as ended:
            return ended.attempt
        finally:
            if not self.is_reusable:  # failed, or cancelled half-way
                self.abort()
        return None

    async def send(self, transaction: Transaction) -> list[Attempt]:
        """Try one transaction; return what came of it for each recipient. Cancelled, it is left not reusable."""
        self.is_reusable = self.was_stale = False
        self.messages += 1
        work = partial(fit, transaction, self._offers(), self._options.name)
        fitted = await asyncio.to_thread(work) if transaction.size_bytes > OFF_LOOP_BYTES else work()
        if isinstance(fitted, Rejected):
            self.is_reusable = True
            return [fitted] * len(transaction.recipients)
        transaction = fitted
        encoding = "utf-8" if needs_smtputf8(transaction) else "ascii"
        try:
            await self._mail(transaction, encoding)
        except _Ended as ended:
            return [ended.attempt] * len(transaction.recipients)
        verdicts: list[Attempt | None] = [None] * len(transaction.recipients)
        ending: Attempt = condition(Phase.RCPT, "the dialogue ended early")
        try:
            for index, recipient in enumerate(transaction.recipients):
                verdicts[index] = await self._rcpt(recipient, encoding, transaction.dsn.of(index))
            if None in verdicts:
                ending = await self._data(transaction)
            else:
                await self._reset()
        except _Ended as ended:
            ending = ended.attempt
        return [verdict or ending for verdict in verdicts]

    async def quit(self) -> None:
        """Say QUIT, wait a little for the answer, and close."""
        with suppress(SMTPException, OSError):  # the mail is done; only the farewell may be lost
            async with asyncio.timeout(_QUIT_TIMEOUT_S):
                await self._smtp.quit()
        self.abort()

    def abort(self) -> None:
        """Close at once. A connection that is cut in mid-dialogue must never answer a later command."""
        self.is_reusable = False
        transport = self._smtp.transport
        self._smtp.close()
        if isinstance(transport, asyncio.WriteTransport):
            transport.abort()

    # --- getting ready ------------------------------------------------------------------------------------

    async def _connect(self) -> None:
        try:
            await self._smtp.connect(timeout=self._options.connect_timeout_s)
        except SMTPConnectResponseError as error:
            raise _Ended(self._judge(error, Phase.GREETING)) from error
        except SMTPTimeoutError as error:
            phase = Phase.GREETING if "ready message" in error.message else Phase.CONNECT
            raise _Ended(condition(phase, "no connection or greeting in time")) from error
        except SMTPConnectError as error:
            cause = error.__cause__
            phase = Phase.TLS if isinstance(cause, ssl.SSLError) else Phase.CONNECT
            phase = Phase.GREETING if isinstance(cause, SMTPServerDisconnected) else phase
            raise _Ended(condition(phase, what_happened(cause or error))) from error
        except (SMTPException, OSError, ValueError) as error:
            phase = Phase.GREETING if isinstance(error, SMTPResponseException) else Phase.CONNECT
            raise _Ended(condition(phase, what_happened(error))) from error

    async def _hello(self) -> None:
        try:
            try:
                await self._smtp.ehlo(timeout=self._options.connect_timeout_s)
            except SMTPHeloError as error:
                if error.code // 100 != 5 or not self._smtp.is_connected:
                    raise
                await self._smtp.helo(timeout=self._options.connect_timeout_s)  # RFC 5321 §3.2: an old server
        except SMTPResponseException as error:
            raise _Ended(self._judge(error, Phase.EHLO)) from error
        except (SMTPException, OSError) as error:
            raise _Ended(condition(Phase.EHLO, what_happened(error))) from error
        if self._options.sign is not None and self._options.sign.is_in(self._smtp.esmtp_extensions):
            raise _Ended(IS_OURSELVES)

    async def _start_tls(self) -> bool:
        if self._target.security is Security.IMPLICIT:
            return False
        if not self._smtp.supports_extension("starttls"):
            if self._target.security is Security.STARTTLS:
                raise _Ended(condition(Phase.TLS, "the upstream does not offer STARTTLS, which its URL demands"))
            return False
        tls = self._tls if self._must_verify() else _unverified()
        try:
            await self._smtp.starttls(
                tls_context=tls, server_hostname=self._target.host, timeout=self._options.connect_timeout_s
            )
        except SMTPResponseException as error:
            raise _Ended(self._judge(error, Phase.TLS)) from error
        except (SMTPException, OSError, ValueError) as error:
            raise _Ended(condition(Phase.TLS, what_happened(error))) from error
        return True

    async def _login(self) -> None:
        if not self._options.username:
            return
        if not self._is_encrypted() and not self._is_loopback():
            raise _Ended(
                condition(Phase.AUTH, "the upstream offers no STARTTLS, and the password is not sent in clear")
            )
        offered = set(self._smtp.server_auth_methods)
        known = {"plain": self._smtp.auth_plain, "login": self._smtp.auth_login, "cram-md5": self._smtp.auth_crammd5}
        method = next((method for name, method in known.items() if name in offered), None)
        if method is None:
            raise _Ended(condition(Phase.AUTH, "the upstream offers no AUTH of PLAIN, LOGIN or CRAM-MD5"))
        try:  # one method only: the library's login tries all, and a wrong password thrice locks accounts
            await method(self._options.username, self._options.password, timeout=self._options.command_timeout_s)
        except SMTPResponseException as error:
            raise _Ended(self._judge(error, Phase.AUTH)) from error
        except (SMTPException, OSError, ValueError) as error:
            raise _Ended(condition(Phase.AUTH, what_happened(error))) from error

    def _must_verify(self) -> bool:
        """Encryption without a known peer is better than none, but not good enough for a password."""
        if self._target.security is not Security.WHEN_OFFERED:
            return True
        return bool(self._options.username) and not self._is_loopback()

    def _is_encrypted(self) -> bool:
        return self._smtp.get_transport_info("sslcontext") is not None

    def _is_loopback(self) -> bool:
        peer = self._smtp.get_transport_info("peername")
        return bool(peer) and ipaddress.ip_address(peer[0].partition("%")[0]).is_loopback

    # --- one transaction ----------------------------------------------------------------------------------

    def _offers(self) -> Offers:
        """Read what the last EHLO offered. A SIZE that is no number says nothing (RFC 1870 §4)."""
        size = self._smtp.esmtp_extensions.get("size", "")
        return Offers(
            eight_bit=self._smtp.supports_extension("8bitmime"),
            smtputf8=self._smtp.supports_extension("smtputf8"),
            size_bytes=int(size) if size.isascii() and size.isdigit() and len(size) <= _SIZE_DIGITS else 0,
        )

    async def _mail(self, transaction: Transaction, encoding: str) -> None:
        options = []
        if self._smtp.supports_extension("size"):
            options.append(b"SIZE=%d" % transaction.size_bytes)
        if transaction.body_8bit:
            options.append(b"BODY=8BITMIME")
        if encoding == "utf-8":
            options.append(b"SMTPUTF8")
        if self._smtp.supports_extension("dsn"):
            options += _parameters(RET=transaction.dsn.returned, ENVID=transaction.dsn.envelope_id)
        try:
            reply = await self._command(
                Phase.MAIL, b"MAIL", f"FROM:<{transaction.reverse_path}>".encode(encoding), *options
            )
        except _Ended:
            self.was_stale = True
            raise
        if reply.code // 100 != 2:
            self.was_stale = reply.code == _CLOSING
            self.is_reusable = _leaves_open(reply)
            raise _Ended(self._judge(reply, Phase.MAIL))

    async def _rcpt(self, recipient: str, encoding: str, request: RecipientRequest) -> Attempt | None:
        """Return None where the recipient is taken, else what came of it; raise where that is so for all."""
        options = []
        if self._smtp.supports_extension("dsn"):
            original = request.original if encoding == "utf-8" else utf8_address(request.original, escaped=True)
            options = _parameters(NOTIFY=request.notify, ORCPT=original)
        reply = await self._command(Phase.RCPT, b"RCPT", f"TO:<{recipient}>".encode(encoding), *options)
        if reply.code // 100 == 2:
            return None
        if not _leaves_open(reply):
            raise _Ended(self._judge(reply, Phase.RCPT))
        return self._judge(reply, Phase.RCPT)

    async def _data(self, transaction: Transaction) -> Attempt:
        reply = await self._command(Phase.DATA, b"DATA")
        if reply.code == 354 and self._smtp.protocol is not None:
            return await self._transmit(self._smtp.protocol, transaction)
        if _leaves_open(reply):
            await self._reset()
        return self._judge(reply, Phase.DATA)

    async def _transmit(self, protocol: SMTPProtocol, transaction: Transaction) -> Attempt:
        if protocol._buffer:  # noqa: SLF001 - pinned
            return _stray_reply(Phase.DATA)
        waiter = protocol._response_waiter  # noqa: SLF001 - pinned
        protocol._response_pending = True  # noqa: SLF001 - pinned: else a reply before the dot is thrown away
        is_dot_written = False
        try:
            for block, is_last in wire_blocks(transaction.data):
                if waiter is None or waiter.done():
                    break  # answered or cut before the end: what follows would be read as commands
                is_dot_written = is_last
                protocol.write(block)
                if not is_last:
                    await asyncio.wait_for(protocol._drain_helper(), self._options.block_timeout_s)  # noqa: SLF001
            reply = await protocol.read_response(timeout=self._options.dot_timeout_s)
        except (SMTPException, OSError) as error:
            long_reply = overlong(error, protocol)
            if long_reply is not None:
                return self._judge(long_reply, Phase.FINAL_DOT if is_dot_written else Phase.DATA)
            if is_dot_written:
                return Unknown(detail=what_happened(error))
            return Deferred(reply=None, phase=Phase.DATA, of_upstream=False, detail=what_happened(error))
        if not is_dot_written:
            return self._judge(reply, Phase.DATA)
        self.is_reusable = self._smtp.is_connected and (reply.code // 100 == 2 or _leaves_open(reply))
        attempt = self._judge(reply, Phase.FINAL_DOT)
        if isinstance(attempt, Accepted) and self._smtp.supports_extension("dsn"):
            return replace(attempt, reports=True)
        return attempt

    def _judge(self, reply: SMTPResponse | SMTPResponseException, phase: Phase) -> Attempt:
        return judge(reply, phase, self._options.provider)

    async def _reset(self) -> None:
        """Leave a transaction that has no data; where that fails, the connection is not used again, and that is all."""
        try:
            reply = await self._command(Phase.RCPT, b"RSET")
        except _Ended:
            return
        self.is_reusable = reply.code // 100 == 2

    async def _command(self, phase: Phase, *words: bytes) -> SMTPResponse:
        """Return the reply. _Ended where there was none, or one that cannot be read.

        Up to MAIL's reply nothing of the copy was told, so what failed is the upstream. So is a stray reply.
        """
        protocol = self._smtp.protocol
        if protocol is not None and protocol._buffer:  # noqa: SLF001 - pinned
            raise _Ended(_stray_reply(phase))
        try:
            return await self._smtp.execute_command(*words, timeout=self._options.command_timeout_s)
        except (SMTPException, OSError) as error:
            long_reply = overlong(error, protocol)
            if long_reply is not None:
                raise _Ended(self._judge(long_reply, phase)) from error
            raise _Ended(
                Deferred(reply=None, phase=phase, of_upstream=phase is Phase.MAIL, detail=what_happened(error))
            ) from error


def verifying_context(options: UpstreamOptions) -> ssl.SSLContext:
    """Return the TLS context that checks the upstream's certificate and name. Raises OSError: `tls_ca` is unusable."""
    return ssl.create_default_context(cafile=options.tls_ca)


def _stray_reply(phase: Phase) -> Deferred:
    return Deferred(reply=None, phase=phase, of_upstream=True, detail="the upstream sent a reply that nobody asked for")


def _parameters(**values: str) -> list[bytes]:
    """Write those that have a value, `RET=HDRS`."""
    return [f"{keyword}={value}".encode() for keyword, value in values.items() if value]


def _unverified() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _leaves_open(reply: SMTPResponse) -> bool:
    """True for a refusal after which the dialogue goes on: 4xx and 5xx, but not 421 and not what is no reply."""
    return reply.code // 100 in (4, 5) and reply.code != _CLOSING
