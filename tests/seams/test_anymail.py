"""A consumer of SES's events that is not ours: django-anymail's webhook view reads `format = "sns"`, over HTTP."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import django
import pytest
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.urls import path

from tests.integration.endpoint import webhook
from tests.unit.happenings import accepted, bounce, clicked, copy_id, delivery, opened
from tracker.contract import formats, ses
from tracker.contract.events import Bounce, Click, Delivery, EventType, Open
from tracker.contract.settings import EventDestination
from tracker.publish.outcome import Delivered
from tracker.publish.webhook import WebhookWriter
from tracker.store.publishing import LogEntry

if not settings.configured:
    settings.configure(
        ROOT_URLCONF=__name__,
        ALLOWED_HOSTS=["127.0.0.1"],
        SECRET_KEY="of this test",
        LOGGING_CONFIG=None,
        USE_TZ=True,
        INSTALLED_APPS=["anymail"],
    )
    django.setup()

from anymail.signals import tracking
from anymail.webhooks.amazon_ses import AmazonSESTrackingWebhookView

urlpatterns = [path("hook", AmazonSESTrackingWebhookView.as_view())]

pytestmark = pytest.mark.filterwarnings("ignore::anymail.exceptions.AnymailInsecureWebhookWarning")


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        pass


@contextmanager
def _django() -> Iterator[str]:
    server: WSGIServer = make_server("127.0.0.1", 0, WSGIHandler(), handler_class=_Quiet)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hook"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _entries(destination: EventDestination, *events: Open | Click | Bounce | Delivery) -> list[LogEntry]:
    """Make what the worker hands over: our records, in the destination's format."""
    message = accepted()
    about = ses.About(message=ses.Mail(message.facts, 1), copy=message.copies[0], first=True)
    sent = ses.encode_send(ses.Mail(message.facts, 1), message.copies[0])
    bodies = [(EventType.SEND, str(ses.send_id(copy_id())), sent)]
    for event in events:
        body = ses.encode(event, about, hostname="relay1.shop.example")
        bodies.append((ses.type_of(event), str(event.event), body))
    return [
        LogEntry(
            seq=seq,
            event_id=event_id,
            type=kind,
            configuration_set="promo",
            agent_class=None,
            body=formats.shape(
                "sns", body.decode(), event_id=event_id, kind=kind, destination=destination.name, now=datetime.now(UTC)
            ),
        )
        for seq, (kind, event_id, body) in enumerate(bodies, 1)
    ]


async def test_anymail_reads_our_events_one_recipient_each() -> None:
    """Its normalised events have our ids, the recipient, the link, the user agent and the upstream's reply."""
    seen: list[Any] = []

    def hear(sender: object, event: object, esp_name: str, **kwargs: object) -> None:
        seen.append(event)

    tracking.connect(hear)
    try:
        with _django() as url:
            destination = replace(webhook(url), format="sns")
            entries = _entries(destination, delivery(), opened(1), clicked(2), bounce())
            writer = WebhookWriter(destination)
            assert await writer.write(entries, datetime.now(UTC)) == Delivered()
            await writer.close()
    finally:
        tracking.disconnect(hear)

    assert [(event.event_type, event.recipient) for event in seen] == [
        ("sent", "ana@client.example"),
        ("delivered", "ana@client.example"),
        ("opened", "ana@client.example"),
        ("clicked", "ana@client.example"),
        ("bounced", "ana@client.example"),
    ]
    assert {event.message_id for event in seen} == {str(copy_id().message)}
    assert [event.event_id for event in seen] == [entry.event_id for entry in entries]
    _, delivered, seen_open, seen_click, bounced = seen
    assert delivered.mta_response == "250 2.0.0 Ok: queued as 4F2C"
    assert "Firefox" in seen_open.user_agent
    assert seen_click.click_url == "https://shop.example/p?id=7&ref=mail"
    assert bounced.mta_response == "smtp; 550 5.1.1 no such user"
    assert bounced.description == "Permanent: NoEmail"
    assert bounced.timestamp.utcoffset() is not None
    assert bounced.esp_event["mailwake"]["first"] is True


async def test_anymail_takes_no_batch_and_no_bare_record() -> None:
    """Why `format = "sns"` has its header fields, and excludes `batch`: without them it answers 400 or fails."""
    with _django() as url:
        writer = WebhookWriter(webhook(url))
        (entry, *_) = _entries(webhook(url))
        outcome = await writer.write([entry], datetime.now(UTC))
        await writer.close()

    assert outcome != Delivered()
