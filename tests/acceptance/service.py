"""The installed `mailwake` as real processes: started, asked, killed, started again. Ends what it started.

Does not import the product: an acceptance test knows only what a user knows.
"""

import json
import os
import re
import select
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage, Message
from pathlib import Path
from typing import Any, Self, TypeVar

T = TypeVar("T")
Event = dict[str, Any]
Events = list[Event]

START_LIMIT_S = 30.0
STOP_LIMIT_S = 30.0

_CONFIG = """
[relay]
listen = ["127.0.0.1:0"]
hostname = "relay.example.com"
allow_networks = ["127.0.0.0/8"]

[upstream.default]
url = "{upstream}"
final = true

[spool]
directory = "var/spool"
min_free = "1MiB"

[journal]
directory = "var/journal"

[tracker]
listen = ["127.0.0.1:0"]
public_url = "http://127.0.0.1:8080"

[console]
listen = ["127.0.0.1:0"]

[metrics]
listen = "127.0.0.1:0"

[storage]
url = "sqlite:var/mailwake.db"

[keys]
file = "var/keys.json"

[tracking]
configuration_set = "default"

[configuration_set.default]
destinations = ["archive"]

[event_destination.archive]
type = "jsonl"
path = "var/events"
"""


class Service:
    """One `mailwake serve` in a folder of its own; `addresses` are those it bound, by name.

    `smtp_ports` has the port of plain SMTP under False, the one where TLS begins at once under True.
    """

    def __init__(
        self,
        command: Path,
        folder: Path,
        *,
        upstream: str = "maildir:var/mail",
        settings: Mapping[str, str] | None = None,
        under: Sequence[str] = (),
    ) -> None:
        """Write the configuration; start nothing yet.

        `settings` override it, `{"RELAY__INLINE_WAIT": "1s"}`; `under` is a command that `mailwake serve` runs under.
        """
        self.command = str(command)
        self._under = tuple(under)
        self._environment = {**os.environ, **{f"MAILWAKE__{key}": value for key, value in (settings or {}).items()}}
        self.folder = folder
        self.config = folder / "config.toml"
        self.config.write_text(_CONFIG.format(upstream=upstream))
        self.addresses: dict[str, tuple[str, int]] = {}
        self.smtp_ports: dict[bool, int] = {}
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()

    def start(self, *options: str) -> None:
        """Start and wait for the one line with the bound addresses."""
        self.launch(*options)
        assert self._process is not None
        assert self._process.stdout is not None
        readable, _, _ = select.select([self._process.stdout], [], [], START_LIMIT_S)
        line = self._process.stdout.readline() if readable else ""
        assert line, f"no address line: {self.log()[-2000:]}"
        for name, bound in json.loads(line)["listening"].items():
            host, _, port = bound[0].rpartition(":")
            self.addresses[name] = (host, int(port))
            if name == "relay":
                self.smtp_ports = {address.startswith("smtps://"): int(address.rpartition(":")[2]) for address in bound}

    def launch(self, *options: str) -> None:
        """Start the process, and wait for nothing."""
        with (self.folder / "log.jsonl").open("a") as log:
            self._process = subprocess.Popen(
                [*self._under, self.command, "serve", "--config", str(self.config), "--json", *options],
                cwd=self.folder,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=self._environment,
            )

    @property
    def pid(self) -> int:
        """The process that was started last."""
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """SIGKILL, and wait until the process is gone: by this, and by nothing before."""
        status = self._end(signal.SIGKILL)
        assert status == -signal.SIGKILL, f"it ended by itself, with {status}: {self.log_end()}"

    def stop(self) -> int:
        """SIGTERM; return the exit status."""
        return self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> int:
        assert self._process is not None
        assert self._process.stdout is not None
        self._process.send_signal(how)
        status = self._process.wait(STOP_LIMIT_S)
        self._process.stdout.close()
        return status

    def run(self, *arguments: str) -> str:
        """Run a command with this configuration and return what it printed; it must succeed."""
        done = self.ask(*arguments)
        assert done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def ask(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run a command with this configuration, whatever comes of it."""
        return subprocess.run(
            [self.command, *arguments, "--config", str(self.config)],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=self._environment,
        )

    def flush(self, *ids: str) -> None:
        """Have upstreams probed at once, for messages or all that wait; the service may have been quicker."""
        command = [self.command, "queue", "flush", *(ids or ["--all"]), "--config", str(self.config)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode in (0, 1), done.stderr

    def events(self) -> Events:
        """Return every event, as `mailwake events --json` prints them; none while it says that there is none."""
        done = self.ask("events", "--json")
        assert done.returncode in {0, 1}, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def wait_for_events(self, is_enough: Callable[[Events], object], limit_s: float = 60.0) -> Events:
        """Return the events as soon as they satisfy the condition."""
        return wait_until(self.events, is_enough, limit_s, self.log_end)

    def log(self) -> str:
        """Return what the service logged so far."""
        path = self.folder / "log.jsonl"
        return path.read_text() if path.exists() else ""

    def log_end(self) -> str:
        """Return the end of the log, for the text of a failure."""
        return self.log()[-3000:]

    def spooled(self) -> list[str]:
        """Return the names of the spool's files: the messages that are not finished yet."""
        return [path.name for path in (self.folder / "var" / "spool").glob("*/q/*")]

    def quarantined(self) -> list[str]:
        """Return the names of the spool files that could not be read."""
        return [path.name for path in (self.folder / "var" / "spool").glob("*/quarantine/*")]

    def metric(self, name: str) -> float:
        """Return a metric's value, `mailwake_spool_messages` or `name{label="value"}`; 0 where it is not there."""
        host, port = self.addresses["metrics"]
        lines = fetch(f"http://{host}:{port}/metrics")[2].decode().splitlines()
        return float(next((line.rpartition(" ")[2] for line in lines if line.startswith(f"{name} ")), "0"))

    def cpu_s(self) -> float:
        """Return the processor time that the process has used so far (Linux)."""
        user, system = Path(f"/proc/{self.pid}/stat").read_text().rpartition(") ")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def memory_mb(self) -> float:
        """Return the memory of the process, of what it shares its part (Linux: PSS)."""
        assert self._process is not None
        lines = Path(f"/proc/{self._process.pid}/smaps_rollup").read_text().splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith("Pss:"))) / 1024

    def delivered(self) -> list[bytes]:
        """Return the files of the built-in mailbox."""
        return [path.read_bytes() for path in sorted((self.folder / "var" / "mail" / "new").glob("*"))]

    def local(self, url: str) -> str:
        """Return one of our URLs with the address that the tracking host is bound to now."""
        host, port = self.addresses["tracker"]
        return re.sub(r"^https?://[^/]+", f"http://{host}:{port}", url)


def wait_until(
    look: Callable[[], T],
    is_enough: Callable[[T], object],
    limit_s: float,
    explain: Callable[[], str] = str,
    *,
    every_s: float = 0.1,
) -> T:
    """Look until the condition holds; fail with what was seen last."""
    deadline = time.monotonic() + limit_s
    while True:
        seen = look()
        if is_enough(seen):
            return seen
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {limit_s} s; last seen: {str(seen)[-3000:]}\n{explain()}")
        select.select([], [], [], every_s)


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object, **__: object) -> None:
        return None


_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}), _Stay)


def fetch(url: str, user_agent: str = "Mozilla/5.0 (X11; rv:140.0) Firefox/140.0") -> tuple[int, Message, bytes]:
    """Get a URL as a browser does, without following redirects; return status, headers and body."""
    headers = {"User-Agent": user_agent, "Accept": "text/html,*/*;q=0.8", "Accept-Language": "en"}
    try:
        with _OPENER.open(urllib.request.Request(url, headers=headers), timeout=20) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as answer:
        with answer:
            return answer.code, answer.headers, answer.read()


def parse(raw: bytes) -> EmailMessage:
    """Read a message with the standard library."""
    message = message_from_bytes(raw, policy=policy.default)
    assert isinstance(message, EmailMessage)
    return message


def body_of(raw: bytes, kind: str) -> str:
    """Return the first body of a type, such as `"text/html"`, decoded."""
    for part in parse(raw).walk():
        if part.get_content_type() == kind and not part.is_attachment():
            return str(part.get_content())
    raise AssertionError(f"there is no {kind}")


def links_of(text: str) -> list[str]:
    """Return our link URLs in a body, in order."""
    return re.findall(r"http://127\.0\.0\.1:8080/l/[A-Za-z0-9_-]+", text)


def pixel_of(html: str) -> str:
    """Return the one pixel URL of an HTML body."""
    (url,) = re.findall(r"http://127\.0\.0\.1:8080/i/[A-Za-z0-9_-]+", html)
    return str(url)


def by_type(events: Iterable[Event], name: str) -> Events:
    """Return the events of an SES type, such as `"Delivery"`."""
    return [event for event in events if event["eventType"] == name]


@contextmanager
def program(*command: str, cwd: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program for the length of a block and end it by its process id."""
    process = subprocess.Popen(
        command, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "LC_ALL": "C"}
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(STOP_LIMIT_S)
