"""Tells what became of copies: events to the journal, a report to the author, then the row's end and the file's.

The order is that of the promise: the outcome is on disk (row D or F) before it is told; its event is durable and its
report is in the spool before the row says so (d or f); a file goes when all its rows do. Whatever is cut short is told
again, under the same ids. Outcomes of many copies share one write of the journal.

A delivery report has no events; what is reported, and that no report has one of its own, is in `reporter.py`.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import structlog

from relay.spool import metrics
from relay.spool.entry import SpoolEntry
from relay.spool.errors import SpoolDamagedError
from relay.spool.files import Spool
from relay.spool.lane import UpstreamLimits
from relay.spool.queued import QueuedMessage, outcome_event
from relay.spool.reporter import Reporter
from tracker.contract.events import Accepted, Bounce, Delivery, DeliveryDelay
from tracker.contract.ports import EventSink

_LOG: Final = structlog.get_logger()
_BATCH: Final = 200
_FIRST_PAUSE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class _Untold:
    message: QueuedMessage
    index: int
    event: Accepted | DeliveryDelay | None  # None: the row's outcome


class Teller:
    """One for all upstreams of a process. `run` in a task; `tell` at any time."""

    def __init__(
        self,
        *,
        sink: EventSink,
        on_report: Callable[[Spool, SpoolEntry], None],
        on_end: Callable[[QueuedMessage], None],
        limits_of: Callable[[str], UpstreamLimits],
        reporter: Reporter,
    ) -> None:
        """Take the journal, and who is told of a new report and of a message that has gone."""
        self._sink = sink
        self._on_report = on_report
        self._on_end = on_end
        self._limits_of = limits_of
        self._reporter = reporter
        self._untold: deque[_Untold] = deque()
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._pause_s = _FIRST_PAUSE_S

    def announce(self, message: QueuedMessage, event: Accepted) -> None:
        """Tell that a message was accepted, before anything else is told of it."""
        if not message.is_report:
            self._add(_Untold(message, -1, event))

    def tell(self, message: QueuedMessage, index: int) -> None:
        """Tell the outcome of a row that is in D or F on disk."""
        self._add(_Untold(message, index, None))

    def tell_delay(self, message: QueuedMessage, index: int, event: DeliveryDelay) -> None:
        """Tell that a copy was put off."""
        self._add(_Untold(message, index, event))

    async def idle(self) -> None:
        """Return when everything is told."""
        await self._idle.wait()

    async def run(self) -> None:
        """Tell until cancelled."""
        while True:
            await self._wake.wait()
            batch = [self._untold.popleft() for _ in range(min(len(self._untold), _BATCH))]
            try:
                await self._tell(batch)
            except Exception as error:  # noqa: BLE001 - a worker's iteration; mostly the OSError of a disk that is full
                metrics.EMIT_ERRORS.inc(len(batch))
                _LOG.error(
                    "outcomes_not_told",
                    count=len(batch),
                    again_in_s=self._pause_s,
                    exc_info=None if isinstance(error, OSError) else error,
                    error=str(error),
                )
                self._untold.extendleft(reversed(_without_acceptances(batch)))
                await asyncio.sleep(self._pause_s)
                self._pause_s = min(self._pause_s * 2, _LONGEST_PAUSE_S)
            else:
                self._pause_s = _FIRST_PAUSE_S
            if not self._untold:
                self._wake.clear()
                self._idle.set()

    def _add(self, item: _Untold) -> None:
        self._untold.append(item)
        self._idle.clear()
        self._wake.set()

    async def _tell(self, batch: list[_Untold]) -> None:
        records: list[Accepted | Delivery | Bounce | DeliveryDelay] = []
        unannounced: dict[QueuedMessage, None] = {}
        batch = [item for item in batch if item.event or item.message.rows[item.index].state.is_untold]
        for item in batch:
            if item.message.is_report:
                continue
            if not item.message.is_announced and item.message not in unannounced:
                unannounced[item.message] = None
                records.extend(await self._accepted(item.message))
            records.append(item.event or self._outcome(item))
        if records:
            await self._sink.emit(records)
        for message in unannounced:
            message.is_announced = message.is_journalled = True
        ended: dict[QueuedMessage, list[int]] = {}
        for item in batch:
            if item.event is None:
                ended.setdefault(item.message, []).append(item.index)
            elif isinstance(item.event, Accepted):
                item.message.is_journalled = True
            elif isinstance(item.event, DeliveryDelay):
                row = item.message.rows[item.index]
                item.message.rows[item.index] = replace(row, delays_told=row.delays_told + 1)
        endings = (self._end(message, indexes) for message, indexes in ended.items())
        for result in await asyncio.gather(*endings, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result

    def _outcome(self, item: _Untold) -> Delivery | Bounce:
        limits = self._limits_of(item.message.upstream(item.index))
        return outcome_event(item.message, item.index, final=limits.final, provider=limits.provider)

    async def _accepted(self, message: QueuedMessage) -> list[Accepted]:
        try:
            async with message.opened() as spooled:
                return [spooled.entry.accepted]
        except (SpoolDamagedError, FileNotFoundError) as error:
            _LOG.error("acceptance_not_told", message_ref=str(message.id), error=str(error))
            return []

    async def _end(self, message: QueuedMessage, indexes: list[int]) -> None:
        """Report what failed and close the rows. Raises OSError: all of it is to be done again."""
        reports = [entry for index in indexes if (entry := await self._reporter.report(message, index)) is not None]
        rows = list(message.rows)
        for index in indexes:
            rows[index] = rows[index].finished()
        try:
            if all(row.state.is_finished for row in rows):
                await message.spool.remove(message.id)
            else:
                await message.spool.mark(message.id, {index: rows[index] for index in indexes}, durable=False)
        except FileNotFoundError:
            _LOG.error("spool_file_vanished", message_ref=str(message.id))
        for index in indexes:
            message.rows[index] = rows[index]
        for entry in reports:
            self._on_report(message.spool, entry)
        if message.is_finished:
            self._on_end(message)


def _without_acceptances(batch: list[_Untold]) -> list[_Untold]:
    """Drop records that are on disk as well: while the journal takes nothing, they must not fill the memory.

    Each is read again when the first outcome of its message is told.
    """
    for item in batch:
        if isinstance(item.event, Accepted):
            item.message.is_announced = False
    return [item for item in batch if not isinstance(item.event, Accepted)]
