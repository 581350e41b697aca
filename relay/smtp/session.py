"""One client's connection: lines in, replies out, a message handed over.

The library gives the protocol on the stream. The conversation is ours, because the library's own takes bare LF as a
line end, answers an exception with 500 and its text, arms one timer over commands, DATA and the handler alike, has no
limits, begins TLS a second time inside TLS, and knows AUTH mechanisms in capitals alone. What we rely on inside it is
pinned in tests/seams: that a connection starts the task `_handle_client`, and the attributes `_reader`, `_writer` and
`_timeout_handle`; and that TLS changes the transport under both streams.

Owns the stream: framing of commands, pipelining, time limits, closing. Does not own what a command is answered
(dialogue.py), AUTH (auth.py), the end of a message (data.py), where it is kept (incoming.py), what becomes of it
(acceptance.py).

Standards: RFC 5321 §2.3.8 (lines), §4.5.3.2.7 (time-outs), RFC 2920 §3.1 (what may be pipelined).
Departs from: many servers, which take command lines that end in a bare LF: refused, as in DATA (SMTP smuggling).
Limits: data that a client sends before the greeting are noticed only when they came with the connection.
"""

import asyncio
import ipaddress
import re
import secrets
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final

import structlog
from aiosmtpd import smtp as library
from prometheus_client import Counter

from relay.core import reply as replies
from relay.core.reply import Reply
from relay.core.submission import Envelope, Session, Submission
from relay.smtp import auth, data
from relay.smtp.acceptance import Acceptances
from relay.smtp.access import Access
from relay.smtp.auth import MAX_RESPONSE_BYTES
from relay.smtp.commands import split_line
from relay.smtp.dialogue import Dialogue
from relay.smtp.incoming import Incoming
from relay.smtp.memory import MessageMemory
from relay.smtp.options import LINGER_S, MAX_COMMAND_BYTES, Admit, ListenerOptions
from tracker.contract.ports import Clock

log = structlog.get_logger()

REPLIES: Final = Counter("mailwake_smtp_replies", "Replies sent to clients.", ["code"])
RECEIVED: Final = Counter("mailwake_smtp_received_bytes", "Octets of messages read from clients.")
LOGINS: Final = Counter("mailwake_smtp_logins", "AUTH commands of clients, by what became of them.", ["result"])
HANDSHAKES: Final = Counter("mailwake_smtp_tls_handshakes", "TLS handshakes with clients, by result.", ["result"])
HUNG_UP: Final = Counter("mailwake_smtp_hung_up", "Sessions that the client ended without QUIT.")

# RFC 2920 §3.1: they end a group. What stands behind them was not written in answer to our reply: the second message of
# an attacker, behind another server's idea of the end of DATA, looks like this.
# Behind STARTTLS it is a command that an attacker put into the clear part, to be obeyed inside TLS (RFC 3207 §4.2).
_LAST_OF_GROUP: Final = frozenset({"EHLO", "HELO", "DATA", "STARTTLS"})
# A browser can be made to post a form to a port of its own machine, with SMTP commands as the form's lines.
_HTTP: Final = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_COMMANDS_IN_A_ROW: Final = 32  # of one client's pipeline, 1 ms of them; then others have their turn


class _Stopping(Exception):  # noqa: N818  (no error: it ends the wait for a command)
    """This process takes no more commands."""


class ClientSession(library.SMTP):
    """The protocol object of one connection."""

    line_length_limit = 64 * 1024  # the reader's: DATA comes in blocks of this size, twice as much pauses the client

    def __init__(
        self,
        options: ListenerOptions,
        acceptances: Acceptances,
        admit: Admit,
        access: Access,
        clock: Clock,
        *,
        memory: MessageMemory,
        client_address: str,
        trusted: bool,
        implicit_tls: bool,
        on_lost: Callable[["ClientSession"], None],
    ) -> None:
        # With `hostname` the library does not call getfqdn(), which would block on DNS.
        super().__init__(None, hostname=options.hostname, loop=asyncio.get_running_loop())
        self.client_address = client_address
        self._options = options
        self._acceptances = acceptances
        self._memory = memory
        self._clock = clock
        self._trusted = trusted
        self._on_lost = on_lost
        self._access = access
        self._implicit_tls = implicit_tls
        near = trusted or ipaddress.ip_address(client_address).is_loopback
        self._dialogue = Dialogue(options, admit, access, trusted=trusted, near=near)
        began_s = asyncio.get_running_loop().time()
        self._ends_at_s = began_s + options.session_timeout_s
        self._login_by_s = began_s + options.stranger_timeout_s
        self._received_bytes = 0
        self._is_idle = False
        self._is_stopping = False
        self._is_lost = False
        self._last_call: asyncio.TimerHandle | None = None

    # --- the transport's side -----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the conversation; the library's timer, which would cut DATA and acceptance, is disarmed."""
        super().connection_made(transport)
        self._socket_transport = self._writer.transport  # what is under TLS, too: the one that can always be cut
        if self._timeout_handle is not None:
            self._timeout_handle.cancel()

    def data_received(self, data: bytes) -> None:
        """Count what comes, for the least rate of DATA."""
        self._received_bytes += len(data)
        super().data_received(data)

    def eof_received(self) -> bool | None:
        """Let a client that has only stopped sending get its replies; the library would cancel the session."""
        return asyncio.StreamReaderProtocol.eof_received(self)

    def connection_lost(self, error: Exception | None) -> None:
        """End the session; an acceptance under way goes on. Called a second time, it does nothing."""
        if self._is_lost:
            return
        self._is_lost = True
        if self._last_call is not None:
            self._last_call.cancel()
        super().connection_lost(error)
        self._on_lost(self)

    def stop(self) -> None:
        """Say 421 and close: at once where a command is awaited, else behind the reply that is being worked on."""
        self._is_stopping = True
        if self._is_idle:
            self._reader.set_exception(_Stopping())

    def abort(self) -> None:
        """Close without a word."""
        self._socket_transport.abort()

    # --- the conversation ---------------------------------------------------------------------------------

    async def _handle_client(self) -> None:
        """Talk until one side ends it: the task that the library starts."""
        try:
            await self._converse()
        except _Stopping:
            self._write(replies.SHUTTING_DOWN)
        except TimeoutError:
            with suppress(ConnectionError):
                await self._refuse(replies.TIMED_OUT)
        except (ConnectionError, asyncio.IncompleteReadError):
            HUNG_UP.inc()
        except Exception:  # the end of a connection: nobody above could do more than say so
            log.exception("session_failed", client=self.client_address)
            self._write(replies.SESSION_FAILED)
        finally:
            self._hang_up()

    async def _converse(self) -> None:
        if self._implicit_tls:
            await self._begin_tls()
        for _ in range(2):  # turns of the loop, in which data that came with the connection are read
            await asyncio.sleep(0)
        if self._has_input():
            return await self._refuse(replies.OUT_OF_STEP)
        await self._send(replies.greeting(self._options.hostname))
        commands = 0
        while True:
            commands += 1
            if commands % _COMMANDS_IN_A_ROW == 0:
                await asyncio.sleep(0)
            line = await self._read_line()
            verb, argument = ("", "") if isinstance(line, Reply) else split_line(line)
            if verb in _HTTP:
                return await self._refuse(replies.NOT_SMTP)
            if verb in _LAST_OF_GROUP and self._has_input():
                return await self._refuse(replies.OUT_OF_STEP)
            reply = line if isinstance(line, Reply) else await self._answer(verb, argument)
            if reply is replies.TOO_MANY_GUESSES:
                return await self._refuse(reply)
            if self._dialogue.is_tiresome(verb, reply):
                return await self._refuse(replies.TOO_MANY_ERRORS)
            await self._send(reply, more=self._dialogue.keywords if verb == "EHLO" and reply.is_positive else ())
            if reply is replies.BYE:
                return None
            if reply is replies.READY_FOR_TLS:
                await self._begin_tls()

    @property
    def _patience_s(self) -> float:
        return self._options.command_timeout_s if self._dialogue.may_send else self._options.stranger_timeout_s

    async def _read_line(self, *, is_response: bool = False) -> str | Reply:
        """Wait for a command line, or a line of AUTH's exchange; a Reply says why what came is none."""
        if self._is_stopping:
            raise _Stopping
        now_s = asyncio.get_running_loop().time()
        if self._dialogue.may_send:
            self._login_by_s = now_s + self._options.stranger_timeout_s  # for a login that is removed
            ends_at_s = min(self._ends_at_s, now_s + self._options.command_timeout_s)
        else:  # in all, not for each command: a stranger who says NOOP now and then would stay for an hour
            ends_at_s = min(self._ends_at_s, self._login_by_s)
        if ends_at_s <= now_s:
            raise TimeoutError
        self._is_idle = True
        try:
            async with asyncio.timeout_at(ends_at_s):
                raw = await self._read_raw_line()
        finally:
            self._is_idle = False
        if is_response or raw[:5].upper() == b"AUTH ":
            if len(raw) > MAX_RESPONSE_BYTES:
                return replies.RESPONSE_TOO_LONG
        elif len(raw) > MAX_COMMAND_BYTES:
            return replies.LINE_TOO_LONG
        if not raw.endswith(b"\r\n"):
            return replies.BARE_LINE_END
        try:
            line = raw[:-2].decode()
        except UnicodeDecodeError:
            return replies.BAD_CHARACTER
        return replies.BAD_CHARACTER if _CONTROL.search(line) else line

    async def _read_raw_line(self) -> bytes:
        """Read through the next LF; of a line beyond the reader's limit, the last block that was too much."""
        surplus = b""
        while True:
            try:
                raw = await self._reader.readuntil(b"\n")
            except asyncio.LimitOverrunError as overrun:
                surplus = await self._reader.readexactly(overrun.consumed)
            else:
                return surplus + raw

    async def _answer(self, verb: str, argument: str) -> Reply:
        """Do what the command asks. An exception is our fault: 451, and the transaction is over."""
        try:
            if verb == "AUTH":
                return await self._log_in(argument)
            if verb != "DATA":
                return self._dialogue.answer(verb, argument)
            envelope = self._dialogue.envelope(argument)
            return envelope if isinstance(envelope, Reply) else await self._take_message(envelope)
        except (ConnectionError, asyncio.IncompleteReadError, TimeoutError):
            raise
        except Exception:  # a fault of ours in one command must not look permanent, nor end the session
            self._dialogue.reset()
            reference = secrets.token_hex(4)
            log.exception("command_failed", reference=reference)
            return replies.local_error(reference)

    async def _log_in(self, argument: str) -> Reply:
        """Hold AUTH's exchange and let the client in, or not; an answer to a wrong guess comes late."""
        refusal = self._dialogue.refuse_auth()
        if refusal is not None:
            return refusal
        guesses = self._access.guesses
        # A peer that may send without a login gains nothing by guessing, and blocking one would block its neighbours.
        if not self._trusted and guesses.is_blocked(self.client_address):
            LOGINS.labels("blocked").inc()
            return replies.TOO_MANY_GUESSES
        claim = await auth.converse(argument, self._ask)
        if isinstance(claim, Reply) and claim is not replies.WRONG_LOGIN:
            return claim
        credential = claim if isinstance(claim, Reply) else await self._access.gate.admit(claim)
        # Others of this address failed meanwhile: guesses over many connections at a time must be no more guesses.
        if not self._trusted and guesses.is_blocked(self.client_address):
            LOGINS.labels("blocked").inc()
            return replies.TOO_MANY_GUESSES
        if credential is replies.WRONG_LOGIN:
            LOGINS.labels("refused").inc()
            log.warning("login_refused", client=self.client_address)  # what was given as a name may be a password
            await asyncio.sleep(guesses.add(self.client_address))
            is_last = not self._trusted and guesses.is_blocked(self.client_address)
            return replies.TOO_MANY_GUESSES if is_last else replies.WRONG_LOGIN
        if isinstance(credential, Reply):
            LOGINS.labels("unavailable").inc()
            return credential
        LOGINS.labels("accepted").inc()
        self._dialogue.credential = credential
        return replies.AUTHENTICATED

    async def _ask(self, challenge: Reply) -> bytes | Reply:
        await self._send(challenge)
        line = await self._read_line(is_response=True)
        return line if isinstance(line, Reply) else line.encode()

    async def _begin_tls(self) -> None:
        """Put TLS under both streams; ConnectionError: the handshake failed, and the connection is of no use."""
        if self._access.tls is None or self._has_input():  # read in clear between the reply and now: injected
            raise ConnectionAbortedError
        self._access.tls.warn(self._clock())
        self._over_ssl = True  # the base class then does not try to keep a half-closed connection open
        try:
            transport = await asyncio.get_running_loop().start_tls(
                self._writer.transport,
                self,
                self._access.tls.context,
                server_side=True,
                ssl_handshake_timeout=self._options.stranger_timeout_s,
                ssl_shutdown_timeout=LINGER_S,
            )
        except OSError as error:  # TLS errors and time-outs are among them
            HANDSHAKES.labels("failed").inc()
            log.info("tls_failed", client=self.client_address, error=replies.sanitize(str(error)))
            self.connection_lost(error)  # of a handshake that fails the loop tells nobody
            raise ConnectionAbortedError from error
        if transport is None:  # the client left during the handshake
            HANDSHAKES.labels("failed").inc()
            self.connection_lost(None)
            raise ConnectionAbortedError
        HANDSHAKES.labels("done").inc()
        self.transport = self._transport = transport
        self._reader._transport = self._writer._transport = transport  # type: ignore[attr-defined] # noqa: SLF001
        self._dialogue.secure()

    async def _take_message(self, envelope: Envelope) -> Reply:
        """Say 354, read the message, hand it over; return the reply to the final dot."""
        if self._memory.is_short():
            return replies.NO_MEMORY
        incoming = Incoming(self._memory, max_bytes=self._options.max_message_bytes)
        try:
            data.begin(self._reader)
            await self._send(replies.GO_AHEAD)
            async with data.Pace(lambda: self._received_bytes, self._options):
                await data.read_message(self._reader, incoming)
        except BaseException:
            incoming.close()
            raise
        finally:
            self._dialogue.reset()
        if incoming.refusal is not None:
            return incoming.refusal
        RECEIVED.inc(incoming.size_bytes)
        credential = self._dialogue.credential
        session = Session(
            client_address=self.client_address,
            helo=self._dialogue.helo,
            esmtp=self._dialogue.esmtp,
            tls=self._dialogue.is_secure,
            caller=credential.name if credential is not None else "",
            trusted=self._trusted,
            permission=credential.permission if credential is not None else None,
        )
        submission_of = partial(Submission, session=session, envelope=envelope, received_at=self._clock())
        try:
            reply = await self._acceptances.run(incoming, lambda message: submission_of(message=message))
        except asyncio.CancelledError:
            # It will send again what we may have: the one duplicate that SMTP cannot avoid (RFC 1047).
            log.warning("client_left_during_acceptance", client=self.client_address)
            raise
        self._dialogue.finish()
        return reply

    # --- the stream ---------------------------------------------------------------------------------------

    def _has_input(self) -> bool:
        """Tell whether the client has sent more than we have read; the library has no public way to ask."""
        return bool(self._reader._buffer)  # type: ignore[attr-defined]  # noqa: SLF001

    async def _send(self, reply: Reply, *, more: tuple[str, ...] = ()) -> None:
        """Write, and wait for a client that does not read: its replies must not pile up here."""
        self._write(reply, more=more)
        if self._writer.transport.get_write_buffer_size():
            async with asyncio.timeout(self._patience_s):
                await self._writer.drain()

    def _write(self, reply: Reply, *, more: tuple[str, ...] = ()) -> None:
        text = replies.multiline(reply.code, more) if more else reply.line()
        REPLIES.labels(reply.code).inc()
        self._writer.write(text.encode("ascii") + b"\r\n")

    async def _refuse(self, reply: Reply) -> None:
        """Say the last word, then drop what the client still sends: unread, it would reset the connection first."""
        self._write(reply)
        if self._writer.can_write_eof():
            self._writer.write_eof()
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                while await self._reader.read(self.line_length_limit):
                    pass

    def _hang_up(self) -> None:
        """Close; a client that reads nothing does not keep the connection open for ever.

        One that ends TLS itself ends the library's limit on that, too: what is left in the socket then waits for ever.
        """
        self._writer.transport.close()
        if not self._is_lost or self._socket_transport.get_write_buffer_size():
            self._last_call = asyncio.get_running_loop().call_later(LINGER_S, self.abort)
