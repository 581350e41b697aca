"""`mailwake serve --workers N` with real processes: killed, replaced, stopped, told to reload."""

import contextlib
import os
import re
import signal
import smtplib
import socket
import threading
import zlib
from pathlib import Path

import pytest

from tests.acceptance.service import wait_until
from tests.integration.serving import CONFIG, LIMIT_S, Server, configure, mailwake, send, serving

DATA = Path(__file__).parents[1] / "unit/data"
_MAIL = b"From: news@shop.example\r\nTo: ana@client.example\r\nSubject: hello\r\n\r\nHello\r\n"


def _send(server: Server) -> str:
    return send(server.address("relay"), _MAIL)


def _lives(pid: int) -> bool:
    """Say whether a process is there and has not ended."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def _metric(server: Server, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", server.get("metrics", "/metrics")[2], re.MULTILINE)
    return float(found[1]) if found else 0.0


def _wait_for_other_workers(server: Server, gone: set[int]) -> None:
    """Wait until two workers serve, and none of those that are gone is one of them."""
    wait_until(server.statuses, lambda now: len(now) == 2 and not gone & set(now), LIMIT_S, server.log)


def _delivered(folder: Path) -> set[str]:
    return {path.name.partition("-")[0] for path in (folder / "var/mail/new").glob("*")}


def test_workers_share_the_sockets_and_speak_with_one_voice(tmp_path: Path) -> None:
    """One line for all, one number for what all have counted, one page that names them all."""
    with serving(configure(tmp_path), "--workers", "2") as server:
        assert len(set(server.workers)) == 2
        assert server.process.pid not in server.workers
        sent = {_send(server) for _ in range(20)}
        wait_until(lambda: _delivered(tmp_path), sent.__le__, LIMIT_S, server.log)

        wait_until(
            lambda: _metric(server, 'mailwake_outcomes_total{outcome="delivered"}'), (20.0).__eq__, LIMIT_S, server.log
        )
        assert _metric(server, 'mailwake_smtp_replies_total{code="354"}') == 20
        page = server.get("console", "/")[2]
        assert all(str(pid) in page for pid in server.workers)
        assert server.stop() == 0
    assert not list((tmp_path / "var/run").iterdir())


def test_a_worker_that_dies_is_replaced_and_no_client_is_turned_away(tmp_path: Path) -> None:
    """The sockets stay open; what the dead one had accepted is delivered by whoever has its slot now."""
    with serving(configure(tmp_path), "--workers", "2") as server:
        refused: list[OSError] = []
        sent: list[str] = []
        done = threading.Event()

        def work() -> None:
            while not done.is_set():
                try:
                    sent.append(_send(server))
                except ConnectionRefusedError as error:
                    refused.append(error)
                except (OSError, smtplib.SMTPException):
                    continue  # the connection was at the one that died: this client tries again

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for number in range(4):
            wait_until(lambda: len(sent), (10 * (number + 1)).__le__, LIMIT_S, server.log)
            victim = sorted(server.statuses())[number % 2]
            os.kill(victim, signal.SIGKILL)
            _wait_for_other_workers(server, {victim})
        done.set()
        for thread in threads:
            thread.join(LIMIT_S)
        wait_until(lambda: _delivered(tmp_path), set(sent).__le__, LIMIT_S, server.log)
        assert not refused
        assert server.log().count('"worker_replaced"') == 4
        assert server.stop() == 0


def test_workers_do_not_outlive_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    """Each holds the end of a pipe; a socket that nobody looks after would keep the port from the next start."""
    with serving(configure(tmp_path), "--workers", "2") as server:
        server.process.kill()
        server.process.wait()
        wait_until(lambda: [pid for pid in server.workers if _lives(pid)], lambda left: not left, LIMIT_S, server.log)
        assert server.log().count('"supervisor_gone"') == 2


def test_what_stands_in_the_way_of_a_worker_is_one_clear_error(tmp_path: Path) -> None:
    """A worker meets it, the supervisor says it and ends as a single process would; nothing is left running."""
    config = configure(tmp_path)
    with serving(config) as server:
        assert server.stop() == 0
    head = bytearray((DATA / "spool-1/01kjmma2g00000000000000001.bin").read_bytes()[:36])
    head[8:10] = (99).to_bytes(2, "big")
    head[32:36] = zlib.crc32(head[:32]).to_bytes(4, "big")
    (tmp_path / "var/spool/00/q/01kjmma2g00000000000000001").write_bytes(head)

    done = mailwake("serve", "--workers", "2", "--config", str(config), cwd=tmp_path)

    assert done.returncode == 2
    assert len(re.findall("^mailwake: .*version 99", done.stderr, re.MULTILINE)) == 1
    assert not list((tmp_path / "var/run").glob("*"))


def test_more_workers_than_connections_of_an_upstream_are_refused(tmp_path: Path) -> None:
    """The limit holds for all of them together, and each needs one."""
    text = CONFIG.replace("final = true", "final = true\nmax_connections = 2")
    done = mailwake("serve", "--workers", "3", "--config", str(configure(tmp_path, text)), cwd=tmp_path)
    assert done.returncode == 2
    assert "upstream.default.max_connections: is 2" in done.stderr
    assert not (tmp_path / "var/spool").exists()


def test_a_limit_on_connections_is_that_of_all_workers(tmp_path: Path) -> None:
    """Whoever is beyond it gets 421, at whichever worker; and a place that is left is free at all of them."""
    text = CONFIG.replace("[upstream.default]", "max_connections = 3\n[upstream.default]")
    with serving(configure(tmp_path, text), "--workers", "2") as server, contextlib.ExitStack() as stack:

        def greeting() -> bytes:
            connection = stack.enter_context(socket.create_connection(server.address("relay"), LIMIT_S))
            held.append(connection)
            return connection.recv(3)

        held: list[socket.socket] = []
        assert [greeting() for _ in range(3)] == [b"220"] * 3
        assert {greeting() for _ in range(8)} == {b"421"}
        held[0].close()
        wait_until(greeting, b"220".__eq__, LIMIT_S, server.log)


def test_slots_that_nobody_has_any_more_are_adopted(tmp_path: Path) -> None:
    """Three workers leave mail, one comes back: it takes up the slots of the others while it serves."""
    config = configure(tmp_path, CONFIG.replace("maildir:var/mail", "smtp://127.0.0.1:1"))
    with serving(config, "--workers", "3") as server:
        slots = tmp_path / "var/spool"
        sent: set[str] = set()

        def spread() -> int:
            sent.add(_send(server))
            return len([slot for slot in slots.iterdir() if list((slot / "q").iterdir())])

        wait_until(spread, (3).__eq__, LIMIT_S, server.log)
        for pid in (server.process.pid, *server.workers):
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: [pid for pid in server.workers if _lives(pid)], lambda left: not left, LIMIT_S)
    config.write_text(CONFIG)
    with serving(config, "--workers", "1") as server:
        wait_until(lambda: _delivered(tmp_path), sent.__eq__, 2 * LIMIT_S, server.log)
        assert server.log().count('"slot_adopted"') == 2


@pytest.mark.parametrize("workers", [(), ("--workers", "2")], ids=["alone", "workers"])
def test_a_reload_is_in_force_everywhere_or_nowhere(tmp_path: Path, workers: tuple[str, ...]) -> None:
    """Also for mail that waits, and for a worker that is started later; what wants a restart is named."""
    config = configure(tmp_path, CONFIG.replace("maildir:var/mail", "smtp://127.0.0.1:1"))
    with serving(config, *workers) as server:
        sent = {_send(server) for _ in range(4)}

        config.write_text(CONFIG.replace("max_", "unknown_") + "\n[relay.nothing]\n")
        refused = server.run("reload")
        assert refused.exit_code == 2
        assert "relay.nothing" in refused.output

        changed = CONFIG.replace('["127.0.0.1:0"]', '["127.0.0.1:0", "127.0.0.1:0"]').replace(":var/mail", ":var/other")
        changed = changed.replace("[spool]", '[spool]\nhigh_water = "1MiB"\ndirectory = "var/elsewhere"')
        config.write_text(changed + '[event_destination.more]\ntype = "stdout"\n')
        done = server.run("reload")
        assert done.exit_code == 0, done.output
        (_, last) = done.output.splitlines()
        listens = ("console.listen", "relay.listen", "spool.directory", "tracker.listen")
        assert all(key in last for key in listens)
        assert "event_destination" not in last
        assert "upstream" not in last
        assert "high_water" not in last

        def delivered() -> set[str]:
            return {path.name.partition("-")[0] for path in (tmp_path / "var/other/new").glob("*")}

        wait_until(delivered, sent.__eq__, LIMIT_S, server.log)
        if workers:
            for victim in server.workers:
                os.kill(victim, signal.SIGKILL)
            _wait_for_other_workers(server, set(server.workers))
        sent |= {_send(server) for _ in range(4)}
        wait_until(delivered, sent.__eq__, LIMIT_S, server.log)
        assert server.stop() == 0


def test_a_reload_without_a_service_has_exit_code_1(tmp_path: Path) -> None:
    """Nothing runs, so nothing can be in force."""
    done = mailwake("reload", "--config", str(configure(tmp_path)), cwd=tmp_path)
    assert done.returncode == 1
    assert "nothing runs" in done.stderr
