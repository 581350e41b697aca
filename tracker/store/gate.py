"""What ingest leaves out: hits of people who do not want to be tracked, and all that is left of the forgotten.

A journal holds for a while what was recorded before somebody said no, and mail that waits in a spool still has
outcomes. So every batch passes here, as the journal has it, before anything of it is written. A message of somebody who
denied has its copy silenced, in case its tokens are older than the denial.

Theory: who was forgotten is forgotten until the moment of the command: mail that was accepted later is a new matter.
Their copies are known by the rows of `silenced` that name no person, those that come yet by the tombstone. While nobody
has said anything, three looks at empty tables are all that a batch costs; else a record is read for its copies alone.

Limits: `mailwake.recipients` of a message that somebody is taken out of counts those that are left.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import msgspec
import sqlalchemy as sa
from prometheus_client import Counter

from tracker.contract import records
from tracker.contract.consent import Persons
from tracker.contract.events import Accepted, Rejected
from tracker.core.redaction import Redaction
from tracker.store.consent import PersonsCopy, collected_since, silence
from tracker.store.schema import consent, event, forgotten, pending, silenced
from tracker.store.times import to_ms

DROPPED: Final = Counter("mailwake_ingest_dropped_total", "Records that ingest left out for consent's sake.", ["why"])

_HITS: Final = frozenset({"open", "click", "probe"})
_MESSAGES: Final = frozenset({"accepted", "rejected"})
_CHUNK: Final = 500  # below the number of parameters that any SQLite takes

# Pairs as one JSON parameter: SQLite answers `(message, suffix) IN (VALUES …)` by reading the whole table.
_WANTED: Final = sa.func.json_each(sa.bindparam("wanted")).table_valued("value", name="wanted")
_SILENCED: Final = sa.select(silenced.c.message, silenced.c.suffix, silenced.c.person).join_from(
    _WANTED,
    silenced,
    (silenced.c.message == sa.func.json_extract(_WANTED.c.value, "$[0]"))
    & (silenced.c.suffix == sa.func.json_extract(_WANTED.c.value, "$[1]")),
)


class _Copy(msgspec.Struct):
    copy: str
    recipient: str
    opens: bool
    clicks: bool


class _Facts(msgspec.Struct):
    accepted_at: datetime


class _Record(msgspec.Struct):
    """What of a journal record decides here: of a message its time and copies, of an event its copy."""

    kind: str
    event: str = ""
    copy: str = ""
    copies: tuple[_Copy, ...] = ()
    facts: _Facts | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """Who of a batch's recipients denied, and who is forgotten, until when."""

    denied: frozenset[bytes] = frozenset()
    until_ms: dict[bytes, int]


_DECODER: Final = msgspec.json.Decoder(_Record)


class Gate:
    """Lets the records of a batch pass, or not; inside the transaction that takes them in."""

    def __init__(
        self, connection: sa.Connection, *, persons: Persons | None, collect_for: timedelta, now: datetime
    ) -> None:
        """`persons` makes the hashes that consent is kept by; None: nobody has said anything."""
        self._connection = connection
        self._persons = persons
        self._since_ms = collected_since(now, collect_for)

    def admit(self, batch: Sequence[bytes]) -> list[bytes | None]:
        """Return the records as they may be taken in, in their order; None in the place of those that may not.

        One that cannot be read passes: it is put aside by whoever reads it.
        """
        persons = self._persons if any(map(self._has_rows, (consent, forgotten))) else None
        if persons is None and not self._has_rows(silenced):
            return list(batch)
        peeked = [_peek(raw) for raw in batch]
        admitted: list[bytes | None] = list(batch)
        if persons is not None:
            known = self._known(persons, (record for record in peeked if record is not None))
            if known.denied or known.until_ms:
                admitted = [self._message(raw, one, persons, known) for raw, one in zip(batch, peeked, strict=True)]
        silent = self._silent(record.copy for record in peeked if record is not None and record.copy)
        if not silent:
            return admitted
        return [self._event(raw, record, silent) for raw, record in zip(admitted, peeked, strict=True)]

    def _known(self, persons: Persons, batch: Iterable[_Record]) -> _Known:
        recipients = sorted({persons.of(one.recipient) for record in batch for one in record.copies})
        denied: set[bytes] = set()
        until_ms: dict[bytes, int] = {}
        for start in range(0, len(recipients), _CHUNK):
            these = recipients[start : start + _CHUNK]
            no = sa.select(consent.c.person).where(consent.c.person.in_(these), ~consent.c.allowed)
            denied.update(self._connection.execute(no).scalars())
            gone = sa.select(forgotten.c.person, forgotten.c.at_ms).where(forgotten.c.person.in_(these))
            until_ms.update((person, at_ms) for person, at_ms in self._connection.execute(gone))
        return _Known(denied=frozenset(denied), until_ms=until_ms)

    def _message(self, raw: bytes, record: _Record | None, persons: Persons, known: _Known) -> bytes | None:
        if record is None or record.kind not in _MESSAGES or record.facts is None:
            return raw
        accepted_ms = to_ms(record.facts.accepted_at)
        gone: list[_Copy] = []
        for one in record.copies:
            person = persons.of(one.recipient)
            message, _, suffix = one.copy.partition("-")
            tracked = one.opens or one.clicks
            copy = PersonsCopy(message=message, suffix=suffix, accepted_ms=accepted_ms, tracked=tracked)
            if accepted_ms <= known.until_ms.get(person, -1):
                gone.append(one)
                if record.kind == "accepted":  # of a message that was refused nothing more comes
                    silence(self._connection, [copy], None)
                self._connection.execute(event.delete().where(event.c.message == message, event.c.suffix == suffix))
            elif person in known.denied and tracked and accepted_ms >= self._since_ms:
                silence(self._connection, [copy], person)
        if not gone:
            return raw
        DROPPED.labels("forgotten").inc(len(gone))
        return _without(raw, gone)

    def _silent(self, copies: Iterable[str]) -> dict[str, bytes | None]:
        """Return which copies of a batch's events are silenced, and by whom; None: they are forgotten."""
        keys = [text.partition("-")[::2] for text in set(copies)]
        if not keys or not self._has_rows(silenced):
            return {}
        rows = self._connection.execute(_SILENCED, {"wanted": msgspec.json.encode(keys).decode()})
        return {f"{message}-{suffix}": person for message, suffix, person in rows}

    def _event(self, raw: bytes | None, record: _Record | None, silent: dict[str, bytes | None]) -> bytes | None:
        if raw is None or record is None or record.copy not in silent:
            return raw
        is_forgotten = silent[record.copy] is None
        if not is_forgotten and record.kind not in _HITS:
            return raw
        DROPPED.labels("forgotten" if is_forgotten else "denied").inc()
        self._connection.execute(pending.delete().where(pending.c.event_id == record.event))
        return None

    def _has_rows(self, table: sa.Table) -> bool:
        return self._connection.execute(sa.select(sa.literal(1)).select_from(table).limit(1)).scalar() is not None


def _peek(raw: bytes) -> _Record | None:
    try:
        return _DECODER.decode(raw)
    except msgspec.MsgspecError:
        return None


def _without(raw: bytes, gone: Sequence[_Copy]) -> bytes | None:
    """Return the record of a message without some of its copies, and without their addresses; None: none is left."""
    record = records.decode(raw)
    if not isinstance(record, Accepted | Rejected):
        raise TypeError("a record with copies is that of a message")
    names = {one.copy for one in gone}
    left = tuple(one for one in record.copies if str(one.copy) not in names)
    if not left:
        return None
    redacted = records.encode(msgspec.structs.replace(record, copies=()))
    for one in gone:
        redacted = Redaction(one.recipient).of_json(redacted)
    facts = records.decode(redacted)
    if not isinstance(facts, Accepted | Rejected):
        raise TypeError("a record without an address is of another kind")
    return records.encode(msgspec.structs.replace(facts, copies=left))
