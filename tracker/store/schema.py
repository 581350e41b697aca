"""The tables of the storage, as the code uses them; `migrations/` makes them, and a test compares the two.

Ids are stored as their text, so that a row can be found with the database's own shell; a copy is `message` and
`suffix`, its id's two halves. Times are whole milliseconds since 1970-01-01 UTC, in columns that end in `_ms`.

Theory:
    `event` is the log: a row is written once, with its record, and `seq` never goes back, so publishers and
    `mailwake events --follow` read it by position; a verdict that later hits change is changed in `agent_class`, not in
    the record. All counters are roll-ups of the log, kept in the same transaction: statistics never scan it, since its
    rows are thousands of bytes long.

    Roll-ups hold no ids and no addresses, so they may be kept longer than what they count. Text that is part of a key
    is empty where there is none. `span_ms` is how much time a row stands for, a quarter of an hour or a day (UTC):
    the days are there so that a month is read as quickly as an afternoon.
"""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    text,
)

from tracker.core.statistics import LINK_NAMES as LINK_STATISTICS
from tracker.core.statistics import NAMES as STATISTICS

HEAD: Final = "0007"  # the revision that these tables are

metadata: Final = MetaData()

_Number: Final = BigInteger().with_variant(Integer(), "sqlite")  # SQLite counts up in INTEGER alone

message: Final = Table(
    "message",
    metadata,
    Column("message", Text, primary_key=True),
    Column("accepted_ms", BigInteger, nullable=False, index=True),
    Column("configuration_set", Text),
    Column("from_domain", Text, nullable=False),
    Column("recipients", Integer, nullable=False),
    Column("facts", LargeBinary, nullable=False),  # MessageFacts as JSON: what every event is joined with
)

copy: Final = Table(
    "copy",
    metadata,
    Column("message", ForeignKey("message.message", ondelete="CASCADE"), primary_key=True),
    Column("suffix", Text, primary_key=True),
    Column("recipient", Text, nullable=False),
    Column("tracks_opens", Boolean, nullable=False),
    Column("tracks_clicks", Boolean, nullable=False),
    Column("delivered_ms", BigInteger),
    Column("bounced_ms", BigInteger),
    Column("delays", Integer, nullable=False),
    Column("opens", Integer, nullable=False),
    Column("human_opens", Integer, nullable=False),
    Column("clicks", Integer, nullable=False),
    Column("human_clicks", Integer, nullable=False),
    Column("opened_ms", BigInteger),  # the first one, as the next three: of any, and of those by humans
    Column("human_opened_ms", BigInteger),
    Column("clicked_ms", BigInteger),
    Column("human_clicked_ms", BigInteger),
    Index("ix_copy_recipient", "recipient"),  # made with COLLATE NOCASE, which a query that uses it must say, too
    sqlite_with_rowid=False,
)

copy_link: Final = Table(
    "copy_link",
    metadata,
    Column("message", Text, primary_key=True),
    Column("suffix", Text, primary_key=True),
    Column("link_index", Integer, primary_key=True),
    Column("clicks", Integer, nullable=False),
    Column("human_clicks", Integer, nullable=False),
    ForeignKeyConstraint(["message", "suffix"], ["copy.message", "copy.suffix"], ondelete="CASCADE"),
    sqlite_with_rowid=False,
)

event: Final = Table(
    "event",
    metadata,
    Column("seq", _Number, primary_key=True),
    Column("event_id", Text, nullable=False, unique=True),
    Column("type", Text, nullable=False),
    Column("at_ms", BigInteger, nullable=False, index=True),
    Column("message", Text, nullable=False),  # no foreign key: an event of an unknown message is an event
    Column("suffix", Text, nullable=False),
    Column("configuration_set", Text),
    Column("from_domain", Text),
    Column("first", Boolean),
    Column("agent_class", Text),
    Column("link_index", Integer),
    Column("hit", LargeBinary),  # Hit as JSON: what the verdict was made from
    Column("body", Text, nullable=False),  # the record's own part, which `bodies.py` makes whole, or all of it
    Index("ix_event_copy", "message", "suffix", "at_ms"),
    Index("ix_event_reject", "seq", sqlite_where=text("type = 'reject'")),  # they have no copy to be found by
    sqlite_autoincrement=True,  # a number is never used twice, whatever was deleted: cursors point between numbers
)

probe: Final = Table(
    "probe",
    metadata,
    Column("event_id", Text, primary_key=True),
    Column("message", Text, nullable=False),
    Column("suffix", Text, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("link_index", Integer),
    Index("ix_probe_copy", "message", "suffix", "at_ms"),
)

pending: Final = Table(
    "pending",
    metadata,
    Column("event_id", Text, primary_key=True),
    Column("message", Text, nullable=False, index=True),
    Column("since_ms", BigInteger, nullable=False, index=True),  # when ingest met it
    Column("record", LargeBinary, nullable=False),
)

cursor: Final = Table(
    "cursor",
    metadata,
    Column("slot", Text, primary_key=True),
    Column("segment", Text, nullable=False),
    Column("offset", BigInteger, nullable=False),
)

destination_cursor: Final = Table(
    "destination_cursor",
    metadata,
    Column("destination", Text, primary_key=True),
    Column("seq", BigInteger, nullable=False),  # the last event that this destination has or does not take
)

credential: Final = Table(
    "credential",
    metadata,
    Column("name", Text, primary_key=True),
    Column("password_hash", Text, nullable=False),
    Column("sender_domains", Text, nullable=False),  # a JSON list, as the next
    Column("configuration_sets", Text, nullable=False),
    Column("changed_ms", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

aside: Final = Table(
    "aside",
    metadata,
    Column("id", _Number, primary_key=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("slot", Text, nullable=False),
    Column("error", Text, nullable=False),
    Column("raw", LargeBinary, nullable=False),
    sqlite_autoincrement=True,
)

# --- settings that live in the storage --------------------------------------------------------------------------

revision: Final = Table(
    "revision",
    metadata,
    Column("subject", Text, primary_key=True),  # what it counts the changes of: "credential", "block", ...
    Column("number", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

# --- what is stopped --------------------------------------------------------------------------------------------

block: Final = Table(
    "block",
    metadata,
    Column("kind", Text, primary_key=True),  # "message", "set", "domain", "host"
    Column("value", Text, primary_key=True),
    Column("reason", Text, nullable=False),
    Column("added_ms", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

# --- events on their way to destinations ------------------------------------------------------------------------

destination_state: Final = Table(
    "destination_state",
    metadata,
    Column("destination", Text, primary_key=True),
    Column("fingerprint", Text, nullable=False),  # of its configuration: another one is tried at once
    Column("attempts", Integer, nullable=False),  # that failed, without a success between them
    Column("since_ms", BigInteger),  # when it began to fail, null while it does not
    Column("next_try_ms", BigInteger),
    Column("last_error", Text),
    Column("last_success_ms", BigInteger),
    Column("disabled_ms", BigInteger),  # when it said that it wants nothing any more
    sqlite_with_rowid=False,
)

dead_letter: Final = Table(
    "dead_letter",
    metadata,
    Column("id", _Number, primary_key=True),
    Column("destination", Text, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("event_id", Text, nullable=False, index=True),
    Column("type", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("suffix", Text, nullable=False),
    Column("at_ms", BigInteger, nullable=False, index=True),  # when it was given up
    Column("reason", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("replay_ms", BigInteger),  # when somebody asked that it is sent again, null while nobody does
    Column("body", Text, nullable=False),  # the record, as it is in the log
    Index("ix_dead_letter_destination", "destination", "replay_ms", "id"),
    Index("ix_dead_letter_copy", "message", "suffix"),  # what is forgotten or purged goes with its message
    sqlite_autoincrement=True,  # `replay --id` must not come to mean another
)

# --- consent ----------------------------------------------------------------------------------------------------

consent: Final = Table(
    "consent",
    metadata,
    Column("person", LargeBinary, primary_key=True),  # as tracker.contract.consent has it; no address is kept here
    Column("allowed", Boolean, nullable=False),
    Column("changed_ms", BigInteger, nullable=False),
    Column("source", Text, nullable=False),
    sqlite_with_rowid=False,
)

silenced: Final = Table(
    "silenced",  # copies whose hits are answered and not recorded
    metadata,
    Column("message", Text, primary_key=True),
    Column("suffix", Text, primary_key=True),
    Column("person", LargeBinary, index=True),  # who denied it, and may allow it again; NULL: it was forgotten
    Column("accepted_ms", BigInteger, nullable=False, index=True),
    sqlite_with_rowid=False,
)

forgotten: Final = Table(
    "forgotten",  # mail accepted until then has no copy of this person any more
    metadata,
    Column("person", LargeBinary, primary_key=True),
    Column("at_ms", BigInteger, nullable=False, index=True),
    sqlite_with_rowid=False,
)

# --- roll-ups: what `rollups.py` keeps ----------------------------------------------------------------------------


def _counts(names: tuple[str, ...]) -> list[Column[int]]:
    return [Column(name, BigInteger, nullable=False) for name in names]


message_count: Final = Table(  # what became of the copies of one message
    "message_count",
    metadata,
    Column("message", ForeignKey("message.message", ondelete="CASCADE"), primary_key=True),
    *_counts(STATISTICS),
    sqlite_with_rowid=False,
)

link_count: Final = Table(  # how the copies of one message followed one of its links; no row before the first did
    "link_count",
    metadata,
    Column("message", ForeignKey("message.message", ondelete="CASCADE"), primary_key=True),
    Column("link_index", Integer, primary_key=True),
    *_counts(LINK_STATISTICS),
    sqlite_with_rowid=False,
)

roll_up_event: Final = Table(  # events by when they happened
    "roll_up_event",
    metadata,
    Column("span_ms", BigInteger, primary_key=True),
    Column("start_ms", BigInteger, primary_key=True),
    Column("configuration_set", Text, primary_key=True),
    Column("from_domain", Text, primary_key=True),
    Column("type", Text, primary_key=True),
    Column("agent_class", Text, primary_key=True),
    Column("first", Boolean, primary_key=True),
    Column("count", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

roll_up_mail: Final = Table(  # what became of mail, by when it was accepted
    "roll_up_mail",
    metadata,
    Column("span_ms", BigInteger, primary_key=True),
    Column("start_ms", BigInteger, primary_key=True),
    Column("configuration_set", Text, primary_key=True),
    Column("from_domain", Text, primary_key=True),
    *_counts(STATISTICS),
    sqlite_with_rowid=False,
)

roll_up_tag: Final = Table(  # the same, by the day and a tag of the message's own
    "roll_up_tag",
    metadata,
    Column("day_ms", BigInteger, primary_key=True),
    Column("tag", Text, primary_key=True),
    Column("value", Text, primary_key=True),
    *_counts(STATISTICS),
    sqlite_with_rowid=False,
)

roll_up_link: Final = Table(  # how destinations were followed, by the day when the message was accepted
    "roll_up_link",
    metadata,
    Column("day_ms", BigInteger, primary_key=True),
    Column("configuration_set", Text, primary_key=True),
    Column("url", Text, primary_key=True),
    *_counts(LINK_STATISTICS),
    sqlite_with_rowid=False,
)

roll_up_hit: Final = Table(  # opens and clicks by the day when they happened: once by device, once by country
    "roll_up_hit",
    metadata,
    Column("day_ms", BigInteger, primary_key=True),
    Column("trait", Text, primary_key=True),  # "device", "country"
    Column("value", Text, primary_key=True),
    Column("configuration_set", Text, primary_key=True),
    Column("type", Text, primary_key=True),
    Column("agent_class", Text, primary_key=True),
    Column("count", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

roll_up_value: Final = Table(  # which values of a day are counted by name, the others being `other`: `values.py`
    "roll_up_value",
    metadata,
    Column("day_ms", BigInteger, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("value", Text, primary_key=True),
    sqlite_with_rowid=False,
)
