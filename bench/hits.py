"""How many hits a second does the tracking host answer, each durable before its answer, against a bare handler?

Servers of one process each, on loopback, asked in turn by `wrk` with 64 connections that stay open:

bare     `web.Application` of aiohttp with the route `/i/{token}`, which answers the same image and does nothing else
lowest   `web.Server` of aiohttp that does the same: nothing of aiohttp can be faster
pixel    the tracking host: reads the token, draws signs, writes the record, waits for the disk, answers 200
link     the same with a link's token, and answers 302

They share the machine with wrk, and `pixel` and `link` with the disk: `flush_ms` is what one flush of it takes. While
one is on its way, at most 64 hits wait for the next, so a slow disk bounds the rate whatever the CPU does. CPU time is
of the whole serving process, for one request.

    python -m bench.hits [ROUNDS] [SECONDS] [DIRECTORY]
"""

import asyncio
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import partial
from importlib.resources import files
from pathlib import Path

from aiohttp import web

from bench._measure import ROOT, cpu_s, in_turn, median_ratio, summary, write
from tracker.contract import urls
from tracker.contract.ids import CopyId, MessageId
from tracker.contract.token import BodyPart, LinkPayload, Purpose, TokenKey, TokenKeys, TokenPayload, day_of
from tracker.core.hit import PIXEL, HitSettings
from tracker.core.rules import Rules
from tracker.journal.writer import Journal
from tracker.web.app import TrackingHost

CONNECTIONS = 64
HEADERS = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Accept": "text/html,application/xhtml+xml,image/avif,image/webp,*/*;q=0.8",
    "Accept-Language": "en-GB,en;q=0.9",
}
KEYS = TokenKeys([TokenKey(key_id=1, secret=bytes(range(32)), mint_from=datetime(2026, 1, 1, tzinfo=UTC))])
_FLUSHES = 50


def main() -> None:
    """Measure, and write bench/results/hits.json."""
    if sys.argv[1:2] == ["--serve"]:
        asyncio.run(_serve(sys.argv[2], Path(sys.argv[3])))
        return
    if shutil.which("wrk") is None:
        sys.exit("wrk is not installed")
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    seconds = int(sys.argv[2]) if len(sys.argv) > 2 else 2
    folder = Path(tempfile.mkdtemp(prefix="mailwake-bench-", dir=sys.argv[3] if len(sys.argv) > 3 else None))
    try:
        _measure(rounds, seconds, folder)
    finally:
        shutil.rmtree(folder)


def _measure(rounds: int, seconds: int, folder: Path) -> None:
    samples: dict[str, list[Mapping[str, float]]] = {}
    with ExitStack() as stack:
        servers = {name: stack.enter_context(_server(name, folder)) for name in ("bare", "lowest", "host")}
        contenders = {}
        for name, server, purpose in (
            ("bare", "bare", Purpose.OPEN),
            ("lowest", "lowest", Purpose.OPEN),
            ("pixel", "host", Purpose.OPEN),
            ("link", "host", Purpose.CLICK),
        ):
            samples[name] = []
            contenders[name] = partial(_ask, *servers[server], _path(purpose), seconds, samples[name])
        in_turn(1, contenders)  # warm
        for taken in samples.values():
            taken.clear()
        rates = in_turn(rounds, contenders)
        flush_ms = _flush_ms(folder)
    figures = {
        name: {figure: summary([sample[figure] for sample in taken]) for figure in taken[0]}
        for name, taken in samples.items()
    }
    cpu = {name: [sample["cpu_us"] for sample in taken] for name, taken in samples.items()}
    result = {
        "load": f"wrk -t1 -c{CONNECTIONS} -d{seconds}s, {rounds} rounds",
        "flush_ms": flush_ms,
        "figures": figures,
        "rate_against_bare": {name: median_ratio(rates["bare"], rates[name]) for name in ("lowest", "pixel", "link")},
        "cpu_against_bare": {name: median_ratio(cpu[name], cpu["bare"]) for name in ("lowest", "pixel", "link")},
        "hits_kept": {"directory": str(folder.parent), "segments": len(list(folder.rglob("*.mwj")))},
    }
    write("hits", result, ["aiohttp", "cryptography", "msgspec"])


def _path(purpose: Purpose) -> str:
    copy = CopyId(MessageId(bytes(range(16))), bytes(range(16, 22)))
    url = "https://shop.example/offers/autumn?utm_source=newsletter&utm_campaign=42"
    link = LinkPayload(index=3, part=BodyPart.HTML, url=url) if purpose is Purpose.CLICK else None
    return urls.make("", purpose, KEYS.seal(TokenPayload(copy=copy, day=day_of(datetime.now(UTC)), link=link), 1))


def _ask(pid: int, port: int, path: str, seconds: int, taken: list[Mapping[str, float]]) -> float:
    """Let wrk ask for some seconds; note the figures, return the rate. An answer of another status ends the bench."""
    fields = [part for name, value in HEADERS.items() for part in ("-H", f"{name}: {value}")]
    command = [
        "wrk",
        "-t1",
        f"-c{CONNECTIONS}",
        f"-d{seconds}s",
        "--latency",
        *fields,
        f"http://127.0.0.1:{port}{path}",
    ]
    before_s = cpu_s(pid)
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    spent_s = cpu_s(pid) - before_s
    if "Socket errors" in text or "Non-2xx" in text:
        sys.exit(text)
    requests, rate = (float(re.findall(pattern, text)[0]) for pattern in (r"(\d+) requests in", r"sec:\s+([\d.]+)"))
    latency = {f"p{percent}_ms": _latency_ms(text, percent) for percent in (50, 99)}
    taken.append({"requests_per_s": rate, "cpu_us": spent_s / requests * 1e6, **latency})
    return rate


def _latency_ms(text: str, percent: int) -> float:
    number, unit = re.findall(rf"{percent}%\s+([\d.]+)(us|ms|s)", text)[0]
    return float(number) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[unit]


def _flush_ms(folder: Path) -> float:
    """Measure the disk: append 4 KB and flush, the median of fifty."""
    descriptor = os.open(folder / "flush", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    taken_ms = []
    for _ in range(_FLUSHES):
        start_s = time.perf_counter()
        os.write(descriptor, bytes(4096))
        os.fdatasync(descriptor)
        taken_ms.append((time.perf_counter() - start_s) * 1000)
    os.close(descriptor)
    return round(statistics.median(taken_ms), 3)


@contextmanager
def _server(kind: str, folder: Path) -> Iterator[tuple[int, int]]:
    """Start a server of ours; give its process id and port, and end it by that id."""
    command = [sys.executable, "-m", "bench.hits", "--serve", kind, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            yield process.pid, int(process.stdout.readline())
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=20)


async def _serve(kind: str, folder: Path) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
    port = listening.getsockname()[1]
    if kind == "host":
        journal = Journal(folder / "00")
        await journal.open()
        settings = HitSettings(keys=KEYS, rules=Rules(files("tracker.core").joinpath("data/rules.toml").read_text()))
        host = TrackingHost(settings=lambda: settings, record=journal.emit_within, verification_key=bytes(32))
        await host.start([listening])
        print(port, flush=True)
        await stop.wait()
        await host.drain()
        await journal.close()
        return
    runner: web.BaseRunner
    if kind == "bare":
        app = web.Application()
        app.router.add_get("/i/{token}", _bare)
        runner = web.AppRunner(app, access_log=None)
    else:
        runner = web.ServerRunner(web.Server(_bare, access_log=None))
    await runner.setup()
    await web.SockSite(runner, listening).start()
    print(port, flush=True)
    await stop.wait()
    await runner.cleanup()


async def _bare(_request: web.BaseRequest) -> web.Response:
    return web.Response(body=PIXEL, content_type="image/gif")


if __name__ == "__main__":
    main()
