"""Disks that are bad for real: small file systems that are full, and system calls that fail, by strace."""

import errno
import os
import smtplib
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Final, Self

import pytest

from tests import machine
from tests.acceptance.service import Service, by_type, fetch, wait_until
from tests.acceptance.upstream import Upstream

RECIPIENT: Final = "ana@client.example"
_TIMEOUT_S: Final = 30.0
_LINE: Final = "bmVpdGhlciBodG1sIG5vciB0ZXh0LCBvbmx5IGxvbmcgZW5vdWdoIHRvIGZpbGwgYSBkaXNr\r\n"


@contextmanager
def small_disk(folder: Path, options: str) -> Iterator[Path]:
    """Mount a file system in memory at a folder for the length of a block: `"size=24m"`, `"size=24m,nr_inodes=300"`."""
    folder.mkdir(parents=True)
    mount = [machine.require_tool("mount"), "-t", "tmpfs", "-o", f"{options},mode=0700", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        machine.lacking(f"a tmpfs cannot be mounted: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run([machine.require_tool("umount"), "--lazy", str(folder)], check=True)


class Filler:
    """Somebody else on the same disk, who takes all that is free; whoever comes next gets ENOSPC."""

    def __init__(self, disk: Path) -> None:
        """Take nothing yet."""
        self._folder = disk / "filler"

    def fill(self) -> None:
        """Take every free byte."""
        self._folder.mkdir(exist_ok=True)
        for size_bytes in (1 << 20, 4096):
            self._until_full(partial(self._append, size_bytes))

    def fill_inodes(self) -> None:
        """Take every free inode; bytes remain."""
        self._folder.mkdir(exist_ok=True)
        self._until_full(lambda number: (self._folder / f"empty {number}").touch())

    def _append(self, size_bytes: int, _number: int) -> None:
        with (self._folder / "large").open("ab", buffering=0) as file:
            file.write(bytes(size_bytes))

    def _until_full(self, take: Callable[[int], None]) -> None:
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            for number in count():
                take(number)

    def leave(self) -> None:
        """Give it all back."""
        for path in self._folder.iterdir():
            path.unlink()


@dataclass
class Replies:
    """What clients were told: subjects that got 250, and by step and code those that did not. `broken` are faults."""

    accepted: list[str] = field(default_factory=list)
    refused: list[tuple[str, int]] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    @property
    def codes(self) -> Counter[tuple[str, int]]:
        """How often each step was refused with each code."""
        return Counter(self.refused)

    def assert_only_for_now(self) -> None:
        """Nobody was told that it is for good, and nobody was hung up on."""
        assert self.broken == []
        assert {code for _, code in self.refused} <= {451, 452}


class Client:
    """One connection. Every message has a subject of its own and is sent once: what got 4xx must never arrive."""

    def __init__(self, service: Service, replies: Replies) -> None:
        """Connect."""
        self._smtp = smtplib.SMTP(*service.addresses["relay"], timeout=_TIMEOUT_S)
        self._smtp.ehlo()
        self._replies = replies
        self._held = ("", b"")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._smtp.close()

    def send(self, subject: str, size_bytes: int) -> bool:
        """Send a message; true where it got 250."""
        return self.begin(subject, size_bytes) and self.finish()

    def begin(self, subject: str, size_bytes: int) -> bool:
        """Go as far as 354."""
        head = (
            f"From: news@shop.example\r\nTo: {RECIPIENT}\r\nSubject: {subject}\r\nMIME-Version: 1.0\r\n"
            "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/html\r\n\r\n"
            '<html><body><a href="https://shop.example/lamp">Lamp</a></body></html>\r\n'
            "--b\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        )
        lines = max(0, size_bytes - len(head)) // len(_LINE)
        self._held = (subject, f"{head}{_LINE * lines}--b--\r\n.\r\n".encode())
        return (
            self._step("MAIL", "MAIL FROM:<news@shop.example>", 250)
            and self._step("RCPT", f"RCPT TO:<{RECIPIENT}>", 250)
            and self._step("DATA", "DATA", 354)
        )

    def finish(self) -> bool:
        """Send the message whose DATA got 354."""
        subject, raw = self._held
        self._smtp.send(raw)
        code, _ = self._smtp.getreply()
        if code == 250:
            self._replies.accepted.append(subject)
        else:
            self._replies.refused.append(("dot", code))
        return code == 250

    def _step(self, name: str, command: str, expected: int) -> bool:
        code, _ = self._smtp.docmd(command)
        if code != expected:
            self._replies.refused.append((name, code))
            self._smtp.docmd("RSET")
        return code == expected


class Clients:
    """Several at once, each sending one message after the other; `messages` are those sent so far."""

    def __init__(self, service: Service, replies: Replies, sizes: Sequence[int], *, clients: int = 6) -> None:
        """Start nothing yet."""
        self._service = service
        self.replies = replies
        self._sizes = sizes
        self._clients = clients
        self._numbers = count()

    def send_until_refused(self, times: int) -> None:
        """Send until each has been refused so often in a row."""
        self._run(lambda client: self._refusals(client, times))

    def send(self, messages: int) -> None:
        """Send so many, whatever becomes of them."""
        numbers = iter(range(messages))
        self._run(lambda client: [self._send(client) for _ in numbers])

    def _refusals(self, client: Client, times: int) -> None:
        refused = 0
        while refused < times:
            refused = 0 if self._send(client) else refused + 1

    def _send(self, client: Client) -> bool:
        number = next(self._numbers)
        return client.send(f"message {number}", self._sizes[number % len(self._sizes)])

    def _run(self, work: Callable[[Client], object]) -> None:
        def one() -> None:
            try:
                with Client(self._service, self.replies) as client:
                    work(client)
            except (OSError, smtplib.SMTPException) as error:
                self.replies.broken.append(f"{type(error).__name__}: {error}")

        threads = [threading.Thread(target=one) for _ in range(self._clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)


def assert_each_once(service: Service, upstream: Upstream, replies: Replies) -> None:
    """What got 250, and only that, is taken once by the upstream; each copy has one event of each kind."""
    accepted = len(replies.accepted)
    wait_until(lambda: len(upstream.taken), accepted.__le__, 120, service.log)
    events = service.wait_for_events(lambda events: len(by_type(events, "Delivery")) >= accepted, 60)
    replies.assert_only_for_now()
    assert set(upstream.subjects) == {(subject, RECIPIENT) for subject in replies.accepted}
    assert set(upstream.taken.values()) == {1}
    for kind in ("Send", "Delivery"):
        assert sorted(event["mailwake"]["copyId"] for event in by_type(events, kind)) == sorted(upstream.taken)


def readiness(service: Service) -> tuple[int, str]:
    """Return the status and text of /readyz."""
    host, port = service.addresses["metrics"]
    status, _, body = fetch(f"http://{host}:{port}/readyz")
    return status, body.decode().strip()


def metric(service: Service, name: str) -> float:
    """Return the value of a metric without labels."""
    host, port = service.addresses["metrics"]
    _, _, body = fetch(f"http://{host}:{port}/metrics")
    (value,) = [line.split()[1] for line in body.decode().splitlines() if line.startswith(f"{name} ")]
    return float(value)


def names_in(folder: Path) -> set[str]:
    """Return the names of the files in a folder."""
    return {path.name for path in folder.iterdir()}


@contextmanager
def failing_calls(pid: int, trace: Path, calls: str, when: str = "1+") -> Iterator[None]:
    """Let system calls of a running process fail with EIO for the length of a block: `calls` such as `"fsync"`.

    `when` is strace's: `"1+"` is every one, `"2+3"` the second and every third after it. `trace` lists all of them.
    """
    strace = [machine.require_tool("strace"), "-f", "-y", "-qq", "-o", str(trace), "-p", str(pid)]
    strace += ["-e", f"trace={calls}", "-e", f"inject={calls}:error=EIO:when={when}"]
    process = subprocess.Popen(strace, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: _tracers(pid), {str(process.pid)}.__eq__, 10)
        yield
    finally:
        process.terminate()
        _, said = process.communicate(timeout=10)
    assert not said, said


def _tracers(pid: int) -> set[str]:
    """Return who traces the threads of a process; "0" is nobody."""
    found = set()
    for task in Path(f"/proc/{pid}/task").iterdir():
        (line,) = [line for line in (task / "status").read_text().splitlines() if line.startswith("TracerPid:")]
        found.add(line.split()[1])
    return found
