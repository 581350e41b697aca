"""What the other clicks of a copy say of a click: links swept, a link followed twice, echoes from elsewhere.

Owns the windows and the finding; the clicks are handed in, from wherever they are kept, in any order. Goes by what is
kept of an address: two that were cut to one network count as one, and where none is kept nothing is an echo.

Theory: of a pair the later one is the machine's or the repetition, so that the first stands and unique counts hold. A
click that is doubtful by its own signs casts no doubt on the next one: that one may be the person, behind a scanner
that looks at the link first.

Limits: a telephone that leaves its Wi-Fi between two clicks on one link looks like an echo.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator
from typing import Final, NamedTuple

from tracker.contract.events import EventType, Hit
from tracker.core.classify import is_doubtful

SWEEP_WINDOW_MS: Final = 30_000  # the longest of the three: so far from a click the others have to be known
ECHO_WINDOW_MS: Final = 12_000
TWICE_WINDOW_MS: Final = 1_000
_LOOK_BACK: Final = 64  # clicks on one link that are compared; a flood must not cost its square


class _Click(NamedTuple):
    at_ms: int
    address: str
    user_agent: str
    is_doubtful: bool


class Clicks:
    """The clicks of copies, which are named by any text; one that is added again changes nothing."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._clicks: dict[str, dict[int, list[_Click]]] = {}

    def add(self, copy: str, link_index: int, at_ms: int, hit: Hit) -> None:
        """Know of a link of the copy that was followed."""
        links = self._clicks.setdefault(copy, {})
        doubtful = is_doubtful(EventType.CLICK, hit.signals)
        insort(links.setdefault(link_index, []), _Click(at_ms, hit.address, hit.user_agent, doubtful))

    def links_around(self, copy: str, at_ms: int) -> int:
        """Return how many different links of the copy were followed within thirty seconds of a time."""
        return sum(_is_near(clicks, at_ms) for clicks in self._clicks.get(copy, {}).values())

    def is_echo(self, copy: str, link_index: int, at_ms: int, hit: Hit) -> bool:
        """Say whether the link was followed in the twelve seconds before, from another network."""
        return bool(hit.address) and any(
            other.address not in {"", hit.address}
            for other in self._before(copy, link_index, at_ms, hit, ECHO_WINDOW_MS)
        )

    def is_twice(self, copy: str, link_index: int, at_ms: int, hit: Hit) -> bool:
        """Say whether the same program followed the link in the second before, from the same network."""
        before = self._before(copy, link_index, at_ms, hit, TWICE_WINDOW_MS)
        return any((other.address, other.user_agent) == (hit.address, hit.user_agent) for other in before)

    def _before(self, copy: str, link_index: int, at_ms: int, hit: Hit, window_ms: int) -> Iterator[_Click]:
        """Yield the earlier clicks on the link that a person may have made."""
        clicks = self._clicks.get(copy, {}).get(link_index, [])
        if len(clicks) < 2:
            return
        end = bisect_left(clicks, (at_ms, hit.address))  # of one millisecond, one network comes first
        for other in reversed(clicks[max(end - _LOOK_BACK, 0) : end]):
            if other.at_ms < at_ms - window_ms:
                break
            if not other.is_doubtful:
                yield other


def _is_near(clicks: list[_Click], at_ms: int) -> bool:
    nearest = bisect_left(clicks, (at_ms - SWEEP_WINDOW_MS,))
    return nearest < len(clicks) and clicks[nearest].at_ms <= at_ms + SWEEP_WINDOW_MS
