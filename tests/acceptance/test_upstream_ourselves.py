"""The service's own address as its upstream, behind something that forwards: noticed, told, and nothing goes round."""

import shutil
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.acceptance.load import offer
from tests.acceptance.service import Service, by_type, wait_until
from tests.acceptance.sink import Sink, forwarding


@pytest.mark.parametrize("is_other_node", [False, True])
def test_mail_never_goes_in_a_circle(installed_mailwake: Path, tmp_path: Path, *, is_other_node: bool) -> None:
    """The upstream's name leads to this very relay, or to another node with its keys: the mail waits, and leaves later.

    No name of the configuration shows it: a load balancer stands in between.
    """
    targets: list[tuple[str, int]] = []
    with Sink() as sink, forwarding(targets) as port, ExitStack() as nodes:
        for name in ("one", "other"):
            (tmp_path / name).mkdir()
        service = nodes.enter_context(
            Service(installed_mailwake, tmp_path / "one", upstream=f"smtp://127.0.0.1:{port}")
        )
        reached = service
        if is_other_node:
            (tmp_path / "other" / "var").mkdir(mode=0o700)
            shutil.copy(tmp_path / "one" / "var" / "keys.json", tmp_path / "other" / "var" / "keys.json")
            reached = nodes.enter_context(Service(installed_mailwake, tmp_path / "other", upstream=sink.url))
        targets.append(reached.addresses["relay"])
        offer(service, ["Hello"], sessions=1)
        wait_until(service.log, lambda text: "upstream_troubled" in text, 20)
        assert "upstream_is_ourselves" in service.log()
        assert service.metric('mailwake_upstream_circuit_open{upstream="default"}') == 1
        assert service.metric("mailwake_spool_messages") == 1
        told = _check(service)
        assert "FAILED  upstream.default" in told
        assert "this relay itself" in told
        assert not sink.taken

        targets[0] = ("127.0.0.1", sink.port)
        service.flush()
        events = service.wait_for_events(lambda events: by_type(events, "Delivery"))
        assert not by_type(events, "Bounce")
        assert len(sink.taken["Hello"]) == 1


def test_a_relay_with_keys_of_its_own_is_an_upstream_like_any(installed_mailwake: Path, tmp_path: Path) -> None:
    """Two relays in a row, under one host name."""
    with Sink() as sink:
        folder, next_folder = tmp_path / "one", tmp_path / "next"
        for each in (folder, next_folder):
            each.mkdir()
        with Service(installed_mailwake, next_folder, upstream=sink.url) as following:
            port = following.addresses["relay"][1]
            with Service(installed_mailwake, folder, upstream=f"smtp://127.0.0.1:{port}") as service:
                offer(service, ["Hello"], sessions=1)
                wait_until(lambda: len(sink.taken), lambda count: count == 1, 20, service.log)


def _check(service: Service) -> str:
    """Return what `mailwake check` prints where something failed."""
    command = [service.command, "check", "--config", str(service.config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout
