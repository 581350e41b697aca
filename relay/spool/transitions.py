"""How a row changes: after an attempt, and when the process starts. Pure: rows and times in, rows out."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, assert_never

from relay.core.attempt import (
    SCHEDULE,
    Accepted,
    Attempt,
    Deferred,
    Done,
    GiveUp,
    Phase,
    Rejected,
    RetryAt,
    Unknown,
    UpstreamReply,
    next_step,
)
from relay.spool.layout import Row, State
from tracker.contract.backoff import JITTER

REMOVED: Final = UpstreamReply(554, "5.7.0 Removed by an operator")
"""Refused by policy after its content was seen: so its Bounce does not say that the address is bad."""


class Order(StrEnum):
    """What an operator may do with a message: REMOVE tells its author nothing, RETURN sends the report."""

    FLUSH = "flush"
    HOLD = "hold"
    RELEASE = "release"
    REMOVE = "remove"
    RETURN = "return"


def unix_ms(at: datetime) -> int:
    """Return a time as rows have it."""
    return int(at.timestamp() * 1000)


SUSPECT_AFTER: Final = 2
"""Crashes in a row with a copy in flight, after which it is tried alone: until then it was one of many."""
HELD_AFTER: Final = 3
"""The next one, alone: nothing but this copy can have been the cause, or the hand of an operator."""
CRASHED: Final = "the process ended three times while this copy was on its way, the last time alone"


def begun(row: Row, *, now_ms: int, announced: bool, upstream: int = 0) -> Row:
    """Return the row of a copy that is about to be sent to the upstream at that place of its list.

    `announced`: the journal has its message's acceptance.
    """
    return replace(
        row,
        state=State.IN_FLIGHT,
        attempts=row.attempts + 1,
        changed_ms=now_ms,
        announced=row.announced or announced,
        upstream=upstream,
    )


def cut(row: Row, *, now_ms: int) -> Row:
    """Return the row of a copy whose attempt we ended ourselves, in a stop: due at once, and no crash."""
    return replace(row, state=State.WAITING, next_ms=now_ms, changed_ms=now_ms, crashes=0)


def crashed(row: Row, *, now_ms: int) -> Row:
    """Return the row of a copy that was in flight when the process ended without a word; the third time it is held."""
    crashes = row.crashes + 1
    if crashes < HELD_AFTER:
        return replace(row, state=State.WAITING, crashes=crashes)
    return replace(row, state=State.HELD, crashes=crashes, changed_ms=now_ms, text=CRASHED)


def ordered(row: Row, order: Order, *, now_ms: int) -> Row | None:
    """Return the row as an operator wants it; None where the order does not concern it."""
    match order:
        case Order.FLUSH if row.state is State.WAITING:
            return replace(row, next_ms=now_ms)
        case Order.HOLD if row.state is State.WAITING:
            return replace(row, state=State.HELD, changed_ms=now_ms)
        case Order.RELEASE if row.state is State.HELD:
            return replace(row, state=State.WAITING, next_ms=now_ms, changed_ms=now_ms, crashes=0)
        case Order.REMOVE | Order.RETURN if row.state in (State.WAITING, State.HELD):
            return replace(
                row,
                state=State.FAILED,
                phase=Phase.FINAL_DOT,
                code=REMOVED.code,
                text=REMOVED.text,
                changed_ms=now_ms,
                unreported=order is Order.REMOVE,
            )
        case _:
            return None


def changes(rows: Sequence[Row], indexes: Iterable[int], order: Order, *, now_ms: int) -> dict[int, Row]:
    """Return those of some rows that an order changes, as they are then."""
    found = ((index, ordered(rows[index], order, now_ms=now_ms)) for index in indexes)
    return {index: row for index, row in found if row is not None}


def survived(row: Row) -> Row:
    """Return the row of a copy, still in flight, that has shown that it ends no process."""
    return replace(row, crashes=0)


def given_up(row: Row, *, now_ms: int) -> Row:
    """Return the row of a copy whose lifetime ended while its upstream could not be reached."""
    return replace(row, state=State.FAILED, expired=True, changed_ms=now_ms)


def settled(
    row: Row,
    attempt: Attempt,
    *,
    accepted_at: datetime,
    age: timedelta,
    retry_for: timedelta,
    now_ms: int,
    entropy: float,
) -> Row:
    """Return the row after its attempt.

    `age` is measured by a clock that does not jump; so is the wait. A condition of the upstream does not count.
    """
    told = _told(replace(row, changed_ms=now_ms, crashes=0), attempt)
    now = accepted_at + age
    step = next_step(
        attempt, attempts=row.attempts, accepted_at=accepted_at, now=now, retry_for=retry_for, entropy=entropy
    )
    match step:
        case Done():
            return replace(told, state=State.DELIVERED)
        case GiveUp(expired):
            return replace(told, state=State.FAILED, expired=expired)
        case RetryAt(at):
            attempts = row.attempts if counts(attempt) else max(row.attempts - 1, 0)
            next_ms = now_ms + int((at - now).total_seconds() * 1000)
            return replace(told, state=State.WAITING, attempts=attempts, next_ms=next_ms)
        case _:
            assert_never(step)


def counts(attempt: Attempt) -> bool:
    """False for a condition of the upstream: no attempt of the copy, no deferral."""
    return not (isinstance(attempt, Deferred) and attempt.of_upstream)


def name_of(attempt: Attempt) -> str:
    """Return the attempt's name in metrics."""
    match attempt:
        case Accepted():
            return "accepted"
        case Rejected():
            return "rejected"
        case Deferred():
            return "throttled" if attempt.throttled else "upstream" if attempt.of_upstream else "deferred"
        case Unknown():
            return "unknown"
        case _:
            assert_never(attempt)


@dataclass(frozen=True, slots=True)
class Resumed:
    """What is to be done with a file that was found, by the indexes of its rows.

    `due` by wait in seconds; `untold`; `cut` while in flight; `suspects`, cut so often that they are tried alone;
    `held` from now on. `rows` are those that changed by that.
    """

    due: dict[float, list[int]] = field(default_factory=dict)
    untold: list[int] = field(default_factory=list)
    cut: list[int] = field(default_factory=list)
    suspects: list[int] = field(default_factory=list)
    held: list[int] = field(default_factory=list)
    rows: dict[int, Row] = field(default_factory=dict)


def resume(rows: Sequence[Row], *, now_ms: int) -> Resumed:
    """Sort the rows of a file: what was in flight is due at once, held and finished rows have nothing to do.

    A wait is never longer than its step of the schedule: the date may have been wrong when it was written, or is now.
    """
    resumed = Resumed()
    for index, row in enumerate(rows):
        match row.state:
            case State.WAITING:
                longest_s = SCHEDULE[min(row.attempts, len(SCHEDULE)) - 1].total_seconds() * (1 + JITTER)
                wait_s = (row.next_ms - now_ms) / 1000 if row.attempts else 0.0
                resumed.due.setdefault(min(max(wait_s, 0.0), longest_s), []).append(index)
            case State.IN_FLIGHT:
                row = resumed.rows[index] = crashed(row, now_ms=now_ms)
                if row.state is State.HELD:
                    resumed.held.append(index)
                else:
                    (resumed.suspects if row.crashes >= SUSPECT_AFTER else resumed.cut).append(index)
            case State.DELIVERED | State.FAILED:
                resumed.untold.append(index)
            case State.DELIVERED_TOLD | State.FAILED_TOLD | State.HELD:
                pass
            case _:
                assert_never(row.state)
    return resumed


def _told(row: Row, attempt: Attempt) -> Row:
    match attempt:
        case Accepted(reply=reply, reports=reports):
            return replace(row, phase=Phase.FINAL_DOT, code=reply.code, text=reply.text, upstream_reports=reports)
        case Rejected(reply=reply, phase=phase):
            return replace(row, phase=phase, code=reply.code, text=reply.text)
        case Deferred(reply=reply, phase=phase, detail=detail):
            code, text = (reply.code, reply.text) if reply else (0, detail)
            return replace(row, phase=phase, code=code, text=text)
        case Unknown(detail=detail):
            return replace(row, phase=Phase.FINAL_DOT, code=0, text=detail)
        case _:
            assert_never(attempt)
