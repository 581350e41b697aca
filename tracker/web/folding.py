"""What one link may cost: `tracker.max_hits` events a minute; the surplus becomes one event with a count.

Owns the counting, by copy and link, and when the surplus is written. It is for floods: a scanner in a loop, a script
that reloads a pixel. Nobody who reads mail comes near.

Theory: minutes follow each other, counted from the first hit of each. Within one, the first `max_hits` hits of a link
are events of their own, and waited for as ever. The first hit above is kept in memory, and stands for all that follow:
who it was and with what, when it came, and how many there were. It is written when the minute ends, or the host drains,
so it comes behind the others in the journal, and its time is that of the first hit that it stands for.

What a crash loses: the surplus of the current minute, and nothing else. It was answered, as every hit is.

Cost: one look into a table for a hit. The table is emptied each minute and holds `MAX_LINKS` links; of more in a
minute, the one that came first is forgotten, its surplus written, and counts from the beginning again.

Limits: each process counts what comes to it. Hits that were folded share one verdict, that of the first.
"""

from collections.abc import Callable
from typing import Final

from msgspec.structs import replace
from prometheus_client import Counter

from tracker.contract.events import Open
from tracker.core.hit import HitRecord

MAX_LINKS: Final = 65_536  # in a minute, of one process: at more than 1,000 links a second, none of them is a flood
WINDOW_S: Final = 60.0

FOLDED: Final = Counter("mailwake_hits_folded", "Hits above max_hits, which share an event with others.")

_Key = bytes | tuple[bytes, int | None, type]
"""A copy's pixel, by the copy's bytes, which every hit can be looked up by without more; and all else."""


class Folding:
    """Counts the hits of a minute; `admits` says which become events of their own."""

    def __init__(
        self,
        *,
        max_hits: Callable[[], int],
        write: Callable[[HitRecord], None],
        clock_s: Callable[[], float],
        call_later: Callable[[float, Callable[[], None]], object],
        max_links: int = MAX_LINKS,
    ) -> None:
        """`max_hits` gives the number in force, `write` takes a folded record, `clock_s` is monotonic.

        `call_later(60, f)` calls `f` after a minute.
        """
        self._max_hits = max_hits
        self._write = write
        self._clock_s = clock_s
        self._call_later = call_later
        self._max_links = max_links
        self._counts: dict[_Key, int] = {}
        self._surplus: dict[_Key, tuple[HitRecord, int]] = {}
        self._ends_at_s = 0.0

    def admits(self, record: HitRecord) -> bool:
        """Count a hit; false where it is folded, and its record is none of the journal's any more."""
        now_s = self._clock_s()
        if now_s >= self._ends_at_s:
            self.flush()
            self._ends_at_s = now_s + WINDOW_S
        copy, kind = record.copy.raw, type(record)
        key: _Key = copy if kind is Open else (copy, getattr(record, "link_index", None), kind)
        counts = self._counts
        count = counts.get(key, 0) + 1
        counts[key] = count
        if len(counts) > self._max_links:
            forgotten = next(iter(counts))
            del counts[forgotten]
            self._write_surplus(forgotten)
        if count <= self._max_hits():
            return True
        first, folded = self._surplus.get(key, (record, 0))
        if not self._surplus:
            self._call_later(self._ends_at_s - now_s, self._end)
        self._surplus[key] = (first, folded + 1)
        FOLDED.inc()
        return False

    def flush(self) -> None:
        """End the minute: write what was folded in it, and count anew."""
        self._counts.clear()
        for key in list(self._surplus):
            self._write_surplus(key)

    def _end(self) -> None:
        """Do as `flush`, unless a hit has ended the minute already."""
        if self._clock_s() >= self._ends_at_s:
            self.flush()

    def _write_surplus(self, key: _Key) -> None:
        found = self._surplus.pop(key, None)
        if found is not None:
            record, count = found
            self._write(replace(record, hit=replace(record.hit, count=count)))
