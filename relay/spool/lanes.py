"""The queues of all upstreams: which one a copy waits in, and what an attempt tells of an upstream.

Owns the choice between the upstreams of a message, and what follows for an upstream from an answer: its circuit, its
pace, its alarm. Does not own what follows for the copy: that is `transitions.py`.

Theory:
    A message may have several upstreams, in order. A copy waits at the first one that can be used: whose circuit is
    closed, or is due for a probe that nobody else makes. So an upstream that is mended is found out by mail, one copy
    at a time, and mail goes back to it. What was refused or put off by one upstream is not offered to the next: only
    an upstream that cannot be used is passed over.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Final

import structlog

from relay.core.attempt import (
    Attempt,
    Deferred,
    Phase,
    Rejected,
    UpstreamReply,
    is_login_refused,
    is_of_upstream,
    is_sender_refused,
    is_throttled,
)
from relay.spool import metrics
from relay.spool.lane import Job, Lane, UpstreamLimits
from relay.spool.queued import QueuedMessage

_LOG: Final = structlog.get_logger()


class Lanes:
    """One for a process. `on_new` starts to serve a lane."""

    def __init__(
        self, upstreams: Mapping[str, UpstreamLimits], *, on_new: Callable[[Lane], None], fraction: Callable[[], float]
    ) -> None:
        """Take the upstreams that are configured; a lane is made for each when the first copy waits there."""
        self._upstreams = upstreams
        self._on_new = on_new
        self._fraction = fraction
        self._lanes: dict[str, Lane] = {}

    def __iter__(self) -> Iterator[Lane]:
        return iter(list(self._lanes.values()))

    def of(self, messages: Iterable[QueuedMessage]) -> list[Lane]:
        """Return the lanes in which copies of some messages may wait."""
        names = {name for message in messages for name in message.upstreams}
        return [self._lane(name) for name in sorted(names)]

    def limits_of(self, name: str) -> UpstreamLimits:
        """Return what is configured of an upstream; the defaults for one that is not configured any more."""
        return self._upstreams.get(name, UpstreamLimits())

    def renew(self, upstreams: Mapping[str, UpstreamLimits], now_s: float) -> None:
        """Take other settings. Each upstream is tried again soon: perhaps it is what was mended."""
        self._upstreams = upstreams
        for lane in self:
            lane.renew(upstreams.get(lane.name), now_s)

    def wake(self) -> None:
        """Let every lane look again."""
        for lane in self:
            lane.wake.set()

    def stop(self) -> None:
        """End what waits for a verdict on refused senders."""
        for lane in self:
            lane.refusals.stop()
            lane.wake.set()

    def push(
        self, message: QueuedMessage, indexes: tuple[int, ...], *, due_s: float, now_s: float, is_new: bool = False
    ) -> None:
        """Queue rows of a message at the first of its upstreams that can be used; `is_new`: accepted just now."""
        if indexes:
            self.choose(message, now_s, due_s).push(due_s, message, indexes, is_new=is_new)

    def push_throttled(self, lane: Lane, job: Job, indexes: tuple[int, ...], now_s: float) -> None:
        """Put rows back that were sent too fast; elsewhere, if the upstream has failed meanwhile."""
        if not indexes:
            return
        chosen = self.choose(job.message, now_s, now_s) if lane.circuit.is_open else lane
        chosen.push_throttled(job, indexes, now_s)

    def learn(
        self, lane: Lane, sender: str, attempts: list[Attempt], *, now_s: float, probe: bool
    ) -> tuple[list[Attempt], bool]:
        """Take from an attempt what it tells of the upstream.

        Return the attempts as they are meant (a refused sender may be a condition of the upstream), and whether they
        are to be kept until `lane.refusals.verdict`.
        """
        undecided = False
        if all(isinstance(attempt, Deferred) and attempt.ours for attempt in attempts):
            return attempts, undecided
        if is_sender_refused(attempts):
            undecided = not lane.refusals.is_about_us(sender, _reply(attempts))
            if not undecided:
                attempts = about_us(attempts)
        elif not any(_ended_at_mail(attempt) for attempt in attempts):
            lane.refusals.passed()
        self._learn_rate(lane, attempts, now_s)
        self._learn_circuit(lane, attempts, now_s=now_s, probe=probe)
        return attempts, undecided

    def failed(self, lane: Lane, attempts: list[Attempt], *, now_s: float) -> None:
        """Take a condition of the upstream that was found out later."""
        self._learn_circuit(lane, attempts, now_s=now_s, probe=False)

    def _learn_rate(self, lane: Lane, attempts: list[Attempt], now_s: float) -> None:
        if is_throttled(attempts):
            metrics.THROTTLED.labels(lane.name).inc()
            if lane.rate.throttled(now_s):
                _LOG.warning(
                    "upstream_slowed_down",
                    upstream=lane.name,
                    detail=_detail(attempts),
                    rate_per_s=round(lane.rate.per_s or 0.0, 3),
                )
        elif not is_of_upstream(attempts) and lane.rate.answered(now_s):
            _LOG.info("upstream_at_full_rate", upstream=lane.name)
        metrics.RATE.labels(lane.name).set(lane.rate.per_s or 0.0)

    def _learn_circuit(self, lane: Lane, attempts: list[Attempt], *, now_s: float, probe: bool) -> None:
        was_open = lane.circuit.is_open
        if is_of_upstream(attempts):
            lane.circuit.failed(now_s, probe=probe, entropy=self._fraction())
        else:
            lane.circuit.succeeded()
        if is_login_refused(attempts):
            metrics.LOGIN_REFUSED.labels(lane.name).inc()
            if probe or not was_open:
                _LOG.error("upstream_login_refused", upstream=lane.name, detail=_detail(attempts))
        if lane.circuit.is_open == was_open:
            return
        metrics.CIRCUIT_OPEN.labels(lane.name).set(lane.circuit.is_open)
        if was_open:
            _LOG.info("upstream_recovered", upstream=lane.name)
        else:
            _LOG.error("upstream_troubled", upstream=lane.name, detail=_detail(attempts))
        self._rearrange(now_s)

    def _rearrange(self, now_s: float) -> None:
        """Move what waits at an upstream that cannot be used to the next one that can."""
        for lane in self:
            if lane.circuit.is_open:
                for job in lane.take(partial(self._has_other, lane.name)):
                    self.choose(job.message, now_s, job.due_s).push(job.due_s, job.message, job.indexes)

    def _has_other(self, name: str, job: Job) -> bool:
        return any(
            other != name and other in self._upstreams and not self._lane(other).circuit.is_open
            for other in job.message.upstreams
        )

    def choose(self, message: QueuedMessage, now_s: float, due_s: float) -> Lane:
        """Return where copies of a message wait that are due then.

        Only one that is due now becomes a probe: the upstream is not probed while it waits.
        """
        names = [name for name in message.upstreams if name in self._upstreams] or [message.upstreams[0]]
        lanes = [self._lane(name) for name in names]
        for lane in lanes:
            if not lane.circuit.is_open or (due_s <= now_s and lane.is_empty and lane.circuit.wait_s(now_s) == 0):
                return lane
        return min(lanes, key=lambda lane: lane.circuit.probe_at_s)

    def _lane(self, name: str) -> Lane:
        lane = self._lanes.get(name)
        if lane is None:
            self._lanes[name] = lane = Lane(name, self._upstreams.get(name))
            self._on_new(lane)
        return lane


def about_us(attempts: list[Attempt]) -> list[Attempt]:
    """Return refusals of a sender as the condition of the upstream that they are."""
    reply = _reply(attempts)
    detail = f"it refuses every sender: {reply}"
    return [Deferred(reply=reply, phase=Phase.MAIL, of_upstream=True, detail=detail)] * len(attempts)


def _reply(attempts: list[Attempt]) -> UpstreamReply:
    return next(attempt.reply for attempt in attempts if isinstance(attempt, Rejected))


def _ended_at_mail(attempt: Attempt) -> bool:
    """True where the attempt tells nothing of how MAIL was answered, or that it was not taken."""
    match attempt:
        case Deferred(of_upstream=of_upstream, phase=phase):
            return of_upstream or phase is Phase.MAIL
        case Rejected(phase=phase):
            return phase is Phase.MAIL
        case _:
            return False


def _detail(attempts: list[Attempt]) -> str:
    return next((attempt.detail for attempt in attempts if isinstance(attempt, Deferred)), "")
