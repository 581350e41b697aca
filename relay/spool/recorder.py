"""Writes down what attempts came to, has it told, and queues again what is to be tried again.

The order is that of the promise: the outcome is on disk before anybody hears of it. What an operator ordered while a
copy was on its way is done before it is queued again.
"""

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from relay.core.attempt import Attempt, Deferred, Unknown
from relay.spool import metrics, transitions
from relay.spool.lane import Job, Lane
from relay.spool.lanes import Lanes
from relay.spool.layout import State
from relay.spool.marks import Marks
from relay.spool.queued import SECOND_DELAY_AFTER, QueuedMessage, delay_due, delay_event
from relay.spool.reporter import ReportOptions
from relay.spool.teller import Teller
from relay.spool.transitions import unix_ms
from relay.spool.verdicts import Verdicts
from tracker.contract.ports import Clock

_LATE_AT_A_TIME: Final = 1000  # of a hundred thousand that wait, the events together would fill the memory


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerOptions:
    """How long mail is tried. Reports live shorter: what they tell is stale after a day."""

    reports: ReportOptions
    retry_for: timedelta = timedelta(days=5)
    report_retry_for: timedelta = timedelta(days=1)


class Recorder:
    """One for a process. `fraction` gives chance, uniform in [0, 1)."""

    def __init__(
        self,
        options: RunnerOptions,
        *,
        marks: Marks,
        lanes: Lanes,
        teller: Teller,
        clock: Clock,
        fraction: Callable[[], float],
    ) -> None:
        """Take who writes, who queues and who tells."""
        self._options = options
        self._marks = marks
        self._lanes = lanes
        self._teller = teller
        self._clock = clock
        self._fraction = fraction
        self.verdicts = Verdicts(self._tell_ends)

    def renew(self, options: RunnerOptions) -> None:
        """Go by other lifetimes from now on."""
        self._options = options

    async def give_up_expired(self, lane: Lane, now_s: float) -> bool:
        """Give up those that nobody asks the upstream about any more: its circuit stayed open for their lifetime."""
        options = self._options
        expired = lane.take_expired(now_s, retry_for=options.retry_for, report_retry_for=options.report_retry_for)
        for job in expired:
            job.message.busy |= set(job.indexes)  # before the first wait: none of them may be queued meanwhile
        for job in expired:
            message, now_ms = job.message, unix_ms(self._clock())
            message.update({index: transitions.given_up(message.rows[index], now_ms=now_ms) for index in job.indexes})
            await self._persist(job)
            message.busy -= set(job.indexes)
            self._tell_ends(job)
        return bool(expired)

    def tell_late(self, lane: Lane, now_s: float) -> None:
        """Tell of those that have waited for four hours while their upstream was only probed."""

        def is_late(job: Job) -> bool:
            message = job.message
            is_old = message.age(now_s) >= SECOND_DELAY_AFTER and not message.is_report
            return is_old and not message.told_late.issuperset(job.indexes)

        for job in lane.waiting(is_late, _LATE_AT_A_TIME):
            for index in job.indexes:
                self._tell_delay(job.message, index, job.message.age(now_s))
            job.message.told_late |= set(job.indexes)

    def _tell_delay(self, message: QueuedMessage, index: int, age: timedelta) -> None:
        number = delay_due(message, index, age=age)
        if number:
            expires_at = message.accepted_at + self._retry_for(message)
            event = delay_event(message, index, number, at=self._clock(), expires_at=expires_at)
            self._teller.tell_delay(message, index, event, number)

    def _retry_for(self, message: QueuedMessage) -> timedelta:
        return self._options.report_retry_for if message.is_report else self._options.retry_for

    async def record(self, lane: Lane, job: Job, attempts: list[Attempt]) -> None:
        """Write down what became of each recipient, for as long as the disk needs."""
        message = job.message
        retry_for = self._retry_for(message)
        now_ms, fraction, age = unix_ms(self._clock()), self._fraction(), message.age(_now_s())
        throttled: list[int] = []
        for index, attempt in zip(job.indexes, attempts, strict=True):
            metrics.ATTEMPTS.labels(transitions.name_of(attempt)).inc()
            if isinstance(attempt, Unknown):
                metrics.DUPLICATE_RISK.inc()
            row = transitions.settled(
                message.rows[index],
                attempt,
                accepted_at=message.accepted_at,
                age=age,
                retry_for=retry_for,
                now_ms=now_ms,
                entropy=fraction,
            )
            message.update({index: row})
            if row.state is not State.WAITING:
                continue
            if isinstance(attempt, Deferred) and attempt.throttled:
                throttled.append(index)
                continue
            if transitions.counts(attempt):
                self._tell_delay(message, index, age)
        self._obey(job)
        await self._persist(job)
        is_told_later = await self.verdicts.learn(job)
        while self._obey(job):  # it was ordered while the disk was busy
            await self._persist(job)
        if not is_told_later:
            self._tell_ends(job)
        self._put_back(lane, job, throttled, now_ms)

    def _obey(self, job: Job) -> bool:
        """Do what an operator ordered while the copies were on their way; False where nothing changes by that."""
        message = job.message
        if message.order is None:
            return False
        changes = transitions.changes(message.rows, job.indexes, message.order, now_ms=unix_ms(self._clock()))
        message.update(changes)
        return bool(changes)

    def _put_back(self, lane: Lane, job: Job, throttled: Collection[int], now_ms: int) -> None:
        """Queue what waits of a job again."""
        message, now_s = job.message, _now_s()
        due: dict[int, list[int]] = {}
        early: list[int] = []
        for index in job.indexes:
            row = message.rows[index]
            if row.state is State.WAITING and index in throttled:
                early.append(index)
            elif row.state is State.WAITING:
                due.setdefault(max(row.next_ms - now_ms, 0), []).append(index)
        self._lanes.push_throttled(lane, job, tuple(early), now_s)
        for wait_ms, indexes in due.items():
            self._lanes.push(message, tuple(indexes), due_s=now_s + wait_ms / 1000, now_s=now_s)

    def _tell_ends(self, job: Job) -> None:
        for index in job.indexes:
            row = job.message.rows[index]
            if row.state.is_untold:
                is_delivered = row.state is State.DELIVERED
                metrics.OUTCOMES.labels("delivered" if is_delivered else "failed").inc()
                if is_delivered:
                    age = job.message.age(_now_s())
                    metrics.DELIVERED_AFTER.labels(job.message.upstream(index)).observe(age.total_seconds())
                self._teller.tell(job.message, index)

    async def _persist(self, job: Job) -> None:
        await self._marks.persist(job.message, {index: job.message.rows[index] for index in job.indexes})


def _now_s() -> float:
    return asyncio.get_running_loop().time()
