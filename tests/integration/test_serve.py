"""`mailwake serve` as a process: what stands in its way, what it serves, how it stops."""

import json
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from tests.acceptance.service import wait_until
from tests.integration.serving import LIMIT_S, configure, mailwake, send, serving

_MESSAGE = b"From: news@shop.example\r\nTo: ana@client.example\r\nSubject: Hi\r\n\r\nSee https://shop.example/a?b=1\r\n"


def _send(address: tuple[str, int], message: bytes = _MESSAGE) -> str:
    return send(address, message)


def _refused(folder: Path, **environ: str) -> str:
    """Start it, and return the text of its refusal."""
    done = mailwake("serve", "--config", str(configure(folder)), cwd=folder, **environ)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.stderr


def test_everything_runs_in_one_process_and_ends_with_0(tmp_path: Path) -> None:
    """The main job, the operator's pages, and a stop that leaves nothing behind."""
    with serving(configure(tmp_path)) as server:
        message = _send(server.address("relay"))
        deadline = time.monotonic() + LIMIT_S
        while '"Delivery"' not in (found := server.run("events", "--json", "--message", message).output):
            assert time.monotonic() < deadline, found

        assert [json.loads(line)["eventType"] for line in found.splitlines()] == ["Send", "Delivery"]
        assert server.get("metrics", "/healthz")[0] == 200
        assert server.get("metrics", "/readyz")[0] == 200
        assert "mailwake_smtp_replies_total" in server.get("metrics", "/metrics")[2]
        assert server.get("tracker", "/healthz")[0] == 200
        assert (tmp_path / "var/run/00.sock").stat().st_mode & 0o777 == 0o600

        assert server.stop() == 0
    assert not (tmp_path / "var/run/00.sock").exists()
    assert "process_stopped" in server.log()
    assert "ana@client.example" not in server.log()
    for path in (tmp_path / "var").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_the_console_shows_what_runs_to_this_machine_alone(tmp_path: Path) -> None:
    """It has no login, so a name that was made to lead to loopback gets nothing (DNS rebinding)."""
    with serving(configure(tmp_path)) as server:
        status, headers, page = server.get("console", "/")
        assert status == 200
        assert "<script" not in page
        for part in ("relay", "tracker", "console", "metrics"):
            assert server.listening[part][0] in page
        assert "default-src 'self'" in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert server.get("console", "/static/console.css")[1]["Content-Type"].startswith("text/css")

        status, _, text = server.get("console", "/", Host="evil.example")
        assert status == 421
        assert "relay" not in text
        assert server.get("console", "/nothing")[0] == 404
        assert "Content-Security-Policy" in server.get("console", "/nothing")[1]


def test_ctrl_c_drains_too(tmp_path: Path) -> None:
    """A terminal's SIGINT is as good as a service manager's SIGTERM; what was accepted is in the spool or delivered.

    The next process takes up what this one did not get to.
    """
    with serving(configure(tmp_path)) as server:
        message = _send(server.address("relay"))
        assert server.stop(signal.SIGINT) == 0
    with serving(configure(tmp_path)) as server:
        found = partial(server.run, "events", "--message", message, "--type", "delivery")
        wait_until(found, lambda result: result.exit_code == 0, LIMIT_S, server.log)
        assert list((tmp_path / "var/mail/new").glob(f"{message}-*"))


def test_a_port_in_use_is_one_clear_error(tmp_path: Path) -> None:
    """Every address that cannot be had is named with its key, and nothing was begun."""
    with socket.socket() as one, socket.socket() as other:
        for holder in (one, other):
            holder.bind(("127.0.0.1", 0))
            holder.listen()
        text = _refused(
            tmp_path,
            MAILWAKE__RELAY__LISTEN=f"127.0.0.1:{one.getsockname()[1]}",
            MAILWAKE__CONSOLE__LISTEN=f"127.0.0.1:{other.getsockname()[1]}",
        )

    assert "relay.listen" in text
    assert "console.listen" in text
    assert not (tmp_path / "var").exists()


def test_a_folder_that_cannot_be_used_is_one_clear_error(tmp_path: Path) -> None:
    """A file stands where the spool should be."""
    (tmp_path / "var").mkdir()
    (tmp_path / "var/spool").touch()

    assert "spool.directory" in _refused(tmp_path)


def test_a_spool_that_others_can_enter_is_refused(tmp_path: Path) -> None:
    """Mail lies in it."""
    (tmp_path / "var/spool").mkdir(parents=True)
    (tmp_path / "var/spool").chmod(0o755)

    assert "chmod 700" in _refused(tmp_path)


def test_a_keys_file_that_is_gone_or_open_is_refused(tmp_path: Path) -> None:
    """Once anything was kept, a new key would break links that were sent."""
    keys = tmp_path / "var/keys.json"
    with serving(configure(tmp_path)) as server:
        _send(server.address("relay"))
        server.stop()
    kept = keys.read_bytes()
    keys.unlink()
    assert "keys.file" in _refused(tmp_path)

    keys.write_bytes(kept)
    keys.chmod(0o644)
    assert "chmod 600" in _refused(tmp_path)


def test_links_are_not_made_to_a_port_that_is_not_known(tmp_path: Path) -> None:
    """A relay alone cannot know the port that the system gave another process."""
    done = mailwake("serve", "--only", "relay", "--config", str(configure(tmp_path)), cwd=tmp_path)

    assert done.returncode == 2
    assert "tracker.public_url" in done.stderr


def test_a_control_socket_that_cannot_be_made_is_one_clear_error(tmp_path: Path) -> None:
    """What was opened before is closed again, and the next start finds everything as it was."""
    (tmp_path / "var").mkdir()
    (tmp_path / "var/run").touch()
    assert "spool.directory" in _refused(tmp_path)

    (tmp_path / "var/run").unlink()
    with serving(configure(tmp_path)) as server:
        assert server.stop() == 0


def test_all_configuration_errors_are_said_and_nothing_is_made(tmp_path: Path) -> None:
    """Exit code 2, each with its key."""
    text = _refused(tmp_path, MAILWAKE__RELAY__MAX_RECIPIENTS="many", MAILWAKE__LOG__LEVEL="loud")

    assert "relay.max_recipients" in text
    assert "log.level" in text
    assert not (tmp_path / "var").exists()


def test_parts_may_run_in_processes_of_their_own(tmp_path: Path) -> None:
    """Each has a slot; one ingests what all have journalled."""
    config = configure(tmp_path)
    with serving(config, "--only", "tracker") as tracker:
        port = tracker.address("tracker")[1]
        with serving(config, "--only", "relay", environ={"MAILWAKE__TRACKER__LISTEN": f"127.0.0.1:{port}"}) as relay:
            assert {tracker.slot, relay.slot} == {0, 1}
            assert set(relay.listening) == {"relay", "metrics"}
            message = _send(relay.address("relay"))
            deadline = time.monotonic() + LIMIT_S
            while "Delivery" not in (found := relay.run("events", "--message", message).output):
                assert time.monotonic() < deadline, found
            (delivered,) = (tmp_path / "var/mail/new").iterdir()
            assert f"http://127.0.0.1:{port}/l/".encode() in delivered.read_bytes()
            assert relay.stop() == 0
        assert tracker.stop() == 0


_FAULTY = """
import asyncio
from tracker.runtime import observe, serve
observe.configure_logging(level="info", form="json", addresses=False)
async def fail(): raise RuntimeError("broken")
async def main(stop, reload):
    async with asyncio.TaskGroup() as group:
        group.create_task(fail())
        await stop.wait()
raise SystemExit(serve.run(main))
"""
_STUCK = """
import asyncio
from tracker.runtime import observe, serve
observe.configure_logging(level="info", form="json", addresses=False)
async def main(stop, reload):
    print("ready", flush=True)
    await asyncio.Event().wait()
raise SystemExit(serve.run(main))
"""


def test_a_background_task_that_fails_ends_the_process() -> None:
    """Crash-only: a process that limps is worse than one that is started again."""
    done = subprocess.run([sys.executable, "-c", _FAULTY], capture_output=True, text=True, timeout=LIMIT_S, check=False)

    assert done.returncode == 1
    assert json.loads(done.stderr)["event"] == "process_failed"


@pytest.mark.timeout(60)
def test_a_second_signal_ends_a_process_that_does_not_drain() -> None:
    """An operator who insists is obeyed; the echo of the first signal is no second one."""
    process = subprocess.Popen(
        [sys.executable, "-c", _STUCK], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        deadline = time.monotonic() + LIMIT_S
        signals = 0
        while process.poll() is None:
            assert time.monotonic() < deadline
            process.send_signal(signal.SIGTERM)
            signals += 1
            try:
                process.wait(0.2)
            except subprocess.TimeoutExpired:
                continue
        assert process.returncode == 1
        assert signals >= 3
