"""What stood around a hit: when its copy was delivered, HEADs beside it, other links of it followed at the same time.

Gathers what `tracker.core.classify.judge` asks for, from the storage and from the batch itself, and judges with it.
What becomes of a verdict that is another than before is `verdicts.py`'s.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

import sqlalchemy as sa

from tracker.contract import ses
from tracker.contract.events import EventType, Hit, Probe
from tracker.core.around import Clicks
from tracker.core.classify import Verdict, judge
from tracker.store import agents, bulk
from tracker.store.schema import probe
from tracker.store.times import to_ms

PROBE_WINDOW_MS: Final = 10_000
_AGENTS_REMEMBERED: Final = 4096  # programs times verdicts: few of them make up nearly all hits
_OFFICE: Final = "ua_office_probe"

_PROBES: Final = bulk.Query(
    sa.select(probe.c.message, probe.c.suffix, probe.c.at_ms).where(
        probe.c.message == sa.bindparam("message"),
        probe.c.suffix == sa.bindparam("suffix"),
        probe.c.at_ms.between(sa.bindparam("from_ms"), sa.bindparam("until_ms")),
    ),
    ("message", "suffix", "from_ms", "until_ms"),
)


def taints(record: Probe) -> bool:
    """Say whether a HEAD speaks against the hits around it: Office looks at a link just before a person's browser."""
    return not any(code.startswith(_OFFICE) for code in record.hit.signals)


class Signs:
    """The signs of copies, by the text of their ids."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._probes: dict[str, list[int]] = {}
        self._clicks = Clicks()

    def add_probe(self, copy: str, at_ms: int) -> None:
        """Know of a HEAD of the copy."""
        insort(self._probes.setdefault(copy, []), at_ms)

    def add_click(self, copy: str, link_index: int, hit: Hit) -> None:
        """Know of a link of the copy that was followed."""
        self._clicks.add(copy, link_index, to_ms(hit.at), hit)

    def read_probes(self, connection: sa.Connection, windows: Iterable[tuple[str, str, int, int]]) -> None:
        """Know of the HEADs that the storage has: of each message and suffix, from one time to another."""
        for message, suffix, at_ms in _PROBES.of(connection, windows):
            self.add_probe(f"{message}-{suffix}", at_ms)

    def judge(
        self, copy: str, kind: EventType, hit: Hit, link_index: int | None, delivered_ms: int | None
    ) -> ses.Agent:
        """Draw the verdict on a hit of the copy, which was delivered then, or not as far as is known."""
        at_ms = to_ms(hit.at)
        verdict = judge(
            kind,
            hit.signals,
            since_delivery_s=(at_ms - delivered_ms) / 1000 if delivered_ms is not None else None,
            probed=copy in self._probes and _is_near(self._probes[copy], at_ms, PROBE_WINDOW_MS),
            links_around=self._clicks.links_around(copy, at_ms) if link_index is not None else 1,
            is_echo=link_index is not None and self._clicks.is_echo(copy, link_index, at_ms, hit),
            is_twice=link_index is not None and self._clicks.is_twice(copy, link_index, at_ms, hit),
        )
        return _agent(verdict, agents.of_hit(hit))


@lru_cache(maxsize=_AGENTS_REMEMBERED)
def _agent(verdict: Verdict, client: agents.Client) -> ses.Agent:
    name, device, os = client
    return ses.Agent(kind=verdict.agent_class.value, reasons=verdict.reasons, client=name, device=device, os=os)


def device_of(agent: ses.Agent) -> str:
    """Return what a hit's device is counted as, empty where nobody knows."""
    return agent.device


def _is_near(times: list[int], at_ms: int, window_ms: int) -> bool:
    nearest = bisect_left(times, at_ms - window_ms)
    return nearest < len(times) and times[nearest] <= at_ms + window_ms
