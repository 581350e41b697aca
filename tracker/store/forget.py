"""One person erased from the storage: rows deleted, the address taken out of what others share with that person.

Owns the order, in which a kill between any two transactions leaves nothing that a second run does not find:
    1  `begin`    a tombstone, so that journals bring nothing back; an allowance deleted
    2  `silence`  the copies: their hits are recorded no more
    3  `redact`   message by message: facts, and the events of other recipients
    4  `erase`    a few copies at a time: their events, what waits, their rows; the message where nobody else got it
    5  `rejects`, `set_aside`, `totals`   what has no copy
Each is one short transaction, or several: the service goes on in between.

A denial stays, as a hash without its source: who is forgotten does not want to be tracked again.

Limits: only messages that the person got are known to be about that person. Totals are numbers and stay.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import msgspec
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
    silence,
)
from tracker.store.schema import aside, consent, copy, event, forgotten, message, probe
from tracker.store.times import to_ms
from tracker.store.watched import has_changed

PAGE: Final = 100
"""Rows that a transaction looks at: it holds up the ingester for some milliseconds."""

_NAMES: Final = (
    ("link", "url"),
    ("roll_up_link", "url"),
    ("roll_up_tag", "tag"),
    ("roll_up_tag", "value"),
    ("roll_up_value", "value"),
)
"""Counts that are named by texts of the author's; not every version has each of these tables."""

_DEAD: Final = sa.table("dead_letter", *(sa.column(name) for name in ("id", "event_id", "body")))


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
        self._event_ids: list[str] = []
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
        """Take the address out of a page of a message's events, and first out of the message itself.

        `own` are the suffixes of the person's copies, whose events are erased later. Returns where the next page
        begins; `after` is 0 at first. None: nothing is left to do.
        """
        if after == 0 and not self._redact_message(connection, message_id):
            return None
        query = sa.select(event.c.seq, event.c.event_id, event.c.body).where(
            event.c.message == message_id, event.c.suffix.not_in(own), event.c.seq > after
        )
        rows = connection.execute(query.order_by(event.c.seq).limit(PAGE)).all()
        for seq, _, body in rows:
            self._rewrite(connection, event, event.c.seq == seq, "body", body)
        self._redact_dead_letters(connection, [event_id for _, event_id, _ in rows])
        return rows[-1][0] if len(rows) == PAGE else None

    def erase(self, connection: sa.Connection, copies: Sequence[PersonsCopy]) -> None:
        """Delete copies and all that is theirs."""
        for one in copies:
            own = (event.c.message == one.message) & (event.c.suffix == one.suffix)
            ids = connection.execute(sa.select(event.c.event_id).where(own)).scalars().all()
            self._delete_dead_letters(connection, ids)
            self.erased.events += connection.execute(event.delete().where(own)).rowcount
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
        query = sa.select(event.c.seq, event.c.event_id, event.c.body).where(
            event.c.type == sa.literal_column("'reject'"), event.c.seq > after
        )
        rows = connection.execute(query.order_by(event.c.seq).limit(PAGE)).all()
        for seq, event_id, body in rows:
            if not self.redaction.may_be_in(body.encode()):
                continue
            if self._is_to_person(body):
                self._delete_dead_letters(connection, [event_id])
                self.erased.events += connection.execute(event.delete().where(event.c.seq == seq)).rowcount
            else:
                self._rewrite(connection, event, event.c.seq == seq, "body", body)
                self._redact_dead_letters(connection, [event_id])
        return rows[-1].seq if len(rows) == PAGE else None

    def set_aside(self, connection: sa.Connection, after: int) -> int | None:
        """Delete from a page of what was put aside; returns as `rejects` does."""
        query = sa.select(aside.c.id, aside.c.raw).where(aside.c.id > after).order_by(aside.c.id).limit(PAGE)
        rows = connection.execute(query).all()
        for number, raw in rows:
            if self.redaction.is_in(raw.decode("utf-8", "replace")):
                self.erased.set_aside += connection.execute(aside.delete().where(aside.c.id == number)).rowcount
        return rows[-1].id if len(rows) == PAGE else None

    def named_totals(self, connection: sa.Connection) -> list[tuple[str, str, str]]:
        """Return where the address is the name of a total, as table, column and text; only reads."""
        found: list[tuple[str, str, str]] = []
        for table, column in _NAMES:
            if sa.inspect(connection).has_table(table):
                texts = sa.select(sa.column(column, sa.Text)).select_from(sa.table(table)).distinct()
                named = (text for text in connection.execute(texts).scalars() if self.redaction.is_in(text))
                found += [(table, column, text) for text in named]
        return found

    def rename_total(self, connection: sa.Connection, table: str, column: str, text: str) -> None:
        """Take the address out of the name of a total; where there is one of the new name, the old one's is lost."""
        where, name = sa.column(column) == text, sa.table(table, sa.column(column))
        rename = sa.update(name).where(where).values({column: self.redaction.of_text(text)}).prefix_with("OR IGNORE")
        self.erased.redacted += connection.execute(rename).rowcount
        connection.execute(sa.delete(name).where(where))

    def _redact_message(self, connection: sa.Connection, message_id: str) -> bool:
        """Take the address out of a message that others got, too; False: it is not in it, or nobody else got it."""
        row = connection.execute(
            sa.select(message.c.facts, message.c.recipients).where(message.c.message == message_id)
        ).first()
        if row is None or row.recipients < 2 or self.redaction.of_json(row.facts) == row.facts:
            return False
        self._rewrite(connection, message, message.c.message == message_id, "facts", row.facts)
        return True

    def _rewrite(
        self,
        connection: sa.Connection,
        table: sa.TableClause,
        where: sa.ColumnElement[bool],
        column: str,
        raw: str | bytes,
    ) -> None:
        after = redacted(self.redaction, raw) if isinstance(raw, str) else self.redaction.of_json(raw)
        if after != raw:
            connection.execute(sa.update(table).where(where).values({column: after}))
            self.erased.redacted += 1

    def _is_to_person(self, body: str) -> bool:
        own = msgspec.json.decode(body).get("mailwake", {})
        return self._persons.of(str(own.get("recipient", ""))) == self._person

    # --- dead letters: there may be none yet ---------------------------------------------------------------------

    def _delete_dead_letters(self, connection: sa.Connection, event_ids: Iterable[str]) -> None:
        ids = list(event_ids)
        self._event_ids += ids
        if _has_dead_letters(connection):
            for start in range(0, len(ids), PAGE):
                gone = sa.delete(_DEAD).where(_DEAD.c.event_id.in_(ids[start : start + PAGE]))
                self.erased.dead_letters += connection.execute(gone).rowcount

    def late_dead_letters(self, connection: sa.Connection) -> None:
        """Delete those that a publisher has made since, of events that it had read before they went."""
        ids, self._event_ids = self._event_ids, []
        self._delete_dead_letters(connection, ids)

    def _redact_dead_letters(self, connection: sa.Connection, event_ids: Iterable[str]) -> None:
        ids = list(event_ids)
        if not ids or not _has_dead_letters(connection):
            return
        query = sa.select(_DEAD.c.id, _DEAD.c.body).where(_DEAD.c.event_id.in_(ids), _DEAD.c.body.is_not(None))
        for number, body in connection.execute(query).all():
            self._rewrite(connection, _DEAD, _DEAD.c.id == number, "body", body)


def _has_dead_letters(connection: sa.Connection) -> bool:
    return sa.inspect(connection).has_table("dead_letter")
