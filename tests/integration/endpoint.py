"""A receiver of webhooks on loopback that answers each request as it is told to, down to the bytes."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tracker.contract.settings import EventDestination

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it came; names of header fields are in lower case."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def events(self) -> list[str]:
        """The events' ids, of a list or of one."""
        found: Any = json.loads(self.body)
        return [one["mailwake"]["eventId"] for one in (found if isinstance(found, list) else [found])]


@dataclass
class Endpoint:
    """The receiver; the last of `answers` is given again and again."""

    answers: list[Answer]
    host: str = "127.0.0.1"
    port: int = 0
    connections: int = 0
    requests: list[Request] = field(default_factory=list)
    serving: set[asyncio.Future[None]] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}/hook"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while request := await _read(reader):
                self.requests.append(request)
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                await answer(writer)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass  # the other side has gone
        finally:
            writer.transport.abort()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.serving.add(asyncio.ensure_future(self.serve(reader, writer)))


@asynccontextmanager
async def receiving(*answers: Answer, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[Endpoint]:
    """Serve while inside; without answers each request is answered 204."""
    endpoint = Endpoint(list(answers) or [status(204)], host)
    server = await asyncio.start_server(endpoint.accept, host, port)
    endpoint.port = server.sockets[0].getsockname()[1]
    try:
        yield endpoint
    finally:
        server.close()
        for task in endpoint.serving:
            task.cancel()
        await asyncio.gather(*endpoint.serving, return_exceptions=True)
        await server.wait_closed()


def status(code: int, *fields: str, body: bytes = b"") -> Answer:
    """Answer with a status, whole."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(_head(code, *fields, f"Content-Length: {len(body)}") + body)

    return answer


def endless(code: int, piece: bytes, sent: list[int], *fields: str) -> Answer:
    """Answer with a body that ends only with the connection; `sent` gets how many bytes went out."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(_head(code, *fields, "Content-Length: 10000000000"))
        while not writer.is_closing():
            writer.write(piece)
            await writer.drain()
            sent.append(len(piece))

    return answer


async def never(writer: asyncio.StreamWriter) -> None:
    """Take the request and say nothing."""
    await asyncio.Event().wait()


def reset_after(text: bytes) -> Answer:
    """Send the start of an answer, and break the connection."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(text)
        await writer.drain()
        writer.transport.abort()

    return answer


def webhook(
    url: str, *, name: str = "shop", batch: int = 1, secrets: Sequence[str] = (SECRET,), allow_private: bool = True
) -> EventDestination:
    """A destination that posts there."""
    kinds = frozenset({"send", "delivery", "delivery_delay", "bounce", "open", "click", "reject"})
    return EventDestination(
        name=name,
        type="webhook",
        url=url,
        secrets=tuple(secrets),
        batch=batch,
        allow_private=allow_private,
        events=kinds,
    )


def _head(code: int, *fields: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {code} Whatever", *fields, "", ""]).encode()


async def _read(reader: asyncio.StreamReader) -> Request | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.rstrip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(first.split()[1], headers, body)
