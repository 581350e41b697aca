"""The tables of the storage, as the code uses them; `migrations/` makes them, and a test compares the two.

Ids are stored as their text, so that a row can be found with the database's own shell; a copy is `message` and
`suffix`, its id's two halves. Times are whole milliseconds since 1970-01-01 UTC, in columns that end in `_ms`.

Theory:
    `event` is the log: a row is written once, with its finished record, and `seq` never goes back, so publishers and
    `mailwake events --follow` read it by position. The counters of `copy` and `copy_link` are roll-ups of it, kept in
    the same transaction: statistics never scan the log, whose rows are thousands of bytes long.
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
)

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
    Index("ix_copy_recipient", "recipient"),  # made with COLLATE NOCASE, which a query that uses it must say, too
    sqlite_with_rowid=False,
)

link: Final = Table(
    "link",
    metadata,
    Column("message", ForeignKey("message.message", ondelete="CASCADE"), primary_key=True),
    Column("link_index", Integer, primary_key=True),
    Column("url", Text, nullable=False),
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
    Column("body", Text, nullable=False),  # the finished record, as every destination gets it
    Index("ix_event_copy", "message", "suffix", "at_ms"),
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
