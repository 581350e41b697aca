"""`mailwake` as a process of this checkout: started, asked, stopped; never left behind."""

import contextlib
import json
import os
import select
import signal
import smtplib
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from http.client import HTTPConnection
from pathlib import Path
from socket import socket

from click.testing import CliRunner, Result

from relay.cli.main import main
from tracker.runtime import control
from tracker.runtime.control import Status

LIMIT_S = 30.0
COMMAND = (sys.executable, "-c", "from relay.cli.main import main; main()")

CONFIG = """
[relay]
listen = ["127.0.0.1:0"]
hostname = "relay.example.com"
allow_networks = ["127.0.0.0/8"]
[upstream.default]
url = "maildir:var/mail"
final = true
[spool]
min_free = "1MiB"
[tracker]
listen = ["127.0.0.1:0"]
[console]
listen = ["127.0.0.1:0"]
[metrics]
listen = "127.0.0.1:0"
[configuration_set.default]
destinations = ["archive"]
[event_destination.archive]
type = "jsonl"
path = "var/events"
"""


def configure(folder: Path, text: str = CONFIG) -> Path:
    """Write a configuration file."""
    path = folder / "config.toml"
    path.write_text(text)
    path.chmod(0o600)
    return path


def mailwake(*arguments: str, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=cwd,
        env=environment(environ),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


class Server:
    """A running `mailwake serve`; `listening` is what its line of JSON says."""

    def __init__(self, process: subprocess.Popen[str], config: Path) -> None:
        self.process = process
        self.config = config
        self.listening: dict[str, list[str]] = {}
        self.slot = -1
        self.workers: list[int] = []

    def wait_until_ready(self) -> None:
        """Read the line with the addresses."""
        assert self.process.stdout is not None
        readable, _, _ = select.select([self.process.stdout], [], [], LIMIT_S)
        line = self.process.stdout.readline() if readable else ""
        assert line, f"it did not start: {self.log()}"
        status = json.loads(line)
        self.listening, self.slot, self.workers = status["listening"], status["slot"], status["workers"]

    def statuses(self) -> dict[int, Status]:
        """Ask every process that serves with this configuration; by its pid."""
        return {status.pid: status for status in control.running(self.config.parent / "var/run")}

    def address(self, part: str) -> tuple[str, int]:
        """Return host and port of a part."""
        host, _, port = self.listening[part][0].rpartition(":")
        return host, int(port)

    def get(self, part: str, path: str, **headers: str) -> tuple[int, dict[str, str], str]:
        """Ask a part by HTTP; redirects are not followed."""
        connection = HTTPConnection(*self.address(part), timeout=LIMIT_S)
        with contextlib.closing(connection):
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read().decode("utf-8", "replace")

    def run(self, *arguments: str) -> Result:
        """Run a command of a client with this server's configuration, in this process."""
        return CliRunner().invoke(main, [*arguments, "--config", str(self.config)])

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(LIMIT_S)

    def log(self) -> str:
        """Return what was logged so far."""
        return (self.config.parent / "log").read_text()


def send(address: tuple[str, int], message: bytes) -> str:
    """Send a message to a relay and return its id."""
    with smtplib.SMTP(*address, local_hostname="client.example", timeout=LIMIT_S) as client:
        client.ehlo()
        client.mail("news@shop.example")
        client.rcpt("ana@client.example")
        code, text = client.data(message)
    assert code == 250, text
    return text.decode().rpartition(" ")[2]


@contextlib.contextmanager
def serving(
    config: Path,
    *options: str,
    by: tuple[Sequence[str], Sequence[socket]] = ((), ()),
    environ: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """Run `mailwake serve` for the length of a block; `by` another command, which some sockets are left open to."""
    command, sockets = by
    with (config.parent / "log").open("a") as log:
        process = subprocess.Popen(
            [*command, *COMMAND, "serve", "--json", "--config", str(config), *options],
            cwd=config.parent,
            pass_fds=[one.fileno() for one in sockets],
            env=environment(environ or {}),
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    server = Server(process, config)
    try:
        server.wait_until_ready()
        yield server
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """Return what a process of this checkout is started with."""
    root = Path(__file__).resolve().parents[2]
    return {**os.environ, "PYTHONPATH": str(root), **more}
