"""The shapes of an event: SES's as it is, an SNS notification with it inside, Tencent's flat callback."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.unit.happenings import accepted, bounce, clicked, copy_id, delay, delivery, opened
from tracker.contract import formats, ses
from tracker.contract.events import Bounce, Click, Delivery, DeliveryDelay, EventType, Open
from tracker.contract.settings import RecordFormat

NOW = datetime(2026, 11, 3, 12, 0, 0, 5000, tzinfo=UTC)
Event = Open | Click | Bounce | Delivery | DeliveryDelay


def _body(event: Event, *, known: bool = True, subject: str = "November list") -> str:
    message = accepted(subject=subject)
    mail = ses.Mail(message.facts, 1) if known else None
    about = ses.About(message=mail, copy=message.copies[0] if known else None)
    return ses.encode(event, about, hostname="relay1.shop.example").decode()


def _shaped(form: RecordFormat, event: Event, body: str) -> dict[str, Any]:
    text = formats.shape(form, body, event_id=str(event.event), kind=ses.type_of(event), destination="shop", now=NOW)
    assert "\n" not in text
    found: dict[str, Any] = json.loads(text)
    return found


def test_ses_is_the_record_as_it_is() -> None:
    """To the byte."""
    body = _body(opened(1))
    assert formats.shape("ses", body, event_id="x", kind="open", destination="shop", now=NOW) is body


def test_sns_is_a_notification_with_the_record_as_a_text() -> None:
    """The members of Amazon's notification, the signature's empty: it cannot be made, and is not made up."""
    event = clicked(7)
    body = _body(event)
    found = _shaped("sns", event, body)

    assert found.pop("Message") == body
    assert found == {
        "Type": "Notification",
        "MessageId": str(event.event),
        "TopicArn": "arn:mailwake:sns:local:000000000000:shop",
        "Subject": "Amazon SES Email Event Notification",
        "Timestamp": "2026-11-03T12:00:00.005Z",
        "SignatureVersion": "1",
        "Signature": "",
        "SigningCertURL": "",
        "UnsubscribeURL": "",
    }
    headers = formats.sns_headers(str(event.event), "shop")
    assert headers["x-amz-sns-message-id"] == found["MessageId"]
    assert headers["x-amz-sns-topic-arn"] == found["TopicArn"]
    assert headers["x-amz-sns-message-type"] == found["Type"]


_COMMON = {
    "email": "ana@client.example",
    "bulkId": str(copy_id()),
    "copyId": str(copy_id()),
    "username": "newsletter",
    "from": "news@shop.example",
    "fromDomain": "shop.example",
    "templateId": 0,
    "subject": "November list",
    "messageId": str(copy_id().message),
    "sentTimestamp": 1793693702,
    "taskId": 0,
}


@pytest.mark.parametrize(
    "event, own",
    [
        (
            delivery(),
            {"event": "delivered", "eventid": 1, "timestamp": 1793693704, "reason": "250 2.0.0 Ok: queued as 4F2C"},
        ),
        (
            bounce(),
            {
                "event": "bounce",
                "eventid": 3,
                "timestamp": 1793693705,
                "reason": "smtp; 550 5.1.1 no such user",
                "bounceType": "hard_bounce",
            },
        ),
        (delay(), {"event": "deferred", "eventid": 8, "timestamp": 1793693706, "reason": "smtp; 421 4.4.1 try later"}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_tencent_has_outcomes_with_their_reason(event: Event, own: dict[str, Any]) -> None:
    """Flat, times in whole seconds."""
    found = _shaped("tencent", event, _body(event))
    assert found == {**_COMMON, **own, "eventId": str(event.event)}


def test_tencent_has_hits_with_their_user_agent() -> None:
    """A click has its link, too."""
    found = _shaped("tencent", opened(1), _body(opened(1)))
    assert (found["event"], found["eventid"], found["timestamp"]) == ("open", 4, 1793695502)
    assert "Firefox" in found["useragent"]
    found = _shaped("tencent", clicked(1), _body(clicked(1)))
    assert (found["event"], found["eventid"], found["link"]) == ("click", 5, "https://shop.example/p?id=7&ref=mail")


def test_tencent_spells_what_gave_up_late_as_soft_and_a_refusal_as_dropped() -> None:
    """`dropped` is theirs for what was never sent."""
    event = bounce(reply="452 4.2.2 full", expired=True)
    assert _shaped("tencent", event, _body(event))["bounceType"] == "soft_bounce"
    message = accepted()
    body = ses.encode_reject(ses.Mail(message.facts, 1), message.copies[0], "550 5.7.1 not yours").decode()
    found = json.loads(formats.shape("tencent", body, event_id="x", kind="reject", destination="shop", now=NOW))
    assert (found["event"], found["eventid"], found["reason"]) == ("dropped", 2, "550 5.7.1 not yours")


def test_tencent_has_a_subject_in_ascii_and_survives_what_is_not_known() -> None:
    """RFC 2047; a hit of an unknown message has a short `mail`."""
    found = _shaped("tencent", opened(1), _body(opened(1), subject="Grüße"))
    assert found["subject"] == "=?utf-8?b?R3LDvMOfZQ==?="
    found = _shaped("tencent", opened(1), _body(opened(1), known=False))
    assert (found["email"], found["subject"], found["from"]) == ("", "", "")


def test_every_format_has_every_event_but_tencent_no_send() -> None:
    """A destination is not handed what its format has no word for."""
    for kind in EventType:
        assert formats.has_event("ses", kind)
        assert formats.has_event("sns", kind)
        assert formats.has_event("tencent", kind) == (kind != "send")
