"""The disk is full: clients get 4xx, what got 250 is neither lost nor sent twice, and all goes on by itself."""

from pathlib import Path

import pytest

from tests.acceptance.disks import Client, Clients, Filler, Replies, assert_each_once, names_in, readiness, small_disk
from tests.acceptance.service import Service, wait_until
from tests.acceptance.upstream import Upstream, counting_upstream

SIZES = (700, 900_000, 3_000, 1_200_000, 40_000, 500_000)  # 1.2 MB is read into a file, the rest into memory
SMALL = (700, 3_000)


def _service(command: Path, folder: Path, upstream: Upstream) -> Service:
    service = Service(command, folder, upstream=f"smtp://127.0.0.1:{upstream.port}")
    limits = service.config.read_text()
    limits = limits.replace('min_free = "1MiB"', 'min_free = "2MiB"')
    limits = limits.replace("[relay]\n", '[relay]\nmax_message = "1280KiB"\n')
    service.config.write_text(limits)
    return service


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("on_it", "is_up"), [("var/spool", False), ("var", True)], ids=["spool", "spool, journal and storage"]
)
def test_a_full_disk_refuses_for_now_and_loses_and_repeats_nothing(
    installed_mailwake: Path, tmp_path: Path, on_it: str, *, is_up: bool
) -> None:
    """Filled by mail while the upstream is down or slow, then to the last byte by others, then given back."""
    replies = Replies()
    with (
        counting_upstream(is_up=is_up, is_open=False) as upstream,
        small_disk(tmp_path / on_it, "size=24m") as disk,
        _service(installed_mailwake, tmp_path, upstream) as service,
    ):
        clients = Clients(service, replies, SIZES)
        assert readiness(service) == (200, "ready")
        with Client(service, replies) as small, Client(service, replies) as large:
            assert small.begin("small, as the disk fills up", 2_000)
            assert large.begin("large, as the disk fills up", 1_250_000)
            clients.send_until_refused(3)
            assert readiness(service) == (503, "the spool is full")
            assert replies.codes["MAIL", 452] >= 3

            filler = Filler(disk)
            filler.fill()
            assert not small.finish()
            assert not large.finish()
            assert not small.send("afterwards, on the same connection", 700)

        slot = tmp_path / "var" / "spool" / "00"
        assert names_in(slot / "tmp") == set()
        assert len(names_in(slot / "q")) == len(replies.accepted)
        replies.assert_only_for_now()

        upstream.listen()
        upstream.open()
        _assert_goes_on_by_itself(service, upstream, clients, filler)
        wait_until(lambda: names_in(slot / "q"), set().__eq__, 60, service.log)
        assert service.stop() == 0
    _assert_told(service.log())


@pytest.mark.timeout(180)
def test_a_disk_without_inodes_is_a_full_disk(installed_mailwake: Path, tmp_path: Path) -> None:
    """As above, with all that is written on it; bytes are free all the time."""
    replies = Replies()
    with (
        counting_upstream(is_open=False) as upstream,
        small_disk(tmp_path / "var", "size=24m,nr_inodes=180") as disk,
        _service(installed_mailwake, tmp_path, upstream) as service,
    ):
        clients = Clients(service, replies, SMALL)
        assert readiness(service) == (200, "ready")
        with Client(service, replies) as held:
            assert held.begin("as the disk fills up", 2_000)
            clients.send_until_refused(3)
            assert readiness(service) == (503, "the spool is full")
            assert replies.codes["MAIL", 452] >= 3
            replies.assert_only_for_now()

            filler = Filler(disk)
            filler.fill_inodes()
            assert not held.finish()
            assert replies.refused[-1] == ("dot", 452)

        slot = tmp_path / "var" / "spool" / "00"
        assert names_in(slot / "tmp") == set()
        assert len(names_in(slot / "q")) == len(replies.accepted) > 0

        upstream.open()
        _assert_goes_on_by_itself(service, upstream, clients, filler)
        wait_until(lambda: names_in(slot / "q"), set().__eq__, 60, service.log)
        assert service.stop() == 0
    _assert_told(service.log())


@pytest.mark.timeout(180)
@pytest.mark.parametrize("on_it", ["var/spool", "var"], ids=["spool", "spool, journal and storage"])
def test_a_relay_starts_on_a_full_disk_and_delivers(installed_mailwake: Path, tmp_path: Path, on_it: str) -> None:
    """Else a restart would make a full disk an outage: what waits leaves, and is told when there is room."""
    replies = Replies()
    with (
        counting_upstream(is_up=False) as upstream,
        small_disk(tmp_path / on_it, "size=8m") as disk,
        _service(installed_mailwake, tmp_path, upstream) as service,
    ):
        Clients(service, replies, SIZES).send_until_refused(2)
        filler = Filler(disk)
        filler.fill()
        assert service.stop() == 0
        upstream.listen()
        service.start()
        wait_until(lambda: len(upstream.taken), len(replies.accepted).__eq__, 60, service.log)
        filler.leave()
        assert_each_once(service, upstream, replies)
        wait_until(lambda: readiness(service), (200, "ready").__eq__, 60, service.log)
        assert service.stop() == 0
    assert service.log().count('"event": "spool_stamp_not_written"') >= 1


def _assert_goes_on_by_itself(service: Service, upstream: Upstream, clients: Clients, filler: Filler) -> None:
    """What waits leaves on the full disk; with room again, mail comes in as before, and all of it is delivered once."""
    replies = clients.replies
    wait_until(lambda: len(upstream.taken), len(replies.accepted).__eq__, 60, service.log)
    filler.leave()
    wait_until(lambda: readiness(service), (200, "ready").__eq__, 60, service.log)
    before = len(replies.accepted)
    clients.send(12)
    assert len(replies.accepted) == before + 12
    assert_each_once(service, upstream, replies)


def _assert_told(log: str) -> None:
    """The operator is told when it closes and when it opens."""
    assert '"event": "spool_closed"' in log
    assert '"event": "spool_opened"' in log
