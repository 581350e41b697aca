"""Hits: a request of aiohttp's in, a recorded hit and its response out.

Owns the order of the two: a hit is written before it is answered, and its durability is waited for, but not for long; a
redirect that works is worth more than a record. Does not own what is answered (`tracker.core.hit`).
"""

from collections.abc import Awaitable, Callable
from typing import Final

import structlog
from aiohttp import web
from aiohttp.http import HttpVersion11
from multidict import CIMultiDict
from prometheus_client import Counter

from tracker.contract.ports import Clock, Entropy
from tracker.core.hit import HitRecord, HitRequest, HitSettings, HttpAnswer, Outcome, answer
from tracker.journal.writer import Kept

Record = Callable[[HitRecord], Awaitable[Kept]]
"""Writes the record of a hit and returns how safe it is by now: `Journal.emit_within`."""

HITS: Final = Counter("mailwake_hits", "Requests for pixels and links, by what became of them.", ["outcome"])
ANSWERED_EARLY: Final = Counter(
    "mailwake_hits_answered_early", "Hits that were answered before their record was durable."
)
ANSWERED_UNWRITTEN: Final = Counter(
    "mailwake_hits_answered_unwritten", "Hits that were answered before their record was even written: a stuck disk."
)

SERVER: Final = "web"  # says neither what nor which version; aiohttp would say both

_COUNT_OF: Final = {outcome: HITS.labels(outcome=outcome.value) for outcome in Outcome}
_log = structlog.get_logger()


class Hits:
    """Answers requests for pixels and links."""

    def __init__(self, *, settings: Callable[[], HitSettings], record: Record, clock: Clock, entropy: Entropy) -> None:
        """`settings` gives the snapshot in force; each hit takes it once."""
        self._settings = settings
        self._record = record
        self._clock = clock
        self._entropy = entropy

    async def handle(self, request: web.BaseRequest, path: str) -> web.Response:
        """Answer one request for a path, after its record is written."""
        headers = request.headers
        answered = answer(
            HitRequest(
                method=request.method,
                path=path,
                is_http_1_0=request.version < HttpVersion11,
                peer=request.remote or "",
                forwarded_for=tuple(headers.getall("X-Forwarded-For", ())),
                headers=headers,
            ),
            settings=self._settings(),
            now=self._clock(),
            entropy=self._entropy,
        )
        _COUNT_OF[answered.outcome].inc()
        if answered.record is not None:
            await self._keep(answered.record)
        return respond(answered.http)

    async def _keep(self, record: HitRecord) -> None:
        try:
            kept = await self._record(record)
        except Exception:  # noqa: BLE001 - whatever is wrong with the journal, the link works
            _log.exception("hit_not_recorded")
            return
        if kept is Kept.WRITTEN:
            ANSWERED_EARLY.inc()
        elif kept is Kept.WAITING:
            ANSWERED_UNWRITTEN.inc()


def respond(http: HttpAnswer) -> web.Response:
    """Make the response. A plain one: the library's redirects parse and rewrite their Location."""
    headers = CIMultiDict(http.headers)
    headers["Server"] = SERVER
    headers["Content-Length"] = str(len(http.body))  # of a HEAD too, which the library leaves out where it is 0
    return web.Response(status=http.status, headers=headers, body=http.body)
