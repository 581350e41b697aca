"""What stood around a hit: when its copy was delivered, HEADs beside it, other links of it followed at the same time.

Gathers what `tracker.core.classify.judge` asks for, from the log and from the batch itself.

Limits: a verdict is drawn once, from what has come by then; a sign in a later batch does not change it.
"""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Sequence
from typing import Final

import sqlalchemy as sa

from tracker.contract import ses
from tracker.contract.events import Click, EventType, Open, Probe
from tracker.contract.ids import CopyId
from tracker.core.classify import judge
from tracker.store.copies import WANTED, copy_id, is_wanted, wanted
from tracker.store.schema import event, probe
from tracker.store.times import to_ms

PROBE_WINDOW_MS: Final = 10_000
SWEEP_WINDOW_MS: Final = 30_000

_FROM: Final[sa.BindParameter[int]] = sa.bindparam("from_ms")
_UNTIL: Final[sa.BindParameter[int]] = sa.bindparam("until_ms")
_PROBES: Final = (
    sa.select(probe.c.message, probe.c.suffix, probe.c.at_ms)
    .join_from(WANTED, probe, is_wanted(probe))
    .where(probe.c.at_ms.between(_FROM, _UNTIL))
)
_CLICKS: Final = (
    sa.select(event.c.message, event.c.suffix, event.c.at_ms, event.c.link_index)
    .join_from(WANTED, event, is_wanted(event))
    .where(event.c.at_ms.between(_FROM, _UNTIL), event.c.type == EventType.CLICK.value)
)


class Signs:
    """The signs of a batch's hits."""

    def __init__(self, connection: sa.Connection) -> None:
        """Know nothing yet."""
        self._connection = connection
        self._probes: dict[CopyId, list[int]] = defaultdict(list)
        self._clicks: dict[CopyId, list[tuple[int, int]]] = defaultdict(list)

    def load(self, batch: Sequence[Open | Click | Probe]) -> None:
        """Take up the hits of a batch and read what the storage has around them."""
        if not batch:
            return
        for record in batch:
            if isinstance(record, Probe):
                self._probes[record.copy].append(to_ms(record.hit.at))
            elif isinstance(record, Click):
                self._clicks[record.copy].append((to_ms(record.hit.at), record.link_index))
        hits = [record for record in batch if not isinstance(record, Probe)]
        if hits:
            self._read(hits)
        for times in self._probes.values():
            times.sort()
        for clicks in self._clicks.values():
            clicks.sort()

    def judge(self, hit: Open | Click, delivered_ms: int | None) -> ses.Agent:
        """Draw the verdict on a hit of the batch."""
        at_ms = to_ms(hit.hit.at)
        verdict = judge(
            ses.type_of(hit),
            hit.hit.signals,
            since_delivery_s=(at_ms - delivered_ms) / 1000 if delivered_ms is not None else None,
            probed=self._is_probed(hit.copy, at_ms),
            links_around=len(self._links_around(hit.copy, at_ms)) if isinstance(hit, Click) else 1,
        )
        return ses.Agent(kind=verdict.agent_class.value, reasons=verdict.reasons)

    def _read(self, hits: Sequence[Open | Click]) -> None:
        keys = wanted({hit.copy for hit in hits})
        times = [to_ms(hit.hit.at) for hit in hits]
        window = {"from_ms": min(times) - PROBE_WINDOW_MS, "until_ms": max(times) + PROBE_WINDOW_MS}
        for message, suffix, at_ms in self._connection.execute(_PROBES, keys | window):
            self._probes[copy_id(message, suffix)].append(at_ms)
        window = {"from_ms": min(times) - SWEEP_WINDOW_MS, "until_ms": max(times) + SWEEP_WINDOW_MS}
        for message, suffix, at_ms, link_index in self._connection.execute(_CLICKS, keys | window):
            self._clicks[copy_id(message, suffix)].append((at_ms, link_index))

    def _is_probed(self, copy: CopyId, at_ms: int) -> bool:
        times = self._probes.get(copy, [])
        nearest = bisect_left(times, at_ms - PROBE_WINDOW_MS)
        return nearest < len(times) and times[nearest] <= at_ms + PROBE_WINDOW_MS

    def _links_around(self, copy: CopyId, at_ms: int) -> set[int]:
        clicks = self._clicks.get(copy, [])
        start = bisect_left(clicks, (at_ms - SWEEP_WINDOW_MS,))
        end = bisect_right(clicks, (at_ms + SWEEP_WINDOW_MS + 1,))
        return {link_index for _, link_index in clicks[start:end]}
