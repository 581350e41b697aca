"""Delivers what is in the spool: due rows, copy, attempt, mark, tell; until every recipient is finished.

Owns the order of these steps and nothing else of them: how a copy is made and sent comes in as callables, when a row is
due is in `relay/core/attempt.py`, who may go first in `lane.py`, what is told in `teller.py`.

Theory (the steps of the durability contract):
    ' ' to 'S' is written without waiting: losing it costs nothing. Then the attempt. Its outcome is on disk before
    anyone hears of it; an outcome that cannot be written is kept and written again, and meanwhile nothing new is
    started: a disk that forgets deliveries would deliver everything again and again.
    After a crash, rows in 'S' are due at once. At most as many copies are sent twice as connections were in flight.
    A copy that was in flight at two crashes in a row is tried alone (`suspects.py`), and held if that ends in a third.
    Durations are measured by the loop's clock; the date only serves what is written down. So a jump of the date neither
    expires mail nor stops it.

Limits: rows in 'H' are left alone. A date that is wrong by more than `retry_for` when the process starts expires what
is then put off.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Final

import structlog

from relay.core.attempt import Attempt, CopyForm, Deferred, Phase, Transaction, Unknown, UpstreamReply
from relay.spool import inflight, metrics, transitions
from relay.spool.desk import Desk, Obeyed
from relay.spool.entry import SpoolEntry
from relay.spool.errors import SpoolDamagedError
from relay.spool.files import Spool, Spooled
from relay.spool.lane import Job, Lane, UpstreamLimits
from relay.spool.lanes import Lanes, about_us
from relay.spool.layout import Row, State
from relay.spool.marks import Marks
from relay.spool.queued import QueuedMessage, delay_event
from relay.spool.reporter import Reporter, ReportOptions
from relay.spool.suspects import Suspects
from relay.spool.takeup import Found, take_up
from relay.spool.teller import Teller
from relay.spool.transitions import Order, unix_ms
from relay.spool.verdicts import Verdicts
from tracker.contract.ids import MessageId
from tracker.contract.ports import Clock, Entropy, EventSink

_LOG: Final = structlog.get_logger()
_AGAIN_AFTER_ERROR_S: Final = 60.0
_LAST_WORDS_S: Final = 1.0
_OPEN: Final = (State.WAITING, State.IN_FLIGHT)

Send = Callable[[str, Transaction], Awaitable[list[Attempt]]]
CopyOf = Callable[[SpoolEntry, bytes, int, CopyForm], Sequence[bytes | memoryview] | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerOptions:
    """Reports live shorter: what they tell is stale after a day."""

    reports: ReportOptions
    retry_for: timedelta = timedelta(days=5)
    report_retry_for: timedelta = timedelta(days=1)


class Runner:
    """One for a process. `run` in a task; `notify` after each put; `drain` to stop."""

    def __init__(
        self,
        *,
        spools: Sequence[Spool],
        upstreams: Mapping[str, UpstreamLimits],
        send: Send,
        copy_of: CopyOf,
        sink: EventSink,
        options: RunnerOptions,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        """Take the slots (opened; the first is the one that new mail goes to) and all that belongs to others."""
        self._spools = spools
        self._send = send
        self._copy_of = copy_of
        self._sink = sink
        self._options = options
        self._clock = clock
        self._entropy = entropy
        self._lanes = Lanes(upstreams, on_new=self._on_lane, fraction=self._fraction)
        self._messages: dict[MessageId, QueuedMessage] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._attempts: set[asyncio.Task[None]] = set()
        self._group: asyncio.TaskGroup | None = None
        self._stopped = asyncio.Event()
        self._is_draining = False
        self._marks = Marks(self._lanes.wake)
        self._suspects = Suspects(in_flight=self._attempts, start=self._start, on_clear=self._lanes.wake)

        def limits_of(name: str) -> UpstreamLimits:
            return upstreams.get(name, UpstreamLimits())

        self._teller = Teller(
            sink=sink,
            on_report=self._queue_new,
            on_end=self._forget,
            limits_of=limits_of,
            reporter=Reporter(options.reports, limits_of),
        )
        self._verdicts = Verdicts(self._tell_ends)
        self._desk = Desk(self._messages, lanes=self._lanes, teller=self._teller, clock=clock)
        self._is_taken_up = False

    @property
    def waiting(self) -> int:
        """How many messages are in the spool and known here."""
        return len(self._messages)

    async def run(self) -> None:
        """Take up what is in the spool, then deliver until drained or cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            for lane in self._lanes:
                self._on_lane(lane)
            self._spawn(self._suspects.run(self._may_start))
            for spool in self._spools:
                await self._take_up(spool)
            self._is_taken_up = True
            self._spawn(self._teller.run())  # not before: a report that is there must be known as such
            await self._stopped.wait()
            for task in self._tasks:
                task.cancel()

    def notify(self, entry: SpoolEntry) -> None:
        """Take up a message that was put into the first spool: journal its acceptance, then deliver it."""
        self._queue_new(self._spools[0], entry)

    def expect(self, message: MessageId) -> None:
        """Say that the `verdict` about a message will be asked for, before `notify`."""
        self._verdicts.expect(message)

    async def verdict(self, message: MessageId, wait_s: float) -> UpstreamReply | None:
        """Return the reply that refused all recipients of a message; None for anything else, or nothing in time."""
        return await self._verdicts.wait(message, wait_s)

    async def obey(self, order: Order, ids: Sequence[str]) -> Obeyed:
        """Carry out what an operator orders about messages. OSError: the disk did not let us."""
        obeyed = await self._desk.obey(order, ids)
        obeyed.is_complete = self._is_taken_up
        return obeyed

    async def drain(self, timeout_s: float) -> None:
        """Start nothing new, await what is in flight, tell what came of it, and end `run`.

        What is still in flight after `timeout_s` is cut and sent again after the start.
        """
        self._is_draining = True
        self._lanes.stop()
        if self._attempts:
            _, late = await asyncio.wait(self._attempts, timeout=timeout_s)
            for task in late:
                task.cancel()
            if late:
                _LOG.warning("attempts_cut", count=len(late))
                await asyncio.wait(late)
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORDS_S):
                await self._teller.idle()
        self._stopped.set()

    # --- taking up ----------------------------------------------------------------------------------------

    def _queue_new(self, spool: Spool, entry: SpoolEntry) -> None:
        if entry.id in self._messages:
            return
        now_s = self._now_s()
        message = QueuedMessage(spool, entry, (Row(),) * len(entry.recipients), born_s=now_s)
        self._messages[message.id] = message
        self._teller.announce(message, entry.accepted)
        self._lanes.push(message, tuple(range(len(message.rows))), due_s=now_s, now_s=now_s, is_new=True)

    def _forget(self, message: QueuedMessage) -> None:
        self._messages.pop(message.id, None)

    async def _take_up(self, spool: Spool) -> None:
        async for batch in take_up(spool, sink=self._sink, clock=self._clock, loop_s=self._now_s()):
            if self._is_draining:
                return
            for found in batch:
                self._resume(found)

    def _resume(self, found: Found) -> None:
        message, resumed, now_s = found.message, found.resumed, self._now_s()
        self._messages[message.id] = message
        for index in resumed.untold:
            self._teller.tell(message, index)
        lane = self._lanes.choose(message, now_s)
        message.busy |= set(resumed.suspects)
        for job in lane.jobs(message, tuple(resumed.suspects)):
            self._suspects.add(lane, job)
        self._lanes.push(message, tuple(resumed.cut), due_s=now_s, now_s=now_s)
        for wait_s, indexes in resumed.due.items():
            self._lanes.push(message, tuple(indexes), due_s=now_s + wait_s, now_s=now_s)

    # --- choosing -----------------------------------------------------------------------------------------

    def _on_lane(self, lane: Lane) -> None:
        if self._group is not None:  # else `run` does it
            self._spawn(self._serve(lane))

    async def _serve(self, lane: Lane) -> None:
        while not self._is_draining:
            now_s = self._now_s()
            wait_s = lane.wait_s(now_s) if self._may_start() else None
            if wait_s != 0:
                lane.wake.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await lane.wake.wait()
                continue
            if lane.circuit.is_open and await self._give_up_expired(lane, now_s):
                continue
            self._start(lane, lane.pop(now_s))

    def _may_start(self) -> bool:
        return not (self._is_draining or self._marks.are_failing or self._suspects.are_tried)

    def _start(self, lane: Lane, job: Job) -> asyncio.Task[None]:
        lane.rate.take(self._now_s())
        lane.running += 1
        job.message.busy |= set(job.indexes)
        attempt = self._spawn(self._attempt(lane, job, probe=lane.circuit.begin()))
        self._attempts.add(attempt)
        attempt.add_done_callback(self._attempts.discard)
        return attempt

    async def _give_up_expired(self, lane: Lane, now_s: float) -> bool:
        """Give up those that nobody asks the upstream about any more: its circuit stayed open for their lifetime."""
        options = self._options
        expired = lane.take_expired(now_s, retry_for=options.retry_for, report_retry_for=options.report_retry_for)
        for job in expired:
            message, now_ms = job.message, unix_ms(self._clock())
            message.update({index: transitions.given_up(message.rows[index], now_ms=now_ms) for index in job.indexes})
            await self._persist(job)
            self._tell_ends(job)
        return bool(expired)

    # --- one attempt --------------------------------------------------------------------------------------

    async def _attempt(self, lane: Lane, job: Job, *, probe: bool) -> None:
        message = job.message
        try:
            async with message.opened() as spooled:
                sender = spooled.entry.reverse_path
                await inflight.begin(job, lane.name, self._clock)
                work = self._carry_out(lane, job, spooled)
                attempts = await inflight.watched(job, work, self._suspects, self._clock)
            now_s = self._now_s()
            attempts, undecided = self._lanes.learn(lane, sender, attempts, now_s=now_s, probe=probe)
            if undecided:
                lane.circuit.ended(probe=probe)
                probe = False
                attempts = await self._decided(lane, attempts)
            await self._record(lane, job, attempts)
        except SpoolDamagedError as error:
            with suppress(FileNotFoundError):
                await message.spool.quarantine(message.id, str(error))
            self._forget(message)
        except FileNotFoundError:
            _LOG.error("spool_file_vanished", message_ref=str(message.id))
            self._forget(message)
        except Exception:  # noqa: BLE001 - a worker's iteration
            # The disk did not let us begin, or a fault of ours: what is not finished is tried again, and nothing else
            # stops.
            _LOG.exception("attempt_failed", message_ref=str(message.id))
            open_rows = [index for index in job.indexes if message.rows[index].state in _OPEN]
            now_s = self._now_s()
            self._lanes.push(message, tuple(open_rows), due_s=now_s + _AGAIN_AFTER_ERROR_S, now_s=now_s)
        finally:
            lane.circuit.ended(probe=probe)
            lane.running -= 1
            message.busy -= set(job.indexes)
            lane.wake.set()

    async def _decided(self, lane: Lane, attempts: list[Attempt]) -> list[Attempt]:
        """Wait until it is known what a refused sender means; meanwhile others may have the connection."""
        lane.running -= 1
        lane.wake.set()
        try:
            if await lane.refusals.verdict():
                attempts = about_us(attempts)
                if not self._is_draining:
                    self._lanes.failed(lane, attempts, now_s=self._now_s())
        finally:
            lane.running += 1
        return attempts

    async def _carry_out(self, lane: Lane, job: Job, spooled: Spooled) -> list[Attempt]:
        entry, count = spooled.entry, len(job.indexes)
        if lane.limits is None:
            trouble = f"no upstream {lane.name!r} is configured"
            return [Deferred(reply=None, phase=Phase.CONNECT, of_upstream=True, detail=trouble)] * count
        try:
            transaction = Transaction(
                reverse_path=entry.reverse_path,
                recipients=tuple(entry.recipients[index] for index in job.indexes),
                copies=tuple(job.message.copy(index) for index in job.indexes),
                data=tuple(self._copy_of(entry, spooled.message, job.indexes[0], CopyForm(upstream=lane.name)) or ()),
                body_8bit=entry.body_8bit,
                smtputf8=entry.smtputf8,
                dsn=entry.dsn.only(job.indexes),
                remake=partial(self._remake, lane.name, spooled, job.indexes[0]),
            )
        except Exception:  # noqa: BLE001 - a worker's iteration
            _LOG.exception("copy_not_made", message_ref=str(entry.id))
            trouble = "the copy could not be made"
            return [Deferred(reply=None, phase=Phase.DATA, of_upstream=False, detail=trouble)] * count
        try:
            return await self._send(lane.name, transaction)
        except Exception:  # noqa: BLE001 - a worker's iteration
            _LOG.exception("sending_failed", upstream=lane.name)
            return [Unknown(detail="a fault of ours ended the attempt")] * count

    def _remake(
        self, upstream: str, spooled: Spooled, index: int, *, seven_bit: bool, original: bool
    ) -> tuple[bytes | memoryview, ...] | None:
        form = CopyForm(upstream=upstream, seven_bit=seven_bit, original=original)
        copy = self._copy_of(spooled.entry, spooled.message, index, form)
        return None if copy is None else tuple(copy)

    async def _record(self, lane: Lane, job: Job, attempts: list[Attempt]) -> None:
        message = job.message
        retry_for = self._options.report_retry_for if message.is_report else self._options.retry_for
        now_s, now_ms, fraction = self._now_s(), unix_ms(self._clock()), self._fraction()
        age = message.age(now_s)
        due: dict[float, list[int]] = {}
        throttled: list[int] = []
        for index, attempt in zip(job.indexes, attempts, strict=True):
            metrics.ATTEMPTS.labels(transitions.name_of(attempt)).inc()
            if isinstance(attempt, Unknown):
                metrics.DUPLICATE_RISK.inc()
            row, wait_s = transitions.settled(
                message.rows[index],
                attempt,
                accepted_at=message.accepted_at,
                age=age,
                retry_for=retry_for,
                now_ms=now_ms,
                entropy=fraction,
            )
            if wait_s is not None and message.order is not None:
                row, wait_s = transitions.ordered(row, message.order, now_ms=now_ms) or row, None
                metrics.HELD.inc(row.state is State.HELD)
            message.update({index: row})
            if wait_s is None:
                continue
            if isinstance(attempt, Deferred) and attempt.throttled:
                throttled.append(index)
                continue
            due.setdefault(wait_s, []).append(index)
            event = delay_event(message, index, age=age, expires_at=message.accepted_at + retry_for)
            if event is not None and transitions.counts(attempt):
                self._teller.tell_delay(message, index, event)
        await self._persist(job)
        if not await self._verdicts.learn(job):
            self._tell_ends(job)
        lane.push_throttled(job, tuple(throttled), now_s)
        for wait_s, indexes in due.items():
            self._lanes.push(message, tuple(indexes), due_s=now_s + wait_s, now_s=now_s)

    def _tell_ends(self, job: Job) -> None:
        for index in job.indexes:
            row = job.message.rows[index]
            if row.state.is_untold:
                metrics.OUTCOMES.labels("delivered" if row.state is State.DELIVERED else "failed").inc()
                self._teller.tell(job.message, index)

    async def _persist(self, job: Job) -> None:
        await self._marks.persist(job.message, {index: job.message.rows[index] for index in job.indexes})

    def _spawn(self, work: "asyncio._CoroutineLike[None]") -> asyncio.Task[None]:
        if self._group is None:
            raise RuntimeError("the runner is not running")
        task = self._group.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _fraction(self) -> float:
        return int.from_bytes(self._entropy(6), "big") / (1 << 48)

    def _now_s(self) -> float:
        return asyncio.get_running_loop().time()
