"""Verdicts of the past that what has come since changes: a sweep, a HEAD beside the hit, a delivery learnt late.

Owns which stored hits may be judged otherwise now, and judging them again from what the log keeps of each. What changes
with a verdict is the event's `agent_class` and all that is counted by it; the record stays as it was told.

Theory: a verdict depends on the hit, and on what lies around it in time: HEADs ten seconds and clicks half a minute
away at most, and the copy's delivery. So a batch concerns the stored hits near its own clicks and HEADs, and, where a
delivery came late, all hits up to a minute behind it. These are judged with everything that lies around them, so the
verdicts in the end are those of a judge who knew all from the beginning, whatever the order was.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import msgspec
import sqlalchemy as sa

from tracker.contract import ses
from tracker.contract.events import EventType, Hit
from tracker.store import bulk
from tracker.store.schema import event
from tracker.store.signs import Signs

INSTANT_MS: Final = 60_000  # behind it no hit is an instant one: `tracker.core.classify`
FOREVER_MS: Final = 2**60  # farther than any stored time, and windows that are made wider stay numbers of SQLite

_HIT: Final = msgspec.json.Decoder(Hit)
_COLUMNS: Final = (
    "seq",
    "message",
    "suffix",
    "type",
    "at_ms",
    "link_index",
    "agent_class",
    "configuration_set",
    "from_domain",
    "first",
    "hit",
)
_HITS: Final = bulk.Query(
    sa.select(*(event.c[name] for name in _COLUMNS)).where(
        event.c.message == sa.bindparam("message"),
        event.c.suffix == sa.bindparam("suffix"),
        event.c.at_ms.between(sa.bindparam("from_ms"), sa.bindparam("until_ms")),
        event.c.hit.is_not(None),
    ),
    ("message", "suffix", "from_ms", "until_ms"),
)
_CORRECT: Final = bulk.Bulk(
    event.update().where(event.c.seq == sa.bindparam("number")).values(agent_class=sa.bindparam("new_class")),
    ("new_class", "number"),
)


@dataclass(slots=True)
class Window:
    """The time in which a batch may have changed verdicts of a copy, both ends included; empty at first."""

    from_ms: int = FOREVER_MS
    until_ms: int = -FOREVER_MS

    def hold(self, from_ms: int, until_ms: int) -> None:
        """Hold a time, too, and all that lies between."""
        self.from_ms = min(self.from_ms, from_ms)
        self.until_ms = max(self.until_ms, until_ms)

    def holds(self, at_ms: int) -> bool:
        """Say whether it does."""
        return self.from_ms <= at_ms <= self.until_ms


def window_of_delivery(delivered_ms: int, known_ms: int | None) -> Window:
    """Return where verdicts may change when a copy is learnt to have been delivered then, `known_ms` being what was
    known before.
    """
    if known_ms is None:
        return Window(-FOREVER_MS, delivered_ms + INSTANT_MS)
    return Window(delivered_ms, known_ms + INSTANT_MS)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredHit:
    """An open or click of the log, with what it is counted by."""

    seq: int
    copy: str
    type: EventType
    at_ms: int
    link_index: int | None
    agent_class: str
    configuration_set: str
    from_domain: str
    first: bool
    hit: Hit


def stored_hits(connection: sa.Connection, windows: Iterable[tuple[str, str, int, int]]) -> list[StoredHit]:
    """Read the hits of each message and suffix, from one time to another."""
    return [_hit(row) for row in _HITS.of(connection, windows)]


def rejudge(
    hits: Iterable[StoredHit], signs: Signs, delivered_ms: Callable[[str], int | None]
) -> Iterator[tuple[StoredHit, ses.Agent]]:
    """Judge stored hits again; give those whose class is another now, with their new verdict.

    `delivered_ms` says of a copy when it was delivered, as far as is known.
    """
    for one in hits:
        agent = signs.judge(one.copy, one.type, one.hit, one.link_index, delivered_ms(one.copy))
        if agent.kind != one.agent_class:
            yield one, agent


def correct(connection: sa.Connection, changes: Iterable[tuple[StoredHit, ses.Agent]]) -> None:
    """Write the new classes into the log."""
    _CORRECT.run(connection, [(agent.kind, one.seq) for one, agent in changes])


def _hit(row: bulk.Row) -> StoredHit:
    seq, message, suffix, kind, at_ms, link_index, agent_class, configuration_set, from_domain, first, hit = row
    return StoredHit(
        seq=seq,
        copy=f"{message}-{suffix}",
        type=EventType(kind),
        at_ms=at_ms,
        link_index=link_index,
        agent_class=agent_class or "",
        configuration_set=configuration_set or "",
        from_domain=from_domain or "",
        first=bool(first),
        hit=_HIT.decode(hit),
    )
