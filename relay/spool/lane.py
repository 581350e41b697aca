"""The queue of one upstream: jobs by when they are due, first come first served, and how many may run."""

import asyncio
import heapq
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count

from relay.spool.circuit import Circuit
from relay.spool.queued import QueuedMessage


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamLimits:
    """What the runner knows of an upstream. `final`: its 250 means delivery; `host` is named in reports."""

    max_connections: int = 20
    max_recipients: int = 50
    final: bool = False
    host: str = ""


@dataclass(frozen=True, slots=True)
class Job:
    """Rows of one message that share a transaction."""

    message: QueuedMessage
    indexes: tuple[int, ...]


@dataclass(slots=True)
class Lane:
    """`limits` is None for an upstream that the configuration does not have (any more)."""

    name: str
    limits: UpstreamLimits | None
    circuit: Circuit = field(default_factory=Circuit)
    running: int = 0
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    _jobs: list[tuple[float, int, Job]] = field(default_factory=list)
    _order: "count[int]" = field(default_factory=count)

    def push(self, due_s: float, message: QueuedMessage, indexes: tuple[int, ...]) -> None:
        """Add rows, in as few jobs as the upstream's limit of recipients allows."""
        for job in self.jobs(message, indexes):
            heapq.heappush(self._jobs, (due_s, next(self._order), job))
        self.wake.set()

    def jobs(self, message: QueuedMessage, indexes: tuple[int, ...]) -> list[Job]:
        """Return the jobs that rows make, without adding them."""
        limits = self.limits or UpstreamLimits()
        size = limits.max_recipients if message.is_untouched else 1
        return [Job(message, indexes[start : start + size]) for start in range(0, len(indexes), size)]

    def pop(self) -> Job:
        """Take the job that was due first."""
        return heapq.heappop(self._jobs)[2]

    def withdraw(self, messages: Collection[QueuedMessage]) -> None:
        """Drop all jobs of some messages."""
        self._jobs = [item for item in self._jobs if item[2].message not in messages]
        heapq.heapify(self._jobs)

    def wait_s(self, now_s: float) -> float | None:
        """Return how long until a job may begin: 0 for at once, None for not before something changes."""
        limits = self.limits or UpstreamLimits()
        circuit_s = self.circuit.wait_s(now_s)
        if not self._jobs or circuit_s is None or self.running >= limits.max_connections:
            return None
        return max(0.0, self._jobs[0][0] - now_s, circuit_s)

    def take_expired(self, now_s: float, *, retry_for: timedelta, report_retry_for: timedelta) -> list[Job]:
        """Take the jobs of messages that have waited for their lifetime."""

        def is_expired(job: Job) -> bool:
            return job.message.age(now_s) >= (report_retry_for if job.message.is_report else retry_for)

        expired = [job for _, _, job in self._jobs if is_expired(job)]
        if expired:
            self._jobs = [item for item in self._jobs if not is_expired(item[2])]
            heapq.heapify(self._jobs)
        return expired
