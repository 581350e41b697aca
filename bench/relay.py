"""What a message costs the relay: CPU of the whole process, against a bare aiosmtpd that passes it on with aiosmtplib.

A message of about 50 KB of quoted-printable HTML with 17 links, one recipient, 16 sessions that stay open. Ours takes
it, makes it durable, rewrites it, sends the copy, marks it, journals and ingests its events into SQLite; theirs does
none of that: it sends the same bytes on. Both send to the same sink, in turn. The CPU is that of the serving process
from the first message until all are at the sink and it has come to rest.

    python -m bench.relay [MESSAGES] [ROUNDS]
"""

import asyncio
import json
import quopri
import shutil
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from bench._measure import cpu_s, in_turn, median_ratio, peak_memory_mb, summary, write
from bench._peers import send

SESSIONS = 16
PYTHON = sys.executable
CONFIG = """
[relay]
listen = ["127.0.0.1:0"]
allow_networks = ["127.0.0.0/8"]
[upstream.default]
url = "smtp://127.0.0.1:{port}"
[spool]
directory = "spool"
[journal]
directory = "journal"
[tracker]
listen = ["127.0.0.1:0"]
[console]
listen = ["127.0.0.1:0"]
[metrics]
listen = "127.0.0.1:0"
[storage]
url = "sqlite:mailwake.db"
[keys]
file = "keys.json"
[configuration_set.default]
"""


def _message() -> bytes:
    """Make the message of our own: 17 links between paragraphs, until the HTML has 50 KB."""
    words = "The quick brown fox jumps over the lazy dog and reads the November list with care. "
    parts = ["<html><head><style>p { margin: 0 }</style></head><body>\r\n"]
    for number in range(17):
        parts.append(f'<p style="color:#333333;font-size:14px">{words * 34}</p>\r\n')
        parts.append(f'<a href="https://shop.example/item/{number}?ref=mail&amp;id={number}">Item {number}</a>\r\n')
    body = quopri.encodestring("".join([*parts, "</body></html>\r\n"]).replace("\r\n", "\n").encode())
    head = (
        "From: Shop <news@shop.example>\r\nTo: ana@client.example\r\nSubject: November list\r\nMIME-Version: 1.0\r\n"
        "Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
    )
    return head.encode() + body.replace(b"\n", b"\r\n").rstrip()


class Process:
    """A server that tells its port on its first line, and is ended by its process id."""

    def __init__(self, *command: str, cwd: Path) -> None:
        self._process = subprocess.Popen(
            command, cwd=cwd, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.pid = self._process.pid
        self.first_line = self._read()

    def ask(self) -> int:
        """Return the count that a sink tells when it gets a line."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return int(self._read())

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def end(self) -> None:
        """Stop it, and wait."""
        self._process.terminate()
        self._process.wait(30)


class _Contender:
    """One relay in front of the sink."""

    def __init__(self, process: Process, port: int, sink: Process) -> None:
        self.process, self.port, self.sink = process, port, sink
        self.seconds: list[float] = []

    def cpu_ms(self, message: bytes, count: int) -> float:
        before, began, had = cpu_s(self.process.pid), time.monotonic(), self.sink.ask()
        asyncio.run(send("127.0.0.1", self.port, message, count, SESSIONS))
        while self.sink.ask() < had + count:
            if time.monotonic() - began > 120:
                raise RuntimeError("the relay did not deliver within two minutes")
            time.sleep(0.02)
        self.seconds.append(time.monotonic() - began)
        return (self._rested_cpu_s() - before) * 1000 / count

    def _rested_cpu_s(self) -> float:
        """Wait until half a second costs next to nothing: what is done behind the delivery is part of the price."""
        last = cpu_s(self.process.pid)
        while True:
            time.sleep(0.5)
            now = cpu_s(self.process.pid)
            if now - last < 0.03:
                return now
            last = now


def main() -> None:
    """Measure both in turn and write the result."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    message = _message()
    folder = Path(tempfile.mkdtemp(prefix="mailwake-bench-"))
    root = Path(__file__).resolve().parent.parent
    started: list[Process] = []
    try:
        sink = Process(PYTHON, "-m", "bench._peers", "sink", cwd=root)
        started.append(sink)
        bare = Process(PYTHON, "-m", "bench._peers", "passthrough", sink.first_line.strip(), cwd=root)
        started.append(bare)
        (folder / "config.toml").write_text(CONFIG.format(port=sink.first_line.strip()))
        command = str(Path(PYTHON).with_name("mailwake"))
        ours = Process(command, "serve", "--json", "--config", str(folder / "config.toml"), cwd=folder)
        started.append(ours)
        relay_port = int(json.loads(ours.first_line)["listening"]["relay"][0].rpartition(":")[2])
        contenders = {
            "mailwake": _Contender(ours, relay_port, sink),
            "passthrough": _Contender(bare, int(bare.first_line), sink),
        }
        for contender in contenders.values():
            contender.cpu_ms(message, 30)  # warm-up
            contender.seconds.clear()
        figures = in_turn(
            rounds,
            {name: partial(contender.cpu_ms, message, count) for name, contender in contenders.items()},
        )
        result = {
            "messages": count,
            "rounds": rounds,
            "sessions": SESSIONS,
            "message_bytes": len(message),
            "cpu_ms_per_message": {name: summary(values) for name, values in figures.items()},
            "times_cheaper": median_ratio(figures["mailwake"], figures["passthrough"]),
            "delivered_per_s": {
                name: summary((count / seconds for seconds in contender.seconds), 1)
                for name, contender in contenders.items()
            },
            "peak_memory_mb": {name: peak_memory_mb(contender.process.pid) for name, contender in contenders.items()},
        }
    finally:
        for process in reversed(started):
            process.end()
        shutil.rmtree(folder)
    write("relay", result, ["aiosmtpd", "aiosmtplib", "cryptography", "sqlalchemy"])


if __name__ == "__main__":
    main()
