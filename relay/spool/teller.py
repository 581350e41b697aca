"""Tells what became of copies: events to the journal, a report to the author, then the row's end and the file's.

The order is that of the promise: the outcome is on disk (row D or F) before it is told; its event is durable and its
report is in the spool before the row says so (d or f); a file goes when all its rows do. Whatever is cut short is told
again, under the same ids. Outcomes of many copies share one write of the journal. A journal that takes nothing stops
all of them; a file that cannot be read or written puts off its own message alone.

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
_MOST_FAILURES: Final = 6  # beyond it the pause does not grow

_Record = Accepted | Delivery | Bounce | DeliveryDelay


@dataclass(frozen=True, slots=True)
class _Untold:
    message: QueuedMessage
    index: int
    event: Accepted | DeliveryDelay | None  # None: the row's outcome
    delay: int = 0  # the number of a DeliveryDelay
    is_journalled: bool = False  # the journal has the outcome: what is left is the report, and the end of the row
    failures: int = 0


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

    def tell_delay(self, message: QueuedMessage, index: int, event: DeliveryDelay, number: int) -> None:
        """Tell that a copy waits: the first or the second event of it."""
        self._add(_Untold(message, index, event, delay=number))

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
                _failed(batch, error, self._pause_s)
                self._untold.extendleft(reversed(_without_acceptances(batch)))
                await asyncio.sleep(self._pause_s)
                self._pause_s = min(self._pause_s * 2, _LONGEST_PAUSE_S)
            else:
                self._pause_s = _FIRST_PAUSE_S
            if not self._untold:
                self._wake.clear()
                self._idle.set()

    def _add(self, *items: _Untold) -> None:
        self._untold.extend(items)
        self._idle.clear()
        self._wake.set()

    def _put_off(self, items: list[_Untold], error: Exception) -> None:
        """Do what is left of one message later, and go on with the others."""
        pause_s = min(_FIRST_PAUSE_S * 2 ** items[0].failures, _LONGEST_PAUSE_S)
        _failed(items, error, pause_s)
        again = [replace(item, failures=min(item.failures + 1, _MOST_FAILURES)) for item in items]
        asyncio.get_running_loop().call_later(pause_s, self._add, *again)

    async def _tell(self, batch: list[_Untold]) -> None:
        """Journal a batch, then end its rows. Raises what the journal raises: nothing of it was told."""
        waiting: dict[QueuedMessage, list[_Untold]] = {}
        for item in batch:
            if item.event or item.message.rows[item.index].state.is_untold:
                waiting.setdefault(item.message, []).append(item)
        records: list[_Record] = []
        for message, items in list(waiting.items()):
            try:
                records += await self._records(message, items)
            except OSError as error:
                self._put_off(waiting.pop(message), error)
        if records:
            await self._sink.emit(records)
        for message, items in waiting.items():
            _note_journalled(message, items)
        ended = {
            message: [replace(item, is_journalled=True) for item in items if item.event is None]
            for message, items in waiting.items()
        }
        ended = {message: items for message, items in ended.items() if items}
        endings = (self._end(message, [item.index for item in items]) for message, items in ended.items())
        results = await asyncio.gather(*endings, return_exceptions=True)
        for items, result in zip(ended.values(), results, strict=True):
            if isinstance(result, Exception):
                self._put_off(items, result)
            elif result is not None:
                raise result

    async def _records(self, message: QueuedMessage, items: list[_Untold]) -> list[_Record]:
        """Return what the journal gets of a message. Raises OSError: its file cannot be read."""
        if message.is_report:
            return []
        records = [item.event or self._outcome(item) for item in items if not item.is_journalled]
        return records if message.is_announced or not records else [*await self._accepted(message), *records]

    def _outcome(self, item: _Untold) -> Delivery | Bounce:
        limits = self._limits_of(item.message.upstream(item.index))
        return outcome_event(item.message, item.index, final=limits.final, provider=limits.provider)

    async def _accepted(self, message: QueuedMessage) -> list[_Record]:
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


def _note_journalled(message: QueuedMessage, items: list[_Untold]) -> None:
    message.is_announced = True
    for item in items:
        if item.delay:
            row = message.rows[item.index]
            message.rows[item.index] = replace(row, delays_told=max(row.delays_told, item.delay))
    message.is_journalled = True


def _failed(items: list[_Untold], error: Exception, again_in_s: float) -> None:
    metrics.EMIT_ERRORS.inc(len(items))
    _LOG.error(
        "outcomes_not_told",
        count=len(items),
        again_in_s=again_in_s,
        exc_info=None if isinstance(error, OSError) else error,
        error=str(error),
    )


def _without_acceptances(batch: list[_Untold]) -> list[_Untold]:
    """Drop records that are on disk as well: while the journal takes nothing, they must not fill the memory.

    Each is read again when the first outcome of its message is told.
    """
    for item in batch:
        if isinstance(item.event, Accepted):
            item.message.is_announced = False
    return [item for item in batch if not isinstance(item.event, Accepted)]
