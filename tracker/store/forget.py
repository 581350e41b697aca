"""One person erased from the storage: rows deleted, the address taken out of what others share with that person.

Owns the order, in which a kill between any two transactions leaves nothing that a second run does not find:
    1  `begin`    a tombstone, so that journals bring nothing back; an allowance deleted
    2  `silence`  the copies: their hits are recorded no more
    3  `redact`   message by message: the events of other recipients, and last the facts
    4  `erase`    a few copies at a time: all that is theirs, their rows; the message where nobody else got it
    5  `rejects`, `dead_letters`, `set_aside`, `named_totals`   what has no copy, or another's
Each is one short transaction, or several: the service goes on in between.

A denial stays, as a hash without its source: who is forgotten does not want to be tracked again.

Limits: only messages that the person got are known to be about that person. Totals are numbers and stay.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert as upsert

from tracker.contract.consent import Persons
from tracker.core.redaction import Redaction
from tracker.store.bodies import redacted
from tracker.store.consent import (
    SUBJECT,
    PersonsCopy,
    collected_since,
    copies_of,
    drop_waiting,
    is_to,
    silence,
)
from tracker.store.schema import (
    aside,
    consent,
    copy,
    dead_letter,
    event,
    forgotten,
    message,
    probe,
    roll_up_link,
    roll_up_tag,
    roll_up_value,
)
from tracker.store.times import to_ms
from tracker.store.watched import has_changed

PAGE: Final = 100
"""Rows that a transaction looks at: it holds up the ingester for some milliseconds."""

_NAMES: Final = (
    roll_up_link.c.url,
    roll_up_tag.c.tag,
    roll_up_tag.c.value,
    roll_up_value.c.value,
)
"""Counts that are named by texts of the author's."""


@dataclass(slots=True, kw_only=True)
class Erased:
    """What went: rows of each kind; `redacted` are records that were kept without the address."""

    messages: int = 0
    copies: int = 0
    events: int = 0
    dead_letters: int = 0
    set_aside: int = 0
    redacted: int = 0


class Forgetting:
    """One person's end; each method runs inside a transaction of its own."""

    def __init__(self, address: str, persons: Persons, *, now: datetime, collect_for: timedelta) -> None:
        """Take the address as the envelope prints it; nothing is done yet."""
        self.redaction = Redaction(address)
        self.erased = Erased()
        self._address = address
        self._persons = persons
        self._person = persons.of(address)
        self._now_ms = to_ms(now)
        self._since_ms = collected_since(now, collect_for)

    def begin(self, connection: sa.Connection) -> None:
        """Set the tombstone."""
        at = {"at_ms": self._now_ms}
        insert = upsert(forgotten).values(person=self._person, **at)
        connection.execute(insert.on_conflict_do_update(index_elements=["person"], set_=at))
        is_person = consent.c.person == self._person
        gone = connection.execute(consent.delete().where(is_person, consent.c.allowed)).rowcount
        gone += connection.execute(consent.update().where(is_person).values(source="")).rowcount
        if gone:
            has_changed(connection, SUBJECT)

    def copies(self, connection: sa.Connection) -> list[PersonsCopy]:
        """Return the person's copies; only reads."""
        return copies_of(connection, self._persons, self._address)

    def silence(self, connection: sa.Connection, copies: Sequence[PersonsCopy]) -> None:
        """Have nothing of the copies recorded any more, and nothing that waits."""
        silence(connection, [one for one in copies if one.accepted_ms >= self._since_ms], None)

    def redact(self, connection: sa.Connection, message_id: str, own: Collection[str], after: int) -> int | None:
        """Take the address out of a page of a message's events, and with the last page out of the message itself.

        `own` are the suffixes of the person's copies, whose events are erased later. Returns where the next page
        begins; `after` is 0 at first. None: nothing is left to do.
        """
        facts = self._shared_facts(connection, message_id)
        if facts is None:
            return None
        query = sa.select(event.c.seq, event.c.body).where(
            event.c.message == message_id, event.c.suffix.not_in(own), event.c.seq > after
        )
        rows = connection.execute(query.order_by(event.c.seq).limit(PAGE)).all()
        for seq, body in rows:
            self._rewrite(connection, event.c.body, event.c.seq == seq, body)
        if len(rows) < PAGE:
            self._rewrite(connection, message.c.facts, message.c.message == message_id, facts)
        return rows[-1].seq if len(rows) == PAGE else None

    def erase(self, connection: sa.Connection, copies: Sequence[PersonsCopy]) -> None:
        """Delete copies and all that is theirs."""
        for one in copies:
            own = (event.c.message == one.message) & (event.c.suffix == one.suffix)
            self.erased.events += connection.execute(event.delete().where(own)).rowcount
            is_letter = (dead_letter.c.message == one.message) & (dead_letter.c.suffix == one.suffix)
            self.erased.dead_letters += connection.execute(dead_letter.delete().where(is_letter)).rowcount
            connection.execute(probe.delete().where(probe.c.message == one.message, probe.c.suffix == one.suffix))
            drop_waiting(connection, one.message, one.suffix, hits_only=False)
            is_copy = (copy.c.message == one.message) & (copy.c.suffix == one.suffix)
            self.erased.copies += connection.execute(copy.delete().where(is_copy)).rowcount
            others = sa.select(sa.literal(1)).where(copy.c.message == one.message).limit(1)
            if connection.execute(others).scalar() is None:
                self.erased.messages += connection.execute(
                    message.delete().where(message.c.message == one.message)
                ).rowcount

    def rejects(self, connection: sa.Connection, after: int) -> int | None:
        """Delete or redact a page of the Rejects; returns where the next page begins, None where there is none."""
        is_reject = event.c.type == sa.literal_column("'reject'")
        last, gone = self._page(connection, event.c.seq, is_reject & (event.c.seq > after))
        self.erased.events += gone
        return last

    def dead_letters(self, connection: sa.Connection, after: int) -> int | None:
        """Delete or redact a page of what destinations did not take, whatever has gone already of what it tells of.

        What a publisher puts away meanwhile is an event of the log still: none that was erased. Returns as `rejects`.
        """
        last, gone = self._page(connection, dead_letter.c.id, dead_letter.c.id > after)
        self.erased.dead_letters += gone
        return last

    def set_aside(self, connection: sa.Connection, after: int) -> int | None:
        """Delete from a page of what was put aside; returns as `rejects` does."""
        query = sa.select(aside.c.id, aside.c.raw).where(aside.c.id > after).order_by(aside.c.id).limit(PAGE)
        rows = connection.execute(query).all()
        for number, raw in rows:
            if self.redaction.is_in(raw.decode("utf-8", "replace")):
                self.erased.set_aside += connection.execute(aside.delete().where(aside.c.id == number)).rowcount
        return rows[-1].id if len(rows) == PAGE else None

    def named_totals(self, connection: sa.Connection) -> list[tuple[sa.Column[str], str]]:
        """Return where the address is in the name of a total, as column and text; only reads."""
        return [
            (column, text)
            for column in _NAMES
            for text in connection.execute(sa.select(column).distinct()).scalars()
            if self.redaction.is_in(text)
        ]

    def rename_total(self, connection: sa.Connection, column: sa.Column[str], text: str) -> None:
        """Take the address out of the name of a total; where there is one of the new name, the old one's is lost."""
        rename = sa.update(column.table).where(column == text).values({column: self.redaction.of_text(text)})
        self.erased.redacted += connection.execute(rename.prefix_with("OR IGNORE")).rowcount
        connection.execute(sa.delete(column.table).where(column == text))

    def _page(
        self, connection: sa.Connection, key: sa.Column[int], where: sa.ColumnElement[bool]
    ) -> tuple[int | None, int]:
        """Delete of a page of records those of the person, and redact the others.

        Returns the key of the last one, None where there is no further page, and how many were deleted.
        """
        table, body = key.table, key.table.c.body
        gone = 0
        rows = connection.execute(sa.select(key, body).where(where).order_by(key).limit(PAGE)).all()
        for number, record in rows:
            if not self.redaction.may_be_in(record.encode()):
                continue
            if is_to(self._persons, self._person, record):
                gone += connection.execute(sa.delete(table).where(key == number)).rowcount
            else:
                self._rewrite(connection, body, key == number, record)
        return (rows[-1][0] if len(rows) == PAGE else None), gone

    def _shared_facts(self, connection: sa.Connection, message_id: str) -> bytes | None:
        """Return the facts of a message that others got, too, and that names the address; None: there is no such."""
        row = connection.execute(
            sa.select(message.c.facts, message.c.recipients).where(message.c.message == message_id)
        ).first()
        if row is None or row.recipients < 2 or self.redaction.of_json(row.facts) == row.facts:
            return None
        facts: bytes = row.facts
        return facts

    def _rewrite(
        self, connection: sa.Connection, column: sa.Column[Any], where: sa.ColumnElement[bool], raw: str | bytes
    ) -> None:
        value = redacted(self.redaction, raw) if isinstance(raw, str) else self.redaction.of_json(raw)
        if value != raw:
            connection.execute(sa.update(column.table).where(where).values({column: value}))
            self.erased.redacted += 1
