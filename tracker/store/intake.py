"""Journal records to rows: what one transaction of ingest does.

Owns the joining of an event with its message, `first`, the verdict, the counters, and what waits for its message. The
caller owns the transaction, the cursor, and what becomes of a record that cannot be applied.

Theory: everything is keyed. A message is taken in once by its id, an event once by its event id, whether it came
before, stands in this batch or waits in `pending`. So a journal that is read twice leaves the same rows, and the
counters are those of the rows, whatever the order. Verdicts are drawn with all signs of the batch in hand, and those
that the batch changes are corrected in it (`verdicts.py`), so they do not depend on the order either.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple

import msgspec
import sqlalchemy as sa

from tracker.contract import records, ses
from tracker.contract.errors import RecordError
from tracker.contract.events import (
    Click,
    Delivery,
    EventType,
    Open,
    Probe,
    Rejected,
)
from tracker.contract.ids import MESSAGE_ID_CHARACTERS, CopyId
from tracker.contract.token import MAX_LINK_INDEX
from tracker.core.around import SWEEP_WINDOW_MS
from tracker.core.statistics import is_human
from tracker.store import bulk, copies, known, schema, verdicts
from tracker.store.copies import CopyRow
from tracker.store.known import Arrived, ArrivedRecord
from tracker.store.rollups import EventKey, Message, RollUps, quarter_of
from tracker.store.signs import PROBE_WINDOW_MS, Signs, device_of, taints
from tracker.store.times import to_ms
from tracker.store.verdicts import FOREVER_MS, Window

_OPEN, _CLICK = _HITS = (EventType.OPEN, EventType.CLICK)  # named once: the enumeration is slow to ask
_NAMES: Final = {kind: kind.value for kind in EventType}
_HIT_RECORDS: Final = (Open, Click)
_MESSAGE_RECORDS: Final = (Arrived, Rejected)
_TYPE: Final = 1  # where a row of the log has it
_HIT_ENCODER: Final = msgspec.json.Encoder()

_INSERT_MESSAGES: Final = bulk.insert(schema.message)
_INSERT_EVENTS: Final = bulk.insert(schema.event)
_INSERT_PROBES: Final = bulk.insert_new(schema.probe)
_INSERT_PENDING: Final = bulk.insert_new(schema.pending)
_STOP_WAITING: Final = bulk.Bulk(
    schema.pending.delete().where(schema.pending.c.event_id == sa.bindparam("gone")), ("gone",)
)


class Entry(NamedTuple):
    """A record as the journal had it; `is_expired`: it has waited for its message long enough."""

    slot: str
    raw: bytes
    is_expired: bool = False


class Intake:
    """Takes entries in on a connection, inside the caller's transaction; for one use.

    Messages, copies and events are looked up by the texts of their ids.
    """

    def __init__(self, connection: sa.Connection, *, now: datetime, hostname: str, is_careful: bool = True) -> None:
        """`hostname` is the reporting MTA of the records.

        Careful, it asks of each event whether the log has it; else it does not, and to insert one that is there fails.
        """
        self._is_careful = is_careful
        self._connection = connection
        self._now_ms = to_ms(now)
        self._hostname = hostname
        self._messages: dict[str, Message] = {}
        self._copies: dict[str, CopyRow] = {}
        self._seen: set[str] = set()
        self._early: dict[str, list[known.EarlyEvent]] = {}
        self._delivered: dict[str, int] = {}
        self._signs = Signs()
        self._doubtful: list[verdicts.StoredHit] = []
        self._corrected: list[tuple[verdicts.StoredHit, ses.Agent]] = []
        self._waiting: dict[str, ses.CopyEvent] = {}
        self._waited: list[str] = []
        self._roll_ups = RollUps(connection)
        self._events: list[bulk.Row] = []
        self._rows: dict[sa.Table, list[bulk.Row]] = defaultdict(list)

    def take(self, entries: Sequence[Entry]) -> None:
        """Apply the entries in their order and write all rows. RecordError and others: see `ingest.py`."""
        decoded = [(entry, known.decode(entry.raw)) for entry in entries]
        self._load([record for _, record in decoded])
        for entry, record in decoded:
            match record:
                case Arrived():
                    self._accept(record)
                case Probe():
                    self._probe(record)
                case Rejected():
                    self._reject(record)
                case _:
                    self._happened(record, is_expired=entry.is_expired)
        self._correct()
        self._write()

    @property
    def taken(self) -> Counter[str]:
        """How many events of each type were taken in."""
        return Counter(row[_TYPE] for row in self._events)

    # --- what is known ----------------------------------------------------------------------------------------

    def _load(self, batch: Sequence[ArrivedRecord]) -> None:
        of_copies = [record for record in batch if not isinstance(record, _MESSAGE_RECORDS)]
        accepted = {record.message.text for record in batch if isinstance(record, Arrived)}
        named = {record.copy.text[:MESSAGE_ID_CHARACTERS] for record in of_copies}
        self._messages = known.messages(self._connection, accepted | named)
        new = accepted - self._messages.keys()
        waiting = known.waiting_for(self._connection, new)
        self._waiting = {record.event.text: record for record in waiting}
        of_copies += waiting
        events = [record for record in of_copies if not isinstance(record, Probe)]
        self._seen = known.events(self._connection, self._doubted(batch, events, new))
        stored = {
            record.copy.text: record.copy
            for record in of_copies
            if record.copy.text[:MESSAGE_ID_CHARACTERS] in self._messages
        }
        self._copies = copies.load(self._connection, stored.values())
        self._early = known.early_events(self._connection, new)
        for record in events:
            if isinstance(record, Delivery) and (
                record.event.text not in self._seen or record.event.text in self._waiting
            ):
                copy, at_ms = record.copy.text, to_ms(record.at)
                self._delivered[copy] = min(at_ms, self._delivered.get(copy, at_ms))
        self._load_signs([record for record in of_copies if isinstance(record, Open | Click | Probe)])

    def _doubted(self, batch: Sequence[ArrivedRecord], events: Sequence[ses.CopyEvent], new: set[str]) -> set[str]:
        """Return the ids of events that the log or `pending` is asked for: all, or those of unknown messages."""
        rejects = {
            ses.reject_id(one.copy).text for record in batch if isinstance(record, Rejected) for one in record.copies
        }
        if self._is_careful:
            return rejects.union([record.event.text for record in events])
        found = self._messages.keys() | new
        unknown = [record.event.text for record in events if record.copy.text[:MESSAGE_ID_CHARACTERS] not in found]
        return rejects.union(unknown, self._waiting)

    def _load_signs(self, hits: Sequence[Open | Click | Probe]) -> None:
        """Know of all that lies around the batch's hits, and of the stored hits whose verdicts it may change."""
        around: dict[str, Window] = defaultdict(Window)
        doubtful: dict[str, Window] = defaultdict(Window)
        for record in hits:
            copy, at_ms = record.copy.text, to_ms(record.hit.at)
            around[copy].hold(at_ms, at_ms)
            if isinstance(record, Probe):
                if not taints(record):
                    continue
                self._signs.add_probe(copy, at_ms)
                doubtful[copy].hold(at_ms - PROBE_WINDOW_MS, at_ms + PROBE_WINDOW_MS)
            elif isinstance(record, Click):
                self._signs.add_click(copy, record.link_index, record.hit)
                doubtful[copy].hold(at_ms - SWEEP_WINDOW_MS, at_ms + SWEEP_WINDOW_MS)
        for copy, delivered_ms in self._delivered.items():
            row = self._copies.get(copy)
            if row is not None and (row.delivered_ms is None or delivered_ms < row.delivered_ms):
                window = verdicts.window_of_delivery(delivered_ms, row.delivered_ms)
                doubtful[copy].hold(window.from_ms, window.until_ms)
        early = {one.copy for events in self._early.values() for one in events if one.type in _HITS}
        for copy in early:
            doubtful[copy].hold(-FOREVER_MS, FOREVER_MS)
        for copy in list(doubtful):
            row = self._copies.get(copy)
            if row is not None and not row.opens and not row.clicks:
                del doubtful[copy]  # the storage has no hit of it
        stored = verdicts.stored_hits(self._connection, _keys(doubtful, SWEEP_WINDOW_MS))
        for one in stored:
            if one.link_index is not None:
                self._signs.add_click(one.copy, one.link_index, one.hit)
        self._doubtful = [one for one in stored if doubtful[one.copy].holds(one.at_ms)]
        for copy, window in doubtful.items():
            around[copy].hold(window.from_ms, window.until_ms)
        self._signs.read_probes(self._connection, _keys(around, PROBE_WINDOW_MS))

    # --- one record -------------------------------------------------------------------------------------------

    def _accept(self, record: Arrived) -> None:
        message = record.message
        text = message.text
        if text in self._messages:
            return
        self._messages[text] = message
        self._rows[schema.message].append(known.message_row(record))
        self._roll_ups.know_links(message)
        key = _key(message, message.accepted_ms, "send")
        for one in record.copies:
            self._copies[one.copy.text] = CopyRow(one, is_new=True)
            event = ses.send_id(one.copy)
            self._log(event.text, one.copy, key, message.accepted_ms, ses.own_send(message.mail, one, event))
        for early in self._early.get(text, ()):
            row = self._copies.get(early.copy)
            if row is not None:
                row.count(early.type, early.at_ms, early.agent_class, early.link_index, early.times)
        for late in [event for event in self._waiting.values() if event.copy.text[:MESSAGE_ID_CHARACTERS] == text]:
            del self._waiting[late.event.text]
            self._waited.append(late.event.text)
            self._add(late)

    def _happened(self, record: ses.CopyEvent, *, is_expired: bool) -> None:
        event = record.event.text
        if is_expired:
            self._waited.append(event)
            self._add(record)
        elif event in self._seen:
            return  # emitted again after a crash, or read again
        else:
            _check(record)
            self._seen.add(event)
            if record.copy.text[:MESSAGE_ID_CHARACTERS] in self._messages:
                self._add(record)
            else:
                self._waiting[event] = record

    def _reject(self, record: Rejected) -> None:
        """Log the Rejects of a message that was not accepted; statistics of mail know nothing of it."""
        message = Message(ses.Mail(record.facts, len(record.copies)))
        key = _key(message, message.accepted_ms, "reject")
        for one in record.copies:
            event = ses.reject_id(one.copy).text
            if event not in self._seen:
                self._seen.add(event)
                body = ses.encode_reject(message.mail, one, record.reply)
                self._log(event, one.copy, key, message.accepted_ms, body)

    def _probe(self, record: Probe) -> None:
        if not taints(record):
            return
        row = (record.event.text, *copies.key(record.copy), to_ms(record.hit.at), record.link_index)
        self._rows[schema.probe].append(row)

    def _add(self, record: ses.CopyEvent) -> None:
        """Write an event into the log, joined with its message where that is known, and count it."""
        copy = record.copy.text
        message = self._messages.get(copy[:MESSAGE_ID_CHARACTERS])
        row = self._copies.get(copy) if message is not None else None
        if isinstance(record, _HIT_RECORDS):
            self._add_hit(record, message, row)
            return
        kind, at_ms = ses.type_of(record), to_ms(record.at)
        about = _about(message, row, kind)
        body = ses.encode_own(record, about, hostname=self._hostname)
        key = _key(message, at_ms, _NAMES[kind], first=about.first)
        self._log(record.event.text, record.copy, key, at_ms, body, first=about.first)
        if row is not None:
            row.count(kind, at_ms)

    def _add_hit(self, record: Open | Click, message: Message | None, row: CopyRow | None) -> None:
        hit, copy, at_ms = record.hit, record.copy.text, to_ms(record.hit.at)
        link_index = record.link_index if isinstance(record, Click) else None
        kind = _OPEN if link_index is None else _CLICK
        agent = self._signs.judge(copy, kind, hit, link_index, self._delivered_ms(copy))
        about = _about(message, row, kind, agent)
        body = ses.encode_own(record, about, hostname=self._hostname)
        key = _key(message, at_ms, _NAMES[kind], agent.kind, first=about.first)
        self._log(record.event.text, record.copy, key, at_ms, body, first=about.first, hit=record)
        self._roll_ups.add_hit(key, device_of(agent), hit.country, hit.count)
        if row is not None:
            row.count(kind, at_ms, agent.kind, link_index, hit.count)

    def _log(
        self,
        event: str,
        copy: CopyId,
        key: EventKey,
        at_ms: int,
        body: bytes,
        *,
        first: bool | None = True,
        hit: Open | Click | None = None,
    ) -> None:
        """Write a row of the log; hits are counted by who calls."""
        _, name, domain, kind, agent_class, _ = key
        message, suffix = copies.key(copy)
        link_index = encoded = None
        if hit is None:
            self._roll_ups.add_event(key)
        else:
            link_index = hit.link_index if isinstance(hit, Click) else None
            encoded = _HIT_ENCODER.encode(hit.hit)
        row = (
            event, kind, at_ms, message, suffix, name or None, domain or None, first, agent_class or None, link_index,
            encoded, body.decode(),
        )  # fmt: skip
        self._events.append(row)

    # --- verdicts of before -----------------------------------------------------------------------------------

    def _delivered_ms(self, copy: str) -> int | None:
        """Return when a copy was delivered, as the whole batch knows it; None where its message is not known."""
        row = self._copies.get(copy)
        if row is None:
            return None
        learnt_ms = self._delivered.get(copy)
        if learnt_ms is None or row.delivered_ms is None:
            return row.delivered_ms if learnt_ms is None else learnt_ms
        return min(row.delivered_ms, learnt_ms)

    def _correct(self) -> None:
        """Judge the stored hits again that the batch concerns, and count those otherwise whose verdict has changed."""
        self._corrected = list(verdicts.rejudge(self._doubtful, self._signs, self._delivered_ms))
        for one, agent in self._corrected:
            old = EventKey(
                quarter_of(one.at_ms),
                one.configuration_set,
                one.from_domain,
                one.type.value,
                one.agent_class,
                one.first,
            )
            device, count = device_of(agent), one.hit.count
            self._roll_ups.add_hit(old, device, one.hit.country, -count)
            self._roll_ups.add_hit(old._replace(agent_class=agent.kind), device, one.hit.country, count)
            row = self._copies.get(one.copy)
            humans = count * (is_human(agent.kind) - is_human(one.agent_class))
            if row is not None and humans:
                row.correct(one.type, one.link_index, humans)

    # --- rows -------------------------------------------------------------------------------------------------

    def _write(self) -> None:
        """Parents first; `seq` follows the order of the batch."""
        connection, rows = self._connection, self._copies.values()
        for row in rows:
            if row.is_new or row.is_changed:
                self._sum_up(row)
        _INSERT_MESSAGES.run(connection, self._rows[schema.message])
        copies.write(connection, rows)
        _INSERT_EVENTS.run(connection, self._events)
        verdicts.correct(connection, self._corrected)
        copies.find_first_human(connection, rows)
        self._roll_ups.write()
        _INSERT_PROBES.run(connection, self._rows[schema.probe])
        _STOP_WAITING.run(connection, [(event,) for event in self._waited])
        waiting = [
            (event, record.copy.text[:MESSAGE_ID_CHARACTERS], self._now_ms, records.encode(record))
            for event, record in self._waiting.items()
        ]
        _INSERT_PENDING.run(connection, waiting)

    def _sum_up(self, row: CopyRow) -> None:
        """Add to the roll-ups what the batch has made of a copy."""
        message = self._messages[row.facts.copy.text[:MESSAGE_ID_CHARACTERS]]
        self._roll_ups.add_copies(message, row.difference())
        if row.links_before is None:
            return
        for link_index, counts in row.link_differences():
            self._roll_ups.add_clicks(message, link_index, counts)
        for url, counts in row.destination_differences(message.mail.links):
            self._roll_ups.add_destination(message, url, counts)


def _check(record: ses.CopyEvent) -> None:
    """Refuse a hit that cannot be, before it waits for its message: later that would be put aside with it."""
    if isinstance(record, Click) and not 0 <= record.link_index <= MAX_LINK_INDEX:
        raise RecordError(f"link index {record.link_index} is impossible")
    if isinstance(record, _HIT_RECORDS) and record.hit.count < 1:
        raise RecordError(f"a hit cannot stand for {record.hit.count}")


def _about(message: Message | None, row: CopyRow | None, kind: EventType, agent: ses.Agent | None = None) -> ses.About:
    mail = message.mail if message is not None else None
    return (
        ses.About(mail, None, None, agent) if row is None else ses.About(mail, row.facts, not row.has_had(kind), agent)
    )


def _key(
    message: Message | None, at_ms: int, name: str, agent_class: str = "", *, first: bool | None = True
) -> EventKey:
    if message is None:
        return EventKey(quarter_of(at_ms), "", "", name, agent_class, bool(first))
    return EventKey(quarter_of(at_ms), message.configuration_set, message.from_domain, name, agent_class, bool(first))


def _keys(windows: Mapping[str, Window], more_ms: int) -> Iterator[tuple[str, str, int, int]]:
    """Give message, suffix and both ends of each window, made wider by what its signs may be away."""
    for copy, window in windows.items():
        message, _, suffix = copy.partition("-")
        yield message, suffix, window.from_ms - more_ms, window.until_ms + more_ms
