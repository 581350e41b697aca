"""What the storage knows already when a batch comes: messages, event ids, events that wait or came early.

Rows in, structs of the contract out. Each function asks for a whole batch.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

import msgspec
import sqlalchemy as sa

from tracker.contract import records, ses
from tracker.contract.errors import RecordError
from tracker.contract.events import (
    Bounce,
    Click,
    CopyFacts,
    Delivery,
    DeliveryDelay,
    EventType,
    Open,
    Probe,
    Rejected,
)
from tracker.store import bulk
from tracker.store.bodies import facts_column, facts_of, read_facts
from tracker.store.rollups import Message
from tracker.store.schema import event, message, pending

_TIMES: Final = sa.func.coalesce(
    sa.func.json_extract(sa.cast(event.c.hit, sa.Text), sa.literal_column("'$.count'")), sa.literal_column("1")
)
_MESSAGES: Final = bulk.Query(
    sa.select(message.c.facts, message.c.recipients).where(message.c.message == sa.bindparam("id")), ("id",)
)
_EVENTS: Final = bulk.Query(sa.select(event.c.event_id).where(event.c.event_id == sa.bindparam("id")), ("id",))
_PENDING: Final = bulk.Query(sa.select(pending.c.event_id).where(pending.c.event_id == sa.bindparam("id")), ("id",))
_WAITING: Final = bulk.Query(
    sa.select(pending.c.record).where(pending.c.message == sa.bindparam("id")).order_by(pending.c.since_ms), ("id",)
)
_EARLY: Final = bulk.Query(
    sa.select(
        event.c.message,
        event.c.suffix,
        event.c.type,
        event.c.at_ms,
        event.c.agent_class,
        event.c.link_index,
        _TIMES.label("times"),
    ).where(event.c.message == sa.bindparam("id")),
    ("id",),
)


class _Arrived(msgspec.Struct, frozen=True, tag_field="kind", tag="accepted"):
    facts: msgspec.Raw
    copies: tuple[CopyFacts, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """An `Accepted` as ingest takes it up; its facts are JSON still, for they go into a column as they are."""

    message: Message
    facts: bytes
    copies: tuple[CopyFacts, ...]


CopyRecord = Delivery | DeliveryDelay | Bounce | Open | Click | Probe
ArrivedRecord = Arrived | CopyRecord | Rejected
"""The records of the journal, as `decode` gives them."""

_RECORD: Final[msgspec.json.Decoder[_Arrived | CopyRecord | Rejected]] = msgspec.json.Decoder(
    _Arrived | CopyRecord | Rejected, dec_hook=records.id_from_text
)


def decode(raw: bytes) -> ArrivedRecord:
    """Read a record of the journal, as `records.decode` does. RecordError as there."""
    try:
        record = _RECORD.decode(raw)
        if not isinstance(record, _Arrived):
            return record
        facts = bytes(record.facts)
        message = Message(ses.Mail(read_facts(facts), len(record.copies)))
        return Arrived(message=message, facts=facts, copies=record.copies)
    except msgspec.MsgspecError as error:
        raise RecordError(f"a journal record cannot be read: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlyEvent:
    """An event that was logged without its message: what the counters need of it."""

    copy: str
    type: EventType
    at_ms: int
    agent_class: str | None
    link_index: int | None
    times: int


def messages(connection: sa.Connection, ids: Iterable[str]) -> dict[str, Message]:
    """Return those of the messages that are known."""
    rows = _MESSAGES.of(connection, [(one,) for one in ids])
    found = [Message(ses.Mail(facts_of(raw), recipients)) for raw, recipients in rows]
    return {one.text: one for one in found}


def message_row(arrived: Arrived) -> bulk.Row:
    """Return the row of a message."""
    one = arrived.message
    facts = one.mail.facts
    return (
        one.text,
        one.accepted_ms,
        facts.configuration_set,
        facts.from_domain,
        one.mail.recipients,
        facts_column(arrived.facts),
    )


def events(connection: sa.Connection, ids: Collection[str]) -> set[str]:
    """Return those of the event ids that are in the log or wait for their message."""
    keys = [(one,) for one in ids]
    rows = _EVENTS.of(connection, keys)
    if _waits(connection):
        rows += _PENDING.of(connection, keys)
    return {row[0] for row in rows}


def waiting_for(connection: sa.Connection, ids: Iterable[str]) -> list[ses.CopyEvent]:
    """Return the events that wait for these messages, as they came."""
    if not _waits(connection):
        return []
    found = [records.decode(raw) for (raw,) in _WAITING.of(connection, [(one,) for one in ids])]
    return [record for record in found if isinstance(record, ses.CopyEvent)]


def _waits(connection: sa.Connection) -> bool:
    """Mostly nothing waits, and one look is less than one for each event."""
    return connection.execute(sa.select(pending.c.event_id).limit(1)).scalar() is not None


def early_events(connection: sa.Connection, ids: Iterable[str]) -> dict[str, list[EarlyEvent]]:
    """Return what was logged of these messages before they came."""
    found: dict[str, list[EarlyEvent]] = defaultdict(list)
    for text, suffix, kind, at_ms, agent_class, link_index, times in _EARLY.of(connection, [(one,) for one in ids]):
        found[text].append(
            EarlyEvent(
                copy=f"{text}-{suffix}",
                type=EventType(kind),
                at_ms=at_ms,
                agent_class=agent_class,
                link_index=link_index,
                times=times,
            )
        )
    return found
