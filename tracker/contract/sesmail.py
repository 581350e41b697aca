"""The `mail` of a record: what all events of a message share, and how a record is kept without it.

Header fields, common headers and tags are most of a record and the same in each of a message's. So an event's own part
is made, and stored, with `mail` between two line ends that holds the destination alone:

    {"eventType":"Open","mail":{
    "destination":["ana@client.example"]
    },"open":{…},"mailwake":{…}}

Theory: a line end is never in the JSON of a whole record, and means nothing between its members. So the own part is
JSON by itself, whoever has a message's facts makes the record of it by putting two pieces in, and what has no line end
is whole.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Self

import msgspec

from tracker.contract.events import MessageFacts, TrackedLink
from tracker.contract.ids import MessageId

SENDING_ACCOUNT_ID: Final = "000000000000"  # consumers parse twelve digits; an installation is one account
MARK: Final = "\n"
"""Stands twice in an own part, and never in a whole record."""


class Shared:
    """What is put into an own part, before and behind its destination; encoded once a message."""

    __slots__ = ("_head", "_tail")

    def __init__(self, head: dict[str, Any], tail: dict[str, Any]) -> None:
        self._head = _ENCODER.encode(head)[1:-1] + b","
        self._tail = b"," + _ENCODER.encode(tail)[1:-1]

    @classmethod
    def of(cls, facts: MessageFacts) -> Self:
        """Make it of a message's facts, which may be `StoredFacts`."""
        tail = {
            "headersTruncated": facts.headers_truncated,
            "headers": facts.headers,
            "commonHeaders": _common_headers(facts),
            "tags": _tags(facts),
        }
        return cls(_head(facts.accepted_at, facts.message, {"source": facts.source}), tail)

    @classmethod
    def of_unknown(cls, message: MessageId) -> Self:
        """Make it of what an id alone tells, where nothing else is known of a message."""
        accepted_at = datetime.fromtimestamp(int.from_bytes(message.raw[:6], "big") / 1000, UTC)
        return cls(_head(accepted_at, message, {}), {"tags": {}})

    def whole(self, own: bytes) -> bytes:
        """Return the record that an own part is of; one that is whole already as it is."""
        pieces = own.split(b"\n")
        if len(pieces) == 1:
            return own
        before, destination, behind = pieces
        return b"".join((before, self._head, destination, self._tail, behind))


class Mail:
    """A message as its events are joined with it: its facts, how many recipients it has, its links.

    What is encoded of it is made when a whole record is first asked for.
    """

    __slots__ = ("_links", "_shared", "facts", "recipients")

    def __init__(self, facts: MessageFacts, recipients: int) -> None:
        """Take the facts, which may be `StoredFacts`, and how many recipients the message has."""
        self.facts = facts
        self.recipients = recipients
        self._links: dict[int, TrackedLink] | None = None
        self._shared: Shared | None = None

    @property
    def links(self) -> Mapping[int, TrackedLink]:
        """The message's links by their index."""
        if self._links is None:
            found = self.facts.links
            if isinstance(self.facts, StoredFacts):
                found = _LINKS.decode(self.facts.links)
            self._links = {link.index: link for link in found}
        return self._links

    def link(self, index: int) -> TrackedLink | None:
        """Return the message's link of that index; None where it has none (a hit under another release's plan)."""
        return self.links.get(index)

    def whole(self, own: bytes) -> bytes:
        """Return the record that an own part of this message is of."""
        if self._shared is None:
            self._shared = Shared.of(self.facts)
        return self._shared.whole(own)


class StoredFacts(MessageFacts, frozen=True, kw_only=True):
    """Facts as they are read again: what most events only pass on stays JSON."""

    headers: msgspec.Raw = msgspec.Raw(b"[]")  # type: ignore[assignment]
    links: msgspec.Raw = msgspec.Raw(b"[]")  # type: ignore[assignment]


def marked(own: bytes) -> bytes:
    """Return an own part that was written anew, on one line, with its line ends again. ValueError: it is none."""
    fields = msgspec.json.decode(own)
    destination = _ENCODER.encode(fields["mail"]["destination"])
    return _ENCODER.encode({**fields, "mail": msgspec.Raw(b'{\n"destination":' + destination + b"\n}")})


def spell_time(moment: datetime) -> str:
    """Spell a time as SES does: `2026-11-03T08:15:02.101Z`."""
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    return moment.isoformat(timespec="milliseconds")[:-6] + "Z"


def lists(pairs: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    """Gather the values of each name."""
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return found


def _head(accepted_at: datetime, message: MessageId, more: dict[str, str]) -> dict[str, str]:
    known = {"timestamp": spell_time(accepted_at), "messageId": message.text}
    return {**known, **more, "sendingAccountId": SENDING_ACCOUNT_ID}


def _common_headers(facts: MessageFacts) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "from": facts.from_header,
        "to": facts.to_header,
        "cc": facts.cc_header,
        "replyTo": facts.reply_to_header,
        "date": facts.date_header,
        "messageId": facts.message_id_header,
        "subject": facts.subject,
    }
    return {name: value for name, value in fields.items() if value}


def _tags(facts: MessageFacts) -> dict[str, list[str]]:
    """Ours, then the message's own; a message cannot pass a tag of its own off as ours."""
    ours = {
        "ses:configuration-set": facts.configuration_set,
        "ses:from-domain": facts.from_domain,
        "ses:source-ip": facts.source_address,
        "ses:caller-identity": facts.caller,
    }
    tags = {name: [value] for name, value in ours.items() if value}
    own = lists([pair for pair in facts.tags if not pair[0].startswith("ses:")])
    return {**tags, **own}


_ENCODER: Final = msgspec.json.Encoder()
_LINKS: Final = msgspec.json.Decoder(tuple[TrackedLink, ...])
