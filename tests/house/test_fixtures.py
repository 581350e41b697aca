"""What `tests/conftest.py` promises to every tier."""

import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.machine import ROOT


@pytest.mark.parametrize("host", ["192.0.2.1", "0.0.0.0", "", "::", "2001:db8::1"])
@pytest.mark.parametrize("method", ["bind", "connect"])
def test_a_socket_of_a_test_stays_on_loopback(host: str, method: str) -> None:
    """A test that reaches out works on one machine only, and one that listens to all lets others in."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as peer, pytest.raises(RuntimeError, match="loopback"):
        getattr(peer, method)((host, 0))


def test_loopback_is_open(unused_tcp_port: int) -> None:
    """The fence has a gate."""
    with socket.socket() as peer:
        peer.bind(("127.0.0.1", unused_tcp_port))


def test_a_missing_tool_skips_here_and_fails_in_ci(
    require_tool: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A test is never left out silently, and in CI never at all."""
    monkeypatch.delenv("MAILWAKE_REQUIRE_ALL", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no-such-tool"):
        require_tool("no-such-tool")

    monkeypatch.setenv("MAILWAKE_REQUIRE_ALL", "1")
    with pytest.raises(pytest.fail.Exception, match="no-such-tool"):
        require_tool("no-such-tool")


def test_the_installed_command_is_not_this_folder(installed_mailwake: Path, tmp_path: Path) -> None:
    """The acceptance tests see the wheel: what is forgotten in it is missing there."""
    python = installed_mailwake.with_name("python")
    where = "import relay, tracker; print(relay.__file__); print(tracker.__file__)"
    outcome = subprocess.run([python, "-c", where], cwd=tmp_path, capture_output=True, text=True, check=True)

    assert installed_mailwake.is_file()
    assert str(ROOT) not in outcome.stdout
    assert outcome.stdout.count("site-packages") == 2


def test_the_wheel_holds_every_file_of_the_packages(installed_mailwake: Path) -> None:
    """Rules, templates, static files and migrations are data of the packages, and easily forgotten."""
    (site,) = installed_mailwake.parent.parent.glob("lib/python3*/site-packages")
    missing = [
        str(path.relative_to(ROOT))
        for package in ("relay", "tracker")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and not (site / path.relative_to(ROOT)).is_file()
    ]

    assert missing == []
