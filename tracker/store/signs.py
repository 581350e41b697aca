"""What stood around a hit: when its copy was delivered, HEADs beside it, other links of it followed at the same time.

Gathers what `tracker.core.classify.judge` asks for, from the log and from the batch itself.

Limits: a verdict is drawn once, from what has come by then; a sign in a later batch does not change it.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from typing import Final, TypedDict

import msgspec
import sqlalchemy as sa

from tracker.contract import ses
from tracker.contract.events import Click, EventType, Hit, Open, Probe
from tracker.contract.ids import CopyId
from tracker.core.around import SWEEP_WINDOW_MS, Clicks
from tracker.core.classify import judge
from tracker.store import agents
from tracker.store.copies import WANTED, copy_id, is_wanted, wanted
from tracker.store.schema import event, probe
from tracker.store.times import to_ms

PROBE_WINDOW_MS: Final = 10_000
_OFFICE: Final = "ua_office_probe"

_FROM: Final[sa.BindParameter[int]] = sa.bindparam("from_ms")
_UNTIL: Final[sa.BindParameter[int]] = sa.bindparam("until_ms")
_PROBES: Final = (
    sa.select(probe.c.message, probe.c.suffix, probe.c.at_ms)
    .join_from(WANTED, probe, is_wanted(probe))
    .where(probe.c.at_ms.between(_FROM, _UNTIL))
)
_CLICKS: Final = (
    sa.select(event.c.message, event.c.suffix, event.c.at_ms, event.c.link_index, event.c.hit)
    .join_from(WANTED, event, is_wanted(event))
    .where(event.c.at_ms.between(_FROM, _UNTIL), event.c.type == EventType.CLICK.value)
)


def taints(record: Probe) -> bool:
    """Say whether a HEAD speaks against the hits around it: Office looks at a link just before a person's browser."""
    return not any(code.startswith(_OFFICE) for code in record.hit.signals)


class _Around(TypedDict, total=False):
    links_around: int
    is_echo: bool
    is_twice: bool


class Signs:
    """The signs of a batch's hits."""

    def __init__(self, connection: sa.Connection) -> None:
        """Know nothing yet."""
        self._connection = connection
        self._probes: dict[CopyId, list[int]] = defaultdict(list)
        self._clicks = Clicks()

    def load(self, batch: Sequence[Open | Click | Probe]) -> None:
        """Take up the hits of a batch and read what the storage has around them."""
        if not batch:
            return
        for record in batch:
            if isinstance(record, Probe) and taints(record):
                self._probes[record.copy].append(to_ms(record.hit.at))
            elif isinstance(record, Click):
                self._clicks.add(str(record.copy), record.link_index, to_ms(record.hit.at), record.hit)
        hits = [record for record in batch if not isinstance(record, Probe)]
        if hits:
            self._read(hits)
        for times in self._probes.values():
            times.sort()

    def judge(self, hit: Open | Click, delivered_ms: int | None) -> ses.Agent:
        """Draw the verdict on a hit of the batch, and say what it was made with."""
        at_ms = to_ms(hit.hit.at)
        around: _Around = {}
        if isinstance(hit, Click):
            place = (str(hit.copy), hit.link_index, at_ms, hit.hit)
            around = {
                "links_around": self._clicks.links_around(str(hit.copy), at_ms),
                "is_echo": self._clicks.is_echo(*place),
                "is_twice": self._clicks.is_twice(*place),
            }
        verdict = judge(
            ses.type_of(hit),
            hit.hit.signals,
            since_delivery_s=(at_ms - delivered_ms) / 1000 if delivered_ms is not None else None,
            probed=self._is_probed(hit.copy, at_ms),
            **around,
        )
        client, device, os = agents.of_hit(hit.hit)
        return ses.Agent(kind=verdict.agent_class.value, reasons=verdict.reasons, client=client, device=device, os=os)

    def _read(self, hits: Sequence[Open | Click]) -> None:
        keys = wanted({hit.copy for hit in hits})
        times = [to_ms(hit.hit.at) for hit in hits]
        window = {"from_ms": min(times) - PROBE_WINDOW_MS, "until_ms": max(times) + PROBE_WINDOW_MS}
        for message, suffix, at_ms in self._connection.execute(_PROBES, keys | window):
            self._probes[copy_id(message, suffix)].append(at_ms)
        window = {"from_ms": min(times) - SWEEP_WINDOW_MS, "until_ms": max(times) + SWEEP_WINDOW_MS}
        for message, suffix, at_ms, link_index, raw in self._connection.execute(_CLICKS, keys | window):
            self._clicks.add(f"{message}-{suffix}", link_index, at_ms, _HIT.decode(raw))

    def _is_probed(self, copy: CopyId, at_ms: int) -> bool:
        times = self._probes.get(copy, [])
        nearest = bisect_left(times, at_ms - PROBE_WINDOW_MS)
        return nearest < len(times) and times[nearest] <= at_ms + PROBE_WINDOW_MS


_HIT: Final = msgspec.json.Decoder(Hit)
