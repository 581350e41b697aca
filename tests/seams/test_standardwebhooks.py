"""A consumer that is not ours: the Standard Webhooks library verifies what we post, through a rotation too."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from tests.integration.endpoint import receiving, webhook
from tracker.contract.webhooks import fault_of_secret
from tracker.publish.outcome import Delivered
from tracker.publish.webhook import WebhookWriter
from tracker.store.publishing import LogEntry

OLD = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NEW = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDlkdLaKPLZPQ="
OTHER = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"


async def _posted(*secrets: str, batch: int = 1, at: datetime | None = None) -> tuple[bytes, dict[str, str]]:
    body = json.dumps({"eventType": "Open", "mailwake": {"eventId": "EVENT1"}, "subject": "Grüße – 你好"})
    entry = LogEntry(seq=1, event_id="EVENT1", type="open", configuration_set=None, agent_class=None, body=body)
    async with receiving() as endpoint:
        writer = WebhookWriter(webhook(endpoint.url, secrets=secrets, batch=batch))
        assert await writer.write([entry], at or datetime.now(UTC)) == Delivered()
        await writer.close()
    (request,) = endpoint.requests
    return request.body, request.headers


@pytest.mark.parametrize("batch", [1, 10])
async def test_a_receiver_with_either_secret_verifies_during_a_rotation(batch: int) -> None:
    """Each secret signs: whichever the receiver has at that moment, it verifies; any other does not."""
    body, headers = await _posted(NEW, OLD, batch=batch)

    for secret in (OLD, NEW):
        verified = Webhook(secret).verify(body, headers)
        assert (verified[0] if batch > 1 else verified)["subject"] == "Grüße – 你好"
    with pytest.raises(WebhookVerificationError, match="No matching signature"):
        Webhook(OTHER).verify(body, headers)


async def test_before_and_after_a_rotation_one_secret_verifies() -> None:
    """The other one does not any more."""
    for ours, theirs in ((OLD, NEW), (NEW, OLD)):
        body, headers = await _posted(ours)
        Webhook(ours).verify(body, headers)
        with pytest.raises(WebhookVerificationError, match="No matching signature"):
            Webhook(theirs).verify(body, headers)


async def test_what_is_changed_or_old_does_not_verify() -> None:
    """Content, id and time are signed; a request that is recorded cannot be played again later."""
    body, headers = await _posted(OLD)
    later = str(int(headers["webhook-timestamp"]) + 1)
    for changed in ({**headers, "webhook-id": "EVENT2"}, {**headers, "webhook-timestamp": later}):
        with pytest.raises(WebhookVerificationError):
            Webhook(OLD).verify(body, changed)
    with pytest.raises(WebhookVerificationError):
        Webhook(OLD).verify(body.replace(b"Open", b"Send"), headers)
    body, headers = await _posted(OLD, at=datetime.now(UTC) - timedelta(minutes=6))
    with pytest.raises(WebhookVerificationError, match="too old"):
        Webhook(OLD).verify(body, headers)


def test_a_secret_has_the_length_that_the_specification_asks_for() -> None:
    """24 to 64 bytes; the library takes any, so a weak one is refused by the configuration."""
    assert fault_of_secret(OLD) is None
    assert fault_of_secret(NEW) is None
    for secret in ("", "whsec_", "whsec_c2hvcnQ=", "whsec_" + "A" * 88, "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_ä!"):
        assert fault_of_secret(secret) is not None
