"""A spool from a backup is refused until it is forced; one that moves with its journal starts."""

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.disks import names_in
from tests.acceptance.senders import RECIPIENTS, send_until_accepted
from tests.acceptance.service import Service, by_type, wait_until
from tests.acceptance.upstream import Upstream, counting_upstream


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """An upstream that is down until `listen`."""
    with counting_upstream(is_up=False) as found:
        yield found


def _with_mail_that_waits(command: Path, folder: Path, upstream: Upstream) -> Service:
    """A service that was stopped with one message, whose upstream is still down."""
    service = Service(command, folder, upstream=f"smtp://127.0.0.1:{upstream.port}")
    with service:
        assert send_until_accepted(service, "waits", threading.Event())
        assert service.stop() == 0
    return service


@pytest.mark.timeout(180)
def test_a_spool_from_a_backup_is_refused_until_it_is_forced(
    installed_mailwake: Path, tmp_path: Path, upstream: Upstream
) -> None:
    """Its mail was delivered since. The operator is told, can look, and may send it all the same."""
    service = _with_mail_that_waits(installed_mailwake, tmp_path, upstream)
    spool, backup = tmp_path / "var" / "spool", tmp_path / "backup"
    shutil.copytree(spool, backup)
    upstream.listen()
    with service:
        wait_until(lambda: len(upstream.taken), len(RECIPIENTS).__eq__, 60, service.log)
        service.wait_for_events(lambda events: len(by_type(events, "Delivery")) == len(RECIPIENTS))
        assert service.stop() == 0
    shutil.rmtree(spool)
    shutil.copytree(backup, spool)

    refused = service.ask("serve")
    assert refused.returncode == 2
    assert f"{spool / '00'} holds 1 message(s) and is not the spool that was used here last" in refused.stderr
    assert "mailwake serve --force" in refused.stderr
    assert len(names_in(spool / "00" / "q")) == 1
    assert service.run("queue", "list").count("news@shop.example") == 1
    assert set(upstream.taken.values()) == {1}

    service.start("--force")
    with_force = service.log()
    wait_until(lambda: set(upstream.taken.values()), {2}.__eq__, 60, service.log)
    assert service.stop() == 0
    assert f"{spool / '00'} is used as it is, with 1 message(s)" in with_force
    with service:
        assert service.stop() == 0
    assert len(by_type(service.events(), "Delivery")) == len(RECIPIENTS)


@pytest.mark.timeout(180)
def test_a_relay_that_moves_as_a_whole_starts(installed_mailwake: Path, tmp_path: Path, upstream: Upstream) -> None:
    """Stopped, its folder copied elsewhere, started there: what waited is delivered."""
    (tmp_path / "old").mkdir()
    _with_mail_that_waits(installed_mailwake, tmp_path / "old", upstream)
    shutil.copytree(tmp_path / "old", tmp_path / "new")
    upstream.listen()
    with Service(installed_mailwake, tmp_path / "new", upstream=f"smtp://127.0.0.1:{upstream.port}") as moved:
        wait_until(lambda: len(upstream.taken), len(RECIPIENTS).__eq__, 60, moved.log)
        assert moved.stop() == 0
    assert set(upstream.taken.values()) == {1}
    assert "spool_twin_missing" not in moved.log()
