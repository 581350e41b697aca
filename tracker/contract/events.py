"""What happens to a message and its copies: the records of the journal, one struct a kind.

A journal outlives a version: a field may be added with a default, never renamed, retyped or given another meaning; a
kind may be added. `records.py` has the encoding, `ses.py` what a user's systems are told.

Every event is of one copy. `Accepted` is the one record of a whole message: it holds the facts that every event is
joined with, and stands for one `Send` of each of its copies (a record for each would repeat the facts for each).
"""

from datetime import datetime
from enum import StrEnum

from msgspec import Struct

from tracker.contract.ids import CopyId, EventId, MessageId


class EventType(StrEnum):
    """The events that users see; the value is the name in journals, filters and metrics."""

    SEND = "send"
    DELIVERY = "delivery"
    DELIVERY_DELAY = "delivery_delay"
    BOUNCE = "bounce"
    OPEN = "open"
    CLICK = "click"
    REJECT = "reject"


class HeaderField(Struct, frozen=True, kw_only=True):
    """A header field of the message as it was accepted, unfolded: `Subject`, `November list`."""

    name: str
    value: str


class TrackedLink(Struct, frozen=True, kw_only=True):
    """A link that was wrapped. `url` has no query where `redacted` is true; `section` is the MIME part, `"1.2"`."""

    index: int
    part: str
    section: str
    url: str
    text: str = ""
    tags: tuple[tuple[str, str], ...] = ()
    redacted: bool = False


class Skipped(Struct, frozen=True, kw_only=True):
    """How many links or parts of a section were left for a reason, a stable code; of a message `section` is empty.

    Their URLs are not kept: they are those that nobody wanted counted.
    """

    reason: str
    section: str = ""
    count: int = 1


class CopyFacts(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One recipient of a message, and what is tracked for that recipient.

    `skipped` is why not, where that is the recipient's own affair.
    """

    copy: CopyId
    recipient: str
    opens: bool
    clicks: bool
    skipped: tuple[Skipped, ...] = ()


class MessageFacts(Struct, frozen=True, kw_only=True):
    """What every event of a message is joined with.

    `source` is the reverse-path (empty for reports), `configuration_set` None where none applied, `headers` are the
    first 10 KB, `tags` the message's own.
    """

    message: MessageId
    accepted_at: datetime
    source: str
    source_address: str
    caller: str
    from_domain: str
    configuration_set: str | None
    upstream: str
    headers: tuple[HeaderField, ...] = ()
    headers_truncated: bool = False
    from_header: tuple[str, ...] = ()
    to_header: tuple[str, ...] = ()
    cc_header: tuple[str, ...] = ()
    reply_to_header: tuple[str, ...] = ()
    date_header: str = ""
    message_id_header: str = ""
    subject: str = ""
    tags: tuple[tuple[str, str], ...] = ()
    links: tuple[TrackedLink, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    size_bytes: int = 0


class Accepted(Struct, frozen=True, kw_only=True, tag_field="kind", tag="accepted"):
    """A message is on disk and 250 is about to be said; stands for the `Send` of each copy."""

    facts: MessageFacts
    copies: tuple[CopyFacts, ...]


class Delivery(Struct, frozen=True, kw_only=True, tag_field="kind", tag="delivery"):
    """The upstream took a copy. `final`: it is the recipients' own server; else the copy is only handed over.

    `upstream_message_id` is the upstream's own id of it, empty where its reply told none.
    """

    event: EventId
    copy: CopyId
    at: datetime
    upstream: str
    reply: str
    final: bool
    attempts: int = 1
    upstream_message_id: str = ""


class DeliveryDelay(Struct, frozen=True, kw_only=True, tag_field="kind", tag="delivery_delay"):
    """The upstream put a copy off; it is tried again until `expires_at`. `reply` is empty where there was none."""

    event: EventId
    copy: CopyId
    at: datetime
    upstream: str
    phase: str
    reply: str
    expires_at: datetime
    attempts: int = 1


class Bounce(Struct, frozen=True, kw_only=True, tag_field="kind", tag="bounce"):
    """A copy was refused, or (`expired`) given up after `retry_for`."""

    event: EventId
    copy: CopyId
    at: datetime
    upstream: str
    phase: str
    reply: str
    expired: bool
    attempts: int = 1


class Hit(Struct, frozen=True, kw_only=True):
    """What is kept of a request to the tracking host.

    `address` is already reduced as `record_address` says (`"192.0.2.0"`, empty for none). `signals` are the codes that
    `tracker.core.classify` found at the edge, where address and headers were still at hand; `country` is where the
    whole address was, `"DE"`, empty where nobody knows. `count` is of hits that were folded into this one (`max_hits`),
    itself included. `rules` is the version of the rule file that `signals` were drawn by.
    """

    at: datetime
    address: str = ""
    user_agent: str = ""
    signals: tuple[str, ...] = ()
    country: str = ""
    count: int = 1
    rules: str = ""


class Open(Struct, frozen=True, kw_only=True, tag_field="kind", tag="open"):
    """A copy's pixel was fetched."""

    event: EventId
    copy: CopyId
    hit: Hit


class Click(Struct, frozen=True, kw_only=True, tag_field="kind", tag="click"):
    """A copy's link was followed. `url` is the destination, without its query where the link is sensitive."""

    event: EventId
    copy: CopyId
    hit: Hit
    link_index: int
    part: str
    url: str


class Probe(Struct, frozen=True, kw_only=True, tag_field="kind", tag="probe"):
    """A HEAD of a pixel or link: no event, but a sign of a machine for the hits around it."""

    event: EventId
    copy: CopyId
    hit: Hit
    link_index: int | None = None


class Rejected(Struct, frozen=True, kw_only=True, tag_field="kind", tag="rejected"):
    """A message was refused at the final dot because its login may not send it; stands for the `Reject` of each copy.

    `facts.configuration_set` is the account's: its destinations hear of it. `reply` is what the client was told.
    """

    facts: MessageFacts
    copies: tuple[CopyFacts, ...]
    reply: str


JournalRecord = Accepted | Delivery | DeliveryDelay | Bounce | Open | Click | Probe | Rejected
