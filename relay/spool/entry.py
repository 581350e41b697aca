"""The envelope of a spool file: all that is known of a message but its bytes, as JSON.

A file outlives a version: a field may be added with a default, never renamed, retyped or given another meaning. Ids
are their text, as in the journal (`tracker/contract/records.py`), for the facts here are the journal's very record.
"""

from typing import Final

import msgspec
from msgspec import Struct

from relay.core.dsnrequest import NO_REQUEST, DsnRequest
from relay.core.plan import RewriteOptions
from relay.spool.errors import SpoolDamagedError
from tracker.contract.events import Accepted
from tracker.contract.ids import MessageId
from tracker.contract.records import id_from_text, id_to_text


class SpoolEntry(Struct, frozen=True, kw_only=True):
    """A message that waits for its copies to be made and sent.

    `accepted` is the record that was journalled, and is journalled again after a crash. `recipients` stand in the order
    of `accepted.copies`; `reverse_path` is empty for the null sender. `rewrite` is None for a message that passes
    untouched: its recipients share transactions. `dsn` is what the client asked of reports, for each of `recipients`.
    `report`: it is itself a delivery report, has no events and causes no report. `dkim` names the table that signs it,
    None where none does. `fallbacks` are the upstreams that are tried, in order, while `upstream` cannot be used.
    `smtputf8`: the client asked for the extension, and the header needs it; what an address needs is seen from it.
    """

    accepted: Accepted
    reverse_path: str
    recipients: tuple[str, ...]
    upstream: str
    rewrite: RewriteOptions | None = None
    base_url: str = ""
    key_id: int = 0
    body_8bit: bool = False
    smtputf8: bool = False
    dsn: DsnRequest = NO_REQUEST
    report: bool = False
    dkim: str | None = None
    fallbacks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.recipients or len(self.recipients) != len(self.accepted.copies):
            raise ValueError("an entry has at least one recipient, and as many copies as recipients")
        if self.dsn.recipients and len(self.dsn.recipients) != len(self.recipients):
            raise ValueError("an entry has a request of reports for each recipient, or none")

    @property
    def id(self) -> MessageId:
        """The message's id, and the name of its file."""
        return self.accepted.facts.message


_ENCODER: Final = msgspec.json.Encoder(enc_hook=id_to_text)
_DECODER: Final[msgspec.json.Decoder[SpoolEntry]] = msgspec.json.Decoder(SpoolEntry, dec_hook=id_from_text)


def encode(entry: SpoolEntry) -> bytes:
    """Return the entry as JSON."""
    return _ENCODER.encode(entry)


def decode(raw: bytes) -> SpoolEntry:
    """Read an entry. SpoolDamagedError: it is no JSON of an entry, though its checksum was right."""
    try:
        return _DECODER.decode(raw)
    except msgspec.MsgspecError as error:
        raise SpoolDamagedError(f"its envelope cannot be read: {error}") from error
