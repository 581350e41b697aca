"""A tracking host that runs on loopback with a journal behind it, and a client that sends exactly what it is told."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from tests.unit.hits import BROWSER, RULES, SETTINGS
from tests.unit.tokens import NOW
from tracker.app import TrackerOptions
from tracker.contract.events import JournalRecord
from tracker.contract.records import decode
from tracker.core.hit import HitRecord, HitSettings
from tracker.journal.group import Tell
from tracker.journal.reader import JournalReader
from tracker.journal.writer import Journal
from tracker.runtime.places import Places
from tracker.web.app import TrackingHost

KEY = bytes(range(32))
FIELDS = "".join(f"{name}: {value}\r\n" for name, value in BROWSER.items())


@dataclass
class Answer:
    """A response, taken apart."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def fields(self) -> dict[str, str]:
        return {name.lower(): value for name, value in self.headers}


@dataclass
class Host:
    """A tracking host that runs, and what it wrote."""

    address: tuple[str, int]
    root: Path
    settings: HitSettings = SETTINGS
    not_ready: str | None = None
    record: Callable[[HitRecord], object] | None = None
    max_connections: int = 4096
    max_hits: int = 1000

    async def send(self, raw: bytes) -> bytes:
        """Send bytes, read until the host closes."""
        reader, writer = await asyncio.open_connection(*self.address)
        writer.write(raw)
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer

    async def ask(self, target: str, *, method: str = "GET", fields: str = FIELDS, version: str = "1.1") -> Answer:
        """Ask once, as a browser does, on a connection of its own."""
        request = f"{method} {target} HTTP/{version}\r\nHost: any.example\r\nConnection: close\r\n{fields}\r\n"
        return parse(await self.send(request.encode("utf-8", "surrogateescape")))

    def records(self) -> list[JournalRecord]:
        """Read what is in the journal."""
        batches = JournalReader(self.root, slot_is_free=lambda slot: False).read({})
        return [decode(entry) for batch in batches for entry in batch.entries if isinstance(entry, bytes)]


def parse(raw: bytes) -> Answer:
    """Take a response apart."""
    head, _, body = raw.partition(b"\r\n\r\n")
    line, *fields = head.decode("ascii").split("\r\n")
    pairs = [entry.partition(": ") for entry in fields]
    return Answer(int(line.split()[1]), [(name, value) for name, _, value in pairs], body)


@asynccontextmanager
async def run_host(folder: Path) -> AsyncIterator[Host]:
    """Run a host whose journal is in the folder."""
    journal = Journal(folder / "journal" / "00")
    await journal.open()
    running: Host

    def post(hit: HitRecord, tell: Tell) -> None:
        if running.record is not None:
            running.record(hit)
        journal.post(hit, tell)

    tracking = TrackingHost(
        settings=lambda: running.settings,
        post=post,
        max_hits=lambda: running.max_hits,
        max_connections=lambda: running.max_connections,
        verification_key=KEY,
        not_ready=lambda: running.not_ready,
        clock=lambda: NOW,
    )
    listening = socket.create_server(("127.0.0.1", 0))
    running = Host(address=listening.getsockname(), root=folder / "journal")
    await tracking.start([listening])
    try:
        yield running
    finally:
        await tracking.drain()
        await journal.close()


def tracker_options(folder: Path) -> TrackerOptions:
    """Return what a whole tracker goes by, all of it in a folder."""
    return TrackerOptions(
        journal_root=folder,
        journal_slot=folder / "00",
        journal_keep=timedelta(days=1),
        storage=folder / "mailwake.db",
        hostname="relay.example.com",
        record_address="truncated",
        trusted_proxies=(),
        rules=RULES,
        places=Places(),
        max_hits=1000,
        max_connections=4096,
        journal_max_bytes=1 << 30,
        keep=timedelta(days=60),
        keep_statistics=timedelta(days=1825),
    )
