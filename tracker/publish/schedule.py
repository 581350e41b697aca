"""When a destination is tried again, and when an event is given up: what a failure makes of its state."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from tracker.contract.backoff import JITTER, delay
from tracker.contract.settings import EventDestination
from tracker.publish.outcome import TryAgain
from tracker.store.publishing import DestinationState


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """The pauses after failures in a row. `gives_up`: behind the last one the event is dead; else that one repeats."""

    pauses: Sequence[timedelta]
    gives_up: bool = False


MAX_PAUSE: Final = timedelta(hours=24)  # nothing that a destination asks for makes it longer
# Standard Webhooks 1.0, "Deliverability and reliability": about 75 hours from the first try to the last.
WEBHOOK: Final = Schedule(
    pauses=(
        timedelta(seconds=5),
        timedelta(minutes=5),
        timedelta(minutes=30),
        *(timedelta(hours=hours) for hours in (2, 5, 10, 14, 20, 24)),
    ),
    gives_up=True,
)
# A full disk, a closed pipe or a broker that is away refuses no event in particular.
PATIENT: Final = Schedule(pauses=tuple(timedelta(seconds=seconds) for seconds in (1, 5, 15, 60, 300)))


def schedule_of(destination: EventDestination) -> Schedule:
    """Return the schedule of a kind of destination."""
    return WEBHOOK if destination.type == "webhook" else PATIENT


def failed(
    state: DestinationState, outcome: TryAgain, schedule: Schedule, *, now: datetime, entropy: float
) -> DestinationState | None:
    """Return the state after a failure; None: the schedule is at its end, and the event at the head is given up."""
    attempts = (0 if outcome.delivered else state.attempts) + 1
    if schedule.gives_up and attempts > len(schedule.pauses):
        return None
    pause = max(delay(schedule.pauses, attempts, entropy), min(outcome.after or timedelta(), MAX_PAUSE))
    return replace(state, attempts=attempts, since=state.since or now, next_try=now + pause, last_error=outcome.reason)


def succeeded(state: DestinationState, now: datetime) -> DestinationState:
    """Return the state of a destination that answers as it should."""
    return DestinationState(fingerprint=state.fingerprint, last_success=now)


def wait(state: DestinationState, now: datetime) -> timedelta | None:
    """Return how long a destination is to be left alone still, zero where it may be tried; None: it is disabled.

    A next try that is further away than any pause was noted by a clock that has been put back since.
    """
    if state.disabled_at is not None:
        return None
    if state.next_try is None or state.next_try - now > MAX_PAUSE * (1 + JITTER):
        return timedelta()
    return max(state.next_try - now, timedelta())
