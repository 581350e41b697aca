"""The tracking host as a server: on sockets that are bound already, until it is drained.

Owns HTTP's limits and what is no hit: the verification answer, liveness, readiness. Answers on any Host, since the
token says all. What smuggles requests (two lengths, no Host or two, folded fields) is refused by the library's parser.

Standards: RFC 9112 §3.2 (Host), §6 (bodies: none is expected, and a connection that bears one is closed).

Limits: no limit on connections. A path with bytes beyond ASCII is refused by the library's parser, even where
they stand behind a token.
"""

import asyncio
import os
import socket
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final
from urllib.parse import parse_qs

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from tracker.contract.ports import Clock, Entropy
from tracker.contract.urls import LINK_PREFIX, PIXEL_PREFIX
from tracker.core import challenge
from tracker.core.hit import METHOD_NOT_ALLOWED, NOT_FOUND, HitSettings, HttpAnswer, path_of, plain
from tracker.runtime.observe import MALFORMED_REQUESTS
from tracker.runtime.tls import Door
from tracker.web.hits import Hits, Record, respond
from tracker.web.tls import TlsSite

MAX_LINE_BYTES: Final = 65_536  # what is no hit is answered, not cut off; a path of ours is much shorter
MAX_TARGET_CHARACTERS: Final = 8_192  # a token has 4,096, and what clients append is ignored
MAX_HEADERS: Final = 128
KEEPALIVE_S: Final = 75  # longer than proxies keep their end (60 s); a request that comes more slowly is cut off
LINGERING_S: Final = 2
BACKLOG: Final = 1024
DRAIN_S: Final = 8

_log = structlog.get_logger()

_WELL_KNOWN: Final = "/.well-known/mailwake"
_HEALTH: Final = "/healthz"
_READINESS: Final = "/readyz"

_MALFORMED: Final = plain(400, "This is no request.\n")
_FAILED: Final = plain(500, "Something went wrong here.\n")
_TOO_LONG: Final = plain(414, "The address is too long.\n")
_BAD_CHALLENGE: Final = plain(400, "A challenge has 16 to 128 characters of A-Z, a-z, 0-9, - and _.\n")
_OURS: Final = plain(200, "ours\n")
_LIVE: Final = plain(200, "live\n")
_READY: Final = plain(200, "ready\n")


class TrackingHost:
    """The public host of links and pixels: `start` on listening sockets, `drain` before the journal is closed."""

    def __init__(
        self,
        *,
        settings: Callable[[], HitSettings],
        record: Record,
        verification_key: bytes,
        not_ready: Callable[[], str | None] = lambda: None,
        is_ours: Callable[[str], bool] = lambda _host: False,
        clock: Clock = lambda: datetime.now(UTC),
        entropy: Entropy = os.urandom,
    ) -> None:
        """`settings` gives the snapshot in force, `record` is the journal's `emit_within`.

        `not_ready` says in a few words, to strangers, why no requests should be sent here, or None. `is_ours` says
        whether links point to a host, `"trace.shop.example"`: a proxy asks before it gets a certificate for it.
        """
        self._hits = Hits(settings=settings, record=record, clock=clock, entropy=entropy)
        self._verification_key = verification_key
        self._not_ready = not_ready
        self._is_ours = is_ours
        self._is_draining = False
        self._runner: web.ServerRunner | None = None

    async def start(
        self, sockets: Sequence[socket.socket], *, tls_sockets: Sequence[socket.socket] = (), door: Door | None = None
    ) -> None:
        """Serve on sockets that are bound, behind the door on `tls_sockets`; they are closed when drained."""
        self._runner = web.ServerRunner(_Server(self._handle), shutdown_timeout=DRAIN_S)
        await self._runner.setup()
        for bound in sockets:
            await web.SockSite(self._runner, bound, backlog=BACKLOG).start()
        if door is not None:
            for bound in tls_sockets:
                await TlsSite(self._runner, bound, door, backlog=BACKLOG).start()

    async def drain(self) -> None:
        """Stop listening, answer what is in flight, for at most `DRAIN_S`, and close the connections."""
        self._is_draining = True
        if self._runner is not None:
            await self._runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        path = path_of(request.raw_path)
        if len(path) > MAX_TARGET_CHARACTERS:
            response = respond(_TOO_LONG)
        elif path.startswith((LINK_PREFIX, PIXEL_PREFIX)):
            response = await self._hits.handle(request, path)
        else:
            response = respond(self._answer(request.method, path))
        if request.body_exists:
            response.force_close()  # what follows on this connection may be a body in the shape of a request
        return response

    def _answer(self, method: str, target: str) -> HttpAnswer:
        """Answer what is no hit."""
        path, _, query = target.partition("?")
        if path not in {_WELL_KNOWN, _HEALTH, _READINESS}:
            return NOT_FOUND
        if method not in {"GET", "HEAD"}:
            return METHOD_NOT_ALLOWED
        if path == _WELL_KNOWN:
            return self._verify(query)
        if path == _HEALTH:
            return _LIVE
        reason = "stopping" if self._is_draining else self._not_ready()
        return _READY if reason is None else plain(503, f"{reason}\n")

    def _verify(self, query: str) -> HttpAnswer:
        """Answer a challenge as `tracker.core.challenge` has it, or whether a host is ours."""
        fields = parse_qs(query, keep_blank_values=True)
        nonces = fields.get("challenge", [])
        if not nonces and len(hosts := fields.get("domain", [])) == 1 and self._is_ours(hosts[0].lower()):
            return _OURS
        if not nonces:
            return NOT_FOUND
        proof = challenge.answer(self._verification_key, nonces[0]) if len(nonces) == 1 else None
        return _BAD_CHALLENGE if proof is None else plain(200, proof)


class _Server(web.Server):
    """Makes the connections."""

    def __call__(self) -> web.RequestHandler:
        return _Connection(
            self,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]  # its lines would hold tokens; None is what the library documents
            keepalive_timeout=KEEPALIVE_S,
            lingering_time=LINGERING_S,
            max_line_size=MAX_LINE_BYTES,
            max_field_size=MAX_LINE_BYTES,
            max_headers=MAX_HEADERS,
        )


class _Connection(web.RequestHandler):
    """Answers what is no HTTP: the library would echo the request, name itself and its version, and log a traceback."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if isinstance(exc, HttpProcessingError):
            MALFORMED_REQUESTS.inc()
        else:
            _log.error("request_failed", exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("the response has begun")
        response = respond(_MALFORMED if status < _FAILED.status else _FAILED)
        response.force_close()
        return response
