"""What else comes to a public port: old HTTP, two requests in one, bodies, floods of bytes, noise."""

import gzip
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.integration.tracking import Host, parse, run_host
from tests.unit.hits import path_to
from tests.unit.tokens import URL, link, pixel
from tracker.contract.events import Click
from tracker.runtime.observe import MALFORMED_REQUESTS


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    """Run a host."""
    async with run_host(tmp_path) as running:
        yield running


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """What a stranger sends is never an error, nor worth a line of the library's."""
    yield
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_http_1_0_is_answered(host: Host) -> None:
    """Old proxies and scanners: without Host, closed afterwards."""
    answer = parse(await host.send(f"GET {path_to(link())} HTTP/1.0\r\n\r\n".encode()))

    assert (answer.status, answer.fields["location"]) == (302, URL)
    (record,) = host.records()
    assert isinstance(record, Click)
    assert record.hit.signals == ("http_1_0", "no_user_agent", "no_accept_language", "accept_without_html")


async def test_a_connection_is_kept(host: Host) -> None:
    """Requests one after the other, and all at once."""
    one = f"GET {path_to(pixel())} HTTP/1.1\r\nHost: x\r\n\r\n"
    raw = await host.send((one * 4 + one.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")).encode())

    assert raw.count(b"HTTP/1.1 200 OK") == 5
    assert len(host.records()) == 5


@pytest.mark.parametrize("fields", ["", "Host: a\r\nHost: b\r\n", "Host: a\r\nHost : b\r\n"])
async def test_a_request_has_one_host(host: Host, fields: str) -> None:
    """RFC 9112 §3.2: a proxy in front and we must mean the same."""
    raw = await host.send(f"GET {path_to(link())} HTTP/1.1\r\n{fields}\r\n".encode())

    assert raw.startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 "))
    assert host.records() == []


async def test_a_body_is_not_taken_for_a_request(host: Host) -> None:
    """What follows a GET with a length is its body: answered once, closed, and nothing of it recorded."""
    smuggled = f"GET {path_to(pixel())} HTTP/1.1\r\nHost: x\r\n\r\n"
    head = f"GET {path_to(link())} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(smuggled)}\r\n\r\n"
    raw = await host.send((head + smuggled + smuggled).encode())

    assert raw.count(b"HTTP/1.1 ") == 1
    assert b"Connection: close" in raw
    assert [type(record) for record in host.records()] == [Click]


async def test_a_compressed_body_is_not_unpacked(host: Host) -> None:
    """A bomb costs what it weighs on the wire."""
    bomb = gzip.compress(bytes(10_000_000))
    head = f"GET {path_to(link())} HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\n\r\n"
    raw = await host.send(head.encode() + bomb)

    assert raw.startswith(b"HTTP/1.1 302 ")


async def test_a_path_of_more_than_8_kb_is_too_long(host: Host) -> None:
    """414, not a cut connection; just below it a link still works."""
    base = path_to(link()) + "?"

    assert (await host.ask(base + "x" * (8192 - len(base)))).status == 302
    assert (await host.ask(base + "x" * (8193 - len(base)))).status == 414
    assert (await host.ask("/" + "x" * 60_000)).status == 414


@pytest.mark.parametrize(
    "raw",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"GET /l/TOKEN\xc3\xa9 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /l/x HTTP/1.1\r\nHost: x\r\nbad\r\n\r\n",
        b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        b"\0" * 100 + b"\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_counted_and_echoed_to_nobody(host: Host, raw: bytes) -> None:
    """A scanner's noise: 400, without the library's name, the request's bytes or a line in the log."""
    before = MALFORMED_REQUESTS._value.get()
    answer = parse(await host.send(raw))

    assert (answer.status, answer.body) == (400, b"This is no request.\n")
    assert answer.fields["server"] == "web"
    assert MALFORMED_REQUESTS._value.get() == before + 1
