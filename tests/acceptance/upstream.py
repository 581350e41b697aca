"""An upstream that takes mail for real, and counts what it took by copy and by recipient. It can be down, or slow."""

import asyncio
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from aiosmtpd.smtp import SMTP, Envelope, Session

_LARGEST_BYTES: Final = 64 << 20


@dataclass
class Upstream:
    """`begun` are copies whose dot it has read, `taken` those that it said 250 to, by `X-Mailwake-Copy`.

    `subjects` are what it took, by subject and recipient. Before `listen` it refuses connections; before `open` nobody
    gets the reply to the dot.
    """

    begun: Counter[str] = field(default_factory=Counter)
    taken: Counter[str] = field(default_factory=Counter)
    subjects: Counter[tuple[str, str]] = field(default_factory=Counter)
    port: int = 0
    listen: Callable[[], None] = lambda: None
    open: Callable[[], None] = lambda: None
    _is_open: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        content = envelope.content
        assert isinstance(content, bytes)
        head = content.partition(b"\r\n\r\n")[0].decode("ascii", "replace").splitlines()
        names = dict(line.split(": ", 1) for line in head if ": " in line)
        self.begun[names["X-Mailwake-Copy"]] += 1
        await self._is_open.wait()
        self.taken[names["X-Mailwake-Copy"]] += 1
        for recipient in envelope.rcpt_tos:
            self.subjects[names["Subject"], recipient] += 1
        return "250 2.0.0 Taken"


@contextmanager
def counting_upstream(*, is_up: bool = True, is_open: bool = True) -> Iterator[Upstream]:
    """Run a real SMTP server on a loop of its own: aiosmtpd's Controller cannot be given a bound socket.

    Where it is not up, or not open, it waits for `listen`, or `open`.
    """
    upstream = Upstream()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    upstream.port = bound.getsockname()[1]

    def session() -> SMTP:
        return SMTP(upstream, hostname="mx.client.example", loop=loop, data_size_limit=_LARGEST_BYTES)

    async def serve() -> asyncio.Server:
        return await loop.create_server(session, sock=bound, start_serving=False)

    async def let_go() -> None:
        upstream._is_open.set()

    async def end(server: asyncio.Server) -> None:
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    server = asyncio.run_coroutine_threadsafe(serve(), loop).result(10)
    upstream.listen = lambda: asyncio.run_coroutine_threadsafe(server.start_serving(), loop).result(10)
    upstream.open = lambda: asyncio.run_coroutine_threadsafe(let_go(), loop).result(10)
    if is_open:
        upstream.open()
    if is_up:
        upstream.listen()
    try:
        yield upstream
    finally:
        asyncio.run_coroutine_threadsafe(end(server), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
