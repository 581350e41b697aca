"""What a link may cost: so many events a minute, and one more for all the rest."""

from collections.abc import Callable
from dataclasses import dataclass, field

from prometheus_client import REGISTRY

from tests.unit.happenings import clicked, opened, probed
from tracker.core.hit import HitRecord
from tracker.web.folding import WINDOW_S, Folding


@dataclass
class Minute:
    """A folding with a clock that is set by hand."""

    max_hits: int = 3
    max_links: int = 100
    now_s: float = 1000.0
    written: list[HitRecord] = field(default_factory=list)
    due: list[tuple[float, Callable[[], None]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folding = Folding(
            max_hits=lambda: self.max_hits,
            write=self.written.append,
            clock_s=lambda: self.now_s,
            call_later=lambda delay_s, call: self.due.append((self.now_s + delay_s, call)),
            max_links=self.max_links,
        )

    def hit(self, *records: HitRecord) -> list[bool]:
        return [self.folding.admits(record) for record in records]

    def wait(self, seconds: float) -> None:
        self.now_s += seconds
        for at_s, call in list(self.due):
            if at_s <= self.now_s:
                self.due.remove((at_s, call))
                call()


def _counts(records: list[HitRecord]) -> list[tuple[str, int]]:
    return [(str(record.event), record.hit.count) for record in records]


def test_the_surplus_of_a_minute_is_one_event_with_a_count() -> None:
    """It is the first above the limit, it stands for itself and all that follow, and it comes when the minute ends."""
    before = REGISTRY.get_sample_value("mailwake_hits_folded_total") or 0
    minute = Minute()

    assert minute.hit(*(opened(number) for number in range(10))) == [True] * 3 + [False] * 7
    assert minute.written == []
    minute.wait(WINDOW_S - 0.1)
    assert minute.written == []
    minute.wait(0.1)

    assert _counts(minute.written) == [(str(opened(3).event), 7)]
    assert REGISTRY.get_sample_value("mailwake_hits_folded_total") == before + 7
    assert minute.hit(opened(11)) == [True]


def test_a_hit_after_the_minute_ends_it_too() -> None:
    """Whatever comes first, the timer or the hit, the surplus is written once."""
    minute = Minute(max_hits=1)
    minute.hit(opened(1), opened(2))
    minute.now_s += WINDOW_S

    assert minute.hit(opened(3)) == [True]
    minute.wait(0)

    assert _counts(minute.written) == [(str(opened(2).event), 1)]


def test_each_link_of_each_copy_counts_alone() -> None:
    """A flood of one link costs no other its events; a HEAD is no open."""
    minute = Minute(max_hits=1)
    each: list[HitRecord] = [
        opened(1),
        opened(2, recipient=1),
        clicked(3),
        clicked(4, link=1),
        clicked(5, recipient=1),
        probed(6),
    ]

    assert minute.hit(*each) == [True] * 6
    assert minute.hit(*each) == [False] * 6
    minute.folding.flush()

    assert len(minute.written) == 6


def test_what_was_folded_is_written_at_the_end() -> None:
    """SIGTERM loses none of it."""
    minute = Minute(max_hits=1)
    minute.hit(opened(1), opened(2), opened(3))

    minute.folding.flush()
    minute.folding.flush()

    assert _counts(minute.written) == [(str(opened(2).event), 2)]


def test_the_table_has_a_bound_and_forgets_no_surplus() -> None:
    """Of more links than it holds, the one that came first is written and counts anew."""
    minute = Minute(max_hits=1, max_links=2)
    minute.hit(opened(1), opened(2), opened(3))
    minute.hit(opened(4, recipient=1), clicked(5))

    assert _counts(minute.written) == [(str(opened(2).event), 2)]
    assert len(minute.folding._counts) == 2
    assert minute.hit(opened(6)) == [True]


def test_another_limit_is_in_force_at_once() -> None:
    """A reload in the middle of a minute."""
    minute = Minute(max_hits=1)
    assert minute.hit(opened(1), opened(2)) == [True, False]
    minute.max_hits = 5

    assert minute.hit(opened(3)) == [True]
