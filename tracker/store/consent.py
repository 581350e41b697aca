"""Consent as the storage has it: what each person decided, and the copies whose hits are not recorded.

Owns the tables `consent` and `silenced`, and finding a person's copies. Functions run inside a caller's transaction.

Theory: a hit tells nothing but its copy, so a denial is turned into copies when it is told: those of the person that
hits may still be recorded of. What is not taken in by then, the ingester adds when it takes it in (`gate.py`). Trackers
hold the copies in memory and look once a second (`watched.py`).

Limits: each change has every process read the tables anew, about a second for a million rows, beside what it serves.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert as upsert

from tracker.contract.consent import ConsentBook, Decision, Marks, Persons, SilencedCopies, folded
from tracker.contract.ids import CopyId
from tracker.store.schema import consent, copy, message, pending, silenced
from tracker.store.times import from_ms, to_ms
from tracker.store.watched import Watched, has_changed

SUBJECT: Final = "consent"
SILENCED: Final = "silenced"

_DAY: Final = timedelta(days=1)
_PAGE: Final = 2_000  # rows in memory at a time, of many
_HITS: Final = ("open", "click", "probe")


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a person told, when, and by which way, `"form on the web site"`."""

    person: bytes
    decision: Decision
    at: datetime
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonsCopy:
    """A copy that a person got. `tracked`: it has a pixel or links of ours."""

    message: str
    suffix: str
    accepted_ms: int
    tracked: bool

    @property
    def id(self) -> CopyId:
        """The copy's id."""
        return CopyId.parse(f"{self.message}-{self.suffix}")


def collected_since(now: datetime, collect_for: timedelta) -> int:
    """Return, in milliseconds, when the oldest mail was accepted whose hits may still be recorded: to the day."""
    return to_ms(now - collect_for - _DAY)


def read_book(connection: sa.Connection) -> ConsentBook:
    """Return every decision."""
    rows = connection.execute(sa.select(consent.c.person, consent.c.allowed)).all()
    return ConsentBook(
        allowed=Marks(person for person, allowed in rows if allowed),
        denied=Marks(person for person, allowed in rows if not allowed),
    )


def watched(path: Path) -> Watched[ConsentBook]:
    """Return the decisions, for a process that takes mail in to look at."""
    return Watched(path, SUBJECT, read_book, nothing=ConsentBook())


def read_silenced(connection: sa.Connection) -> SilencedCopies:
    """Return the copies whose hits are not recorded."""
    query = sa.select(silenced.c.message, silenced.c.suffix).execution_options(yield_per=_PAGE)
    return SilencedCopies(tuple(row) for row in connection.execute(query))


def watched_silenced(path: Path) -> Watched[SilencedCopies]:
    """Return the silenced copies, for a process that answers hits to look at."""
    return Watched(path, SILENCED, read_silenced, nothing=SilencedCopies())


def all_told(connection: sa.Connection, after: bytes, limit: int) -> list[Told]:
    """Return the next decisions in the order of the hashes, behind one of them (`b""`: from the first)."""
    query = sa.select(consent).where(consent.c.person > after).order_by(consent.c.person).limit(limit)
    return [_told(row) for row in connection.execute(query).mappings()]


def told_by(connection: sa.Connection, person: bytes) -> Told | None:
    """Return what a person told; None: nothing."""
    row = connection.execute(sa.select(consent).where(consent.c.person == person)).mappings().first()
    return None if row is None else _told(row)


def tell(connection: sa.Connection, decisions: Iterable[Told]) -> int:
    """Enter decisions, and lift the silence of those who allow; return how many were entered.

    One that is older than what the person told already is not. Who denies is silenced by `silence`.
    """
    entered = 0
    for one in decisions:
        row = {"allowed": one.decision == "allow", "changed_ms": to_ms(one.at), "source": one.source}
        insert = upsert(consent).values(person=one.person, **row)
        newer = insert.on_conflict_do_update(
            index_elements=["person"], set_=row, where=consent.c.changed_ms <= row["changed_ms"]
        )
        if not connection.execute(newer).rowcount:
            continue
        entered += 1
        if one.decision == "allow" and connection.execute(silenced.delete().where(_is(one.person))).rowcount:
            has_changed(connection, SILENCED)
    if entered:
        has_changed(connection, SUBJECT)
    return entered


def silence(connection: sa.Connection, copies: Collection[PersonsCopy], person: bytes | None) -> int:
    """Have no hit of these copies recorded any more, and drop those that wait; return how many copies are new here.

    `person` is who may lift it again, None where nobody may: the copies are forgotten, with all events that wait.
    """
    if not copies:
        return 0
    insert = upsert(silenced)
    keep = insert.on_conflict_do_nothing()
    forget = insert.on_conflict_do_update(index_elements=["message", "suffix"], set_={"person": None})
    added = 0
    for one in copies:
        row = {"message": one.message, "suffix": one.suffix, "person": person, "accepted_ms": one.accepted_ms}
        added += connection.execute(keep if person is not None else forget, row).rowcount
        drop_waiting(connection, one.message, one.suffix, hits_only=person is not None)
    has_changed(connection, SILENCED)
    return added


def drop_waiting(connection: sa.Connection, message_id: str, suffix: str, *, hits_only: bool) -> None:
    """Delete the events of a copy that wait for their message."""
    of_copy = sa.func.json_extract(pending.c.record, "$.copy") == f"{message_id}-{suffix}"
    where = (pending.c.message == message_id) & of_copy
    if hits_only:
        where &= sa.func.json_extract(pending.c.record, "$.kind").in_(_HITS)
    connection.execute(pending.delete().where(where))


def is_to(persons: Persons, person: bytes, body: str) -> bool:
    """Say whether a record of the log, as JSON text, tells of a person's copy."""
    own = msgspec.json.decode(body).get("mailwake", {})
    return persons.of(str(own.get("recipient") or "")) == person


def copies_of(connection: sa.Connection, persons: Persons, address: str, *, since_ms: int = 0) -> list[PersonsCopy]:
    """Return the copies of a person that were accepted since then, in whatever spelling of the address."""
    plain = folded(address)
    if not plain.isascii():  # the database folds ASCII alone: every copy is looked at
        return [
            one for found in scan(connection, persons, {persons.of(address)}, since_ms=since_ms) for _, one in found
        ]
    local, _, domain = plain.rpartition("@")
    spellings = (plain, f'"{local}"@{domain}')
    is_person = sa.or_(*(copy.c.recipient.collate("NOCASE") == spelling for spelling in spellings))
    return [_copy(row) for row in connection.execute(_copies(since_ms).where(is_person)).mappings()]


def scan(
    connection: sa.Connection, persons: Persons, wanted: Collection[bytes], *, since_ms: int, page: int = _PAGE
) -> Iterator[Sequence[tuple[bytes, PersonsCopy]]]:
    """Look at every copy accepted since then, and yield those of the persons, page by page."""
    query = _copies(since_ms).execution_options(yield_per=page)
    for rows in connection.execute(query).mappings().partitions():
        made = ((persons.of(row["recipient"]), row) for row in rows)
        found = [(person, _copy(row)) for person, row in made if person in wanted]
        if found:
            yield found


def _copies(since_ms: int) -> sa.Select[Any]:
    return (
        sa.select(
            copy.c.message,
            copy.c.suffix,
            copy.c.recipient,
            message.c.accepted_ms,
            (copy.c.tracks_opens | copy.c.tracks_clicks).label("tracked"),
        )
        .join_from(copy, message, copy.c.message == message.c.message)
        .where(message.c.accepted_ms >= since_ms)
    )


def _copy(row: sa.RowMapping) -> PersonsCopy:
    return PersonsCopy(
        message=row["message"], suffix=row["suffix"], accepted_ms=row["accepted_ms"], tracked=bool(row["tracked"])
    )


def _is(person: bytes) -> sa.ColumnElement[bool]:
    return silenced.c.person == person


def _told(row: sa.RowMapping) -> Told:
    return Told(
        person=row["person"],
        decision="allow" if row["allowed"] else "deny",
        at=from_ms(row["changed_ms"]),
        source=row["source"],
    )
