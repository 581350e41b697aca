"""What the runner keeps of a message that waits, and the events that its rows stand for.

Small on purpose: a hundred thousand messages may wait. Envelope and bytes stay on disk; they are read when a copy is
made, shared by all copies of the message in flight, and dropped with the last of them.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Final

from relay.core import providers
from relay.core.attempt import Phase
from relay.core.providers import Provider
from relay.spool import metrics
from relay.spool.entry import SpoolEntry
from relay.spool.files import Spool, Spooled
from relay.spool.layout import Row, State
from relay.spool.transitions import Order
from tracker.contract.events import Bounce, Delivery, DeliveryDelay
from tracker.contract.ids import COPY_SUFFIX_BYTES, CopyId, EventId, MessageId

SECOND_DELAY_AFTER: Final = timedelta(hours=4)
_FIRST_DELAY, _SECOND_DELAY = 1, 2
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class QueuedMessage:
    """A message in the spool. `born_s` is its acceptance on the loop's clock, which no change of the date moves.

    `is_announced`: its Accepted record is, or will be before any other of it, in the journal; `is_journalled`: it is.
    `busy` are the indexes of rows that an attempt has, or is about to have; `order` is what an operator wants to become
    of those, where they are not finished by then. `is_success_wanted`: NOTIFY=SUCCESS was given for a recipient.
    `told_late` are those rows of which it was told, or is about to be, that they wait for four hours.
    """

    __slots__ = (
        "_copies", "_loading", "_users", "accepted_at", "born_s", "busy", "id", "is_announced", "is_journalled",
        "is_report", "is_success_wanted", "is_untouched", "order", "rows", "spool", "told_late",
        "upstreams",
    )  # fmt: skip

    def __init__(self, spool: Spool, entry: SpoolEntry, rows: tuple[Row, ...], *, born_s: float) -> None:
        """Take what is needed of the entry; it is not kept."""
        self.spool = spool
        self.id: MessageId = entry.id
        self.upstreams = (entry.upstream, *entry.fallbacks)
        self.is_report = entry.report
        self.is_success_wanted = any(request.wants_success for request in entry.dsn.recipients)
        self.is_untouched = entry.rewrite is None
        self.is_announced = True
        self.is_journalled = False
        self.busy: frozenset[int] = frozenset()
        self.told_late: frozenset[int] = frozenset()
        self.order: Order | None = None
        self.accepted_at = entry.accepted.facts.accepted_at
        self.born_s = born_s
        self.rows = list(rows)
        metrics.HELD.inc(_held(rows))
        self._copies = b"".join([facts.copy.suffix for facts in entry.accepted.copies])
        self._loading: asyncio.Future[Spooled] | None = None
        self._users = 0

    def copy(self, index: int) -> CopyId:
        """Return the copy id of a row."""
        return CopyId(self.id, self._copies[index * COPY_SUFFIX_BYTES : (index + 1) * COPY_SUFFIX_BYTES])

    def upstream(self, index: int) -> str:
        """Return the upstream that a row's last attempt was made at, or the first that it will be."""
        position = self.rows[index].upstream
        return self.upstreams[position if position < len(self.upstreams) else 0]

    def age(self, now_s: float) -> timedelta:
        """Return how long the message has waited."""
        return timedelta(seconds=max(0.0, now_s - self.born_s))

    def update(self, rows: Mapping[int, Row]) -> None:
        """Take rows over, in memory."""
        metrics.HELD.inc(_held(rows.values()) - _held(self.rows[index] for index in rows))
        for index, row in rows.items():
            self.rows[index] = row

    def uncount(self) -> None:
        """Count none of its rows as held any more: it is gone."""
        metrics.HELD.dec(_held(self.rows))

    @property
    def is_finished(self) -> bool:
        """True where the file can go."""
        return all(row.state.is_finished for row in self.rows)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Spooled]:
        """Give envelope and bytes, read once for all who hold them. Raises SpoolDamagedError; OSError."""
        self._users += 1
        try:
            if self._loading is None:
                self._loading = asyncio.ensure_future(self.spool.load(self.id))
            yield await asyncio.shield(self._loading)
        finally:
            self._users -= 1
            if self._users == 0 and self._loading is not None:
                loading, self._loading = self._loading, None
                if not loading.done():
                    loading.cancel()
                elif not loading.cancelled() and loading.exception() is None:
                    self.spool.unload(loading.result())


def _held(rows: Iterable[Row]) -> int:
    return sum(row.state is State.HELD for row in rows)


def outcome_event(message: QueuedMessage, index: int, *, final: bool, provider: Provider) -> Delivery | Bounce:
    """Return the event of a row in D or F: from the row alone, so that it is the same after a crash."""
    row, copy = message.rows[index], message.copy(index)
    at = _EPOCH + timedelta(milliseconds=row.changed_ms)
    reply = str(row.reply or "")
    if row.state is State.DELIVERED:
        return Delivery(
            event=EventId.of_outcome(copy, "delivery"),
            copy=copy,
            at=at,
            upstream=message.upstream(index),
            reply=reply,
            final=final,
            attempts=row.attempts,
            upstream_message_id=providers.message_id(row.text, provider),
        )
    return Bounce(
        event=EventId.of_outcome(copy, "bounce"),
        copy=copy,
        at=at,
        upstream=message.upstream(index),
        phase=row.phase or Phase.CONNECT,
        reply=reply,
        expired=row.expired,
        attempts=row.attempts,
    )


def delay_due(message: QueuedMessage, index: int, *, age: timedelta) -> int:
    """Return which of a row's delays is to be told, 0 for none: 1 is its first deferral, 2 that it waits four hours."""
    number = _SECOND_DELAY if age >= SECOND_DELAY_AFTER else _FIRST_DELAY
    return number if number > message.rows[index].delays_told else 0


def delay_event(
    message: QueuedMessage, index: int, number: int, *, at: datetime, expires_at: datetime
) -> DeliveryDelay:
    """Return the event of a row that waits; `number` is that of `delay_due`."""
    row, copy = message.rows[index], message.copy(index)
    return DeliveryDelay(
        event=EventId.of_outcome(copy, f"delivery_delay:{number}"),
        copy=copy,
        at=at,
        upstream=message.upstream(index),
        phase=row.phase or Phase.CONNECT,
        reply=str(row.reply or ""),
        expires_at=expires_at,
        attempts=row.attempts,
    )
