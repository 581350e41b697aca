"""What an operator orders about mail that waits: sent now, held, released, removed, returned to its author.

A message never vanishes silently: the copies that are removed end as Bounce events, `554 5.7.0 Removed by an operator`.
Copies on their way cannot be called back; an order to hold or remove is obeyed for them when they come back deferred.

In a running process the order goes to whoever has the message in memory (`Desk`); where no process owns a slot, its
files are changed in place (`obey_on_files`) and the next process finds them so. The rules for a row are the same:
`transitions.ordered`.
"""

import asyncio
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from relay.spool import files, layout, metrics, transitions
from relay.spool.errors import SpoolDamagedError
from relay.spool.lanes import Lanes
from relay.spool.layout import Row, State
from relay.spool.queued import QueuedMessage
from relay.spool.suspects import Suspects
from relay.spool.teller import Teller
from relay.spool.transitions import Order, unix_ms
from tracker.contract.errors import IdError
from tracker.contract.ids import MessageId
from tracker.runtime.durable import flush_data


class QueueRequest(msgspec.Struct, kw_only=True):
    """The command `queue` of the control socket: an order, and the ids of at most `MAX_IDS` messages."""

    command: str = "queue"
    order: Order
    ids: list[str]


MAX_IDS: Final = 500
"""Of one request: a line of the control socket holds more, and the process serves others in between."""


class Obeyed(msgspec.Struct, kw_only=True):
    """What came of an order: messages that are known here, copies that changed, copies that are on their way.

    `is_complete` is False while the process still takes up what its spool holds: it may get to know more messages.
    """

    messages: list[str] = []
    copies: int = 0
    on_their_way: int = 0
    is_complete: bool = True


class Desk:
    """That of one process; one order after the other."""

    def __init__(
        self,
        messages: Mapping[MessageId, QueuedMessage],
        *,
        lanes: Lanes,
        suspects: Suspects,
        queue_due: Callable[[QueuedMessage, Sequence[int], float], None],
        teller: Teller,
        clock: Callable[[], datetime],
    ) -> None:
        """Take what waits, and who acts on it; `queue_due` queues rows that are due at a time."""
        self._messages = messages
        self._lanes = lanes
        self._suspects = suspects
        self._queue_due = queue_due
        self._teller = teller
        self._clock = clock
        self._turn = asyncio.Lock()

    async def obey(self, order: Order, ids: Iterable[str]) -> Obeyed:
        """Carry an order out for the messages that are known. OSError: not for those that are not in the answer."""
        async with self._turn:
            known = [message for text in ids if (message := self._known(text)) is not None]
            obeyed = Obeyed()
            now_s, now_ms = asyncio.get_running_loop().time(), unix_ms(self._clock())
            for message in known:
                message.busy -= self._suspects.withdraw(message)
            for lane in self._lanes.of(known):
                lane.withdraw(set(known))
                if order in (Order.FLUSH, Order.RELEASE):
                    lane.circuit.hasten(now_s)
            work = (self._obey(message, order, obeyed, now_s, now_ms) for message in known)
            for result in await asyncio.gather(*work, return_exceptions=True):
                if isinstance(result, BaseException):
                    raise result
            return obeyed

    def _known(self, text: str) -> QueuedMessage | None:
        try:
            return self._messages.get(MessageId.parse(text))
        except IdError:
            return None

    async def _obey(self, message: QueuedMessage, order: Order, obeyed: Obeyed, now_s: float, now_ms: int) -> None:
        on_their_way = len(message.busy)
        free = [index for index in range(len(message.rows)) if index not in message.busy]
        changes = transitions.changes(message.rows, free, order, now_ms=now_ms)
        if order is not Order.FLUSH:
            message.order = order
        message.busy |= changes.keys()
        try:
            if changes:
                durable = any(row.state.is_certain for row in changes.values())
                try:
                    await message.spool.mark(message.id, changes, durable=durable)
                except FileNotFoundError:
                    return  # it was finished just now
                message.update(changes)
        finally:
            message.busy -= changes.keys()
            waiting = tuple(index for index in free if message.rows[index].state is State.WAITING)
            self._queue_due(message, waiting, now_s)
        for index in changes:
            if message.rows[index].state.is_untold:
                metrics.OUTCOMES.labels("failed").inc()
                self._teller.tell(message, index)
        obeyed.messages.append(str(message.id))
        obeyed.copies += len(changes)
        obeyed.on_their_way += on_their_way


def obey_on_files(slot: Path, order: Order, ids: Iterable[str], *, now_ms: int) -> Obeyed:
    """Carry an order out on the files of a slot whose lock the caller holds. OSError: the disk failed."""
    obeyed = Obeyed()
    for text in ids:
        try:
            message = MessageId.parse(text)
            header, stored = files.load_envelope(slot / files.QUEUE / str(message), message)
        except (IdError, SpoolDamagedError, FileNotFoundError):
            continue
        rows = [_settled(row, now_ms) for row in stored.rows]
        changes = transitions.changes(rows, range(len(rows)), order, now_ms=now_ms)
        with files.opened(slot / files.QUEUE / str(message), os.O_WRONLY) as descriptor:
            for index, row in changes.items():
                os.pwrite(descriptor, layout.pack_row(row), header.row_at(index))
            if any(row.state.is_certain for row in changes.values()):  # else it is due, no more
                flush_data(descriptor)
        obeyed.messages.append(text)
        obeyed.copies += len(changes)
    return obeyed


def _settled(row: Row, now_ms: int) -> Row:
    """One in flight when its process ended waits again."""
    return transitions.crashed(row, now_ms=now_ms) if row.state is State.IN_FLIGHT else row
