"""Where a copy waits when it has several upstreams, and how the first of them is found out to be mended."""

from pathlib import Path

import pytest

from relay.core.attempt import Attempt, Deferred, Phase
from relay.spool.files import Spool
from relay.spool.lane import Lane, UpstreamLimits
from relay.spool.lanes import Lanes
from relay.spool.layout import Row
from relay.spool.queued import QueuedMessage
from tests.unit.spool_world import DOWN, OK
from tests.unit.spooling import make_entry

SLOWER = Deferred(reply=None, phase=Phase.MAIL, of_upstream=True, throttled=True, detail="454 4.7.0 Throttling failure")


@pytest.fixture
def lanes() -> Lanes:
    """Two upstreams, `first` and `second`."""
    limits = UpstreamLimits()
    return Lanes({"first": limits, "second": limits}, on_new=lambda _: None, fraction=lambda: 0.5)


def queued(number: int, tmp_path: Path) -> QueuedMessage:
    """A message that leaves through `first`, else through `second`."""
    entry = make_entry(number, upstream="first", fallbacks=("second",))
    return QueuedMessage(Spool(tmp_path / "00"), entry, (Row(),), born_s=0.0)


def learn(lanes: Lanes, lane: Lane, attempt: Attempt, *, now_s: float, probe: bool = False) -> None:
    """Tell what came of an attempt."""
    lanes.learn(lane, "shop@shop.example", [attempt], now_s=now_s, probe=probe)
    lane.circuit.ended(probe=probe)


def test_only_a_copy_that_is_due_becomes_the_probe(lanes: Lanes, tmp_path: Path) -> None:
    """One that waits for hours would keep all others away: the upstream would not be probed in all that time."""
    first = lanes.choose(queued(1, tmp_path), now_s=0.0, due_s=0.0)
    learn(lanes, first, DOWN, now_s=0.0)

    late, due = queued(2, tmp_path), queued(3, tmp_path)
    lanes.push(late, (0,), due_s=10_000.0, now_s=100.0)
    assert first.is_empty
    assert lanes.choose(due, now_s=100.0, due_s=100.0) is first


def test_what_was_sent_too_fast_goes_on_where_it_can_when_its_upstream_fails(lanes: Lanes, tmp_path: Path) -> None:
    """Mail waits at an upstream that is only probed where there is no other way."""
    message = queued(1, tmp_path)
    first = lanes.choose(message, now_s=0.0, due_s=0.0)
    (job,) = first.jobs(message, (0,))
    learn(lanes, first, SLOWER, now_s=0.0)
    learn(lanes, first, DOWN, now_s=0.0)

    lanes.push_throttled(first, job, (0,), now_s=1.0)

    assert first.is_empty
    assert not lanes.choose(message, now_s=1.0, due_s=1.0).is_empty


def test_mail_goes_back_to_the_first_upstream_when_its_probe_is_taken(lanes: Lanes, tmp_path: Path) -> None:
    """While one probe waits there, all else goes by the next."""
    first = lanes.choose(queued(1, tmp_path), now_s=0.0, due_s=0.0)
    learn(lanes, first, DOWN, now_s=0.0)
    lanes.push(queued(2, tmp_path), (0,), due_s=10.0, now_s=10.0)
    assert not first.is_empty
    assert lanes.choose(queued(3, tmp_path), now_s=10.0, due_s=10.0).name == "second"

    first.pop(0.0)
    learn(lanes, first, OK, now_s=11.0, probe=first.circuit.begin())

    assert lanes.choose(queued(4, tmp_path), now_s=11.0, due_s=11.0) is first


def test_a_copy_that_could_not_be_made_says_nothing_of_its_upstream(lanes: Lanes, tmp_path: Path) -> None:
    """As a probe it would end the trouble of an upstream that was never asked."""
    first = lanes.choose(queued(1, tmp_path), now_s=0.0, due_s=0.0)
    learn(lanes, first, DOWN, now_s=0.0)
    not_made = Deferred(reply=None, phase=Phase.DATA, of_upstream=False, ours=True, detail="the copy could not be made")

    learn(lanes, first, not_made, now_s=10.0, probe=first.circuit.begin())

    assert first.circuit.is_open
    assert first.circuit.wait_s(10.0) == 0
