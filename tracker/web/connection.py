"""Connections of the tracking host: aiohttp's parser and protocol, with a short way for what nearly all of them bring.

Owns HTTP's limits, how many connections there are, and the short way. What is a hit and what it gets is `hits.py`'s.

Theory: a task, a request, a response and a stream of its own for every request cost aiohttp more time than reading the
token, judging and writing the record do together. A plain GET of a link or a pixel needs none of them. So while the
library's task of a connection sleeps, waiting for a request, what its parser has read is looked at here first. A plain
one is answered at once, or when its record is durable, straight to the transport; for anything else (another method or
version, a body, a connection that is to be closed, what is no HTTP) the library is woken, and takes the long way. Both
end in the same `Hits.begin`. Requests of a connection are answered in their order, one at a time, on either way.

Nor does the parser read the same header fields again: what it made of those of a plain request is remembered by their
bytes. Where such bytes come whole, behind a request line of ours, and the parser stands between two requests, they mean
the same again, since it has seen them from the same state. If one of the three is not certain, the parser reads them.

A connection has `KEEPALIVE_S` from one answer to the whole of the next request, however slowly it comes. When there
are too many, the one that was silent longest is closed, so that whoever holds a thousand open keeps nobody out.

Limits: the short way knows attributes of aiohttp's protocol that are not documented: tests/seams/test_aiohttp.py has
them all. Without `RawRequestMessage` of the right shape everything takes the long way.
"""

import asyncio
import string
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from time import time
from typing import Final, NamedTuple, TypeGuard

import structlog
from aiohttp import web
from aiohttp.http import HttpVersion11, RawRequestMessage
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import EMPTY_PAYLOAD
from prometheus_client import Counter

from tracker.contract.urls import LINK_PREFIX, PIXEL_PREFIX
from tracker.core.hit import HitRequest, HttpAnswer, plain
from tracker.runtime.observe import MALFORMED_REQUESTS
from tracker.web.hits import Hits
from tracker.web.render import render, respond

MAX_LINE_BYTES: Final = 65_536  # what is no hit is answered, not cut off; a path of ours is much shorter
MAX_TARGET_CHARACTERS: Final = 8_192  # a token has 4,096, and what clients append is ignored
MAX_HEADERS: Final = 128
MAX_HEAD_BYTES: Final = 131_072  # of a request before its body; else 128 long lines are 8 MB of memory each
KEEPALIVE_S: Final = 75  # longer than proxies keep their end (60 s); a request that comes more slowly is cut off
LINGERING_S: Final = 2
READ_BYTES: Final = 16_384  # asyncio takes 256 KiB of memory for each read, which the system gives and takes every time
MAX_KNOWN_HEADS: Final = 1024  # a few browsers and proxies of images send nearly all requests
MAX_KNOWN_BYTES: Final = 2048  # with what was made of them 10 KB each at most

_LINE_END: Final = b" HTTP/1.1\r\n"
_EMPTY_LINE: Final = b"\r\n\r\n"
_METHOD_BYTES: Final = len(b"GET ")
_PLAIN_LINES: Final = tuple(f"GET {prefix}".encode() for prefix in (LINK_PREFIX, PIXEL_PREFIX))
_PLAIN_BYTES: Final = (string.ascii_letters + string.digits + "-_/.~?&=%+").encode()

CLOSED_FOR_ROOM: Final = Counter(
    "mailwake_http_closed_for_room", "Connections to the tracking host that were closed because there were too many."
)
UNREAD: Final = Counter(
    "mailwake_http_unread", "Connections to the tracking host that were cut because they asked and did not read."
)

MALFORMED: Final = plain(400, "This is no request.\n")
FAILED: Final = plain(500, "Something went wrong here.\n")

_log = structlog.get_logger()

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Connections(web.Server):
    """Makes the connections, and knows which was silent longest."""

    def __init__(self, handler: Handler, hits: Hits, *, max_connections: Callable[[], int]) -> None:
        """`handler` answers what takes the long way; `max_connections` gives the number in force."""
        super().__init__(handler)
        self._hits = hits
        self._max_connections = max_connections
        self._by_silence: OrderedDict[Connection, None] = OrderedDict()
        self.heads: dict[bytes, _Head] = {}
        """What the parser made of header fields, by their bytes, of plain requests."""

    def __call__(self) -> web.RequestHandler:
        """Make the protocol of a connection."""
        return Connection(self, self._hits)

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        """Take a connection in; where there are too many, close the one that was silent longest."""
        super().connection_made(handler, transport)
        if isinstance(handler, Connection):
            self._by_silence[handler] = None
            if len(self._by_silence) > self._max_connections():
                CLOSED_FOR_ROOM.inc()
                silent, _ = self._by_silence.popitem(last=False)
                silent.cut()

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        """Forget a connection."""
        if isinstance(handler, Connection):
            self._by_silence.pop(handler, None)
        super().connection_lost(handler, exc)

    def learn(self, head: "_Head") -> None:
        """Remember what the parser made of the header fields of a plain request."""
        if len(head.block) <= MAX_KNOWN_BYTES:
            if len(self.heads) >= MAX_KNOWN_HEADS:
                self.heads.clear()
            self.heads[head.block] = head

    def has_spoken(self, connection: "Connection") -> None:
        """Note that a request came."""
        self._by_silence.move_to_end(connection)


class Connection(web.RequestHandler):
    """One connection: the short way, and answers of our own to what is no HTTP."""

    __slots__ = ("_connections", "_head_bytes", "_hits", "_is_between", "_is_going_on", "_is_hit_waiting", "_peer")

    def __init__(self, connections: Connections, hits: Hits) -> None:
        """Be one of these connections."""
        super().__init__(
            connections,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]  # its lines would hold tokens; None is what the library documents
            keepalive_timeout=KEEPALIVE_S,
            lingering_time=LINGERING_S,
            max_line_size=MAX_LINE_BYTES,
            max_field_size=MAX_LINE_BYTES,
            max_headers=MAX_HEADERS,
        )
        self._connections = connections
        self._hits = hits
        self._peer = ""
        self._head_bytes = 0  # of the request that is coming; what comes while one is answered may be a body
        self._is_hit_waiting = False
        self._is_going_on = False
        self._is_between = True
        """Whether the parser has seen whole requests only: the next byte begins another."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        super().connection_made(transport)
        peer = transport.get_extra_info("peername")
        self._peer = str(peer[0]) if isinstance(peer, tuple) else ""
        if hasattr(transport, "max_size"):
            transport.max_size = READ_BYTES

    def data_received(self, data: bytes) -> None:
        """Answer what is known already; else have the library parse it, and answer what takes the short way."""
        waiter = self._waiter
        if waiter is None or waiter.done():  # the library's task is at work: what comes now waits for it
            self._is_between = False
            super().data_received(data)
            return
        target, _, block = data.partition(_LINE_END)
        is_one = self._begins_a_plain_one(target)
        head = self._connections.heads.get(block) if is_one else None
        if head is not None:
            self._begin(target[_METHOD_BYTES:].decode("ascii"), head)
            return
        is_only = not self._messages
        self._waiter = None  # or it would be woken
        known = self._request_count
        try:
            super().data_received(data)
        finally:
            self._waiter = waiter
        self._head_bytes = self._head_bytes + len(data) if self._request_count == known else 0
        # One message that has no body, and nothing behind the empty line that ends it: the next byte begins a request.
        self._is_between = (
            is_only
            and len(self._messages) == 1
            and self._messages[0][1] is EMPTY_PAYLOAD
            and data.endswith(_EMPTY_LINE)
            and not self._upgraded
        )
        if self._head_bytes > MAX_HEAD_BYTES:
            self._refuse()
        elif not self._is_hit_waiting:
            is_one = is_one and self._is_between and data.find(_EMPTY_LINE) == len(data) - len(_EMPTY_LINE)
            self._go_on(block if is_one else b"")

    def _begins_a_plain_one(self, line: bytes) -> bool:
        """Say whether a plain request begins with what was received, and could be answered at once.

        `line` is its request line, less the version: a GET of a link or a pixel, of characters that mean nothing.
        """
        return (
            self._is_between
            and not self._is_hit_waiting
            and not self._messages
            and not self._close
            and not self._force_close
            and line.startswith(_PLAIN_LINES)
            and len(line) <= MAX_TARGET_CHARACTERS
            and not line[_METHOD_BYTES:].translate(None, _PLAIN_BYTES)
        )

    def _go_on(self, block: bytes = b"") -> None:
        """Answer what was read, one after the other; wake the library for the first that is not for here.

        `block` are the bytes of the header fields, where they are those of the only message.
        """
        self._is_going_on = True
        while self._messages and not self._is_hit_waiting and not self._close and not self._force_close:
            message, payload = self._messages[0]
            if not _is_plain(message) or payload is not EMPTY_PAYLOAD or self._buffer_paused or self._parser is None:
                self._connections.has_spoken(self)
                if self._waiter is not None and not self._waiter.done():
                    self._waiter.set_result(None)
                break
            self._messages.popleft()
            self._parser.message_consumed()
            head = _Head(message.headers, tuple(message.headers.getall("X-Forwarded-For", ())), block)
            if block:
                self._connections.learn(head)
            self._begin(message.path, head)
        self._is_going_on = False

    def _begin(self, path: str, head: "_Head") -> None:
        self._next_keepalive_close_time = self._loop.time() + KEEPALIVE_S
        self._connections.has_spoken(self)
        self._is_hit_waiting = self._request_in_progress = True
        request = HitRequest("GET", path, False, self._peer, head.forwarded_for, head.headers, head.block)
        try:
            self._hits.begin(request, self._send)
        except Exception as error:  # noqa: BLE001 - a fault of ours is one answer, not the end of the host
            _log.error("request_failed", exc_info=error)
            self._send(FAILED)
            self.force_close()

    def _send(self, http: HttpAnswer) -> None:
        self._is_hit_waiting = self._request_in_progress = False
        if self._handler_waiter is not None and not self._handler_waiter.done():  # the drain waits for this answer
            self._handler_waiter.set_result(None)
        if self.transport is None or self.transport.is_closing():
            return
        self.transport.write(render(http, unix_s=int(time())))
        if self._messages and not self._is_going_on:
            self._go_on()

    def _refuse(self) -> None:
        """Answer a header that does not end, where no answer is due before, and close."""
        MALFORMED_REQUESTS.inc()
        if self.transport is not None and not self._is_hit_waiting:
            self.transport.write(render(MALFORMED, unix_s=int(time())))
        self.force_close()

    def pause_writing(self) -> None:
        """Cut off who asks and does not read: so many answers of ours that nobody takes are no slow network."""
        UNREAD.inc()
        self.cut()

    def cut(self) -> None:
        """Close the connection at once, whatever it is doing."""
        self._close = True  # what it has asked meanwhile is not begun
        if self.transport is not None:
            self.transport.abort()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is no HTTP: the library would echo it, name itself and its version, and log a traceback."""
        if isinstance(exc, HttpProcessingError):
            MALFORMED_REQUESTS.inc()
        else:
            _log.error("request_failed", exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("the response has begun")
        response = respond(MALFORMED if status < FAILED.status else FAILED)
        response.force_close()
        return response


class _Head(NamedTuple):
    """The header fields of a plain request, and the bytes that they were read from, if these are known."""

    headers: Mapping[str, str]
    forwarded_for: tuple[str, ...]
    block: bytes


def _is_plain(message: object) -> TypeGuard[RawRequestMessage]:
    """Say whether a message of the parser is a GET of a link or a pixel that leaves its connection open."""
    return (
        type(message) is RawRequestMessage
        and message.method == "GET"
        and message.path.startswith((LINK_PREFIX, PIXEL_PREFIX))
        and message.version == HttpVersion11
        and not message.should_close
        and not message.upgrade
        and len(message.path) <= MAX_TARGET_CHARACTERS
    )
