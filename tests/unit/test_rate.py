"""The pace of an upstream: even, halved by throttling replies, and back in steps."""

from bisect import bisect_right

from hypothesis import given
from hypothesis import strategies as st

from relay.spool.rate import SLOWEST_PER_S, Rate


def _send(rate: Rate, *, start_s: float, end_s: float, limit_per_s: float | None = None, every: int = 0) -> list[float]:
    """Send as fast as the rate allows, 20 ms a message at most; return when. `every`: each so many-th is throttled."""
    times: list[float] = []
    now_s = start_s
    while now_s < end_s:
        wait_s = rate.wait_s(now_s)
        if wait_s:
            now_s += wait_s
            continue
        rate.take(now_s)
        times.append(now_s)
        recent = len(times) - bisect_right(times, now_s - 1)
        if (limit_per_s is not None and recent > limit_per_s) or (every and len(times) % every == 0):
            rate.throttled(now_s)
        else:
            rate.answered(now_s)
        now_s += 0.0025
    return times


def test_a_configured_rate_is_kept_evenly() -> None:
    """Not a second's worth at once: in no tenth of a second more than a tenth of it, and a burst as large."""
    times = _send(Rate(max_per_s=100.0), start_s=0, end_s=10)

    assert 990 <= len(times) <= 1012
    assert all(sum(1 for at in times if start <= at < start + 0.1) <= 21 for start in (0, 0.1, 3.05, 7.77))


def test_without_a_rate_nothing_waits() -> None:
    """The connections alone limit it."""
    assert Rate().wait_s(5.0) == 0.0


def test_a_throttling_reply_halves_what_was_sent() -> None:
    """Measured, where none is configured."""
    rate = Rate()
    _send(rate, start_s=0, end_s=3)
    before = len(_send(rate, start_s=3, end_s=4))

    assert rate.throttled(4.0)
    assert rate.per_s is not None
    assert 0.45 * before <= rate.per_s <= 0.55 * before
    assert rate.wait_s(4.0) > 0


def test_replies_to_what_was_in_flight_say_nothing_new() -> None:
    """Twenty copies in flight are throttled together; that is one cut."""
    rate = Rate(max_per_s=100.0)
    cuts = [rate.throttled(1.0) for _ in range(20)]

    assert cuts == [True] + [False] * 19
    assert rate.per_s == 50.0


def test_it_recovers_step_by_step() -> None:
    """Eight steps to where it was, and no further than what is configured."""
    rate = Rate(max_per_s=100.0)
    rate.throttled(0.0)
    seen = []
    for step in range(1, 9):
        rate.answered(step * 0.25)
        seen.append(rate.per_s)

    assert seen == [62.5, 75.0, 87.5, 100.0, 100.0, 100.0, 100.0, 100.0]
    assert not rate.is_cut


def test_a_few_throttled_replies_cost_little() -> None:
    """5 % at random: nine tenths of the pace at least."""
    sent = _send(Rate(max_per_s=200.0), start_s=0, end_s=60, every=20)

    assert len(sent) > 0.9 * 200 * 60


def test_a_burst_after_a_quiet_time_waits_for_seconds() -> None:
    """What was measured in the quiet was no limit of the upstream: the pace is soon that of the burst.

    One message, throttled, and then 200 a second of which 5 % are: none waits for 10 s.
    """
    rate = Rate()
    rate.throttled(30.0)
    now_s, longest_s = 31.0, 0.0
    for number in range(1, 6000):
        came_s = 31.0 + number / 200
        now_s = max(now_s, came_s) + rate.wait_s(max(now_s, came_s))
        rate.take(now_s)
        longest_s = max(longest_s, now_s - came_s)
        if number % 20 == 0:
            rate.throttled(now_s)
        else:
            rate.answered(now_s)

    assert longest_s < 10


def test_an_upstream_that_takes_less_gets_less() -> None:
    """One that takes 20 a second, and is sent to as fast as it goes: soon most of it is taken."""
    rate = Rate()
    _send(rate, start_s=0, end_s=20, limit_per_s=20)
    sent = _send(rate, start_s=20, end_s=40, limit_per_s=20)

    assert 10 * 20 <= len(sent) <= 35 * 20


def test_an_upstream_that_refuses_all_is_asked_once_a_minute() -> None:
    """And no more rarely; the first that is taken brings it back to life."""
    rate = Rate(max_per_s=100.0)
    for second in range(60):
        rate.throttled(second * 1.5)

    assert rate.per_s == SLOWEST_PER_S
    for step in range(200):
        rate.answered(100 + step * 0.25)
    assert rate.per_s is not None
    assert rate.per_s > 50


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 100)), max_size=60), st.none() | st.floats(0.01, 1000))
def test_the_rate_stays_within_its_bounds(events: list[tuple[bool, float]], max_per_s: float | None) -> None:
    """Whatever comes in which order: never below one a minute nor above what is configured, never a wait for ever."""
    rate, now_s = Rate(max_per_s=max_per_s), 0.0
    for is_throttled, pause_s in events:
        now_s += pause_s
        rate.take(now_s)
        if is_throttled:
            rate.throttled(now_s)
        else:
            rate.answered(now_s)
        assert rate.per_s is None or rate.per_s >= min(SLOWEST_PER_S, max_per_s or SLOWEST_PER_S)
        assert max_per_s is None or (rate.per_s is not None and rate.per_s <= max_per_s)
        assert 0 <= rate.wait_s(now_s) <= 1 / min(SLOWEST_PER_S, max_per_s or SLOWEST_PER_S)
