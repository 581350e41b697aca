"""Hits: a request in, a recorded hit and its answer out, whatever carries the two.

Owns the order: a hit is written before it is answered, and its durability is waited for, but not for long; a redirect
that works is worth more than a record. Does not own what is answered (`tracker.core.hit`), nor HTTP (`connection.py`).
"""

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

_COUNT_OF: Final = {outcome: HITS.labels(outcome=outcome.value) for outcome in Outcome}
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
        self._entropy = entropy

    def begin(self, request: HitRequest, send: Send) -> None:
        """Judge a request, have its record written, and send the answer then."""
        answered = answer(request, settings=self._settings(), now=self._clock(), entropy=self._entropy)
        _COUNT_OF[answered.outcome].inc()
        record = answered.record
        if record is None or not self._folding.admits(record):
            send(answered.http)
            return
        try:
            self._post(record, partial(_answer, send, answered.http))
        except Exception:  # noqa: BLE001 - whatever is wrong with the journal, the link works
            _log.exception("hit_not_recorded")
            send(answered.http)


def _answer(send: Send, http: HttpAnswer, kept: Kept) -> None:
    if kept is not _DURABLE:
        if kept is Kept.WRITTEN:
            ANSWERED_EARLY.inc()
        elif kept is Kept.WAITING:
            ANSWERED_UNWRITTEN.inc()
    send(http)
