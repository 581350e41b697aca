"""What the tracking host relies on in aiohttp, and what it must not trust it with: seams S17, S18 and S26."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import EMPTY_PAYLOAD

_Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def _serve(handler: _Handler, max_bytes: int = 8190) -> AsyncIterator[tuple[str, int]]:
    server = web.Server(handler, access_log=None, max_line_size=max_bytes, max_field_size=max_bytes)
    runner = web.ServerRunner(server)
    await runner.setup()
    listening = socket.create_server(("127.0.0.1", 0))
    await web.SockSite(runner, listening).start()
    try:
        yield listening.getsockname()
    finally:
        await runner.cleanup()


async def _exchange(address: tuple[str, int], raw: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(*address)
    writer.write(raw)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


async def _hello(_: web.BaseRequest) -> web.StreamResponse:
    return web.Response(text="hello")


@pytest.mark.parametrize(
    "url, rewritten",
    [
        ("https://a.example/%2f", "https://a.example/%2F"),
        ("https://a.example:443/", "https://a.example/"),
        ("https://a.example/../b", "https://a.example/b"),
        ("https://a.example?x", "https://a.example/?x"),
    ],
)
def test_the_librarys_redirect_rewrites_the_destination(url: str, rewritten: str) -> None:
    """S17: so `tracker.web.render` never uses it."""
    assert web.HTTPFound(url).headers["Location"] == rewritten


async def test_a_plain_response_leaves_the_location_alone() -> None:
    """S17: what we do instead."""
    url = "https://a.example:443/../%2f|{x}?a[]=1#%zz"

    async def redirect(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": url})

    async with _serve(redirect) as address:
        answer = await _exchange(address, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")

    assert f"\r\nLocation: {url}\r\n".encode() in answer


async def test_the_raw_path_is_that_of_the_request_line() -> None:
    """Nothing is decoded before the token is looked for; the absolute form comes as it is."""
    seen: list[str] = []

    async def note(request: web.BaseRequest) -> web.StreamResponse:
        seen.append(request.raw_path)
        return web.Response()

    targets = ["/l/%6c/../x?y=%2f", "//l/x", "http://other.example/l/x"]
    async with _serve(note) as address:
        for target in targets:
            await _exchange(address, f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())

    assert seen == targets


async def test_a_malformed_request_is_logged_and_echoed(caplog: pytest.LogCaptureFixture) -> None:
    """S18: and told to whoever sent it. `tracker.web.connection` overrides `handle_error`, which does both."""
    async with _serve(_hello) as address:
        answer = await _exchange(address, b"GET /l/secret HTTP/1.1\r\nno colon\r\n\r\n")

    assert answer.startswith(b"HTTP/1.0 400 ")
    assert b"no colon" in answer  # and the request comes back, with the library's name and version
    assert b"aiohttp/" in answer
    (record,) = [record for record in caplog.records if record.name == "aiohttp.server"]
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], HttpProcessingError)


@pytest.mark.parametrize(
    "fields",
    [
        b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        b"Content-Length: 3\r\nContent-Length: 4\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Folded: a\r\n b\r\n",
        b"Space : a\r\n",
        b"Content-Length: +3\r\n",
        b"Host: y\r\n",
        b"",
    ],
)
async def test_what_smuggles_requests_is_refused(fields: bytes) -> None:
    """RFC 9112 §3.2, §5, §6: the library's parser answers 400 and closes."""
    async with _serve(_hello) as address:
        answer = await _exchange(
            address,
            b"POST / HTTP/1.1\r\n"
            + (b"Host: x\r\n" if fields else b"")
            + fields
            + b"\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        )

    assert answer.startswith((b"HTTP/1.0 400 ", b"HTTP/1.1 400 "))
    assert answer.count(b"HTTP/1.") == 1


@pytest.mark.parametrize("part", ["line", "field"])
async def test_the_limits_of_lines_can_be_raised(part: str) -> None:
    """S18: 8,190 bytes by default, and then 400 where a longer answer would be due."""
    long = b"x" * 60_000
    request = {
        "line": b"GET /" + long + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "field": b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX: " + long + b"\r\n\r\n",
    }[part]
    async with _serve(_hello) as default, _serve(_hello, 65_536) as raised:
        refused, answered = await _exchange(default, request), await _exchange(raised, request)

    assert b" 400 " in refused.partition(b"\r\n")[0]
    assert b" 200 " in answered.partition(b"\r\n")[0]


class _Watched(web.RequestHandler):
    """Notes what the short way of `tracker.web.connection` goes by, before and after each read."""

    __slots__ = ("seen",)

    def data_received(self, data: bytes) -> None:
        waiter, self._waiter = self._waiter, None
        self.seen = [waiter is not None and not waiter.done()]
        super().data_received(data)
        self._waiter = waiter
        self.seen += [
            len(self._messages) == 1,
            not self._close,
            not self._force_close,
            not self._buffer_paused,
            not self._upgraded,
        ]
        message, payload = self._messages.popleft()
        self.seen.append(isinstance(message, RawRequestMessage) and payload is EMPTY_PAYLOAD)
        assert self._parser is not None
        self._parser.message_consumed()
        self.seen += [self._request_in_progress is False, self._handler_waiter is None]
        self.seen += [self._next_keepalive_close_time > self._loop.time(), self._request_count == 1]
        assert self.transport is not None
        self.transport.write(repr(self.seen).encode())
        self.transport.close()


class _Watching(web.Server):
    def __call__(self) -> web.RequestHandler:
        return _Watched(self, loop=asyncio.get_running_loop())


async def test_a_request_can_be_taken_before_the_librarys_task_wakes() -> None:
    """S26: while its task sleeps, what was parsed lies in `_messages`, and nobody is told that it does."""
    runner = web.ServerRunner(_Watching(_hello))
    await runner.setup()
    listening = socket.create_server(("127.0.0.1", 0))
    await web.SockSite(runner, listening).start()
    answer = await _exchange(listening.getsockname(), b"GET /i/x HTTP/1.1\r\nHost: x\r\n\r\n")
    await runner.cleanup()

    assert answer == repr([True] * 11).encode()


async def test_a_transport_reads_as_much_as_it_is_told() -> None:
    """S26: 256 KiB at once, unless another number is set, which is no part of what asyncio promises."""
    made: list[int] = []

    class Protocol(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            made.append(getattr(transport, "max_size", 0))
            transport.close()

    server = await asyncio.get_running_loop().create_server(Protocol, "127.0.0.1", 0)
    await _exchange(server.sockets[0].getsockname(), b"")
    server.close()
    await server.wait_closed()

    assert made == [256 * 1024]
