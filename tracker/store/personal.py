"""All that the storage keeps of one person, as one document (`mailwake export`)."""

from collections.abc import Collection, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from tracker.contract.consent import Persons
from tracker.core.redaction import Redaction
from tracker.store.bodies import Bodies
from tracker.store.consent import PersonsCopy, copies_of, is_to, told_by
from tracker.store.schema import copy, copy_link, dead_letter, event, forgotten, message, pending, probe, silenced
from tracker.store.times import from_ms


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
        "events": [msgspec.Raw(body.encode()) for body in events],
        "waiting": [raw for one in copies for raw in _waiting(connection, one)],
        "deadLetters": _dead_letters(connection, persons, address, copies),
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


def _events(connection: sa.Connection, one: PersonsCopy) -> Sequence[str]:
    own = (event.c.message == one.message) & (event.c.suffix == one.suffix)
    query = sa.select(event.c.body).where(own).order_by(event.c.seq)
    bodies = Bodies(connection)
    return [bodies.whole(one.message, body) for body in connection.execute(query).scalars()]


def _rejects(connection: sa.Connection, persons: Persons, person: bytes) -> list[str]:
    bodies = connection.execute(sa.select(event.c.body).where(event.c.type == sa.literal_column("'reject'")))
    return [body for body in bodies.scalars() if is_to(persons, person, body)]


def _waiting(connection: sa.Connection, one: PersonsCopy) -> list[msgspec.Raw]:
    of_copy = sa.func.json_extract(pending.c.record, "$.copy") == f"{one.message}-{one.suffix}"
    rows = connection.execute(sa.select(pending.c.record).where(pending.c.message == one.message, of_copy))
    return [msgspec.Raw(record) for record in rows.scalars()]


def _dead_letters(
    connection: sa.Connection, persons: Persons, address: str, copies: Collection[PersonsCopy]
) -> list[dict[str, Any]]:
    """Those of the copies, and those to the person whose copy is unknown, as of a Reject, or gone."""
    own = {(one.message, one.suffix) for one in copies}
    person, redaction = persons.of(address), Redaction(address)
    names = ("event_id", "destination", "at_ms", "reason", "body")
    found: list[dict[str, Any]] = []
    for row in connection.execute(sa.select(dead_letter).order_by(dead_letter.c.id)).mappings():
        is_own = (row["message"], row["suffix"]) in own
        if is_own or (redaction.may_be_in(row["body"].encode()) and is_to(persons, person, row["body"])):
            found.append({name: row[name] for name in names} | {"body": msgspec.Raw(row["body"].encode())})
    return found
