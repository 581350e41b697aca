"""Hits: a request in, a recorded hit and its answer out, whatever carries the two.

Owns the order: a hit is written before it is answered, and its durability is waited for, but not for long; a redirect
that works is worth more than a record. Does not own what is answered (`tracker.core.hit`), nor HTTP (`connection.py`).
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final

import structlog
from prometheus_client import Counter

from tracker.contract.ports import Clock, Entropy
from tracker.core.hit import HitRecord, HitRequest, HitSettings, HttpAnswer, Outcome, answer
from tracker.journal.group import Kept, Tell
from tracker.web.folding import Folding

Post = Callable[[HitRecord, Tell], None]
"""Writes the record of a hit and tells, once, how safe it is by then: `Journal.post`."""

Send = Callable[[HttpAnswer], None]
"""Sends the answer; called once, on the loop, maybe before `Hits.begin` returns."""

HITS: Final = Counter("mailwake_hits", "Requests for pixels and links, by what became of them.", ["outcome"])
ANSWERED_EARLY: Final = Counter(
    "mailwake_hits_answered_early", "Hits that were answered before their record was durable."
)
ANSWERED_UNWRITTEN: Final = Counter(
    "mailwake_hits_answered_unwritten", "Hits that were answered before their record was even written: a stuck disk."
)

_COUNT_OF: Final = {outcome.value: HITS.labels(outcome=outcome.value) for outcome in Outcome}
STOCK_BYTES: Final = 4096  # for 157 hits
_DURABLE: Final = Kept.DURABLE  # slow to find in its enumeration (CPython 3.11)
_log = structlog.get_logger()


class Hits:
    """Answers requests for pixels and links."""

    def __init__(
        self, *, settings: Callable[[], HitSettings], post: Post, folding: Folding, clock: Clock, entropy: Entropy
    ) -> None:
        """`settings` gives the snapshot in force; each hit takes it once."""
        self._settings = settings
        self._post = post
        self._folding = folding
        self._clock = clock
        self._entropy = _Stock(entropy)
        self._counted: dict[str, int] = {}

    def begin(self, request: HitRequest, send: Send) -> None:
        """Judge a request, have its record written, and send the answer then."""
        answered = answer(request, settings=self._settings(), now=self._clock(), entropy=self._entropy)
        self._count(answered.outcome)
        record = answered.record
        if record is None or not self._folding.admits(record):
            send(answered.http)
            return
        try:
            self._post(record, partial(_answer, send, answered.http))
        except Exception:  # noqa: BLE001 - whatever is wrong with the journal, the link works
            _log.exception("hit_not_recorded")
            send(answered.http)

    def _count(self, outcome: Outcome) -> None:
        """Count a request; the counter itself, with its lock, is told once for all of one turn of the loop."""
        if not self._counted:
            asyncio.get_running_loop().call_soon(self._tell_counters)
        name = outcome.value
        self._counted[name] = self._counted.get(name, 0) + 1

    def _tell_counters(self) -> None:
        for name, count in self._counted.items():
            _COUNT_OF[name].inc(count)
        self._counted.clear()


class _Stock:
    """Random bytes, drawn from the system for many hits at once: each call of it may hand over to another thread.

    It is empty until the first hit, so processes that are forked before have none in common.
    """

    def __init__(self, entropy: Entropy) -> None:
        self._entropy = entropy
        self._bytes = b""
        self._used = 0

    def __call__(self, size: int) -> bytes:
        start, self._used = self._used, self._used + size
        if self._used > len(self._bytes):
            self._bytes = self._entropy(max(size, STOCK_BYTES))
            start, self._used = 0, size
        return self._bytes[start : self._used]


def _answer(send: Send, http: HttpAnswer, kept: Kept) -> None:
    if kept is not _DURABLE:
        if kept is Kept.WRITTEN:
            ANSWERED_EARLY.inc()
        elif kept is Kept.WAITING:
            ANSWERED_UNWRITTEN.inc()
    send(http)
