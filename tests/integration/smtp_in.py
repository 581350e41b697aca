"""What the tests of the SMTP listener share: a listener on loopback, the mail it took, a client that speaks bytes."""

import asyncio
import re
import socket
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import ip_network
from tempfile import TemporaryFile
from typing import BinaryIO

from relay.core import reply as replies
from relay.core.reply import Reply
from relay.core.submission import Submission
from relay.smtp.access import Access
from relay.smtp.auth import Gate
from relay.smtp.guessing import Guesses
from relay.smtp.listener import Listener
from relay.smtp.memory import MessageMemory
from relay.smtp.options import ListenerOptions
from relay.smtp.passwords import Passwords
from tracker.contract.credentials import CredentialBook
from tracker.runtime.tls import ServerTls

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
OPTIONS = ListenerOptions(
    hostname="relay.example",
    max_message_bytes=1_000_000,
    max_recipients=5,
    max_connections=50,
    max_connections_per_address=20,
    allow_networks=LOOPBACK,
)
REPLY_LINE = re.compile(rb"[2-5][0-5][0-9][ -](?:[245]\.[0-9]{1,3}\.[0-9]{1,3} )?[ -~]*")


@dataclass
class Inbox:
    """The mail that was handed over; `answer` replaces the 250, `refusal` answers MAIL, `is_short` refuses all."""

    mail: list[Submission] = field(default_factory=list)
    answer: Callable[[Submission], Awaitable[Reply]] | None = None
    refusal: Reply | None = None
    is_short: bool = False

    async def accept(self, submission: Submission) -> Reply:
        self.mail.append(submission)
        return replies.queued(f"{len(self.mail)}") if self.answer is None else await self.answer(submission)

    def admit(self) -> Reply | None:
        return self.refusal


NO_LOGINS = CredentialBook(declared={}, stored={})


def access(
    book: CredentialBook | Callable[[], CredentialBook] = NO_LOGINS,
    *,
    tls: ServerTls | None = None,
    require_tls: bool = False,
    passwords: Passwords | None = None,
    max_failures: int = 1000,
) -> Access:
    """Return what a listener knows of TLS and logins."""
    return Access(
        gate=Gate(book if callable(book) else lambda: book, passwords or Passwords(time.monotonic)),
        guesses=Guesses(limit=max_failures, block_s=900.0, monotonic_s=time.monotonic),
        tls=tls,
        require_tls=require_tls,
    )


@dataclass
class Service:
    """A listener that runs, and where; `tls_port` is the one where TLS begins at once."""

    listener: Listener
    port: int
    tls_port: int


def _scratch() -> BinaryIO:
    return TemporaryFile(buffering=0)


@asynccontextmanager
async def serving(
    inbox: Inbox,
    options: ListenerOptions = OPTIONS,
    *,
    host: str = "127.0.0.1",
    send_buffer_bytes: int | None = None,
    logins: Access | None = None,
    hold_bytes: int = 1 << 24,
) -> AsyncIterator[Service]:
    """Run a listener on a free port of loopback; its connections inherit the size of the kernel's buffer."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock, tls_sock = (socket.socket(family, socket.SOCK_STREAM) for _ in range(2))
    for bound in (sock, tls_sock):
        if send_buffer_bytes is not None:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer_bytes)
        bound.bind((host, 0))
    memory = MessageMemory(hold_bytes=hold_bytes, load_bytes=1 << 26, scratch=_scratch, is_short=lambda: inbox.is_short)
    listener = Listener(options, inbox.accept, inbox.admit, logins or access(), lambda: NOW, memory=memory)
    await listener.start([sock], tls_sockets=[tls_sock])
    try:
        yield Service(listener, sock.getsockname()[1], tls_sock.getsockname()[1])
    finally:
        await listener.drain(0.0)


class Wire:
    """A client that sends what it is told and reads replies, of one line or several."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def reply(self) -> str:
        """Read one whole reply, its lines joined by a bar; empty at the end of the stream."""
        lines = []
        while line := await asyncio.wait_for(self.reader.readline(), 10):
            assert line.endswith(b"\r\n")
            assert REPLY_LINE.fullmatch(line[:-2]), line
            lines.append(line[:-2].decode())
            if line[3:4] == b" ":
                break
        return "|".join(lines)

    def send(self, raw: bytes) -> None:
        """Write and do not wait."""
        self.writer.write(raw)

    async def ask(self, command: str) -> str:
        """Send a command and read its reply."""
        self.send(command.encode() + b"\r\n")
        return await self.reply()

    async def open_data(self, sender: str = "<ana@shop.example>", *recipients: str) -> None:
        """Come to the 354 of a transaction."""
        assert (await self.ask(f"MAIL FROM:{sender}")).startswith("250 2.1.0")
        for recipient in recipients or ("<bo@home.example>",):
            assert (await self.ask(f"RCPT TO:{recipient}")).startswith("250 2.1.5")
        assert (await self.ask("DATA")).startswith("354 ")

    def reset(self) -> None:
        """Leave with a reset, as a program that is killed with unread data does."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def rest(self) -> list[str]:
        """Read every further reply, to the end of the stream."""
        found = []
        while reply := await self.reply():
            found.append(reply)
        return found


@asynccontextmanager
async def dialing(port: int, *, hello: bool = True, host: str = "127.0.0.1") -> AsyncIterator[Wire]:
    """Connect; with `hello`, read the greeting and say EHLO."""
    wire = Wire(*await asyncio.open_connection(host, port))
    try:
        if hello:
            assert (await wire.reply()).startswith("220 ")
            assert (await wire.ask("EHLO client.example")).startswith("250-")
        yield wire
    finally:
        wire.writer.close()
        await asyncio.wait([asyncio.ensure_future(wire.writer.wait_closed())])
