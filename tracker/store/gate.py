"""What ingest leaves out: hits of people who do not want to be tracked, and all that is left of the forgotten.

A journal holds for a while what was recorded before somebody said no, and mail that waits in a spool still has
outcomes. So every batch passes here before anything of it is written. A message of somebody who denied has its copy
silenced, in case its tokens are older than the denial.

Theory: who was forgotten is forgotten until the moment of the command: mail that was accepted later is a new matter.
Their copies are known by the rows of `silenced` that name no person, those that come yet by the tombstone.

Limits: `mailwake.recipients` of such a message counts those that are left.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final

import msgspec
import sqlalchemy as sa
from prometheus_client import Counter

from tracker.contract import records
from tracker.contract.consent import Persons
from tracker.contract.events import Accepted, Click, CopyFacts, JournalRecord, MessageFacts, Open, Probe, Rejected
from tracker.core.redaction import Redaction
from tracker.store.consent import PersonsCopy, collected_since, silence
from tracker.store.copies import WANTED, is_wanted, key, wanted
from tracker.store.schema import consent, event, forgotten, pending, silenced
from tracker.store.times import to_ms

DROPPED: Final = Counter("mailwake_ingest_dropped_total", "Records that ingest left out for consent's sake.", ["why"])

_CHUNK: Final = 500  # below the number of parameters that any SQLite takes
_SILENCED: Final = sa.select(silenced.c.message, silenced.c.suffix, silenced.c.person).join_from(
    WANTED, silenced, is_wanted(silenced)
)


class Gate:
    """Lets the records of a batch pass, or not; inside the transaction that takes them in."""

    def __init__(
        self, connection: sa.Connection, *, persons: Persons | None, collect_for: timedelta, now: datetime
    ) -> None:
        """`persons` makes the hashes that consent is kept by; None: nobody has said anything."""
        self._connection = connection
        self._persons = persons
        self._since_ms = collected_since(now, collect_for)

    def admit(self, batch: Sequence[JournalRecord]) -> list[JournalRecord | None]:
        """Return the records as they may be taken in, in their order; None in the place of those that may not."""
        messages = [record for record in batch if isinstance(record, Accepted | Rejected)]
        denied, until_ms = self._known(messages)
        admitted: list[JournalRecord | None] = []
        for record in batch:
            if isinstance(record, Accepted | Rejected) and (denied or until_ms):
                admitted.append(self._message(record, denied, until_ms))
            else:
                admitted.append(record)
        silent = self._silent(record for record in batch if not isinstance(record, Accepted | Rejected))
        return [self._event(record, silent) for record in admitted] if silent else admitted

    def _known(self, messages: Iterable[Accepted | Rejected]) -> tuple[set[bytes], dict[bytes, int]]:
        """Return who of the recipients denied, and who is forgotten, until when."""
        if self._persons is None or not (
            _has_rows(self._connection, consent) or _has_rows(self._connection, forgotten)
        ):
            return set(), {}
        persons = sorted({self._persons.of(one.recipient) for record in messages for one in record.copies})
        denied: set[bytes] = set()
        until_ms: dict[bytes, int] = {}
        for start in range(0, len(persons), _CHUNK):
            these = persons[start : start + _CHUNK]
            no = sa.select(consent.c.person).where(consent.c.person.in_(these), ~consent.c.allowed)
            denied.update(self._connection.execute(no).scalars())
            gone = sa.select(forgotten.c.person, forgotten.c.at_ms).where(forgotten.c.person.in_(these))
            until_ms.update(tuple(row) for row in self._connection.execute(gone))
        return denied, until_ms

    def _message(
        self, record: Accepted | Rejected, denied: set[bytes], until_ms: dict[bytes, int]
    ) -> Accepted | Rejected | None:
        assert self._persons is not None  # noqa: S101 - who is known was asked with it
        accepted_ms = to_ms(record.facts.accepted_at)
        gone: list[CopyFacts] = []
        for one in record.copies:
            person = self._persons.of(one.recipient)
            tracked = one.opens or one.clicks
            message, suffix = key(one.copy)
            copy = PersonsCopy(message=message, suffix=suffix, accepted_ms=accepted_ms, tracked=tracked)
            if accepted_ms <= until_ms.get(person, -1):
                gone.append(one)
                if isinstance(record, Accepted):  # of a message that was refused nothing more comes
                    silence(self._connection, [copy], None)
                self._connection.execute(event.delete().where(event.c.message == message, event.c.suffix == suffix))
            elif person in denied and tracked and accepted_ms >= self._since_ms:
                silence(self._connection, [copy], person)
        if not gone:
            return record
        DROPPED.labels("forgotten").inc(len(gone))
        left = tuple(one for one in record.copies if one not in gone)
        if not left:
            return None
        facts = without(record.facts, [Redaction(one.recipient) for one in gone])
        return msgspec.structs.replace(record, facts=facts, copies=left)

    def _silent(self, events: Iterable[JournalRecord]) -> dict[tuple[str, str], bytes | None]:
        """Return which copies of a batch's events are silenced, and by whom."""
        copies = {record.copy for record in events if not isinstance(record, Accepted | Rejected)}
        if not copies or not _has_rows(self._connection, silenced):
            return {}
        rows = self._connection.execute(_SILENCED, wanted(copies))
        return {(message, suffix): person for message, suffix, person in rows}

    def _event(self, record: JournalRecord | None, silent: dict[tuple[str, str], bytes | None]) -> JournalRecord | None:
        if record is None or isinstance(record, Accepted | Rejected) or key(record.copy) not in silent:
            return record
        is_forgotten = silent[key(record.copy)] is None
        if not is_forgotten and not isinstance(record, Open | Click | Probe):
            return record
        DROPPED.labels("forgotten" if is_forgotten else "denied").inc()
        self._connection.execute(pending.delete().where(pending.c.event_id == str(record.event)))
        return None


def without(facts: MessageFacts, redactions: Sequence[Redaction]) -> MessageFacts:
    """Return the facts of a message without some addresses."""
    raw = records.encode(Accepted(facts=facts, copies=()))
    for redaction in redactions:
        raw = redaction.of_json(raw)
    record = records.decode(raw)
    if not isinstance(record, Accepted):
        raise TypeError("the facts of a message are of another kind")
    return record.facts


def _has_rows(connection: sa.Connection, table: sa.Table) -> bool:
    return connection.execute(sa.select(sa.literal(1)).select_from(table).limit(1)).scalar() is not None
