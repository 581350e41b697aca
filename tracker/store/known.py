"""What the storage knows already when a batch comes: messages, event ids, events that wait or came early.

Rows in, structs of the contract out. Each function asks once for a whole batch.
"""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from tracker.contract import records, ses
from tracker.contract.events import Accepted, EventType, MessageFacts
from tracker.contract.ids import CopyId, EventId, MessageId
from tracker.store.copies import copy_id
from tracker.store.schema import event, message, pending
from tracker.store.times import to_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlyEvent:
    """An event that was logged without its message: what the counters need of it."""

    copy: CopyId
    type: EventType
    at_ms: int
    agent_class: str | None
    link_index: int | None


def mails(connection: sa.Connection, ids: Collection[MessageId]) -> dict[MessageId, ses.Mail]:
    """Return those of the messages that are known."""
    if not ids:
        return {}
    query = sa.select(message.c.facts, message.c.recipients).where(message.c.message.in_([str(one) for one in ids]))
    found = [ses.Mail(_facts(raw), recipients) for raw, recipients in connection.execute(query)]
    return {mail.facts.message: mail for mail in found}


def message_columns(facts: MessageFacts, recipients: int) -> dict[str, Any]:
    """Return the row of a message."""
    return {
        "message": str(facts.message),
        "accepted_ms": to_ms(facts.accepted_at),
        "configuration_set": facts.configuration_set,
        "from_domain": facts.from_domain,
        "recipients": recipients,
        "facts": records.encode(Accepted(facts=facts, copies=())),
    }


def events(connection: sa.Connection, ids: Collection[EventId]) -> set[EventId]:
    """Return those of the event ids that are in the log or wait for their message."""
    if not ids:
        return set()
    texts = [str(one) for one in ids]
    both = sa.union_all(
        sa.select(event.c.event_id).where(event.c.event_id.in_(texts)),
        sa.select(pending.c.event_id).where(pending.c.event_id.in_(texts)),
    )
    return {EventId.parse(text) for text in connection.execute(both).scalars()}


def waiting_for(connection: sa.Connection, ids: Collection[MessageId]) -> list[ses.CopyEvent]:
    """Return the events that wait for these messages, as they came."""
    if not ids:
        return []
    query = sa.select(pending.c.record).where(pending.c.message.in_([str(one) for one in ids]))
    found = [records.decode(raw) for raw in connection.execute(query.order_by(pending.c.since_ms)).scalars()]
    return [record for record in found if isinstance(record, ses.CopyEvent)]


def early_events(connection: sa.Connection, ids: Collection[MessageId]) -> dict[MessageId, list[EarlyEvent]]:
    """Return what was logged of these messages before they came."""
    if not ids:
        return {}
    columns = (event.c.message, event.c.suffix, event.c.type, event.c.at_ms, event.c.agent_class, event.c.link_index)
    query = sa.select(*columns).where(event.c.message.in_([str(one) for one in ids]))
    found: dict[MessageId, list[EarlyEvent]] = defaultdict(list)
    for text, suffix, kind, at_ms, agent_class, link_index in connection.execute(query):
        copy = copy_id(text, suffix)
        found[copy.message].append(
            EarlyEvent(copy=copy, type=EventType(kind), at_ms=at_ms, agent_class=agent_class, link_index=link_index)
        )
    return found


def _facts(raw: bytes) -> MessageFacts:
    """The column holds an `Accepted` without copies: the journal's codec is the one that outlives versions."""
    record = records.decode(raw)
    if not isinstance(record, Accepted):
        raise TypeError(f"a message's facts are a record of kind {type(record).__name__}")
    return record.facts
