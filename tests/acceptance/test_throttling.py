"""An upstream that says now and then that it gets too much: it is obeyed, and no copy waits long for it."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.acceptance.load import offer
from tests.acceptance.service import Service, by_type, wait_until
from tests.acceptance.sink import Sink

LIMIT_S = 10.0
PER_S = 200.0
SHARE = 0.5  # of what the machine delivers: near to it copies wait for the machine


@pytest.mark.timeout(300)
def test_throttling_replies_keep_no_copy_waiting(
    installed_mailwake: Path,
    tmp_path: Path,
    count_of: Callable[[int, int], int],
    record_soak: Callable[[str, Mapping[str, object]], None],
) -> None:
    """5 % of them: from our 250 to the upstream's it takes less than 10 s, and no event tells of it.

    200 messages are offered a second, without such replies first. A machine that has not twice the room is offered less
    with them; the spool and the client alone are tried at 200 in tests/integration/test_upstream_conditions.py.
    """
    count = count_of(150, 4000)
    with Sink() as sink, Service(installed_mailwake, tmp_path, upstream=sink.url) as service:

        def send(name: str, per_s: float) -> tuple[list[float], float]:
            """Return how long each copy waited, and how many were delivered a second."""
            before = len(sink.taken)
            accepted = offer(service, [f"{name} {number}" for number in range(count)], per_s=per_s, sessions=32)
            wait_until(lambda: len(sink.taken), lambda seen: seen == before + count, 240, service.log)
            taken = {subject: sink.taken[subject][0] for subject in accepted}
            waits_s = sorted(taken[subject] - at for subject, at in accepted.items())
            return waits_s, count / (max(taken.values()) - min(accepted.values()))

        alone_s, able_per_s = send("alone", PER_S)
        offered_per_s = min(PER_S, able_per_s * SHARE)
        sink.throttle_every, sink.dots = 20, 0
        waits_s, _ = send("throttled", offered_per_s)
        throttled = service.metric('mailwake_upstream_throttled_total{upstream="default"}')
        events = service.wait_for_events(lambda events: len(by_type(events, "Delivery")) == 2 * count, 120)
        assert service.stop() == 0

    twice = sum(len(times) - 1 for times in sink.taken.values())
    delayed = len(by_type(events, "DeliveryDelay"))
    figures = {
        "messages": count,
        "delivered_per_s_without_them": round(able_per_s, 1),
        "offered_per_s": round(offered_per_s, 1),
        "throttling_replies": int(throttled),
        "median_wait_s": round(waits_s[count // 2], 3),
        "longest_wait_s": round(waits_s[-1], 3),
        "longest_wait_without_them_at_200_s": round(alone_s[-1], 3),
        "twice": twice,
        "delivery_delay_events": delayed,
    }
    record_soak("throttling", figures)
    print(figures)
    assert throttled == sink.dots - count
    assert throttled >= count // 20
    assert waits_s[-1] < LIMIT_S
    assert (twice, delayed, len(by_type(events, "Bounce"))) == (0, 0, 0)
