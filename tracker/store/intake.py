"""Journal records to rows: what one transaction of ingest does.

Owns the joining of an event with its message, `first`, the verdict, the counters, and what waits for its message. The
caller owns the transaction, the cursor, and what becomes of a record that cannot be applied.

Theory: everything is keyed. A message is taken in once by its id, an event once by its event id, whether it came
before, stands in this batch or waits in `pending`. So a journal that is read twice leaves the same rows, and the
counters are those of the rows, whatever the order.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert as upsert

from tracker.contract import records, ses
from tracker.contract.errors import RecordError
from tracker.contract.events import Accepted, Click, EventType, JournalRecord, Open, Probe, Rejected
from tracker.contract.ids import CopyId, EventId, MessageId
from tracker.contract.token import MAX_LINK_INDEX
from tracker.core.statistics import is_human
from tracker.store import copies, known, schema
from tracker.store.copies import CopyRow
from tracker.store.signs import Signs
from tracker.store.times import to_ms

Rows = list[dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A record as the journal had it; `is_expired`: it has waited for its message long enough."""

    slot: str
    raw: bytes
    is_expired: bool = False


class Intake:
    """Takes entries in on a connection, inside the caller's transaction; for one use."""

    def __init__(self, connection: sa.Connection, *, now: datetime, hostname: str) -> None:
        """`hostname` is the reporting MTA of the records."""
        self._connection = connection
        self._now_ms = to_ms(now)
        self._hostname = hostname
        self._mails: dict[MessageId, ses.Mail] = {}
        self._copies: dict[CopyId, CopyRow] = {}
        self._seen: set[EventId] = set()
        self._early: dict[MessageId, list[known.EarlyEvent]] = {}
        self._signs = Signs(connection)
        self._waiting: dict[EventId, ses.CopyEvent] = {}
        self._waited: list[EventId] = []
        self._rows: dict[sa.Table, Rows] = defaultdict(list)
        self._clicks: dict[tuple[CopyId, int], list[int]] = {}
        self.taken: list[EventType] = []

    def take(self, entries: Sequence[Entry]) -> None:
        """Apply the entries in their order and write all rows. RecordError and others: see `ingest.py`."""
        decoded = [(entry, records.decode(entry.raw)) for entry in entries]
        self._load([record for _, record in decoded])
        for entry, record in decoded:
            match record:
                case Accepted():
                    self._accept(record)
                case Probe():
                    self._probe(record)
                case Rejected():
                    self._reject(record)
                case _ if entry.is_expired:
                    self._waited.append(record.event)
                    self._add(record)
                case _ if record.event in self._seen:
                    pass  # emitted again after a crash, or read again
                case _ if record.copy.message not in self._mails:
                    self._seen.add(record.event)
                    self._waiting[record.event] = record
                case _:
                    self._seen.add(record.event)
                    self._add(record)
        self._write()

    # --- what is known ----------------------------------------------------------------------------------------

    def _load(self, batch: Sequence[JournalRecord]) -> None:
        messages = {
            record.facts.message if isinstance(record, Accepted | Rejected) else record.copy.message for record in batch
        }
        self._mails = known.mails(self._connection, messages)
        new = {record.facts.message for record in batch if isinstance(record, Accepted)} - self._mails.keys()
        waiting = known.waiting_for(self._connection, new)
        self._waiting = {record.event: record for record in waiting}
        events = [record for record in (*batch, *waiting) if not isinstance(record, Accepted | Probe | Rejected)]
        rejects = {ses.reject_id(one.copy) for record in batch if isinstance(record, Rejected) for one in record.copies}
        self._seen = known.events(self._connection, rejects | {record.event for record in events})
        self._copies = copies.load(self._connection, {record.copy for record in events})
        self._signs.load([record for record in (*batch, *waiting) if isinstance(record, Open | Click | Probe)])
        self._early = known.early_events(self._connection, new)

    # --- one record -------------------------------------------------------------------------------------------

    def _accept(self, record: Accepted) -> None:
        facts = record.facts
        if facts.message in self._mails:
            return
        mail = ses.Mail(facts, len(record.copies))
        bodies = [ses.encode_send(mail, one).decode() for one in record.copies]
        message, accepted_ms = str(facts.message), to_ms(facts.accepted_at)
        self._mails[facts.message] = mail
        self._rows[schema.message].append(known.message_columns(facts, len(record.copies)))
        self._rows[schema.link] += [
            {"message": message, "link_index": link.index, "url": link.url} for link in facts.links
        ]
        for one, body in zip(record.copies, bodies, strict=True):
            self._copies[one.copy] = CopyRow(facts=one, is_new=True)
            self._log(EventType.SEND, ses.send_id(one.copy), one.copy, accepted_ms, body, mail, first=True)
        for early in self._early.get(facts.message, ()):
            self._count(early.copy, early.type, early.at_ms, early.agent_class, early.link_index)
        for event in [event for event in self._waiting.values() if event.copy.message == facts.message]:
            del self._waiting[event.event]
            self._waited.append(event.event)
            self._add(event)

    def _reject(self, record: Rejected) -> None:
        """Log the Rejects of a message that was not accepted; statistics know nothing of it."""
        mail = ses.Mail(record.facts, len(record.copies))
        at_ms = to_ms(record.facts.accepted_at)
        for one in record.copies:
            event = ses.reject_id(one.copy)
            if event not in self._seen:
                self._seen.add(event)
                body = ses.encode_reject(mail, one, record.reply).decode()
                self._log(EventType.REJECT, event, one.copy, at_ms, body, mail, first=True)

    def _probe(self, record: Probe) -> None:
        message, suffix = copies.key(record.copy)
        self._rows[schema.probe].append(
            {
                "event_id": str(record.event),
                "message": message,
                "suffix": suffix,
                "at_ms": to_ms(record.hit.at),
                "link_index": record.link_index,
            }
        )

    def _add(self, record: ses.CopyEvent) -> None:
        """Write an event into the log, joined with its message where that is known, and count it."""
        kind = ses.type_of(record)
        mail = self._mails.get(record.copy.message)
        row = self._copies.get(record.copy) if mail is not None else None
        link_index = record.link_index if isinstance(record, Click) else None
        if link_index is not None and not 0 <= link_index <= MAX_LINK_INDEX:
            raise RecordError(f"link index {link_index} is impossible")
        first = None if row is None else not row.has_had(kind)
        hit, agent = None, None
        if isinstance(record, Open | Click):
            hit, at_ms = msgspec.json.encode(record.hit), to_ms(record.hit.at)
            agent = self._signs.judge(record, row.delivered_ms if row is not None else None)
        else:
            at_ms = to_ms(record.at)
        about = ses.About(message=mail, copy=row.facts if row is not None else None, first=first, agent=agent)
        body = ses.encode(record, about, hostname=self._hostname).decode()
        agent_class = agent.kind if agent is not None else None
        self._log(
            kind,
            record.event,
            record.copy,
            at_ms,
            body,
            mail,
            first=first,
            agent_class=agent_class,
            link_index=link_index,
            hit=hit,
        )
        self._count(record.copy, kind, at_ms, agent_class, link_index)

    def _count(
        self, copy: CopyId, kind: EventType, at_ms: int, agent_class: str | None, link_index: int | None
    ) -> None:
        row = self._copies.get(copy)
        if row is None:
            return
        row.count(kind, at_ms, agent_class)
        if link_index is not None:
            counts = self._clicks.setdefault((copy, link_index), [0, 0])
            counts[0] += 1
            counts[1] += is_human(agent_class)

    def _log(  # noqa: PLR0917
        self,
        kind: EventType,
        event: EventId,
        copy: CopyId,
        at_ms: int,
        body: str,
        mail: ses.Mail | None,
        *,
        first: bool | None,
        agent_class: str | None = None,
        link_index: int | None = None,
        hit: bytes | None = None,
    ) -> None:
        message, suffix = copies.key(copy)
        self.taken.append(kind)
        self._rows[schema.event].append(
            {
                "event_id": str(event),
                "type": kind.value,
                "at_ms": at_ms,
                "message": message,
                "suffix": suffix,
                "configuration_set": mail.facts.configuration_set if mail is not None else None,
                "from_domain": mail.facts.from_domain if mail is not None else None,
                "first": first,
                "agent_class": agent_class,
                "link_index": link_index,
                "hit": hit,
                "body": body,
            }
        )

    # --- rows -------------------------------------------------------------------------------------------------

    def _write(self) -> None:
        """Parents first; `seq` follows the order of the batch."""
        for table in (schema.message, schema.link):
            self._insert(table)
        copies.write(self._connection, self._copies.values())
        self._insert(schema.event)
        if self._clicks:
            self._connection.execute(_ADD_CLICKS, [_click_columns(*item) for item in self._clicks.items()])
        if self._rows[schema.probe]:
            self._connection.execute(upsert(schema.probe).on_conflict_do_nothing(), self._rows[schema.probe])
        if self._waited:
            gone = [{"gone": str(event)} for event in self._waited]
            self._connection.execute(_STOP_WAITING, gone)
        if self._waiting:
            rows = [
                {
                    "event_id": str(event),
                    "message": str(record.copy.message),
                    "since_ms": self._now_ms,
                    "record": records.encode(record),
                }
                for event, record in self._waiting.items()
            ]
            self._connection.execute(upsert(schema.pending).on_conflict_do_nothing(), rows)

    def _insert(self, table: sa.Table) -> None:
        if self._rows[table]:
            self._connection.execute(table.insert(), self._rows[table])


_STOP_WAITING: Final = schema.pending.delete().where(schema.pending.c.event_id == sa.bindparam("gone"))
_new_clicks = upsert(schema.copy_link)
_ADD_CLICKS: Final = _new_clicks.on_conflict_do_update(
    index_elements=["message", "suffix", "link_index"],
    set_={
        "clicks": schema.copy_link.c.clicks + _new_clicks.excluded.clicks,
        "human_clicks": schema.copy_link.c.human_clicks + _new_clicks.excluded.human_clicks,
    },
)


def _click_columns(link: tuple[CopyId, int], counts: Sequence[int]) -> dict[str, Any]:
    (copy, link_index), (clicks, human_clicks) = link, counts
    message, suffix = copies.key(copy)
    return {
        "message": message,
        "suffix": suffix,
        "link_index": link_index,
        "clicks": clicks,
        "human_clicks": human_clicks,
    }
