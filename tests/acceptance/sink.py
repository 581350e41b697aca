"""An SMTP server as the upstream of a process: it counts what it takes, wants a password, says that it gets too much.

Runs on a loop and a thread of its own, and costs little: what is measured beside it is the relay.
"""

import asyncio
import base64
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, Self

_DOT: Final = b"\r\n.\r\n"
_HELLO: Final = b"250-sink.example\r\n250-8BITMIME\r\n250-AUTH PLAIN LOGIN\r\n250 SIZE 99999999\r\n"
THROTTLED: Final = b"454 4.7.0 Throttling failure: Maximum sending rate exceeded\r\n"


@dataclass
class Sink:
    """`taken` has the times of each message by its subject; `password`, where there is one, is wanted of the client.

    `throttle_every`: each so many-th final dot is answered that it is too much. `is_up`: False refuses connections.
    """

    password: str | None = None
    throttle_every: int = 0
    dots: int = 0
    logins_refused: int = 0
    taken: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    port: int = 0
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _server: asyncio.Server | None = None
    _open: set[asyncio.Transport] = field(default_factory=set)

    @property
    def url(self) -> str:
        """What the relay is told."""
        return f"smtp://127.0.0.1:{self.port}"

    def listen(self) -> None:
        """Take connections, always on the same port."""
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)

    def go_down(self) -> None:
        """Cut all connections, and take none."""
        asyncio.run_coroutine_threadsafe(self._go_down(), self._loop).result(10)

    def hang_up(self) -> None:
        """Cut all connections: the next ones log in again."""
        self._loop.call_soon_threadsafe(self._cut)

    async def _listen(self) -> None:
        listening = socket.create_server(("127.0.0.1", self.port))
        self.port = listening.getsockname()[1]
        self._server = await self._loop.create_server(lambda: _Session(self), sock=listening, backlog=256)

    async def _go_down(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        self._cut()

    def _cut(self) -> None:
        for transport in self._open:
            transport.abort()

    def joined(self, transport: asyncio.Transport) -> None:
        """Note a connection."""
        self._open.add(transport)

    def left(self, transport: asyncio.Transport) -> None:
        """Forget it."""
        self._open.discard(transport)

    def answer_dot(self, message: bytes) -> bytes:
        """Take a message, or not."""
        self.dots += 1
        if self.throttle_every and self.dots % self.throttle_every == 0:
            return THROTTLED
        at = message.find(b"\r\nSubject: ") + 11
        self.taken[message[at : message.find(b"\r\n", at)].decode("ascii", "replace")].append(time.monotonic())
        return b"250 2.0.0 Taken\r\n"

    def answer_auth(self, argument: bytes) -> bytes:
        """Let the password in that is right now."""
        given = base64.b64decode(argument.partition(b" ")[2]).rpartition(b"\0")[2].decode()
        if self.password is not None and given != self.password:
            self.logins_refused += 1
            return b"535 5.7.8 Authentication credentials invalid\r\n"
        return b"235 2.7.0 Welcome\r\n"

    def __enter__(self) -> Self:
        """Start the thread, and listen."""
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.listen()
        return self

    def __exit__(self, *_: object) -> None:
        """End the thread."""
        self.go_down()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


class _Session(asyncio.Protocol):
    """One connection. Its client must not pipeline behind DATA; the relay does not."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._buffer = b""
        self._in_data = False
        self._is_known = sink.password is None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._sink.joined(transport)
        transport.write(b"220 sink.example ESMTP\r\n")

    def connection_lost(self, exc: Exception | None) -> None:
        self._sink.left(self._transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(_DOT if self._in_data else b"\r\n")) >= 0:
            if self._in_data:
                message, self._buffer = self._buffer[:end], self._buffer[end + len(_DOT) :]
                self._in_data = False
                self._transport.write(self._sink.answer_dot(message))
            else:
                line, self._buffer = self._buffer[:end], self._buffer[end + 2 :]
                self._transport.write(self._answer(line))

    def _answer(self, line: bytes) -> bytes:
        verb, _, argument = line.partition(b" ")
        match verb.upper():
            case b"EHLO":
                return _HELLO
            case b"AUTH":
                reply = self._sink.answer_auth(argument)
                self._is_known = reply.startswith(b"235")
                return reply
            case b"MAIL" if not self._is_known:
                return b"530 5.7.0 Authentication required\r\n"
            case b"DATA":
                self._in_data = True
                return b"354 Go ahead\r\n"
            case b"QUIT":
                self._transport.write(b"221 2.0.0 Bye\r\n")
                self._transport.close()
                return b""
            case _:
                return b"250 2.0.0 Ok\r\n"


@contextmanager
def forwarding(targets: list[tuple[str, int]]) -> Iterator[int]:
    """Lead connections on, as a load balancer does, to the first of `targets` at that moment; give the port."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    copies: set[asyncio.Task[None]] = set()

    async def lead(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(*targets[0])
        for source, target in ((reader, there_writer), (there_reader, writer)):
            task = asyncio.create_task(_copy(source, target))
            copies.add(task)
            task.add_done_callback(copies.discard)

    async def end() -> None:
        server.close()
        for task in copies:
            task.cancel()

    listening = socket.create_server(("127.0.0.1", 0))
    server = asyncio.run_coroutine_threadsafe(asyncio.start_server(lead, sock=listening), loop).result(10)
    try:
        yield listening.getsockname()[1]
    finally:
        asyncio.run_coroutine_threadsafe(end(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    try:
        while block := await source.read(1 << 16):
            target.write(block)
            await target.drain()
    except ConnectionError:
        pass  # either end left
    finally:
        target.close()
