"""All that the storage keeps of one person, as one document (`mailwake export`)."""

from typing import Any

import msgspec
import sqlalchemy as sa

from tracker.contract.consent import Persons
from tracker.store.bodies import Bodies
from tracker.store.consent import PersonsCopy, copies_of, told_by
from tracker.store.schema import copy, copy_link, event, forgotten, message, pending, probe, silenced
from tracker.store.times import from_ms

_DEAD = sa.table("dead_letter", *(sa.column(name) for name in ("event_id", "destination", "at_ms", "reason")))


def kept(connection: sa.Connection, persons: Persons, address: str) -> dict[str, Any]:
    """Return what is kept of the person that an address stands for; empty lists and nulls where nothing is.

    `consent`, `forgottenAt`, `messages` (each with the facts of its message, the counters of its copy, the links that
    were followed, probes), `events` (the records of events.md), `waiting` (journal records) and `deadLetters`.
    """
    person = persons.of(address)
    told = told_by(connection, person)
    at_ms = connection.execute(sa.select(forgotten.c.at_ms).where(forgotten.c.person == person)).scalar()
    copies = copies_of(connection, persons, address)
    events = [row for one in copies for row in _events(connection, one)]
    events += _rejects(connection, persons, person)
    return {
        "person": person.hex(),
        "consent": None
        if told is None
        else {"decision": told.decision, "at": told.at.isoformat(), "source": told.source},
        "forgottenAt": None if at_ms is None else from_ms(at_ms).isoformat(),
        "messages": [_message(connection, one) for one in copies],
        "events": [msgspec.Raw(body.encode()) for _, body in events],
        "waiting": [raw for one in copies for raw in _waiting(connection, one)],
        "deadLetters": _dead_letters(connection, [event_id for event_id, _ in events]),
    }


def _message(connection: sa.Connection, one: PersonsCopy) -> dict[str, Any]:
    is_copy = (copy.c.message == one.message) & (copy.c.suffix == one.suffix)
    own = dict(connection.execute(sa.select(copy).where(is_copy)).mappings().one())
    facts = connection.execute(sa.select(message.c.facts).where(message.c.message == one.message)).scalar_one()
    followed = sa.select(copy_link.c.link_index, copy_link.c.clicks, copy_link.c.human_clicks).where(
        copy_link.c.message == one.message, copy_link.c.suffix == one.suffix
    )
    probes = sa.select(sa.func.count()).where(probe.c.message == one.message, probe.c.suffix == one.suffix)
    is_silenced = sa.select(sa.literal(1)).where(silenced.c.message == one.message, silenced.c.suffix == one.suffix)
    return {
        "acceptedAt": from_ms(one.accepted_ms).isoformat(),
        "copy": own,
        "message": msgspec.json.decode(facts)["facts"],
        "links": [dict(row) for row in connection.execute(followed).mappings()],
        "probes": connection.execute(probes).scalar(),
        "silenced": connection.execute(is_silenced).scalar() is not None,
    }


def _events(connection: sa.Connection, one: PersonsCopy) -> list[tuple[str, str]]:
    own = (event.c.message == one.message) & (event.c.suffix == one.suffix)
    rows = connection.execute(sa.select(event.c.event_id, event.c.body).where(own).order_by(event.c.seq))
    bodies = Bodies(connection)
    return [(event_id, bodies.whole(one.message, body)) for event_id, body in rows]


def _rejects(connection: sa.Connection, persons: Persons, person: bytes) -> list[tuple[str, str]]:
    rows = connection.execute(
        sa.select(event.c.event_id, event.c.body).where(event.c.type == sa.literal_column("'reject'"))
    )
    return [
        (event_id, body)
        for event_id, body in rows
        if persons.of(str(msgspec.json.decode(body).get("mailwake", {}).get("recipient", ""))) == person
    ]


def _waiting(connection: sa.Connection, one: PersonsCopy) -> list[msgspec.Raw]:
    of_copy = sa.func.json_extract(pending.c.record, "$.copy") == f"{one.message}-{one.suffix}"
    rows = connection.execute(sa.select(pending.c.record).where(pending.c.message == one.message, of_copy))
    return [msgspec.Raw(record) for record in rows.scalars()]


def _dead_letters(connection: sa.Connection, event_ids: list[str]) -> list[dict[str, Any]]:
    if not sa.inspect(connection).has_table(_DEAD.name):
        return []
    found: list[dict[str, Any]] = []
    for event_id in event_ids:
        found += map(dict, connection.execute(sa.select(_DEAD).where(_DEAD.c.event_id == event_id)).mappings())
    return found
