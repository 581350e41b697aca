"""Takes up what an earlier process left in a spool: its acceptances journalled, its rows sorted by what is to be done.

The acceptance of a message is journalled again unless a row says that the journal has it. Files that are finished are
removed: a power cut may bring back the name of one that was.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import structlog

from relay.spool import metrics, transitions
from relay.spool.files import Spool, Stored
from relay.spool.queued import QueuedMessage
from relay.spool.transitions import Resumed, unix_ms
from tracker.contract.ports import Clock, EventSink

_LOG: Final = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Found:
    """A message that waits, with its rows as they are now, and what is to be done with them."""

    message: QueuedMessage
    resumed: Resumed


async def take_up(spool: Spool, *, sink: EventSink, clock: Clock, loop_s: float) -> AsyncIterator[list[Found]]:
    """Yield what waits in a spool, in batches, oldest first; `loop_s` is now by the loop's clock. Raises OSError."""
    now = clock()
    async for batch in spool.scan():
        is_announced = await _announce(batch, sink)
        found = []
        for stored in batch:
            age = max(timedelta(0), now - stored.entry.accepted.facts.accepted_at)
            message = QueuedMessage(spool, stored.entry, stored.rows, born_s=loop_s - age.total_seconds())
            message.is_announced = message.is_journalled = is_announced
            if message.is_finished:
                await spool.remove(message.id)
            else:
                found.append(await _resume(message, unix_ms(now)))
        yield found


async def _announce(batch: list[Stored], sink: EventSink) -> bool:
    unknown = [
        stored.entry.accepted
        for stored in batch
        if not stored.entry.report and not any(row.announced for row in stored.rows)
    ]
    try:
        if unknown:
            await sink.emit(unknown)
    except OSError as error:
        _LOG.error("acceptances_not_told", count=len(unknown), error=error.strerror)
        return False
    return True


async def _resume(message: QueuedMessage, now_ms: int) -> Found:
    resumed = transitions.resume(message.rows, now_ms=now_ms)
    message.update(resumed.rows)
    for index in resumed.rows:
        metrics.DUPLICATE_RISK.inc()
        _LOG.warning("attempt_was_cut", copy_ref=str(message.copy(index)), crashes=message.rows[index].crashes)
    if resumed.held:
        try:
            rows = {index: message.rows[index] for index in resumed.held}
            await message.spool.mark(message.id, rows, durable=True)
        except OSError as error:  # the row stays in flight on disk: it is held again at the next start
            _LOG.error("outcome_not_written", message_ref=str(message.id), error=error.strerror)
        for index in resumed.held:
            _LOG.error("copy_held", copy_ref=str(message.copy(index)), why=message.rows[index].text)
    return Found(message, resumed)
