"""What large mail does to the relay: 25 MB of nothing but line ends from several clients at once, and a small client.

Lines without anything in them are the worst that a reader can get: a server that reads by lines spends minutes on them.
Each client sends one message of the size that the relay announces. A further client sends small messages one after the
other, before and meanwhile, and measures each reply it waits for: those to commands apart from those to the dot, which
come when the message is on the disk. What the disk alone takes is measured beside it: a file of 4 KB is made durable on
the same disk every 50 ms (`disk_ms`). CPU and memory are those of the serving process, until every message is at the
sink and it has come to rest; the memory is sampled every 10 ms.

    python -m bench.big_mail [CLIENTS] [ROUNDS]
"""

import asyncio
import json
import os
import shutil
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from bench._measure import cpu_s, summary, write
from bench.relay import CONFIG, PYTHON, Process

_SIZE = 25 << 20
_HEAD = b"From: Shop <news@shop.example>\r\nTo: ana@client.example\r\nSubject: Nothing\r\n"
_SMALL = _HEAD + b"\r\nHello\r\n"
_ROOT = Path(__file__).resolve().parent.parent


def _shapes() -> dict[str, bytes]:
    """Make the messages as they go on the wire, without the final dot."""
    space = _SIZE - len(_HEAD) - 2
    return {
        "line_ends": _HEAD + b"\r\n" * (space // 2 + 1),
        "dots": _HEAD + b"\r\n" + b"..\r\n" * (space // 3),
    }


class _Client:
    """One session that stays open, and how long each of its replies took."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.waits_ms: list[float] = []  # of commands
        self.dots_ms: list[float] = []  # of messages, which lie on the disk then

    async def open(self) -> None:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        await self._reader.readline()
        await self._ask(b"EHLO client.example")

    async def send(self, message: bytes) -> None:
        for line in (b"MAIL FROM:<news@shop.example>", b"RCPT TO:<ana@client.example>", b"DATA"):
            await self._ask(line)
        for start in range(0, len(message), 1 << 18):
            self._writer.write(message[start : start + (1 << 18)])
            await self._writer.drain()
        reply = await self._ask(b".")
        if not reply.startswith(b"250"):
            raise RuntimeError(f"the relay answered {reply!r}")

    async def close(self) -> None:
        await self._ask(b"QUIT")
        self._writer.close()

    async def _ask(self, line: bytes) -> bytes:
        began = time.perf_counter()
        self._writer.write(line + b"\r\n")
        while True:
            reply = await self._reader.readline()
            if reply[3:4] != b"-":
                waits_ms = self.dots_ms if line == b"." else self.waits_ms
                waits_ms.append((time.perf_counter() - began) * 1000)
                return reply


async def _repeat(client: _Client, stop: asyncio.Event) -> None:
    while not stop.is_set():
        await client.send(_SMALL)
        await asyncio.sleep(0.005)


async def _watch_memory(pid: int, stop: asyncio.Event) -> float:
    most = 0.0
    while True:
        most = max(most, _resident_mb(pid))
        with suppress(TimeoutError):
            async with asyncio.timeout(0.01):
                await stop.wait()
                return most


async def _watch_disk(stop: asyncio.Event) -> list[float]:
    """Return how long it took each time to make a small file durable."""
    waits_ms: list[float] = []
    with tempfile.TemporaryDirectory(prefix="mailwake-bench-") as folder:
        while not stop.is_set():
            waits_ms.append(await asyncio.to_thread(_flush_ms, Path(folder) / "probe"))
            await asyncio.sleep(0.05)
    return sorted(waits_ms)


def _flush_ms(path: Path) -> float:
    began = time.perf_counter()
    with path.open("wb") as file:
        file.write(bytes(4096))
        os.fsync(file.fileno())
    took_ms = (time.perf_counter() - began) * 1000
    path.unlink()
    return took_ms


async def _measure(pid: int, port: int, *, sink: Process, message: bytes, clients: int) -> dict[str, float]:
    small = _Client(port)
    await small.open()
    for _ in range(100):
        await small.send(_SMALL)
        await asyncio.sleep(0.005)
    before = {"reply": sorted(small.waits_ms), "dot_reply": sorted(small.dots_ms)}
    small.waits_ms.clear()
    small.dots_ms.clear()
    await _rest(pid)
    cpu_before, memory_before, taken = cpu_s(pid), _resident_mb(pid), sink.ask()
    idle = asyncio.Event()
    memory = asyncio.create_task(_watch_memory(pid, idle))
    large = [_Client(port) for _ in range(clients)]
    for client in large:
        await client.open()
    done = asyncio.Event()
    repeating = asyncio.create_task(_repeat(small, done))
    disk = asyncio.create_task(_watch_disk(done))
    began = time.monotonic()
    await asyncio.gather(*(client.send(message) for client in large))
    accepted_s = time.monotonic() - began
    done.set()
    await repeating
    small_count = len(small.dots_ms)
    while sink.ask() < taken + clients + small_count:  # noqa: ASYNC110 - another process has no event
        await asyncio.sleep(0.02)
    await _rest(pid)
    idle.set()
    for client in (small, *large):
        await client.close()
    during = {"reply": sorted(small.waits_ms), "dot_reply": sorted(small.dots_ms), "disk": await disk}
    return {
        "cpu_s_per_large_message": (cpu_s(pid) - cpu_before) / clients,
        "accepted_in_s": accepted_s,
        "memory_growth_mb": await memory - memory_before,
        "memory_after_mb": _resident_mb(pid) - memory_before,
        "small_messages_meanwhile": small_count,
        **_waits("before", before),
        **_waits("meanwhile", during),
    }


def _waits(when: str, found: dict[str, list[float]]) -> dict[str, float]:
    return {
        f"{kind}_ms_{when}_{name}": waits_ms[min(int(len(waits_ms) * share), len(waits_ms) - 1)]
        for kind, waits_ms in found.items()
        for name, share in (("median", 0.5), ("p95", 0.95), ("worst", 1.0))
    }


def _resident_mb(pid: int) -> float:
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


async def _rest(pid: int) -> None:
    """Wait until half a second costs next to nothing."""
    last = cpu_s(pid)
    while True:
        await asyncio.sleep(0.5)
        now = cpu_s(pid)
        if now - last < 0.03:
            return
        last = now


def main() -> None:
    """Measure every shape in a process of its own and write the result."""
    clients = int(sys.argv[1]) if len(sys.argv) > 1 else 4
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    figures: dict[str, dict[str, dict[str, float]]] = {}
    for name, message in _shapes().items():
        folder = Path(tempfile.mkdtemp(prefix="mailwake-bench-"))
        started: list[Process] = []
        try:
            sink = Process(PYTHON, "-m", "bench._peers", "sink", cwd=_ROOT)
            started.append(sink)
            (folder / "config.toml").write_text(CONFIG.format(port=sink.first_line.strip()))
            command = str(Path(PYTHON).with_name("mailwake"))
            ours = Process(command, "serve", "--json", "--config", str(folder / "config.toml"), cwd=folder)
            started.append(ours)
            port = int(json.loads(ours.first_line)["listening"]["relay"][0].rpartition(":")[2])
            found = [
                asyncio.run(_measure(ours.pid, port, sink=sink, message=message, clients=clients))
                for _ in range(rounds)
            ]
        finally:
            for process in reversed(started):
                process.end()
            shutil.rmtree(folder)
        figures[name] = {key: summary(round_[key] for round_ in found) for key in found[0]}
    write("big_mail", {"clients": clients, "rounds": rounds, "message_bytes": _SIZE, **figures}, ["aiosmtpd"])


if __name__ == "__main__":
    main()
