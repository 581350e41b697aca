"""What a user's systems are told: an event and its message's facts as one JSON object in the shape of Amazon SES.

Owns the names, spellings and order of that shape; `docs/reference/events.md` describes every field and has a vector of
each type. What the events of a message share is in `sesmail.py`. Does not decide who hears of an event, nor what a
journal holds (`records.py`).

An event is of one copy: `mail.destination` is that copy's one recipient. What SES does not have is under one more key,
`mailwake`, and a key of it that has no value is absent. Quirks of SES that its consumers rely on are kept: `send` is
`{}`, every value of `tags` and of `linkTags` is a list, `headersTruncated` is a boolean, `commonHeaders` an object.

Standards: RFC 3339 (times), RFC 3463 (status codes), RFC 3464 §2.3 (action, status, diagnostic code).
"""

import re
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Any, Final, NamedTuple, assert_never

import msgspec

from tracker.contract.diagnosis import diagnose_bounce, diagnose_delay
from tracker.contract.events import (
    Bounce,
    Click,
    CopyFacts,
    Delivery,
    DeliveryDelay,
    EventType,
    Hit,
    Open,
    Skipped,
)
from tracker.contract.ids import CopyId, EventId
from tracker.contract.sesmail import Mail, Shared, lists, spell_time

__all__ = [
    "NAME",
    "About",
    "Agent",
    "CopyEvent",
    "Mail",
    "clicked_url",
    "encode",
    "encode_own",
    "encode_reject",
    "encode_send",
    "own_send",
    "reject_id",
    "send_id",
    "type_of",
]

NAME: Final = {
    EventType.SEND: "Send",
    EventType.DELIVERY: "Delivery",
    EventType.DELIVERY_DELAY: "DeliveryDelay",
    EventType.BOUNCE: "Bounce",
    EventType.OPEN: "Open",
    EventType.CLICK: "Click",
    EventType.REJECT: "Reject",
}

_AGENTS_REMEMBERED: Final = 4096  # programs times verdicts: few of them make up nearly all hits

CopyEvent = Delivery | DeliveryDelay | Bounce | Open | Click
"""The records of the journal that become one event each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """Who seems to have made a hit: `"human"`, and the codes that speak for it; the program, `"Firefox 140"`, on what.

    `device` is `"desktop"`, `"mobile"`, `"tablet"` or `"other"`; what nobody can know is empty.
    """

    kind: str
    reasons: tuple[str, ...] = ()
    client: str = ""
    device: str = ""
    os: str = ""


class About(NamedTuple):
    """What an event is joined with; `message` and `copy` are None where they are not known."""

    message: Mail | None
    copy: CopyFacts | None
    first: bool | None = None
    agent: Agent | None = None


def type_of(event: CopyEvent) -> EventType:
    """Return the type that users see."""
    return _TYPES[type(event)]


def send_id(copy: CopyId) -> EventId:
    """Return the id of a copy's Send event: an outcome's, so the same one however often `Accepted` is read."""
    return EventId.of_outcome(copy, EventType.SEND.value)


def encode_send(mail: Mail, copy: CopyFacts) -> bytes:
    """Return the Send record of a copy."""
    return mail.whole(own_send(mail, copy, send_id(copy.copy)))


def own_send(mail: Mail, copy: CopyFacts, event: EventId) -> bytes:
    """Return the own part of a copy's Send, whose id `send_id` gives."""
    facts = mail.facts
    more = b""
    if facts.upstream:
        more = b',"upstream":' + _ENCODER.encode(facts.upstream)
    if facts.skipped or copy.skipped:
        more += _members({"skipped": [_skipped(skip) for skip in (*facts.skipped, *copy.skipped)]})
    about = About(message=mail, copy=copy, first=True)
    return _own(_SEND, (event, copy.copy), about, b"{}", more)


def reject_id(copy: CopyId) -> EventId:
    """Return the id of a copy's Reject event."""
    return EventId.of_outcome(copy, EventType.REJECT.value)


def encode_reject(mail: Mail, copy: CopyFacts, reply: str) -> bytes:
    """Return the Reject record of a copy; its reason is the reply that the client got (SES says `Bad content`)."""
    about = About(message=mail, copy=copy, first=True)
    body = _ENCODER.encode({"reason": reply})
    return mail.whole(_own(_REJECT, (reject_id(copy.copy), copy.copy), about, body, b""))


def encode(event: CopyEvent, about: About, *, hostname: str) -> bytes:
    """Return an event's record as one line of JSON; `hostname` is the reporting MTA."""
    own = encode_own(event, about, hostname=hostname)
    return own if about.message is None else about.message.whole(own)


def encode_own(event: CopyEvent, about: About, *, hostname: str) -> bytes:
    """Return the own part of an event's record; the whole record where its message is not known."""
    body, more = _body(event, about, hostname)
    own = _own(_NAMES[type(event)], (event.event, event.copy), about, body, more)
    return own if about.message is not None else Shared.of_unknown(event.copy.message).whole(own)


def clicked_url(event: Click, mail: Mail | None) -> str:
    """Return the destination as events show it: without its query where the message's link is redacted."""
    link = mail.link(event.link_index) if mail is not None else None
    return link.url if link is not None and link.redacted else event.url


# --- the object named after the type -----------------------------------------------------------------------


def _body(event: CopyEvent, about: About, hostname: str) -> tuple[bytes, bytes]:
    """Return the type's object, and the members that go under `mailwake` beside it."""
    match event:
        case Open():
            return _visit(event.hit) + b"}", _place(event.hit)
        case Click():
            return _click(event, about)
        case Delivery():
            return _delivery(event, about, hostname)
        case DeliveryDelay():
            return _ENCODER.encode(_delivery_delay(event, about, hostname)), _members(_put({}, upstream=event.upstream))
        case Bounce():
            return _ENCODER.encode(_bounce(event, about, hostname)), _members(_put({}, upstream=event.upstream))
        case _:
            assert_never(event)


def _delivery(event: Delivery, about: About, hostname: str) -> tuple[bytes, bytes]:
    mail, encode_text = about.message, _ENCODER.encode
    took = (event.at - mail.facts.accepted_at) // _MILLISECOND if mail is not None else 0
    body = _DELIVERY % (
        spell_time(event.at).encode(),
        max(took, 0),
        encode_text(_recipients(about)),
        encode_text(event.reply),
        encode_text(hostname),
    )
    upstream_id = event.upstream_message_id or _upstream_message_id(event.reply)
    more = b',"upstream":' + encode_text(event.upstream) if event.upstream else b""
    if upstream_id:
        more += b',"upstreamMessageId":' + encode_text(upstream_id)
    return body, more + (b',"final":true' if event.final else b',"final":false')


def _delivery_delay(event: DeliveryDelay, about: About, hostname: str) -> dict[str, Any]:
    diagnosis = diagnose_delay(event)
    recipients = [
        _put({"emailAddress": recipient}, status=diagnosis.status, diagnosticCode=diagnosis.diagnostic_code)
        for recipient in _recipients(about)
    ]
    return {
        "timestamp": spell_time(event.at),
        "delayType": diagnosis.delay_type,
        "expirationTime": spell_time(event.expires_at),
        "delayedRecipients": recipients,
        "reportingMTA": hostname,
    }


def _bounce(event: Bounce, about: About, hostname: str) -> dict[str, Any]:
    diagnosis = diagnose_bounce(event)
    recipients = [
        _put(
            {"emailAddress": recipient},
            action="failed",
            status=diagnosis.status,
            diagnosticCode=diagnosis.diagnostic_code,
        )
        for recipient in _recipients(about)
    ]
    return {
        "bounceType": diagnosis.bounce_type,
        "bounceSubType": diagnosis.bounce_sub_type,
        "bouncedRecipients": recipients,
        "timestamp": spell_time(event.at),
        "feedbackId": str(event.event),
        "reportingMTA": f"dsn; {hostname}",
    }


def _click(event: Click, about: About) -> tuple[bytes, bytes]:
    link = about.message.link(event.link_index) if about.message is not None else None
    led = {"link": clicked_url(event, about.message), "linkTags": lists(link.tags) if link is not None else {}}
    text = link.text if link is not None else None
    extra = _put({}, part=event.part, linkIndex=event.link_index, linkText=text)
    return _visit(event.hit) + _members(led) + b"}", _place(event.hit) + _members(extra)


def _visit(hit: Hit) -> bytes:
    """Return who came when, without the end of the object."""
    address, agent = _ENCODER.encode(hit.address), _ENCODER.encode(hit.user_agent)
    return b'{"ipAddress":%b,"timestamp":"%b","userAgent":%b' % (address, spell_time(hit.at).encode(), agent)


def _place(hit: Hit) -> bytes:
    """Return from where, and how many hits it stands for, where there is something to say."""
    geo = b',"geo":{"country":%b}' % _ENCODER.encode(hit.country) if hit.country else b""
    return geo + b',"count":%d' % hit.count if hit.count > 1 else geo


_Names = tuple[bytes, bytes]
"""Of a type: the value of `eventType`, and the member that has its object."""


# --- mail and mailwake -------------------------------------------------------------------------------------


def _own(names: _Names, ids: tuple[EventId, CopyId], about: About, body: bytes, more: bytes) -> bytes:
    """Return the own part of a record, as `sesmail.py` has it: `more` are the last members of `mailwake`."""
    event, copy = ids
    name, key = names
    if about.message is not None and about.copy is not None and about.copy.recipient:  # as nearly always
        recipient = _ENCODER.encode(about.copy.recipient)
        return _KNOWN % (
            name, recipient, key, body, event.text.encode(), recipient, about.message.recipients, copy.text.encode(),
            _FIRST[about.first], _agent(about.agent) if about.agent is not None else b"", more,
        )  # fmt: skip
    mailwake = b'{"eventId":"%b"' % event.text.encode()
    recipient = b""
    if about.copy is not None:
        recipient = _ENCODER.encode(about.copy.recipient)
        if about.copy.recipient:
            mailwake += b',"recipient":' + recipient
    if about.message is not None:
        mailwake += b',"recipients":%d' % about.message.recipients
    mailwake += b',"copyId":"%b"' % copy.text.encode()
    mailwake += _FIRST[about.first]
    if about.agent is not None:
        mailwake += _agent(about.agent)
    pieces = (
        b'{"eventType":"', name, b'","mail":{\n"destination":[', recipient, b']\n},"', key, b'":', body,
        b',"mailwake":', mailwake, more, b"}}",
    )  # fmt: skip
    return b"".join(pieces)


@lru_cache(maxsize=_AGENTS_REMEMBERED)
def _agent(agent: Agent) -> bytes:
    verdict: dict[str, Any] = {"class": agent.kind, "reasons": agent.reasons}
    return b',"agent":' + _ENCODER.encode(_put(verdict, client=agent.client, device=agent.device, os=agent.os))


def _skipped(skip: Skipped) -> dict[str, Any]:
    return _put({"reason": skip.reason}, section=skip.section, count=skip.count)


def _recipients(about: About) -> list[str]:
    return [about.copy.recipient] if about.copy is not None else []


def _names(kind: EventType) -> _Names:
    name = NAME[kind]
    return name.encode(), (name[0].lower() + name[1:]).encode()


def _members(fields: dict[str, Any]) -> bytes:
    """Return the members as they follow others, each behind a comma."""
    return b"," + _ENCODER.encode(fields)[1:-1] if fields else b""


def _put(fields: dict[str, Any], **more: Any) -> dict[str, Any]:  # noqa: ANN401 - the values of a JSON object
    """Add the members that have a value; false and 0 are values, None and what is empty are not."""
    for name, value in more.items():
        if value or (value is not None and value.__class__ not in _NOTHING_IF_EMPTY):
            fields[name] = value  # noqa: PERF403 - a dictionary of its own takes longer
    return fields


def _upstream_message_id(reply: str) -> str | None:
    """Find the upstream's own id in its 250, for records that do not have it; no standard says where it stands."""
    match = _QUEUED_AS.search(reply)
    return match.group(1) if match is not None else None


_ENCODER: Final = msgspec.json.Encoder()
_TYPES: Final[dict[type, EventType]] = {
    Delivery: EventType.DELIVERY,
    DeliveryDelay: EventType.DELIVERY_DELAY,
    Bounce: EventType.BOUNCE,
    Open: EventType.OPEN,
    Click: EventType.CLICK,
}
_NAMES: Final = {record: _names(kind) for record, kind in _TYPES.items()}
_FIRST: Final = {None: b"", True: b',"first":true', False: b',"first":false'}
_DELIVERY: Final = b'{"timestamp":"%b","processingTimeMillis":%d,"recipients":%b,"smtpResponse":%b,"reportingMTA":%b}'
_KNOWN: Final = (
    b'{"eventType":"%b","mail":{\n"destination":[%b]\n},"%b":%b,'
    b'"mailwake":{"eventId":"%b","recipient":%b,"recipients":%d,"copyId":"%b"%b%b%b}}'
)
_SEND: Final = _names(EventType.SEND)
_REJECT: Final = _names(EventType.REJECT)
_MILLISECOND: Final = timedelta(milliseconds=1)
_NOTHING_IF_EMPTY: Final = frozenset((str, tuple, list))
_QUEUED_AS: Final = re.compile(
    r"(?:"
    r"\bqueued as |"  # Postfix and ourselves: `Ok: queued as 4F2C`
    r"\bid=|"  # Exim, `OK id=1vX2-0001`
    r"^250 (?:2\.\d{1,3}\.\d{1,3} )?Ok (?=[0-9a-f]{16}-)"  # Amazon SES, `Ok 0100018f3c2a9b4e-4b1d-000000`
    r")([\w.@-]{1,128})",
    re.IGNORECASE | re.ASCII,
)
