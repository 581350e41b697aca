"""An upstream that says now and then that it gets too much: it is obeyed, and no copy waits long for it."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.acceptance.load import offer
from tests.acceptance.service import Service, by_type, wait_until
from tests.acceptance.sink import Sink

LIMIT_S = 10.0
PER_S = 200


@pytest.mark.timeout(300)
def test_throttling_replies_keep_no_copy_waiting(
    installed_mailwake: Path,
    tmp_path: Path,
    count_of: Callable[[int, int], int],
    record_soak: Callable[[str, Mapping[str, object]], None],
) -> None:
    """5 % of them at 200 messages a second: from our 250 to the upstream's never more than 10 s, and no event of it."""
    count = count_of(200, 6000)
    with Sink(throttle_every=20) as sink, Service(installed_mailwake, tmp_path, upstream=sink.url) as service:
        accepted = offer(service, [f"message {number}" for number in range(count)], per_s=PER_S, sessions=32)
        wait_until(lambda: len(sink.taken), lambda seen: seen == count, 60, service.log)
        throttled = service.metric('mailwake_upstream_throttled_total{upstream="default"}')
        events = service.wait_for_events(lambda events: len(by_type(events, "Delivery")) == count, 120)
        assert service.stop() == 0

    waits_s = sorted(sink.taken[subject][0] - at for subject, at in accepted.items())
    offered_s = max(accepted.values()) - min(accepted.values())
    twice = sum(len(times) - 1 for times in sink.taken.values())
    delayed = len(by_type(events, "DeliveryDelay"))
    record_soak(
        "throttling",
        {
            "messages": count,
            "offered_per_s": PER_S,
            "accepted_per_s": round(count / offered_s, 1),
            "throttling_replies": int(throttled),
            "median_wait_s": round(waits_s[count // 2], 3),
            "longest_wait_s": round(waits_s[-1], 3),
            "twice": twice,
            "delivery_delay_events": delayed,
        },
    )
    print(f"waits: median {waits_s[count // 2]:.3f} s, longest {waits_s[-1]:.3f} s; {count / offered_s:.0f}/s accepted")
    assert throttled == sink.dots - count
    assert throttled >= count // 20
    assert waits_s[-1] < LIMIT_S
    assert (twice, delayed, len(by_type(events, "Bounce"))) == (0, 0, 0)
