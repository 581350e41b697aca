"""SIGKILL of the serving process at moments of chance, and the time until it greets again.

A seed gives the moments, so that a run can be had again as far as the machine allows. They are spread over the mail
that is delivered, tail included; one in four comes while the process is still starting, or has only just begun.
"""

import os
import random
import socket
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.acceptance.scripted_upstream import Upstream
from tests.acceptance.service import Service, wait_until

_PAUSE_S = 0.2
_EARLY_S = 1.5
_PROGRESS_LIMIT_S = 300.0
_HELD = '"copy_held"'


@dataclass(frozen=True, slots=True)
class _Moment:
    """When so many copies were taken and a pause is over; `early_s`: so soon after the process before it began."""

    after: int
    pause_s: float
    early_s: float | None


class Kills:
    """Those of one run. `restarts_s` are the times from the start of a process to its greeting.

    `restarts_cpu_s` is how much of that the process computed: on a machine that is busy with other things, the better
    measure. It is known on Linux alone.
    """

    def __init__(self, service: Service, upstream: Upstream, *, kills: int, copies: int, seed: int) -> None:
        """Draw the moments, over so many copies."""
        chance = random.Random(seed)
        self._moments = [
            _Moment(
                after=after,
                pause_s=chance.uniform(0, _PAUSE_S),
                early_s=chance.uniform(0, _EARLY_S) if number % 4 == 2 else None,
            )
            for number, after in enumerate(sorted(chance.sample(range(copies), kills)))
        ]
        self._service = service
        self._upstream = upstream
        self.seed = seed
        self.restarts_s: list[float] = []
        self.restarts_cpu_s: list[float] = []

    def carry_out(self) -> None:
        """Kill and start until all moments are over; the process runs at the end."""
        for moment, following in zip(self._moments, [*self._moments[1:], None], strict=True):
            if moment.early_s is None:
                wait_until(self._progress, moment.after.__le__, _PROGRESS_LIMIT_S, self._service.log_end, every_s=0.01)
                pause(moment.pause_s)
            else:
                self._service.launch()
                pause(moment.early_s)
            self._service.kill()
            self._upstream.life += 1
            if following is None or following.early_s is None:
                self._restart()

    def figures(self) -> dict[str, object]:
        """Return what is recorded of the kills."""
        return {
            "kills": len(self._moments),
            "kills_while_starting": sum(moment.early_s is not None for moment in self._moments),
            "seed": self.seed,
            "restart_to_greeting_median_s": round(statistics.median(self.restarts_s), 2),
            "restart_to_greeting_max_s": round(max(self.restarts_s), 2),
            "restart_to_greeting_cpu_max_s": round(max(self.restarts_cpu_s, default=0.0), 2),
            "load_average": round(os.getloadavg()[0], 1),
        }

    def _progress(self) -> int:
        return len(self._upstream.copies)

    def _restart(self) -> None:
        began = time.monotonic()
        self._service.start()
        with socket.create_connection(self._service.addresses["relay"], timeout=30) as connection:
            greeting = connection.recv(200)
        self.restarts_s.append(time.monotonic() - began)
        status = Path(f"/proc/{self._service.pid}/stat")
        if status.exists():
            user, system = status.read_text().rpartition(") ")[2].split()[11:13]
            self.restarts_cpu_s.append((int(user) + int(system)) / os.sysconf("SC_CLK_TCK"))
        assert greeting.startswith(b"220 "), greeting


def pause(wait_s: float) -> None:
    """Let a stretch of chance go by: what happens in it is what the test is about."""
    threading.Event().wait(wait_s)


@contextmanager
def hastened(service: Service, every_s: float) -> Iterator[None]:
    """Order copies that were put off to be sent now, again and again, for the length of a block.

    By the command, whether the service is up or not: an operator does not look first.
    """
    stop = threading.Event()

    def work() -> None:
        while not stop.wait(every_s):
            done = service.ask("queue", "flush", "--all")
            assert done.returncode in (0, 1), done.stderr

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(60)


def settle(service: Service, limit_s: float) -> int:
    """Wait until the spool is empty; return how many copies had to be released by hand.

    A copy that was in flight at three kills in a row is held for an operator: the test is one.
    """

    def look() -> list[str]:
        if service.log().count(_HELD):
            service.ask("queue", "release", "--held")
        return service.spooled()

    wait_until(look, lambda left: not left, limit_s, service.log_end, every_s=0.5)
    return service.log().count(_HELD)
