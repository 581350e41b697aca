"""The tracking host as a server: on sockets that are bound already, until it is drained.

Owns what is no hit: the verification answer, liveness, readiness. Answers on any Host, since the token says all. What
smuggles requests (two lengths, no Host or two, folded fields) is refused by the library's parser.

Standards: RFC 9112 §3.2 (Host), §6 (bodies: none is expected, and a connection that bears one is closed).

Limits: a path with bytes beyond ASCII is refused by the library's parser, even where they stand behind a token.
"""

import asyncio
import os
import socket
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final
from urllib.parse import parse_qs

from aiohttp import web
from aiohttp.http import HttpVersion11

from tracker.contract.ports import Clock, Entropy
from tracker.contract.urls import LINK_PREFIX, PIXEL_PREFIX
from tracker.core import challenge
from tracker.core.hit import (
    METHOD_NOT_ALLOWED,
    NOT_FOUND,
    HitRecord,
    HitRequest,
    HitSettings,
    HttpAnswer,
    path_of,
    plain,
)
from tracker.journal.group import Kept
from tracker.runtime.tls import Door
from tracker.web.connection import MAX_TARGET_CHARACTERS, Connections
from tracker.web.folding import Folding
from tracker.web.hits import Hits, Post
from tracker.web.render import respond
from tracker.web.tls import TlsSite

BACKLOG: Final = 1024
DRAIN_S: Final = 8
MAX_HITS: Final = 1000
MAX_CONNECTIONS: Final = 4096

_WELL_KNOWN: Final = "/.well-known/mailwake"
_HEALTH: Final = "/healthz"
_READINESS: Final = "/readyz"

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
        post: Post,
        verification_key: bytes,
        not_ready: Callable[[], str | None] = lambda: None,
        is_ours: Callable[[str], bool] = lambda _host: False,
        max_hits: Callable[[], int] = lambda: MAX_HITS,
        max_connections: Callable[[], int] = lambda: MAX_CONNECTIONS,
        clock: Clock = lambda: datetime.now(UTC),
        entropy: Entropy = os.urandom,
    ) -> None:
        """`settings` gives the snapshot in force, `post` is the journal's.

        `not_ready` says in a few words, to strangers, why no requests should be sent here, or None. `is_ours` says
        whether links point to a host, `"trace.shop.example"`: a proxy asks before it gets a certificate for it.
        `max_hits` is how many hits of a link in a minute are events of their own, `max_connections` how many may be
        open.
        """
        self._post = post
        self._folding = Folding(
            max_hits=max_hits, write=self._write_folded, clock_s=time.monotonic, call_later=_call_later
        )
        self._hits = Hits(settings=settings, post=post, folding=self._folding, clock=clock, entropy=entropy)
        self._max_connections = max_connections
        self._verification_key = verification_key
        self._not_ready = not_ready
        self._is_ours = is_ours
        self._is_draining = False
        self._runner: web.ServerRunner | None = None

    async def start(
        self, sockets: Sequence[socket.socket], *, tls_sockets: Sequence[socket.socket] = (), door: Door | None = None
    ) -> None:
        """Serve on sockets that are bound, behind the door on `tls_sockets`; they are closed when drained."""
        connections = Connections(self._handle, self._hits, max_connections=self._max_connections)
        self._runner = web.ServerRunner(connections, shutdown_timeout=DRAIN_S)
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
        self._folding.flush()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        path = path_of(request.raw_path)
        if len(path) > MAX_TARGET_CHARACTERS:
            response = respond(_TOO_LONG)
        elif path.startswith((LINK_PREFIX, PIXEL_PREFIX)):
            response = await self._respond_to_hit(request, path)
        else:
            response = respond(self._answer(request.method, path))
        if request.body_exists:
            response.force_close()  # what follows on this connection may be a body in the shape of a request
        return response

    async def _respond_to_hit(self, request: web.BaseRequest, path: str) -> web.Response:
        answered: asyncio.Future[HttpAnswer] = asyncio.get_running_loop().create_future()

        def send(http: HttpAnswer) -> None:
            if not answered.done():  # who asked may be gone
                answered.set_result(http)

        headers = request.headers
        hit = HitRequest(
            method=request.method,
            path=path,
            is_http_1_0=request.version < HttpVersion11,
            peer=request.remote or "",
            forwarded_for=tuple(headers.getall("X-Forwarded-For", ())),
            headers=headers,
        )
        self._hits.begin(hit, send)
        return respond(await answered)

    def _write_folded(self, record: HitRecord) -> None:
        self._post(record, _forget)

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


def _call_later(delay_s: float, callback: Callable[[], None]) -> object:
    return asyncio.get_running_loop().call_later(delay_s, callback)


def _forget(_: Kept) -> None:
    """Hear how safe a folded record is, which nobody waits for."""
