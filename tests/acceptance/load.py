"""Many messages to a service, as fast as it takes them or so many a second, and when each got its 250."""

import asyncio
import time
from collections.abc import Iterator, Sequence

from tests.acceptance.service import Service

_TEXT = (
    "From: news@shop.example\r\nTo: ana@client.example\r\nSubject: {subject}\r\nMIME-Version: 1.0\r\n"
    "Content-Type: text/html; charset=utf-8\r\n\r\n"
    '<html><body><a href="https://shop.example/lamp">Lamp</a></body></html>\r\n.'
)
REPLY_LIMIT_S = 60.0


def offer(
    service: Service, subjects: Sequence[str], *, per_s: float | None = None, sessions: int = 16
) -> dict[str, float]:
    """Send a message for each subject over sessions that stay open; return when each was accepted, by its subject.

    `per_s` spaces their beginnings evenly, as long as a session is free.
    """
    accepted: dict[str, float] = {}
    waiting = iter(enumerate(subjects))
    asyncio.run(_offer(service.addresses["relay"], waiting, accepted, per_s=per_s, sessions=sessions))
    return accepted


async def _offer(
    address: tuple[str, int],
    waiting: Iterator[tuple[int, str]],
    accepted: dict[str, float],
    *,
    per_s: float | None,
    sessions: int,
) -> None:
    start_s = time.monotonic()

    async def work() -> None:
        client = Client(*address)
        await client.open()
        for number, subject in waiting:
            if per_s is not None:
                await asyncio.sleep(max(0.0, start_s + number / per_s - time.monotonic()))
            await client.send(_TEXT.format(subject=subject))
            accepted[subject] = time.monotonic()
        await client.close()

    await asyncio.gather(*(work() for _ in range(sessions)))


class Client:
    """One session; `source` is the address that it comes from. `waits_s` are the times of its replies."""

    def __init__(self, host: str, port: int, *, source: str | None = None) -> None:
        """Remember where to; `open` connects."""
        self.waits_s: list[float] = []
        self._address = host, port
        self._source = (source, 0) if source is not None else None

    async def connect(self) -> None:
        """Connect, and read nothing yet."""
        self.reader, self.writer = await asyncio.open_connection(*self._address, local_addr=self._source)

    async def open(self) -> None:
        """Connect and say EHLO."""
        await self.connect()
        await self._reply(b"220")
        await self.ask("EHLO client.example")

    async def send(self, message: str, recipient: str = "ana@client.example") -> None:
        """Have one message accepted; `message` ends with the line of its dot, without its line end."""
        await self.ask("MAIL FROM:<news@shop.example>")
        await self.ask(f"RCPT TO:<{recipient}>")
        await self.ask("DATA", b"354")
        await self.ask(message)

    async def ask(self, line: str, expected: bytes = b"250") -> None:
        """Send a command, or a message, and read its reply."""
        began_s = time.monotonic()
        self.writer.write(line.encode() + b"\r\n")
        await self._reply(expected)
        self.waits_s.append(time.monotonic() - began_s)

    async def close(self) -> None:
        """Say QUIT."""
        await self.ask("QUIT", b"221")
        self.writer.close()

    async def _reply(self, expected: bytes) -> None:
        while True:
            line = await asyncio.wait_for(self.reader.readline(), REPLY_LIMIT_S)
            if line[3:4] != b"-":
                break
        assert line.startswith(expected), line
