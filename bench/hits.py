"""How many hits a second does the tracking host answer, each durable before its answer, against nginx that does less?

In turn, on loopback, asked by `wrk` over 64 connections that stay open, with the headers of a browser and 10,000
different links in turn (so that none is a flood, which `max_hits` would fold):

nginx     one worker, `empty_gif`, an access log that is not buffered: no token, no judgement, no waiting for the disk
lowest    `web.Server` of aiohttp that answers the same image and does nothing else
pixel     `mailwake serve --only tracker`: reads the token, draws signs, writes the record, waits for the disk, answers
link      the same with the tokens of links, and answers 302
ingesting `pixel` again, by a process that also takes its journal into the storage, as it does when it is alone

For `pixel` and `link` this program holds the node's ingester lock, as another process of the node would (one of them
ingests). `lasting` is a million hits in one run of that process, and what memory it has on the way.

All of them share the machine with wrk, and `pixel` and `link` with the disk: `flush_ms` is what one flush of it takes.
CPU time is of the whole serving process, for one request. `cpu_against_nginx` is how much less nginx needs of it, which
other work on the machine changes less than it changes rates.

    python -m bench.hits [ROUNDS] [SECONDS] [DIRECTORY]
"""

import asyncio
import json
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
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import NamedTuple

from aiohttp import web

from bench import _nginx
from bench._measure import ROOT, cpu_s, in_turn, median_ratio, summary, write
from tracker.app import INGESTER_LOCK
from tracker.contract import urls
from tracker.contract.ids import CopyId, MessageId
from tracker.contract.token import BodyPart, LinkPayload, Purpose, TokenKeys, TokenPayload, day_of
from tracker.core.hit import PIXEL
from tracker.runtime import secrets, slots

CONNECTIONS = 64
LINKS = 10_000
LASTING_HITS = 1_000_000
HEADERS = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Accept": "text/html,application/xhtml+xml,image/avif,image/webp,*/*;q=0.8",
    "Accept-Language": "en-GB,en;q=0.9",
}
CONFIG = """
[relay]
listen = ["127.0.0.1:0"]
hostname = "relay.example.com"
[upstream.default]
url = "maildir:mail"
[spool]
directory = "spool"
min_free = "1MiB"
[journal]
directory = "journal"
[tracker]
listen = ["127.0.0.1:0"]
public_url = "http://127.0.0.1:8080"
[metrics]
listen = "127.0.0.1:0"
[storage]
url = "sqlite:mailwake.db"
[keys]
file = "keys.json"
[configuration_set.default]
[log]
level = "warning"
"""
_SCRIPT = """
local requests, count, at = {}, 0, 0
function init(arguments)
  for path in io.lines("%s") do
    count = count + 1
    requests[count] = wrk.format("GET", path)
  end
end
function request()
  at = at %% count + 1
  return requests[at]
end
"""
_FLUSHES = 50


class Server(NamedTuple):
    """A server that is asked: its process and its ports."""

    pid: int
    port: int
    metrics_port: int = 0


def main() -> None:
    """Measure, and write bench/results/hits.json."""
    if sys.argv[1:2] == ["--lowest"]:
        asyncio.run(_serve_lowest())
        return
    tools = {name: shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") for name in ("wrk", "nginx")}
    missing = [name for name, path in tools.items() if path is None]
    if missing:
        sys.exit(f"not installed: {', '.join(missing)}")
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    seconds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    folder = Path(tempfile.mkdtemp(prefix="mailwake-bench-", dir=sys.argv[3] if len(sys.argv) > 3 else None))
    try:
        _measure(rounds, seconds, folder, str(tools["nginx"]))
    finally:
        shutil.rmtree(folder)


def _measure(rounds: int, seconds: int, folder: Path, nginx: str) -> None:
    load_before = os.getloadavg()
    samples: dict[str, list[Mapping[str, float]]] = {}
    with ExitStack() as stack:
        peer = Server(*stack.enter_context(_nginx.running(nginx, folder / "nginx")))
        lowest = stack.enter_context(_lowest())
        host = stack.enter_context(_tracker(folder / "host", ingests=False))
        keys = secrets.load(folder / "host" / "keys.json").tokens
        pixels = _script(folder, "pixels", keys, Purpose.OPEN)
        links = _script(folder, "links", keys, Purpose.CLICK)
        contenders = {
            name: partial(_ask, server, script, seconds, samples.setdefault(name, []))
            for name, server, script in (
                ("nginx", peer, pixels),
                ("lowest", lowest, pixels),
                ("pixel", host, pixels),
                ("link", host, links),
            )
        }
        in_turn(1, contenders)  # warm
        for taken in samples.values():
            taken.clear()
        rates = in_turn(rounds, contenders)
        flush_ms = _flush_ms(folder)
        kept = _kept(host)
    with _tracker(folder / "lasting", ingests=False) as host:
        keys = secrets.load(folder / "lasting" / "keys.json").tokens
        lasting = _lasting(host, _script(folder, "lasting-pixels", keys, Purpose.OPEN))
    with ExitStack() as stack:
        peer = Server(*stack.enter_context(_nginx.running(nginx, folder / "nginx-2")))
        host = stack.enter_context(_tracker(folder / "ingesting", ingests=True))
        keys = secrets.load(folder / "ingesting" / "keys.json").tokens
        both = {
            name: partial(_ask, server, _script(folder, name, keys, Purpose.OPEN), seconds, samples.setdefault(key, []))
            for name, server, key in (("nginx", peer, "nginx_beside_ingest"), ("ingesting", host, "ingesting"))
        }
        beside = in_turn(rounds, both)
        rates["ingesting"], rates["nginx_beside_ingest"] = beside["ingesting"], beside["nginx"]
    figures = {
        name: {figure: summary([sample[figure] for sample in taken]) for figure in taken[0]}
        for name, taken in samples.items()
    }
    result = {
        "load": f"wrk -t1 -c{CONNECTIONS} -d{seconds}s, {rounds} rounds, {LINKS} links",
        "load_average": {"before": [round(value, 2) for value in load_before], "after": _load()},
        "flush_ms": flush_ms,
        "rate_against_nginx": {
            **{name: median_ratio(rates["nginx"], rates[name]) for name in ("lowest", "pixel", "link")},
            "ingesting": median_ratio(rates["nginx_beside_ingest"], rates["ingesting"]),
        },
        "cpu_against_nginx": {
            name: median_ratio(*([sample["cpu_us"] for sample in samples[key]] for key in (name, against)))
            for name, against in (
                ("lowest", "nginx"),
                ("pixel", "nginx"),
                ("link", "nginx"),
                ("ingesting", "nginx_beside_ingest"),
            )
        },
        "rate_against_lowest": {name: median_ratio(rates["lowest"], rates[name]) for name in ("pixel", "link")},
        "figures": figures,
        "kept": {"directory": str(folder.parent), **kept},
        "lasting": lasting,
    }
    write("hits", result, ["aiohttp", "cryptography", "msgspec"])


def _script(folder: Path, name: str, keys: TokenKeys, purpose: Purpose) -> Path:
    """Write a script for wrk that asks for links of this many copies, one after the other."""
    now = datetime.now(UTC)
    day, key_id = day_of(now), keys.minting(now)
    url = "https://shop.example/offers/autumn?utm_source=newsletter&utm_campaign=42"
    link = LinkPayload(index=3, part=BodyPart.HTML, url=url) if purpose is Purpose.CLICK else None
    paths = []
    for number in range(LINKS):
        copy = CopyId(MessageId.make(unix_ms=1_800_000_000_000, entropy=number.to_bytes(10, "big")), bytes(6))
        paths.append(urls.make("", purpose, keys.seal(TokenPayload(copy=copy, day=day, link=link), key_id)))
    (folder / f"{name}.txt").write_text("\n".join(paths) + "\n")
    script = folder / f"{name}.lua"
    script.write_text(_SCRIPT % (folder / f"{name}.txt"))
    return script


def _ask(server: Server, script: Path, seconds: int, taken: list[Mapping[str, float]]) -> float:
    """Let wrk ask for some seconds; note the figures, return the rate. An answer of another status ends the bench."""
    fields = [part for name, value in HEADERS.items() for part in ("-H", f"{name}: {value}")]
    load = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency", "-s", str(script)]
    before_s = cpu_s(server.pid)
    command = [*load, *fields, f"http://127.0.0.1:{server.port}"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    spent_s = cpu_s(server.pid) - before_s
    if "Socket errors" in text or "Non-2xx" in text:
        sys.exit(text)
    requests, rate = (float(re.findall(pattern, text)[0]) for pattern in (r"(\d+) requests in", r"sec:\s+([\d.]+)"))
    latency = {f"p{percent}_ms": _latency_ms(text, percent) for percent in (50, 99)}
    taken.append({"requests_per_s": rate, "cpu_us": spent_s / requests * 1e6, **latency})
    return rate


def _lasting(host: Server, script: Path) -> Mapping[str, object]:
    """Ask until a million hits are answered; note the memory at the start and after a quarter, a half and all."""
    memory = [{"hits": 0, **_memory_mb(host.pid)}]
    taken: list[Mapping[str, float]] = []
    for share in (4, 2, 1):
        while (hits := _kept(host)["answered"]) < LASTING_HITS // share:
            _ask(host, script, 2, taken)
        memory.append({"hits": int(hits), **_memory_mb(host.pid)})
    return {"memory": memory, "p99_ms": summary([sample["p99_ms"] for sample in taken]), **_kept(host)}


def _kept(host: Server) -> Mapping[str, float]:
    """Return how many hits were answered, and what became of them, as the metrics have it."""
    text = urllib.request.urlopen(f"http://127.0.0.1:{host.metrics_port}/metrics", timeout=10).read().decode()
    names = {
        "answered": r"mailwake_hits_total\{[^}]*\}",
        "folded": "mailwake_hits_folded_total",
        "answered_early": "mailwake_hits_answered_early_total",
        "answered_unwritten": "mailwake_hits_answered_unwritten_total",
        "dropped": "mailwake_events_dropped_total",
    }
    return {key: sum(map(float, re.findall(rf"^{name} (\S+)$", text, re.MULTILINE))) for key, name in names.items()}


def _memory_mb(pid: int) -> Mapping[str, float]:
    """Return the resident memory of a process, and its own share of it (Linux)."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    figures = {line.split()[0]: int(line.split()[1]) / 1024 for line in lines[1:]}
    return {"rss_mb": round(figures["Rss:"], 1), "pss_mb": round(figures["Pss:"], 1)}


def _load() -> list[float]:
    return [round(value, 2) for value in os.getloadavg()]


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
def _tracker(folder: Path, *, ingests: bool) -> Iterator[Server]:
    """Run the real thing, of this checkout; end it by its process id."""
    folder.mkdir()
    (folder / "config.toml").write_text(CONFIG)
    lock = None
    if not ingests:
        (folder / "journal").mkdir(mode=0o700)
        lock = slots.lock(folder / "journal" / INGESTER_LOCK)
        secrets.create(folder / "keys.json", now=datetime.now(UTC), entropy=os.urandom)
    program = "from relay.cli.main import main; main()"
    command = [sys.executable, "-c", program, "serve", "--config", str(folder / "config.toml"), "--json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [*command, "--only", "tracker"], stdout=subprocess.PIPE, text=True, cwd=folder, env=environment
    ) as process:
        try:
            assert process.stdout is not None
            listening = json.loads(process.stdout.readline())["listening"]
            ports = [int(listening[part][0].rpartition(":")[2]) for part in ("tracker", "metrics")]
            yield Server(process.pid, *ports)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=30)
            if lock is not None:
                os.close(lock)


@contextmanager
def _lowest() -> Iterator[Server]:
    """Start the bare server; end it by its process id."""
    command = [sys.executable, "-m", "bench.hits", "--lowest"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            yield Server(process.pid, int(process.stdout.readline()))
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=20)


async def _serve_lowest() -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
    runner = web.ServerRunner(web.Server(_bare, access_log=None))
    await runner.setup()
    await web.SockSite(runner, listening).start()
    print(listening.getsockname()[1], flush=True)
    await stop.wait()
    await runner.cleanup()


async def _bare(_request: web.BaseRequest) -> web.Response:
    return web.Response(body=PIXEL, content_type="image/gif")


if __name__ == "__main__":
    main()
