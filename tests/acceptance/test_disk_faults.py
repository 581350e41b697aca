"""The disk says EIO: what was not flushed gets 4xx and is gone, what got 250 is neither lost nor sent twice."""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.acceptance.disks import Clients, Replies, assert_each_once, failing_calls, metric, names_in
from tests.acceptance.service import Service, wait_until
from tests.acceptance.upstream import counting_upstream

SIZES = (700, 40_000, 3_000, 900_000)
_CALL = re.compile(r"fsync\(\d+<(?P<path>[^>]+)>(?:\(deleted\))?\) += (?P<outcome>0|-1 EIO)")

Count = Callable[[int, int], int]
Record = Callable[[str, Mapping[str, object]], None]


@pytest.mark.soak
@pytest.mark.timeout(300)
@pytest.mark.parametrize("nth", [2, 3])
def test_a_message_whose_flush_fails_is_refused_for_now_and_gone(
    installed_mailwake: Path, tmp_path: Path, count_of: Count, record_soak: Record, nth: int
) -> None:
    """Every second or third `fsync`, of files and of the folder, fails: each message is there whole, or not at all."""
    messages, replies, trace = count_of(60, 600), Replies(), tmp_path / "trace"
    with (
        counting_upstream() as upstream,
        Service(installed_mailwake, tmp_path, upstream=f"smtp://127.0.0.1:{upstream.port}") as service,
    ):
        clients = Clients(service, replies, SIZES)
        clients.send(6)
        assert len(replies.accepted) == 6
        with failing_calls(service.pid, trace, "fsync", f"{nth}+{nth}"):
            clients.send(messages)
        refused = len(replies.refused)
        clients.send(6)
        assert len(replies.refused) == refused > 0
        assert len(replies.accepted) == messages + 12 - refused
        assert set(replies.codes) == {("dot", 451)}
        assert_each_once(service, upstream, replies)

        slot = tmp_path / "var" / "spool" / "00"
        wait_until(lambda: names_in(slot / "q"), set().__eq__, 60, service.log)
        assert names_in(slot / "tmp") == set()
        assert service.stop() == 0

    failed, again = _flushes(trace.read_text())
    assert failed > 0
    assert again == set()
    record_soak(
        f"failed-flushes-{nth}",
        {"messages": messages, "refused": refused, "flushes_failed": failed, "lost": 0, "delivered_twice": 0},
    )


def _flushes(trace: str) -> tuple[int, set[str]]:
    """Return how many failed, and which spool files were flushed again after that; a folder may be."""
    failed: Counter[str] = Counter()
    again = set()
    for call in _CALL.finditer(trace):
        path = call["path"]
        if failed[path] and "/spool/00/tmp/" in path:
            again.add(path)
        failed[path] += call["outcome"] != "0"
    return failed.total(), again


@pytest.mark.timeout(180)
def test_while_outcomes_cannot_be_flushed_nothing_new_is_sent(installed_mailwake: Path, tmp_path: Path) -> None:
    """Every `fdatasync` fails, of marks, journal and storage: the copies in flight end, and no other begins.

    Mail is taken meanwhile. Connections are free all the time: it is the disk that is waited for.
    """
    replies, in_flight = Replies(), 5
    with (
        counting_upstream(is_open=False) as upstream,
        Service(installed_mailwake, tmp_path, upstream=f"smtp://127.0.0.1:{upstream.port}") as service,
    ):
        clients = Clients(service, replies, (700, 3_000))
        clients.send(in_flight)
        wait_until(lambda: len(upstream.begun), in_flight.__eq__, 30, service.log)
        with failing_calls(service.pid, tmp_path / "trace", "fdatasync"):
            upstream.open()
            _wait_for_failed_outcomes(service, in_flight)
            clients.send(12)
            assert len(replies.accepted) == in_flight + 12
            _wait_for_failed_outcomes(service, 3 * in_flight)  # after one second, and two: time enough to begin
            assert len(upstream.begun) == in_flight
            assert metric(service, "mailwake_spool_disk_errors_total") >= 3 * in_flight
        assert_each_once(service, upstream, replies)
        assert service.stop() == 0


def _wait_for_failed_outcomes(service: Service, times: int) -> None:
    wait_until(lambda: service.log().count('"event": "outcome_not_written"'), times.__le__, 60)
