"""A spool full of mail that waits: the next start is quick and small, and new mail does not wait for all of it."""

import smtplib
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.acceptance.load import offer
from tests.acceptance.service import Service, wait_until
from tests.acceptance.sink import Sink

START_S = 10.0
MEMORY_MB = 300.0
NEW_MAIL_S = 30.0


@pytest.mark.timeout(300)
def test_a_full_spool_keeps_neither_the_start_nor_new_mail_waiting(
    installed_mailwake: Path,
    tmp_path: Path,
    count_of: Callable[[int, int], int],
    record_soak: Callable[[str, Mapping[str, object]], None],
) -> None:
    """Filled through the relay while the upstream is down, then started again; then the upstream comes back."""
    count = count_of(300, 50_000)
    with Sink() as sink, Service(installed_mailwake, tmp_path, upstream=sink.url) as service:
        sink.go_down()
        began_s = time.monotonic()
        offer(service, [f"message {number}" for number in range(count)])
        filled_s = time.monotonic() - began_s
        assert service.stop() == 0

        began_s = time.monotonic()
        service.start()
        with smtplib.SMTP(*service.addresses["relay"]):  # reads the greeting
            greeted_s = time.monotonic() - began_s
        memory_mb = 0.0

        def taken_up() -> float:
            nonlocal memory_mb
            memory_mb = max(memory_mb, service.memory_mb())
            return service.metric("mailwake_spool_messages")

        wait_until(taken_up, lambda messages: messages == count, 600, service.log)
        taken_up_s = time.monotonic() - began_s

        offer(service, ["while it is down"], sessions=1)
        sink.listen()
        one = next(path.name for path in (tmp_path / "var" / "spool" / "00" / "q").iterdir())
        service.flush(one)  # has the upstream probed now, not at the end of its minute
        wait_until(lambda: len(sink.taken), lambda taken: taken > 0, 20, service.log)
        back_s = min(times[0] for times in sink.taken.values())
        offered = offer(service, ["after it came back"], sessions=1)
        new = {"while it is down", "after it came back"}
        wait_until(lambda: new - sink.taken.keys(), lambda missing: not missing, NEW_MAIL_S * 2, service.log)
        waited_s = sink.taken["after it came back"][0] - offered["after it came back"]
        kept_s = max(0.0, sink.taken["while it is down"][0] - back_s)
        memory_mb = max(memory_mb, service.memory_mb())
        still_waiting = count - len(sink.taken)

        everything = count + 2
        wait_until(lambda: len(sink.taken), lambda taken: taken == everything, 3600, service.log)
        emptied_s = time.monotonic() - back_s
        assert service.stop() == 0

    twice = sum(len(times) - 1 for times in sink.taken.values())
    record_soak(
        "backlog",
        {
            "messages": count,
            "filled_through_the_relay_in_s": round(filled_s, 1),
            "start_to_greeting_s": round(greeted_s, 2),
            "taken_up_after_s": round(taken_up_s, 1),
            "largest_pss_mb": round(memory_mb, 1),
            "new_message_after_the_upstream_came_back_s": round(waited_s, 3),
            "message_from_before_it_came_back_s": round(kept_s, 3),
            "waiting_just_then": still_waiting,
            "emptied_in_s": round(emptied_s, 1),
            "twice": twice,
        },
    )
    print(f"greeting after {greeted_s:.2f} s, {memory_mb:.0f} MB, new mail after {waited_s:.2f} s and {kept_s:.2f} s")
    assert greeted_s < START_S
    assert memory_mb < MEMORY_MB
    assert max(waited_s, kept_s) < NEW_MAIL_S
    assert not twice
