"""The rows of an attempt while it is on its way: marked before it begins, never left in flight by a stop of ours.

A row in flight at a start means that the process ended without a word. So a stop that cuts an attempt puts its rows
back, and a suspect that has shown itself harmless is cleared.
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any

from relay.core.attempt import Attempt
from relay.spool import metrics, transitions
from relay.spool.lane import Job
from relay.spool.layout import Row
from relay.spool.suspects import Suspects
from relay.spool.transitions import SUSPECT_AFTER, unix_ms
from tracker.contract.ports import Clock


async def begin(job: Job, upstream: str, clock: Clock) -> None:
    """Mark the rows as in flight to an upstream. OSError: they are not, and nothing may be sent."""
    message, now_ms, place = job.message, unix_ms(clock()), job.message.upstreams.index(upstream)
    rows = {
        index: transitions.begun(message.rows[index], now_ms=now_ms, announced=message.is_journalled, upstream=place)
        for index in job.indexes
    }
    marking = asyncio.ensure_future(message.spool.mark(message.id, rows, durable=False))
    try:
        await asyncio.shield(marking)
    except asyncio.CancelledError:
        with suppress(OSError):
            await marking  # it may be written already, in a thread that no stop cuts
        await _put_back(job, clock)
        raise
    message.update(rows)


async def watched(
    job: Job, work: Coroutine[Any, Any, list[Attempt]], suspects: Suspects, clock: Clock
) -> list[Attempt]:
    """Carry the attempt out; a suspect under watch."""
    try:
        if any(job.message.rows[index].crashes >= SUSPECT_AFTER for index in job.indexes):
            return await suspects.watch(work, partial(_change, job, transitions.survived))
        return await work
    except asyncio.CancelledError:
        metrics.DUPLICATE_RISK.inc(len(job.indexes))
        await _put_back(job, clock)
        raise


async def _put_back(job: Job, clock: Clock) -> None:
    await _change(job, partial(transitions.cut, now_ms=unix_ms(clock())))


async def _change(job: Job, change: Callable[[Row], Row]) -> None:
    """Change the rows, on disk where it lets us: nothing is lost by a change that is."""
    message = job.message
    message.update({index: change(message.rows[index]) for index in job.indexes})
    with suppress(OSError):
        await message.spool.mark(message.id, {index: message.rows[index] for index in job.indexes}, durable=False)
