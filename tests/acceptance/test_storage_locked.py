"""The storage is locked for a while: neither mail nor hits stop, and all events are there afterwards."""

import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

import pytest

from tests.acceptance.senders import RECIPIENTS, send_until_accepted
from tests.acceptance.service import Service, body_of, by_type, fetch, links_of, pixel_of, wait_until


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_a_locked_storage_stops_neither_mail_nor_hits(
    installed_mailwake: Path,
    tmp_path: Path,
    count_of: Callable[[int, int], int],
    record_soak: Callable[[str, Mapping[str, object]], None],
) -> None:
    """`BEGIN EXCLUSIVE` by another program, while messages are accepted and delivered and hits are answered."""
    locked_s = count_of(5, 20)
    with Service(installed_mailwake, tmp_path) as service:
        assert send_until_accepted(service, "before", threading.Event())
        wait_until(service.delivered, lambda found: len(found) == len(RECIPIENTS), 30, service.log)
        service.wait_for_events(lambda events: len(by_type(events, "Delivery")) == len(RECIPIENTS))
        html = body_of(service.delivered()[0], "text/html")
        messages = hits = 0
        slowest_hit_s = 0.0
        with closing(sqlite3.connect(tmp_path / "var" / "mailwake.db", isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            end = time.monotonic() + locked_s
            while time.monotonic() < end:
                assert send_until_accepted(service, f"during {messages}", threading.Event())
                messages += 1
                for url, status in ((pixel_of(html), 200), (links_of(html)[0], 302)):
                    began = time.monotonic()
                    assert fetch(service.local(url))[0] == status
                    slowest_hit_s = max(slowest_hit_s, time.monotonic() - began)
                    hits += 1
            everything = len(RECIPIENTS) * (messages + 1)
            wait_until(service.delivered, lambda found: len(found) == everything, 30, service.log)
            other.execute("ROLLBACK")

        events = service.wait_for_events(
            lambda events: (
                len(by_type(events, "Delivery")) == everything
                and len(by_type(events, "Open")) + len(by_type(events, "Click")) == hits
            ),
            120,
        )
        assert service.stop() == 0

    record_soak(
        "storage-locked",
        {"locked_s": locked_s, "messages": messages, "hits": hits, "slowest_hit_ms": round(slowest_hit_s * 1000, 1)},
    )
    assert len(by_type(events, "Send")) == everything
