"""What a user's systems are told: an event and its message's facts as one JSON object in the shape of Amazon SES.

Owns the names, spellings and order of that shape; `docs/reference/events.md` describes every field and has a vector of
each type. Does not decide who hears of an event, nor what a journal holds (`records.py`).

An event is of one copy: `mail.destination` is that copy's one recipient. What SES does not have is under one more key,
`mailwake`, and a key of it that has no value is absent. Quirks of SES that its consumers rely on are kept: `send` is
`{}`, every value of `tags` and of `linkTags` is a list, `headersTruncated` is a boolean, `commonHeaders` an object.

Standards: RFC 3339 (times), RFC 3463 (status codes), RFC 3464 §2.3 (action, status, diagnostic code).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, assert_never

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
    MessageFacts,
    Open,
    Skipped,
    TrackedLink,
)
from tracker.contract.ids import CopyId, EventId

SENDING_ACCOUNT_ID: Final = "000000000000"  # consumers parse twelve digits; an installation is one account
NAME: Final = {
    EventType.SEND: "Send",
    EventType.DELIVERY: "Delivery",
    EventType.DELIVERY_DELAY: "DeliveryDelay",
    EventType.BOUNCE: "Bounce",
    EventType.OPEN: "Open",
    EventType.CLICK: "Click",
    EventType.REJECT: "Reject",
}

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


class Mail:
    """The part of `mail` that all events of a message share, encoded once.

    A message's header fields are most of a record; a thousand recipients must not cost encoding them a thousand times.
    """

    __slots__ = ("_head", "_links", "_tail", "facts", "recipients")

    def __init__(self, facts: MessageFacts, recipients: int) -> None:
        """Take the facts, which may be `StoredFacts`, and how many recipients the message has."""
        self.facts = facts
        self.recipients = recipients
        self._links: dict[int, TrackedLink] | None = None
        head = {
            "timestamp": _time(facts.accepted_at),
            "messageId": str(facts.message),
            "source": facts.source,
            "sendingAccountId": SENDING_ACCOUNT_ID,
        }
        tail = {
            "headersTruncated": facts.headers_truncated,
            "headers": facts.headers,
            "commonHeaders": _common_headers(facts),
            "tags": _tags(facts),
        }
        self._head = _ENCODER.encode(head)[:-1] + b',"destination":'
        self._tail = b"," + _ENCODER.encode(tail)[1:]

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

    def to(self, recipients: list[str]) -> msgspec.Raw:
        """Return `mail` of an event of a copy."""
        return msgspec.Raw(self._head + _ENCODER.encode(recipients) + self._tail)


class StoredFacts(MessageFacts, frozen=True, kw_only=True):
    """Facts as they are read again: what most events only pass on stays JSON."""

    headers: msgspec.Raw = msgspec.Raw(b"[]")  # type: ignore[assignment]
    links: msgspec.Raw = msgspec.Raw(b"[]")  # type: ignore[assignment]


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What an event is joined with; `message` and `copy` are None where they are not known."""

    message: Mail | None
    copy: CopyFacts | None
    first: bool | None = None
    agent: Agent | None = None


def type_of(event: CopyEvent) -> EventType:
    """Return the type that users see."""
    match event:
        case Delivery():
            return EventType.DELIVERY
        case DeliveryDelay():
            return EventType.DELIVERY_DELAY
        case Bounce():
            return EventType.BOUNCE
        case Open():
            return EventType.OPEN
        case Click():
            return EventType.CLICK
        case _:
            assert_never(event)


def send_id(copy: CopyId) -> EventId:
    """Return the id of a copy's Send event: an outcome's, so the same one however often `Accepted` is read."""
    return EventId.of_outcome(copy, EventType.SEND.value)


def encode_send(mail: Mail, copy: CopyFacts) -> bytes:
    """Return the Send record of a copy."""
    facts = mail.facts
    about = About(message=mail, copy=copy, first=True)
    extra = _mailwake(send_id(copy.copy), copy.copy, about)
    _put(extra, upstream=facts.upstream, skipped=[_skipped(skip) for skip in (*facts.skipped, *copy.skipped)])
    return _encode(EventType.SEND, _mail(copy.copy, about), {}, extra)


def reject_id(copy: CopyId) -> EventId:
    """Return the id of a copy's Reject event."""
    return EventId.of_outcome(copy, EventType.REJECT.value)


def encode_reject(mail: Mail, copy: CopyFacts, reply: str) -> bytes:
    """Return the Reject record of a copy; its reason is the reply that the client got (SES says `Bad content`)."""
    about = About(message=mail, copy=copy, first=True)
    extra = _mailwake(reject_id(copy.copy), copy.copy, about)
    return _encode(EventType.REJECT, _mail(copy.copy, about), {"reason": reply}, extra)


def encode(event: CopyEvent, about: About, *, hostname: str) -> bytes:
    """Return an event's record as one line of JSON; `hostname` is the reporting MTA."""
    body, extra_fields = _body(event, about, hostname)
    extra = _mailwake(event.event, event.copy, about)
    _put(extra, **extra_fields)
    return _encode(type_of(event), _mail(event.copy, about), body, extra)


def clicked_url(event: Click, mail: Mail | None) -> str:
    """Return the destination as events show it: without its query where the message's link is redacted."""
    link = mail.link(event.link_index) if mail is not None else None
    return link.url if link is not None and link.redacted else event.url


# --- the object named after the type -----------------------------------------------------------------------


def _body(event: CopyEvent, about: About, hostname: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the type's object, and what goes under `mailwake` beside it."""
    match event:
        case Delivery():
            return _delivery(event, about, hostname), {
                "upstream": event.upstream,
                "upstreamMessageId": event.upstream_message_id or _upstream_message_id(event.reply),
                "final": event.final,
            }
        case DeliveryDelay():
            return _delivery_delay(event, about, hostname), {"upstream": event.upstream}
        case Bounce():
            return _bounce(event, about, hostname), {"upstream": event.upstream}
        case Open():
            return _visit(event.hit)
        case Click():
            return _click(event, about)
        case _:
            assert_never(event)


def _delivery(event: Delivery, about: About, hostname: str) -> dict[str, Any]:
    mail = about.message
    took = (event.at - mail.facts.accepted_at) // timedelta(milliseconds=1) if mail is not None else 0
    return {
        "timestamp": _time(event.at),
        "processingTimeMillis": max(took, 0),
        "recipients": _recipients(about),
        "smtpResponse": event.reply,
        "reportingMTA": hostname,
    }


def _delivery_delay(event: DeliveryDelay, about: About, hostname: str) -> dict[str, Any]:
    diagnosis = diagnose_delay(event)
    recipients = [
        _put({"emailAddress": recipient}, status=diagnosis.status, diagnosticCode=diagnosis.diagnostic_code)
        for recipient in _recipients(about)
    ]
    return {
        "timestamp": _time(event.at),
        "delayType": diagnosis.delay_type,
        "expirationTime": _time(event.expires_at),
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
        "timestamp": _time(event.at),
        "feedbackId": str(event.event),
        "reportingMTA": f"dsn; {hostname}",
    }


def _click(event: Click, about: About) -> tuple[dict[str, Any], dict[str, Any]]:
    link = about.message.link(event.link_index) if about.message is not None else None
    body, extra = _visit(event.hit)
    body["link"] = clicked_url(event, about.message)
    body["linkTags"] = _lists(link.tags) if link is not None else {}
    return body, {
        **extra,
        "part": event.part,
        "linkIndex": event.link_index,
        "linkText": link.text if link is not None else None,
    }


def _visit(hit: Hit) -> tuple[dict[str, Any], dict[str, Any]]:
    body = {"ipAddress": hit.address, "timestamp": _time(hit.at), "userAgent": hit.user_agent}
    geo = {"country": hit.country} if hit.country else None
    return body, {"geo": geo, "count": hit.count if hit.count > 1 else None}


# --- mail and mailwake -------------------------------------------------------------------------------------


def _mail(copy: CopyId, about: About) -> dict[str, Any] | msgspec.Raw:
    """The whole `mail` of a known message; else what the copy's id alone tells."""
    mail = about.message
    if mail is None:
        accepted_at = datetime.fromtimestamp(int.from_bytes(copy.message.raw[:6], "big") / 1000, UTC)
        return {
            "timestamp": _time(accepted_at),
            "messageId": str(copy.message),
            "sendingAccountId": SENDING_ACCOUNT_ID,
            "destination": [],
            "tags": {},
        }
    return mail.to(_recipients(about))


def _common_headers(facts: MessageFacts) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    return _put(
        fields,
        **{
            "from": facts.from_header,
            "to": facts.to_header,
            "cc": facts.cc_header,
            "replyTo": facts.reply_to_header,
            "date": facts.date_header,
            "messageId": facts.message_id_header,
            "subject": facts.subject,
        },
    )


def _tags(facts: MessageFacts) -> dict[str, list[str]]:
    """Ours, then the message's own; a message cannot pass a tag of its own off as ours."""
    ours = {
        "ses:configuration-set": facts.configuration_set,
        "ses:from-domain": facts.from_domain,
        "ses:source-ip": facts.source_address,
        "ses:caller-identity": facts.caller,
    }
    tags = {name: [value] for name, value in ours.items() if value}
    own = _lists([pair for pair in facts.tags if not pair[0].startswith("ses:")])
    return {**tags, **own}


def _mailwake(event: EventId, copy: CopyId, about: About) -> dict[str, Any]:
    extra: dict[str, Any] = {"eventId": str(event)}
    agent = about.agent
    return _put(
        extra,
        recipient=about.copy.recipient if about.copy is not None else None,
        recipients=about.message.recipients if about.message is not None else None,
        copyId=str(copy),
        first=about.first,
        agent=_agent(agent) if agent is not None else None,
    )


def _agent(agent: Agent) -> dict[str, Any]:
    verdict: dict[str, Any] = {"class": agent.kind, "reasons": agent.reasons}
    return _put(verdict, client=agent.client, device=agent.device, os=agent.os)


def _skipped(skip: Skipped) -> dict[str, Any]:
    return _put({"reason": skip.reason}, section=skip.section, count=skip.count)


def _recipients(about: About) -> list[str]:
    return [about.copy.recipient] if about.copy is not None else []


def _lists(pairs: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    lists: dict[str, list[str]] = {}
    for name, value in pairs:
        lists.setdefault(name, []).append(value)
    return lists


def _put(fields: dict[str, Any], **more: Any) -> dict[str, Any]:  # noqa: ANN401 - the values of a JSON object
    """Add the members that have a value; false and 0 are values, None and what is empty are not."""
    for name, value in more.items():
        if value or (value is not None and value.__class__ not in _NOTHING_IF_EMPTY):
            fields[name] = value  # noqa: PERF403 - a dictionary of its own takes longer
    return fields


# --- spelling ----------------------------------------------------------------------------------------------


def _encode(kind: EventType, mail: dict[str, Any] | msgspec.Raw, body: dict[str, Any], extra: dict[str, Any]) -> bytes:
    name, key = NAME[kind], _KEY[kind]
    record = {"eventType": name, "mail": mail, key: body, "mailwake": extra}
    return _ENCODER.encode(record)


def _time(moment: datetime) -> str:
    """Spell a time as SES does: `2026-11-03T08:15:02.101Z`."""
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    return moment.isoformat(timespec="milliseconds")[:-6] + "Z"


def _upstream_message_id(reply: str) -> str | None:
    """Find the upstream's own id in its 250, for records that do not have it; no standard says where it stands."""
    match = _QUEUED_AS.search(reply)
    return match.group(1) if match is not None else None


_ENCODER: Final = msgspec.json.Encoder()
_LINKS: Final = msgspec.json.Decoder(tuple[TrackedLink, ...])
_KEY: Final = {kind: name[0].lower() + name[1:] for kind, name in NAME.items()}
_NOTHING_IF_EMPTY: Final = frozenset((str, tuple, list))
_QUEUED_AS: Final = re.compile(
    r"(?:"
    r"\bqueued as |"  # Postfix and ourselves: `Ok: queued as 4F2C`
    r"\bid=|"  # Exim, `OK id=1vX2-0001`
    r"^250 (?:2\.\d{1,3}\.\d{1,3} )?Ok (?=[0-9a-f]{16}-)"  # Amazon SES, `Ok 0100018f3c2a9b4e-4b1d-000000`
    r")([\w.@-]{1,128})",
    re.IGNORECASE | re.ASCII,
)
