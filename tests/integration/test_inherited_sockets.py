"""Sockets that a service manager made (LISTEN_FDS): a restart refuses no connection."""

import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.acceptance.service import wait_until
from tests.integration.serving import COMMAND, CONFIG, LIMIT_S, Server, configure, environment, serving
from tracker.runtime import inherited
from tracker.runtime.configfile import ConfigError
from tracker.runtime.inherited import Inherited
from tracker.runtime.units import ListenAddress

# As a service manager does: the sockets lie at descriptor 3 and on, and LISTEN_PID is the process itself.
_HAND_ON = """
import fcntl, os, sys
taken = [fcntl.fcntl(int(one), fcntl.F_DUPFD, 100) for one in sys.argv[1].split(",")]
for index, one in enumerate(taken):
    os.dup2(one, 3 + index)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execvp(sys.argv[2], sys.argv[2:])
"""


def _handed_on(sockets: list[socket.socket]) -> tuple[str, ...]:
    return (sys.executable, "-c", _HAND_ON, ",".join(str(one.fileno()) for one in sockets))


def _name(sock: socket.socket) -> str:
    return str(ListenAddress(*sock.getsockname()))


def _listening() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


@pytest.mark.parametrize("workers", [(), ("--workers", "2")], ids=["alone", "workers"])
def test_a_restart_refuses_no_connection(tmp_path: Path, workers: tuple[str, ...]) -> None:
    """The socket is the manager's: what comes while nobody serves waits in it, and is served by the next process."""
    with _listening() as relay, _listening() as tracker:
        config = configure(tmp_path, CONFIG.replace("127.0.0.1:0", _name(relay), 1))
        sockets = [relay, tracker]
        names = {"LISTEN_FDS": "2", "LISTEN_FDNAMES": "any:tracker"}
        answers: list[bytes] = []
        refused: list[OSError] = []
        done = threading.Event()

        def ask() -> None:
            while not done.is_set():
                try:
                    with socket.create_connection(relay.getsockname(), LIMIT_S) as client:
                        answers.append(client.recv(3))
                except OSError as error:
                    refused.append(error)

        def start() -> Server:
            return stack.enter_context(serving(config, *workers, by=(_handed_on(sockets), sockets), environ=names))

        with ExitStack() as stack:
            server = start()
            assert server.listening["relay"] == [_name(relay)]
            assert server.listening["tracker"] == [_name(tracker)]
            clients = [threading.Thread(target=ask) for _ in range(3)]
            for client in clients:
                client.start()
            for number in range(2):
                wait_until(lambda: len(answers), (20 * (number + 1)).__le__, LIMIT_S, server.log)
                if number == 1:
                    server.process.kill()
                    server.process.wait()
                else:
                    assert server.stop(signal.SIGTERM) == 0
                server = start()
            seen = len(answers)
            wait_until(lambda: len(answers), (seen + 20).__le__, LIMIT_S, server.log)
            done.set()
            for client in clients:
                client.join(LIMIT_S)
        assert not [error for error in refused if isinstance(error, ConnectionRefusedError)]
        assert answers.count(b"220") > 0
        assert set(answers) <= {b"220", b"421", b""}  # the last: accepted by a process that was killed


def test_a_socket_that_no_listen_has_is_one_clear_error(tmp_path: Path) -> None:
    """It would be open, and nobody would ever answer."""
    with _listening() as stranger:
        done = subprocess.run(
            [*_handed_on([stranger]), *COMMAND, "serve", "--config", str(configure(tmp_path))],
            env=environment({"LISTEN_FDS": "1"}),
            pass_fds=[stranger.fileno()],
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        assert _name(stranger) in done.stderr
    assert done.returncode == 2
    assert "FileDescriptorName=relay" in done.stderr


def test_sockets_for_another_process_are_left_alone() -> None:
    """LISTEN_PID is inherited by children, too; the variables are taken out of the environment in any case."""
    environ = {"LISTEN_PID": str(os.getpid() + 1), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "relay"}
    assert inherited.take(environ) == []
    assert environ == {}


def test_a_socket_serves_the_listen_that_it_is_bound_to_or_the_part_that_it_is_named_after() -> None:
    """By address first; a name takes the first of its part that is left."""
    with _listening() as one, _listening() as other:
        port = one.getsockname()[1]
        listens = {
            "relay": [ListenAddress("0.0.0.0", 587), ListenAddress("127.0.0.1", port)],
            "tracker": [ListenAddress("0.0.0.0", 80)],
        }
        places = inherited.assign([Inherited(other, "relay"), Inherited(one, "relay")], listens)
        assert places == {("relay", 1): one, ("relay", 0): other}

        with pytest.raises(ConfigError, match="is none of those"):
            inherited.assign([Inherited(other, "")], listens)
        with pytest.raises(ConfigError, match="is none of those"):
            inherited.assign([Inherited(one, ""), Inherited(other, "console")], listens)
