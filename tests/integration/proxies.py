"""Real reverse proxies in front of a real tracking host, with the configurations that the documents show.

Each block of `docs/howto/reverse-proxies.md` is run as it stands there; only addresses, ports and file names differ.
"""

import os
import re
import select
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPSConnection
from pathlib import Path

from tests.certificates import make_certificate
from tests.integration.serving import CONFIG, Server, configure, serving
from tests.machine import ROOT, require_tool
from tracker.contract.events import Click, JournalRecord
from tracker.contract.records import decode
from tracker.contract.token import TokenKeys
from tracker.journal.reader import JournalReader
from tracker.runtime import secrets

HOST = "trace.shop.example"
VISITOR = "127.0.0.2"  # another loopback address than the proxy's, which is trusted
LIMIT_S = 20.0

_PAGE = ROOT / "docs" / "howto" / "reverse-proxies.md"
_BLOCK = re.compile(r"^```(nginx|haproxy|caddyfile)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass
class Tap:
    """Stands between proxy and tracking host, and keeps what goes through."""

    address: tuple[str, int]
    target: tuple[str, int]
    requests: list[bytes] = field(default_factory=list)

    def heard(self) -> bytes:
        """All that came from the proxy so far."""
        return b"".join(self.requests)


@dataclass
class Proxy:
    """A proxy that runs; `trusted` verifies its certificate."""

    name: str
    port: int
    trusted: ssl.SSLContext
    tap: Tap
    tracker: Server

    @contextmanager
    def dial(self, source: str = VISITOR, host: str = HOST) -> Iterator[HTTPSConnection]:
        """Connect as a visitor from an address of loopback."""
        connection = HTTPSConnection(host, self.port, timeout=LIMIT_S, context=self.trusted, source_address=(source, 0))
        connection._create_connection = (  # type: ignore[attr-defined]  # the name need not resolve
            lambda _address, timeout, source_address: socket.create_connection(
                ("127.0.0.1", self.port), timeout, source_address
            )
        )
        try:
            yield connection
        finally:
            connection.close()

    def ask(self, target: str, method: str = "GET", **fields: str) -> tuple[int, Mapping[str, str], bytes]:
        """Ask once; header names have `_` for `-`, those of the answer are in lower case."""
        with self.dial() as connection:
            connection.request(method, target, headers={name.replace("_", "-"): one for name, one in fields.items()})
            answer = connection.getresponse()
            return answer.status, {name.lower(): one for name, one in answer.getheaders()}, answer.read()

    def click_on(self, url: str) -> Click:
        """Return the one click on a link, from the journal."""
        (found,) = [one for one in self._records() if isinstance(one, Click) and one.url == url]
        return found

    def keys(self) -> TokenKeys:
        """The keys of the tracking host."""
        return secrets.load(self.tracker.config.parent / "var/keys.json").tokens

    def _records(self) -> list[JournalRecord]:
        reader = JournalReader(self.tracker.config.parent / "var/journal", slot_is_free=lambda slot: False)
        return [decode(entry) for batch in reader.read({}) for entry in batch.entries if isinstance(entry, bytes)]


def block(language: str) -> str:
    """Return a configuration as the document shows it."""
    (found,) = [text for name, text in _BLOCK.findall(_PAGE.read_text(encoding="utf-8")) if name == language]
    return str(found)


@contextmanager
def tracking_host(folder: Path) -> Iterator[Server]:
    """Run a tracking host that trusts 127.0.0.1 alone and keeps whole addresses."""
    tracker = f'listen = ["127.0.0.1:0"]\npublic_url = "https://{HOST}"\ntrusted_proxies = ["127.0.0.1/32"]\n'
    text = CONFIG.replace('[tracker]\nlisten = ["127.0.0.1:0"]', f'[tracker]\n{tracker}record_address = "full"')
    with serving(configure(folder, text)) as server:
        yield server


@contextmanager
def running(name: str, folder: Path, tracker: Server) -> Iterator[Proxy]:
    """Run a proxy, by the name of its block, in front of a tracking host, with a tap between the two."""
    program = require_tool({"caddyfile": "caddy"}.get(name, name))
    certificate, key = make_certificate(folder, "trace", hosts=[HOST])
    with ExitStack() as stack:
        tap = stack.enter_context(_tap(tracker.address("tracker")))
        with socket.create_server(("127.0.0.1", 0)) as free:
            port: int = free.getsockname()[1]
        place = _Place(folder, port, tap.address[1], certificate, key)
        command = _COMMANDS[name](program, block(name), place)
        environ = {**os.environ, "HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
        with (folder / "proxy.log").open("w") as log:
            process = subprocess.Popen(command, cwd=folder, env=environ, stdout=log, stderr=log)
        stack.callback(process.wait)
        stack.callback(process.kill)
        _wait(port, process, folder / "proxy.log")
        trusted = certificate if name != "caddyfile" else folder / "caddy/pki/authorities/local/root.crt"
        yield Proxy(name, port, ssl.create_default_context(cafile=trusted), tap, tracker)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a proxy runs, listens, and sends to; its certificate and key."""

    folder: Path
    port: int
    upstream: int
    certificate: Path
    key: Path


def _nginx(program: str, text: str, place: _Place) -> list[str]:
    text = _swap(
        text,
        ("listen 443 ssl", f"listen 127.0.0.1:{place.port} ssl"),
        ("127.0.0.1:8080", f"127.0.0.1:{place.upstream}"),
        ("/etc/ssl/trace.shop.example.pem", str(place.certificate)),
        ("/etc/ssl/trace.shop.example.key", str(place.key)),
    )
    folders = "".join(
        f"{kind}_temp_path {place.folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    head = (
        f"daemon off;\nmaster_process off;\npid {place.folder}/pid;\nerror_log {place.folder}/error.log;\nevents {{}}\n"
    )
    (place.folder / "nginx.conf").write_text(f"{head}http {{\n{folders}{text}}}\n")
    return [
        program,
        "-p",
        str(place.folder),
        "-e",
        str(place.folder / "error.log"),
        "-c",
        str(place.folder / "nginx.conf"),
    ]


def _haproxy(program: str, text: str, place: _Place) -> list[str]:
    certificates = place.folder / "certs"
    certificates.mkdir()
    (certificates / "trace.pem").write_bytes(place.certificate.read_bytes() + place.key.read_bytes())
    text = _swap(
        text,
        ("bind :443 ssl", f"bind 127.0.0.1:{place.port} ssl"),
        ("127.0.0.1:8080", f"127.0.0.1:{place.upstream}"),
        ("/etc/haproxy/certs/", str(certificates)),
    )
    (place.folder / "haproxy.cfg").write_text(text)
    return [program, "-db", "-f", str(place.folder / "haproxy.cfg")]


def _caddy(program: str, text: str, place: _Place) -> list[str]:
    ours = f"admin off\n    https_port {place.port}\n    auto_https disable_redirects\n    skip_install_trust"
    text = _swap(
        text,
        ("{\n    on_demand_tls", f"{{\n    {ours}\n    on_demand_tls"),
        ("https:// {\n", "https:// {\n    bind 127.0.0.1\n"),
        ("        on_demand\n", "        on_demand\n        issuer internal\n"),
        ("127.0.0.1:8080", f"127.0.0.1:{place.upstream}"),
    )
    (place.folder / "Caddyfile").write_text(text)
    return [program, "run", "--config", str(place.folder / "Caddyfile"), "--adapter", "caddyfile"]


_COMMANDS = {"nginx": _nginx, "haproxy": _haproxy, "caddyfile": _caddy}
PROXIES = tuple(_COMMANDS)


def _swap(text: str, *pairs: tuple[str, str]) -> str:
    for old, new in pairs:
        assert old in text, f"the document has no {old!r} any more"
        text = text.replace(old, new)
    return text


def _wait(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + LIMIT_S
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text()
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        select.select([], [], [], 0.02)
    raise AssertionError(log.read_text())


@contextmanager
def _tap(target: tuple[str, int]) -> Iterator[Tap]:
    listening = socket.create_server(("127.0.0.1", 0))
    tap = Tap(listening.getsockname(), target)
    threads: list[threading.Thread] = []
    ends: list[socket.socket] = [listening]

    def pump(source: socket.socket, sink: socket.socket, kept: list[bytes] | None) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if kept is not None:
                    kept.append(data)
                sink.sendall(data)
        for one in (source, sink):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def accept() -> None:
        with suppress(OSError):
            while True:
                near, _ = listening.accept()
                far = socket.create_connection(tap.target)
                ends.extend((near, far))
                for arguments in ((near, far, tap.requests), (far, near, None)):
                    threads.append(threading.Thread(target=pump, args=arguments))
                    threads[-1].start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield tap
    finally:
        for one in ends:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in (accepting, *threads):
            thread.join()
        for one in ends:
            one.close()
