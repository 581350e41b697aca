"""The queue of one upstream: jobs by when they are due, first come first served, how many may run, and how fast.

Theory:
    While mail leaves as fast as it comes, the first come is the first served. After an outage tens of thousands may
    wait, and what comes now would wait for all of them: a password mail for an hour. So where what is due first was
    accepted half a minute ago or before, every other place goes to the newest message; the oldest have the rest, and
    none of them waits for more than twice as long as it would without.
"""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import chain, count, islice
from typing import Final

from relay.core.providers import Provider
from relay.spool.circuit import Circuit
from relay.spool.queued import QueuedMessage
from relay.spool.rate import Rate
from relay.spool.refusals import Refusals

_AT_ONCE: Final = 3
_LONGEST_AGAIN_S: Final = 60.0
_BACKLOG_S: Final = 30.0  # a burst that is gone by then keeps its order, and waits no longer for it


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamLimits:
    """What the runner knows of an upstream. `final`: its 250 means delivery; `host` is named in reports."""

    max_connections: int = 20
    max_recipients: int = 50
    max_rate_per_s: float | None = None
    provider: Provider = "generic"
    final: bool = False
    host: str = ""


@dataclass(frozen=True, slots=True)
class Job:
    """Rows of one message that share a transaction; `throttled` is how often in a row they were sent too fast."""

    message: QueuedMessage
    indexes: tuple[int, ...]
    due_s: float
    throttled: int = 0


@dataclass(slots=True)
class Lane:
    """`limits` is None for an upstream that the configuration does not have (any more)."""

    name: str
    limits: UpstreamLimits | None
    circuit: Circuit = field(default_factory=Circuit)
    refusals: Refusals = field(default_factory=Refusals)
    rate: Rate = field(init=False)
    running: int = 0
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    _jobs: list[tuple[float, int, Job]] = field(default_factory=list)
    _new: deque[Job] = field(default_factory=deque)  # first attempts of what was accepted just now, in that order
    _is_turn_of_newest: bool = False
    _order: "count[int]" = field(default_factory=count)

    def __post_init__(self) -> None:
        """Take the pace from the limits."""
        self.rate = Rate(max_per_s=self.limits.max_rate_per_s if self.limits else None)

    def renew(self, limits: UpstreamLimits | None, now_s: float) -> None:
        """Take other settings, and let a probe go at once."""
        if limits is None or self.limits is None or limits.max_rate_per_s != self.limits.max_rate_per_s:
            self.rate = Rate(max_per_s=limits.max_rate_per_s if limits else None)
        self.limits = limits
        self.circuit.hasten(now_s)
        self.wake.set()

    @property
    def is_empty(self) -> bool:
        """True where nothing waits, however much runs."""
        return not self._jobs and not self._new

    def push(
        self,
        due_s: float,
        message: QueuedMessage,
        indexes: tuple[int, ...],
        *,
        throttled: int = 0,
        is_new: bool = False,
    ) -> None:
        """Add rows, in as few jobs as the upstream's limit of recipients allows; `is_new`: accepted and due now."""
        for job in self.jobs(message, indexes, due_s=due_s, throttled=throttled):
            if is_new:
                self._new.append(job)
            else:
                heapq.heappush(self._jobs, (due_s, next(self._order), job))
        self.wake.set()

    def jobs(
        self, message: QueuedMessage, indexes: tuple[int, ...], *, due_s: float = 0.0, throttled: int = 0
    ) -> list[Job]:
        """Return the jobs that rows make, without adding them."""
        limits = self.limits or UpstreamLimits()
        size = limits.max_recipients if message.is_untouched else 1
        return [Job(message, indexes[start : start + size], due_s, throttled) for start in range(0, len(indexes), size)]

    def push_throttled(self, job: Job, indexes: tuple[int, ...], now_s: float) -> None:
        """Put rows back that were sent too fast: to the front, where they wait for the pace alone.

        One that is throttled time and again waits for itself, up to a minute: others must not wait behind it.
        """
        again = job.throttled + 1
        due_s = job.due_s if again <= _AT_ONCE else now_s + min(2.0 ** (again - _AT_ONCE), _LONGEST_AGAIN_S)
        self.push(due_s, job.message, indexes, throttled=again)

    def pop(self, now_s: float) -> Job:
        """Take the job that was due first; where there is a backlog, every other time the newest."""
        first = self._first()
        if self._new and now_s - first.message.born_s > _BACKLOG_S:
            self._is_turn_of_newest = not self._is_turn_of_newest
            if self._is_turn_of_newest:
                return self._new.pop()
        return self._new.popleft() if self._new and self._new[0] is first else heapq.heappop(self._jobs)[2]

    def withdraw(self, messages: Collection[QueuedMessage]) -> None:
        """Drop all jobs of some messages."""
        self.take(lambda job: job.message in messages)

    def wait_s(self, now_s: float) -> float | None:
        """Return how long until a job may begin: 0 for at once, None for not before something changes."""
        limits = self.limits or UpstreamLimits()
        circuit_s = self.circuit.wait_s(now_s)
        if self.is_empty or circuit_s is None or self.running >= limits.max_connections:
            return None
        return max(0.0, self._first().due_s - now_s, circuit_s, self.rate.wait_s(now_s))

    def take(self, wanted: Callable[[Job], bool]) -> list[Job]:
        """Take the jobs that are wanted elsewhere."""
        taken = [job for _, _, job in self._jobs if wanted(job)]
        if taken:
            self._jobs = [item for item in self._jobs if not wanted(item[2])]
            heapq.heapify(self._jobs)
        new = [job for job in self._new if wanted(job)]
        if new:
            self._new = deque(job for job in self._new if not wanted(job))
        return taken + new

    def waiting(self, wanted: Callable[[Job], bool], most: int) -> list[Job]:
        """Return some of the jobs that wait, and leave them."""
        jobs = chain((job for _, _, job in self._jobs), self._new)
        return list(islice((job for job in jobs if wanted(job)), most))

    def take_expired(self, now_s: float, *, retry_for: timedelta, report_retry_for: timedelta) -> list[Job]:
        """Take the jobs of messages that have waited for their lifetime."""
        return self.take(
            lambda job: job.message.age(now_s) >= (report_retry_for if job.message.is_report else retry_for)
        )

    def _first(self) -> Job:
        """Return the job that is due first; there must be one."""
        if self._new and (not self._jobs or self._new[0].due_s < self._jobs[0][0]):
            return self._new[0]
        return self._jobs[0][2]
