"""The records of the log: kept without what all events of a message share, and made whole as they are read.

Header fields and tags of a message are in its row, once. An event's `body` is its own part, as
`tracker.contract.sesmail` has it; a body without a line end is whole: a Reject, an event whose message was not known, a
row of an earlier version.

Limits: where a message has gone before its event, the record's `mail` is the short one of an unknown message.
"""

from collections.abc import Iterable
from typing import Final

import msgspec
import sqlalchemy as sa

from tracker.contract import records
from tracker.contract.ids import MessageId
from tracker.contract.sesmail import MARK, Shared, StoredFacts, marked
from tracker.core.redaction import Redaction
from tracker.store import bulk
from tracker.store.schema import message

_QUERY: Final = bulk.Query(sa.select(message.c.facts).where(message.c.message == sa.bindparam("id")), ("id",))
_ACCEPTED: Final = (b'{"kind":"accepted","facts":', b',"copies":[]}')
_FACTS: Final = msgspec.json.Decoder(StoredFacts, dec_hook=records.id_from_text)


class Bodies:
    """Makes records whole, within one transaction: facts that were read once are not read again."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        self._shared: dict[str, Shared] = {}

    def whole(self, message_id: str, body: str) -> str:
        """Return the record of an event of that message, of which the log has this."""
        if MARK not in body:
            return body
        shared = self._shared.get(message_id)
        if shared is None:
            shared = self._shared[message_id] = self._read(message_id)
        return shared.whole(body.encode()).decode()

    def all(self, rows: Iterable[tuple[str, str]]) -> list[str]:
        """Return the records of events of which message and body are given."""
        return [self.whole(message_id, body) for message_id, body in rows]

    def _read(self, message_id: str) -> Shared:
        found = _QUERY.of(self._connection, [(message_id,)])
        if found:
            return Shared.of(facts_of(found[0][0]))
        return Shared.of_unknown(MessageId.parse(message_id))


def facts_column(facts: bytes) -> bytes:
    """Return what a message's row has of its facts: an `Accepted` without copies.

    The journal's codec is the one that outlives versions.
    """
    return facts.join(_ACCEPTED)


def facts_of(column: bytes) -> StoredFacts:
    """Read what `facts_column` has made."""
    return read_facts(column[len(_ACCEPTED[0]) : -len(_ACCEPTED[1])])


def read_facts(facts: bytes) -> StoredFacts:
    """Read a message's facts. msgspec.MsgspecError: they are none."""
    return _FACTS.decode(facts)


def redacted(redaction: Redaction, body: str) -> str:
    """Return a body without an address, the same text where it has none."""
    before = body.encode()
    after = redaction.of_json(before)
    if after == before:
        return body
    return (marked(after) if MARK in body else after).decode()
