"""Free ports on loopback, and waiting for a server to listen."""

import socket
import time
from collections.abc import Callable

_START_LIMIT_S = 30.0


def free(count: int) -> list[int]:
    """Return ports that were free a moment ago: these servers cannot be told 0."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports


def wait_for(port: int, is_running: Callable[[], bool], output: Callable[[], str]) -> None:
    """Return when somebody accepts connections there; fail with the program's output where it ended before."""
    deadline = time.monotonic() + _START_LIMIT_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=2).close()
        except OSError:
            assert is_running(), f"the server ended: {output()[-1500:]}"
            assert time.monotonic() < deadline, f"nothing listens on port {port}: {output()[-1500:]}"
            time.sleep(0.1)
        else:
            return
