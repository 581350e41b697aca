"""Who goes first at an upstream: the first come, and in a backlog the newest too."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from relay.spool.files import Spool
from relay.spool.lane import Lane, UpstreamLimits
from relay.spool.layout import Row
from relay.spool.queued import QueuedMessage
from tests.unit.spooling import make_entry


def _lane() -> Lane:
    return Lane("default", UpstreamLimits())


def _message(number: int, born_s: float = 0.0) -> QueuedMessage:
    entry = make_entry(number)
    return QueuedMessage(Spool(Path("nowhere")), entry, (Row(),) * len(entry.recipients), born_s=born_s)


def _popped(lane: Lane, now_s: float, messages: list[QueuedMessage]) -> list[int]:
    """Take all that is due, and return which it was."""
    found = []
    while lane.wait_s(now_s) == 0:
        found.append(messages.index(lane.pop(now_s).message))
    return found


def test_the_first_come_is_the_first_served() -> None:
    """New mail and retries alike, while nothing has waited for long."""
    lane, messages = _lane(), [_message(number) for number in range(4)]
    lane.push(1.0, messages[0], (0,))
    lane.push(1.5, messages[1], (0,), is_new=True)
    lane.push(2.0, messages[2], (0,))
    lane.push(2.5, messages[3], (0,), is_new=True)

    assert _popped(lane, 5.0, messages) == [0, 1, 2, 3]


def test_in_a_backlog_every_other_place_is_for_the_newest() -> None:
    """What comes after an outage does not wait for all that came before; the oldest go on.

    They are due since the start of the process alone, and were accepted by the one before.
    """
    lane, messages = _lane(), [_message(number, born_s=0.0 if number < 5 else 100.0) for number in range(8)]
    for number in range(8):
        lane.push(100.0, messages[number], (0,), is_new=number >= 5)

    assert _popped(lane, 101.0, messages) == [7, 0, 6, 1, 5, 2, 3, 4]


def test_a_backlog_of_this_process_alone_keeps_nobody_waiting_either() -> None:
    """No restart in between: the first to come has been waiting, and the last to come is second at the latest."""
    lane, messages = _lane(), [_message(number, born_s=float(number)) for number in range(6)]
    for number in range(6):
        lane.push(float(number), messages[number], (0,), is_new=True)

    assert _popped(lane, 60.0, messages) == [5, 0, 4, 1, 3, 2]


def test_a_copy_that_was_sent_too_fast_stays_in_front() -> None:
    """Its place is that of the time when it was due first."""
    lane, messages = _lane(), [_message(number) for number in range(3)]
    for number in range(3):
        lane.push(float(number), messages[number], (0,), is_new=True)
    job = lane.pop(3.0)
    lane.push_throttled(job, (0,), 3.0)

    assert _popped(lane, 4.0, messages) == [0, 1, 2]


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 20)), max_size=30), st.sets(st.integers(0, 29)))
def test_whatever_is_pushed_is_taken_once(pushed: list[tuple[bool, float]], withdrawn: set[int]) -> None:
    """By turns, withdrawn or in order: none twice, none forgotten."""
    lane, now_s = _lane(), 0.0
    messages = [_message(number) for number in range(len(pushed))]
    for message, (is_new, pause_s) in zip(messages, pushed, strict=True):
        now_s += pause_s
        lane.push(now_s, message, (0,), is_new=is_new)
    gone = {number for number in withdrawn if number < len(messages)}
    lane.withdraw({messages[number] for number in gone})

    found = _popped(lane, now_s, messages)
    assert sorted(found) == sorted(set(range(len(messages))) - gone)
    assert lane.is_empty


def test_what_waits_is_seen_whether_it_is_new_or_was_tried() -> None:
    """While an upstream is down, most of what waits for hours was never tried; it is told of all the same."""
    lane, messages = _lane(), [_message(number) for number in range(4)]
    lane.push(1.0, messages[0], (0,))
    lane.push(1.5, messages[1], (0,), is_new=True)
    lane.push(2.0, messages[2], (0,), is_new=True)

    assert [job.message for job in lane.waiting(lambda _: True, 9)] == messages[:3]
    assert [job.message for job in lane.waiting(lambda job: job.message is messages[2], 9)] == [messages[2]]
    assert len(lane.waiting(lambda _: True, 2)) == 2
    assert _popped(lane, 5.0, messages) == [0, 1, 2]
