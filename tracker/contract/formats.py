"""The shapes in which a destination may want an event: SES's record as it is, inside an SNS notification, or Tencent's.

The log holds SES's record (`ses.py`); the others are made of it when it is handed over. All of them say which event
they tell of by `mailwake.eventId`, `MessageId` and `eventId`; Tencent's has `copyId` beside it.

Sources: Amazon SNS, "HTTP/HTTPS notification JSON format"; Tencent Cloud SES, "Callback"; RFC 2047 (a subject that is
not ASCII).

Limits: Amazon's signature of a notification cannot be made, so its members are there and empty: a consumer that checks
them has to be told not to. Tencent has no event that a `Send` could be; such a destination does not get it.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.header import Header
from typing import Any, Final, assert_never

import msgspec

from tracker.contract.events import EventType
from tracker.contract.settings import RecordFormat

_SNS_SUBJECT: Final = "Amazon SES Email Event Notification"  # SES's own; consumers look at the message
_TENCENT: Final[Mapping[str, tuple[str, int]]] = {
    EventType.DELIVERY: ("delivered", 1),
    EventType.REJECT: ("dropped", 2),
    EventType.BOUNCE: ("bounce", 3),
    EventType.OPEN: ("open", 4),
    EventType.CLICK: ("click", 5),
    EventType.DELIVERY_DELAY: ("deferred", 8),
}
_DETAILS: Final = ("delivery", "deliveryDelay", "bounce", "open", "click", "reject")


def has_event(form: RecordFormat, kind: str) -> bool:
    """Say whether a format can tell of an event; `kind` is a value of EventType."""
    return form != "tencent" or kind in _TENCENT


def shape(form: RecordFormat, body: str, *, event_id: str, kind: str, destination: str, now: datetime) -> str:
    """Return the text that a destination gets for a record of the log, on one line; `has_event` it must be true of."""
    match form:
        case "ses":
            return body
        case "sns":
            return _sns(body, event_id, destination, now)
        case "tencent":
            return _tencent(body, event_id, kind)
        case _:
            assert_never(form)


def sns_headers(event_id: str, destination: str) -> dict[str, str]:
    """Return the header fields that SNS sends beside a notification."""
    return {
        "x-amz-sns-message-type": "Notification",
        "x-amz-sns-message-id": event_id,
        "x-amz-sns-topic-arn": _topic(destination),
        "Content-Type": "text/plain; charset=UTF-8",
    }


def _sns(body: str, event_id: str, destination: str, now: datetime) -> str:
    notification = {
        "Type": "Notification",
        "MessageId": event_id,
        "TopicArn": _topic(destination),
        "Subject": _SNS_SUBJECT,
        "Message": body,
        "Timestamp": now.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z",
        "SignatureVersion": "1",
        "Signature": "",
        "SigningCertURL": "",
        "UnsubscribeURL": "",
    }
    return msgspec.json.encode(notification).decode()


def _topic(destination: str) -> str:
    """Name a topic in the six parts that consumers split, in a partition that is not Amazon's."""
    return f"arn:mailwake:sns:local:000000000000:{destination}"


def _tencent(body: str, event_id: str, kind: str) -> str:
    record = msgspec.json.decode(body)
    mail, own = record["mail"], record["mailwake"]
    detail: dict[str, Any] = next((record[name] for name in _DETAILS if name in record), {})
    event, number = _TENCENT[kind]
    sent_at = mail["timestamp"]
    source = mail.get("source", "")
    fields: dict[str, Any] = {
        "event": event,
        "eventid": number,
        "email": own.get("recipient", ""),
        "bulkId": own["copyId"],
        "timestamp": _seconds(detail.get("timestamp", sent_at)),
        "username": _tag(mail, "ses:caller-identity"),
        "from": source,
        "fromDomain": _tag(mail, "ses:from-domain"),
        "templateId": 0,
        "subject": _encoded(mail.get("commonHeaders", {}).get("subject", "")),
        "messageId": mail["messageId"],
        "sentTimestamp": _seconds(sent_at),
        "taskId": 0,
        "eventId": event_id,
        "copyId": own["copyId"],
        **_tencent_detail(kind, detail),
    }
    return msgspec.json.encode(fields).decode()


def _tencent_detail(kind: str, detail: dict[str, Any]) -> dict[str, Any]:
    match kind:
        case EventType.CLICK:
            return {"link": detail["link"], "useragent": detail["userAgent"]}
        case EventType.OPEN:
            return {"useragent": detail["userAgent"]}
        case EventType.DELIVERY:
            return {"reason": detail["smtpResponse"]}
        case EventType.BOUNCE:
            is_hard = detail["bounceType"] == "Permanent"
            return {
                "reason": _diagnosis(detail["bouncedRecipients"]),
                "bounceType": "hard_bounce" if is_hard else "soft_bounce",
            }
        case EventType.DELIVERY_DELAY:
            return {"reason": _diagnosis(detail["delayedRecipients"])}
        case _:
            return {"reason": detail.get("reason", "")}


def _diagnosis(recipients: list[dict[str, Any]]) -> str:
    """Return what the other side said of the copy's one recipient."""
    return next((str(one.get("diagnosticCode") or one.get("status") or "") for one in recipients), "")


def _tag(mail: dict[str, Any], name: str) -> str:
    return next(iter(mail.get("tags", {}).get(name, [])), "")


def _seconds(time: str) -> int:
    return int(datetime.fromisoformat(time).timestamp())


def _encoded(subject: str) -> str:
    return subject if subject.isascii() else Header(subject, "utf-8", maxlinelen=10_000).encode()
