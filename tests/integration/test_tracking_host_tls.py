"""TLS of the tracking host: a certificate by name, new ones on a reload, and what a stranger may not hold."""

import asyncio
import json
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from tests.certificates import make_certificate
from tests.integration.serving import CONFIG, Server, configure, mailwake, serving
from tests.integration.test_inherited_sockets import _handed_on as handed_on
from tests.integration.tracking import KEY
from tests.unit.hits import SETTINGS
from tests.unit.tokens import NOW
from tracker.journal.writer import Journal
from tracker.runtime.tls import Door, ServerTls, TlsError, TlsFiles
from tracker.web import tls as tls_module
from tracker.web.app import TrackingHost
from tracker.web.tls import EXPIRY, open_door, tracker_tls

HOSTS = {"one": ("one.example",), "two": ("two.example", "*.two.example")}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TlsFiles]:
    """Two certificates and their keys."""
    folder = tmp_path_factory.mktemp("tls")
    return {name: _files(folder, name) for name in HOSTS}


def _files(folder: Path, name: str, *, days_left: int = 30, hosts: tuple[str, ...] | None = None) -> TlsFiles:
    found = HOSTS.get(name, ()) if hosts is None else hosts
    certificate, key = make_certificate(folder, name, days_left=days_left, hosts=found)
    return TlsFiles(certificate=certificate, key=key)


@asynccontextmanager
async def _running(folder: Path, door: Door) -> AsyncIterator[tuple[str, int]]:
    journal = Journal(folder / "journal" / "00")
    await journal.open()
    host = TrackingHost(settings=lambda: SETTINGS, post=journal.post, verification_key=KEY, clock=lambda: NOW)
    listening = socket.create_server(("127.0.0.1", 0))
    address = listening.getsockname()
    await host.start([], tls_sockets=[listening], door=door)
    try:
        yield address
    finally:
        await host.drain()
        await journal.close()


def _trusting(*files: TlsFiles) -> ssl.SSLContext:
    context = ssl.create_default_context()
    for pair in files:
        context.load_verify_locations(pair.certificate)
    return context


def _der(files: TlsFiles) -> bytes:
    return ssl.PEM_cert_to_DER_cert(files.certificate.read_text())


async def _peer(address: tuple[str, int], name: str | None) -> bytes:
    """Shake hands, asking for a host, and return the certificate that came."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection(*address, ssl=context, server_hostname=name or "")
    found: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    await writer.wait_closed()
    return found


@pytest.mark.parametrize(
    "asked, given",
    [
        ("one.example", "one"),
        ("ONE.example", "one"),
        ("two.example", "two"),
        ("trace.two.example", "two"),
        ("a.trace.two.example", "one"),
        ("other.example", "one"),
        (None, "one"),
    ],
)
async def test_the_certificate_is_that_of_the_host_that_is_asked_for(
    tmp_path: Path, files: dict[str, TlsFiles], asked: str | None, given: str
) -> None:
    """By subject alternative name, a wildcard for one label; the first certificate for everybody else."""
    door = open_door(tracker_tls([files["one"], files["two"]]), lambda: NOW)
    async with _running(tmp_path, door) as address:
        assert await _peer(address, asked) == _der(files[given])


async def test_a_request_by_tls_is_answered_and_its_handshake_is_counted(
    tmp_path: Path, files: dict[str, TlsFiles]
) -> None:
    """HTTP/1.1 is what is spoken inside."""

    def hellos() -> float:
        return REGISTRY.get_sample_value("mailwake_http_tls_hellos_total", {"server_name": "known"}) or 0

    before = hellos()
    context = _trusting(files["one"])
    context.set_alpn_protocols(["h2", "http/1.1"])
    async with _running(tmp_path, open_door(tracker_tls([files["one"]]), lambda: NOW)) as address:
        reader, writer = await asyncio.open_connection(*address, ssl=context, server_hostname="one.example")
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: one.example\r\nConnection: close\r\n\r\n")
        answer = await reader.read()
        assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
        writer.close()
        await writer.wait_closed()

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert hellos() == before + 1


async def test_new_certificates_are_for_new_connections(tmp_path: Path, files: dict[str, TlsFiles]) -> None:
    """One that is open goes on with the old one, and is not dropped."""
    door = open_door(tracker_tls([files["one"]]), lambda: NOW)
    renewed = _files(tmp_path, "renewed", hosts=("one.example",))
    request = b"GET /healthz HTTP/1.1\r\nHost: one.example\r\n\r\n"
    async with _running(tmp_path, door) as address:
        context = _trusting(files["one"])
        reader, writer = await asyncio.open_connection(*address, ssl=context, server_hostname="one.example")
        writer.write(request)
        assert (await reader.readuntil(b"live\n")).startswith(b"HTTP/1.1 200 ")

        door.use(tracker_tls([renewed]))
        assert await _peer(address, "one.example") == _der(renewed)
        writer.write(request)
        assert (await reader.readuntil(b"live\n")).startswith(b"HTTP/1.1 200 ")
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("behind", [b"", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05hello"])
async def test_a_handshake_that_does_not_end_is_ended(
    tmp_path: Path, files: dict[str, TlsFiles], behind: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Silence, plain HTTP, half a hello."""
    monkeypatch.setattr(tls_module, "HANDSHAKE_S", 0.1)
    async with _running(tmp_path, open_door(tracker_tls([files["one"]]), lambda: NOW)) as address:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(behind)
        await asyncio.wait_for(reader.read(), 5)
        writer.close()
        await writer.wait_closed()


async def test_old_versions_of_tls_are_refused(tmp_path: Path, files: dict[str, TlsFiles]) -> None:
    """RFC 8996; also where the connection is handed on by its name."""
    context = _trusting(files["one"])
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1 is deprecated"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    async with _running(tmp_path, open_door(tracker_tls([files["one"]]), lambda: NOW)) as address:
        with pytest.raises(ssl.SSLError):
            await asyncio.open_connection(*address, ssl=context, server_hostname="one.example")


def test_a_certificate_that_no_client_would_get_is_refused(tmp_path: Path, files: dict[str, TlsFiles]) -> None:
    """The error says which of several it is."""
    nameless = _files(tmp_path, "nameless", hosts=())
    with pytest.raises(TlsError, match="no client would ever get it") as raised:
        tracker_tls([files["one"], nameless])
    assert raised.value.index == 1

    assert tracker_tls([nameless, files["one"]]).context is not None


def test_the_first_end_is_told_and_each_that_is_near_is_said(tmp_path: Path, files: dict[str, TlsFiles]) -> None:
    """Once a day, as clients come."""
    short = _files(tmp_path, "short", days_left=3, hosts=("short.example",))
    tls: ServerTls = tracker_tls([files["one"], short])
    now = tls.expires_at - timedelta(days=3)
    with capture_logs() as logs:
        tls.warn(now)
        tls.warn(now + timedelta(hours=23))
        tls.warn(now + timedelta(hours=25))

    assert [(line["event"], line["path"]) for line in logs] == [("certificate_expires", str(short.certificate))] * 2
    assert EXPIRY._value.get() == tls.expires_at.timestamp()


# --- the whole process ------------------------------------------------------------------------------------------


def _config(folder: Path, tls: str, listen: str = '["127.0.0.1:0", "http://127.0.0.1:0"]') -> Path:
    text = CONFIG.replace('[tracker]\nlisten = ["127.0.0.1:0"]', f"[tracker]\nlisten = {listen}\n{tls}")
    assert text != CONFIG
    return configure(folder, text)


def _table(*names: str) -> str:
    pairs = ", ".join(f'{{ certificate = "{name}-cert.pem", key = "{name}-key.pem" }}' for name in names)
    return f"[tracker.tls]\ncertificates = [{pairs}]\n"


@contextmanager
def _client(server: Server, trusted: Path, name: str) -> Iterator[ssl.SSLSocket]:
    context = ssl.create_default_context(cafile=trusted)
    port = int(server.listening["tracker"][0].rpartition(":")[2])
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=name) as secure,
    ):
        yield secure


def _ask(secure: ssl.SSLSocket) -> bytes:
    secure.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = b""
    while not answer.endswith(b"live\n"):
        answer += secure.recv(4096)
    return answer


@pytest.mark.parametrize("options", [(), ("--workers", "2")])
def test_a_reload_swaps_certificates_and_a_broken_one_changes_nothing(tmp_path: Path, options: tuple[str, ...]) -> None:
    """In one process and in workers; a connection that is open stays."""
    for name, hosts in HOSTS.items():
        make_certificate(tmp_path, name, hosts=hosts)
    config = _config(tmp_path, _table("one", "two"))
    with serving(config, *options) as server:
        tls_address, plain_address = server.listening["tracker"]
        assert tls_address.startswith("https://127.0.0.1:")
        assert not plain_address.startswith("http")
        with _client(server, tmp_path / "one-cert.pem", "one.example") as held:
            assert _ask(held).startswith(b"HTTP/1.1 200 ")
            with _client(server, tmp_path / "two-cert.pem", "trace.two.example") as other:
                assert _ask(other).startswith(b"HTTP/1.1 200 ")

            (tmp_path / "two-key.pem").write_text("broken")
            refused = mailwake("reload", "--config", str(config), cwd=tmp_path)
            assert refused.returncode != 0
            assert "tracker.tls.certificates[1].key" in refused.stdout + refused.stderr
            with _client(server, tmp_path / "two-cert.pem", "two.example") as other:
                assert _ask(other).startswith(b"HTTP/1.1 200 ")

            new, _ = make_certificate(tmp_path, "two", hosts=HOSTS["two"])
            renewed = mailwake("reload", "--config", str(config), cwd=tmp_path)
            assert renewed.returncode == 0, renewed.stderr
            with _client(server, new, "two.example") as other:
                assert _ask(other).startswith(b"HTTP/1.1 200 ")
            assert _ask(held).startswith(b"HTTP/1.1 200 ")


def test_a_socket_that_was_handed_on_speaks_tls(tmp_path: Path) -> None:
    """The address in the file says how; the service manager's socket has no scheme."""
    make_certificate(tmp_path, "one", hosts=HOSTS["one"])
    with socket.create_server(("127.0.0.1", 0)) as bound:
        listen = f'["http://127.0.0.1:0", "https://127.0.0.1:{bound.getsockname()[1]}"]'
        config = _config(tmp_path, _table("one"), listen)
        with serving(config, by=(handed_on([bound]), [bound]), environ={"LISTEN_FDS": "1"}) as server:
            server.listening["tracker"].reverse()
            assert server.listening["tracker"][0] == f"https://127.0.0.1:{bound.getsockname()[1]}"
            with _client(server, tmp_path / "one-cert.pem", "one.example") as secure:
                assert _ask(secure).startswith(b"HTTP/1.1 200 ")


def test_curl_and_check_find_the_host(tmp_path: Path, require_tool: Callable[[str], str]) -> None:
    """By name and verified; beside it plain HTTP, for a proxy on this machine."""
    curl = require_tool("curl")
    make_certificate(tmp_path, "one", hosts=HOSTS["one"])
    table = '[tracker.tls]\ncertificate = "one-cert.pem"\nkey = "one-key.pem"\n'
    config = _config(tmp_path, table)
    with serving(config) as server:
        port = server.listening["tracker"][0].rpartition(":")[2]
        command = [curl, "--silent", "--show-error", "--noproxy", "*", "--cacert", str(tmp_path / "one-cert.pem")]
        where = ["--resolve", f"one.example:{port}:127.0.0.1", f"https://one.example:{port}/readyz"]
        assert subprocess.run([*command, *where], capture_output=True, text=True, timeout=20).stdout == "ready\n"  # noqa: PLW1510
        plain = server.listening["tracker"][1]
        found = subprocess.run([*command, f"http://{plain}/readyz"], capture_output=True, text=True, timeout=20)  # noqa: PLW1510
        assert found.stdout == "ready\n"

        checked = mailwake("check", "--json", "--config", str(config), cwd=tmp_path)
        findings = [json.loads(line) for line in checked.stdout.splitlines()]
        assert [one["outcome"] for one in findings if one["what"] == "tracker.tls.certificate"] == ["ok"]
        assert [one["outcome"] for one in findings if one["what"] == "tracker.listen"] == ["ok", "ok"]


def test_check_tells_of_each_certificate(tmp_path: Path) -> None:
    """One that ends soon, and one that cannot be used."""
    make_certificate(tmp_path, "one", hosts=HOSTS["one"], days_left=3)
    make_certificate(tmp_path, "two", hosts=HOSTS["two"])
    config = _config(tmp_path, _table("one", "two"))

    def ask() -> dict[str, str]:
        checked = mailwake("check", "--json", "--config", str(config), cwd=tmp_path)
        findings = [json.loads(line) for line in checked.stdout.splitlines()]
        return {one["what"]: one["outcome"] for one in findings if one["what"].startswith("tracker.tls")}

    assert ask() == {
        "tracker.tls.certificates[0].certificate": "failed",
        "tracker.tls.certificates[1].certificate": "ok",
    }
    (tmp_path / "two-key.pem").chmod(0o644)
    assert ask() == {"tracker.tls.certificates[1].key": "failed"}
