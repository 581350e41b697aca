"""Delivers what is in the spool: due rows, copy, attempt, mark, tell; until every recipient is finished.

Owns the order of these steps and nothing else of them: how a copy is made and sent comes in as callables, when a row is
due is in `relay/core/attempt.py`, who may go first in `lane.py`, what is written of an attempt in `recorder.py`, what
is told in `teller.py`.

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
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final

import structlog

from relay.core.attempt import Attempt, UpstreamReply
from relay.spool import inflight, metrics
from relay.spool.carrier import Carrier, CopyOf, Send
from relay.spool.desk import Desk, Obeyed
from relay.spool.entry import SpoolEntry
from relay.spool.errors import SpoolDamagedError
from relay.spool.files import Spool
from relay.spool.lane import Job, Lane, UpstreamLimits
from relay.spool.lanes import Lanes, about_us
from relay.spool.layout import Row, State
from relay.spool.marks import Marks
from relay.spool.queued import QueuedMessage
from relay.spool.recorder import Recorder, RunnerOptions
from relay.spool.reporter import Reporter
from relay.spool.suspects import Suspects
from relay.spool.takeup import Found, take_up
from relay.spool.teller import Teller
from relay.spool.transitions import SUSPECT_AFTER, Order
from tracker.contract.ids import MessageId
from tracker.contract.ports import Clock, Entropy, EventSink

__all__ = ["CopyOf", "Runner", "RunnerOptions", "Send"]

_LOG: Final = structlog.get_logger()
_AGAIN_AFTER_ERROR_S: Final = 60.0
_LAST_WORDS_S: Final = 1.0
_OPEN: Final = (State.WAITING, State.IN_FLIGHT)


class Runner:
    """One for a process. `run` in a task; `notify` after each put; `drain` to stop."""

    def __init__(
        self,
        *,
        spools: list[Spool],
        upstreams: Mapping[str, UpstreamLimits],
        send: Send,
        copy_of: CopyOf,
        sink: EventSink,
        options: RunnerOptions,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        """Take the slots (opened; new mail goes to the first; `adopt` adds more) and all that belongs to others."""
        self._spools = spools
        self._carrier = Carrier(send, copy_of)
        self._sink = sink
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
        self._reporter = Reporter(options.reports, self._lanes.limits_of)
        self._teller = Teller(
            sink=sink,
            on_report=self._queue_new,
            on_end=self._forget,
            limits_of=self._lanes.limits_of,
            reporter=self._reporter,
        )
        self._recorder = Recorder(
            options, marks=self._marks, lanes=self._lanes, teller=self._teller, clock=clock, fraction=self._fraction
        )
        self._desk = Desk(
            self._messages,
            lanes=self._lanes,
            suspects=self._suspects,
            queue_due=self._queue_due,
            teller=self._teller,
            clock=clock,
        )
        self._is_taken_up = False

    @property
    def waiting(self) -> int:
        """How many messages are in the spool and known here."""
        return len(self._messages)

    def tell_oldest(self) -> None:
        """Tell how long the oldest message has waited."""
        born_s = min((message.born_s for message in self._messages.values()), default=self._now_s())
        metrics.OLDEST.set(self._now_s() - born_s)

    async def run(self) -> None:
        """Take up what is in the spool, then deliver until drained or cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            for lane in self._lanes:
                self._on_lane(lane)
            self._spawn(self._suspects.run(self._may_try))
            for spool in tuple(self._spools):
                await self._take_up(spool)
            self._is_taken_up = True
            self._spawn(self._teller.run())  # not before: a report that is there must be known as such
            await self._stopped.wait()
            for task in self._tasks:
                task.cancel()

    def notify(self, entry: SpoolEntry) -> None:
        """Take up a message that was put into the first spool: journal its acceptance, then deliver it."""
        self._queue_new(self._spools[0], entry)

    async def adopt(self, spool: Spool) -> None:
        """Take up what a process that is gone has left in a slot. OSError: not all of it could be.

        All of it is known before any of it is told: a report that is there must be known as such.
        """
        self._spools.append(spool)
        works = take_up(spool, sink=self._sink, clock=self._clock, loop_s=self._now_s())
        for found in [found async for batch in works for found in batch]:
            self._resume(found)

    def renew(self, upstreams: Mapping[str, UpstreamLimits], options: RunnerOptions) -> None:
        """Go by other settings from now on, also for mail that waits."""
        self._recorder.renew(options)
        self._reporter.renew(options.reports)
        self._lanes.renew(upstreams, self._now_s())

    def expect(self, message: MessageId) -> None:
        """Say that the `verdict` about a message will be asked for, before `notify`."""
        self._recorder.verdicts.expect(message)

    async def verdict(self, message: MessageId, wait_s: float) -> UpstreamReply | None:
        """Return the reply that refused all recipients of a message; None for anything else, or nothing in time."""
        return await self._recorder.verdicts.wait(message, wait_s)

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
        if self._messages.pop(message.id, None) is not None:
            message.uncount()

    async def _take_up(self, spool: Spool) -> None:
        async for batch in take_up(spool, sink=self._sink, clock=self._clock, loop_s=self._now_s()):
            if self._is_draining:
                return
            for found in batch:
                self._resume(found)

    def _resume(self, found: Found) -> None:
        message, resumed, now_s = found.message, found.resumed, self._now_s()
        self._messages[message.id] = message
        if message.is_report:
            self._reporter.found(message.id)
        for index in resumed.untold:
            self._teller.tell(message, index)
        self._queue_due(message, (*resumed.suspects, *resumed.cut), now_s)
        for wait_s, indexes in resumed.due.items():
            self._lanes.push(message, tuple(indexes), due_s=now_s + wait_s, now_s=now_s)

    def _queue_due(self, message: QueuedMessage, indexes: Sequence[int], now_s: float) -> None:
        """Queue rows that are due now, suspects apart from the others."""
        suspects = tuple(index for index in indexes if message.rows[index].crashes >= SUSPECT_AFTER)
        if suspects:
            lane = self._lanes.choose(message, now_s, now_s)
            message.busy |= set(suspects)
            for job in lane.jobs(message, suspects):
                self._suspects.add(lane, job)
        others = tuple(index for index in indexes if index not in suspects)
        self._lanes.push(message, others, due_s=now_s, now_s=now_s)

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
            if lane.circuit.is_open:
                if await self._recorder.give_up_expired(lane, now_s):
                    continue
                self._recorder.tell_late(lane, now_s)
            self._start(lane, lane.pop(now_s))

    def _may_start(self) -> bool:
        return self._may_try() and not self._suspects.are_tried

    def _may_try(self) -> bool:
        return not (self._is_draining or self._marks.are_failing)

    def _start(self, lane: Lane, job: Job) -> asyncio.Task[None]:
        lane.rate.take(self._now_s())
        lane.running += 1
        job.message.busy |= set(job.indexes)
        attempt = self._spawn(self._attempt(lane, job, probe=lane.circuit.begin()))
        self._attempts.add(attempt)
        attempt.add_done_callback(self._attempts.discard)
        return attempt

    # --- one attempt --------------------------------------------------------------------------------------

    async def _attempt(self, lane: Lane, job: Job, *, probe: bool) -> None:
        message = job.message
        try:
            await self._tried(lane, job, probe=probe)
        except Exception:  # noqa: BLE001 - a worker's iteration
            # The disk did not let us begin, or a fault of ours: what is not finished is tried again, and nothing else
            # stops.
            _LOG.exception("attempt_failed", message_ref=str(message.id))
            open_rows = [index for index in job.indexes if message.rows[index].state in _OPEN]
            message.update({index: replace(message.rows[index], state=State.WAITING) for index in open_rows})
            now_s = self._now_s()
            self._lanes.push(message, tuple(open_rows), due_s=now_s + _AGAIN_AFTER_ERROR_S, now_s=now_s)
        finally:
            lane.running -= 1
            message.busy -= set(job.indexes)
            lane.wake.set()

    async def _tried(self, lane: Lane, job: Job, *, probe: bool) -> None:
        message = job.message
        try:
            async with message.opened() as spooled:
                sender = spooled.entry.reverse_path
                await inflight.begin(job, lane.name, self._clock)
                work = self._carrier.carry_out(lane, job, spooled)
                attempts = await inflight.watched(job, work, self._suspects, self._clock)
            attempts, undecided = self._lanes.learn(lane, sender, attempts, now_s=self._now_s(), probe=probe)
        except SpoolDamagedError as error:
            with suppress(FileNotFoundError):
                await message.spool.quarantine(message.id, str(error))
            self._lose(message)
            return
        except FileNotFoundError:
            if message.id in self._messages:
                _LOG.error("spool_file_vanished", message_ref=str(message.id))
            self._lose(message)
            return
        finally:
            lane.circuit.ended(probe=probe)
        if undecided:
            attempts = await self._decided(lane, attempts)
        await self._recorder.record(lane, job, attempts)

    def _lose(self, message: QueuedMessage) -> None:
        """Drop a message whose file is gone, with all that is queued of it."""
        for lane in self._lanes.of([message]):
            lane.withdraw({message})
        self._forget(message)

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
