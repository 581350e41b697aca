"""Builders of journal records: a message of some recipients and what happens to its copies, with plain defaults."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

from tracker.contract.events import (
    Accepted,
    Bounce,
    Click,
    CopyFacts,
    Delivery,
    DeliveryDelay,
    HeaderField,
    Hit,
    MessageFacts,
    Open,
    Probe,
    Skipped,
    TrackedLink,
)
from tracker.contract.ids import CopyId, EventId, MessageId

ACCEPTED_AT: Final = datetime(2026, 11, 3, 8, 15, 2, 101_000, tzinfo=UTC)
BROWSER: Final = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


def message_id(number: int = 1) -> MessageId:
    """Make the id of message `number`."""
    return MessageId.make(unix_ms=int(ACCEPTED_AT.timestamp() * 1000), entropy=number.to_bytes(10, "big"))


def copy_id(message: int = 1, recipient: int = 0) -> CopyId:
    """Make the id of a recipient's copy."""
    return CopyId(message_id(message), (recipient + 1).to_bytes(6, "big"))


def event_id(number: int) -> EventId:
    """Make the id of a hit."""
    return EventId(number.to_bytes(16, "big"))


def after(seconds: float) -> datetime:
    """Return the time that many seconds after acceptance."""
    return ACCEPTED_AT + timedelta(seconds=seconds)


def accepted(
    message: int = 1,
    recipients: Iterable[str] = ("ana@client.example",),
    *,
    at: datetime = ACCEPTED_AT,
    configuration_set: str | None = "promo",
    from_domain: str = "shop.example",
    tags: tuple[tuple[str, str], ...] = (("campaign", "nov"), ("kind", "promo")),
    opens: bool = True,
    clicks: bool = True,
    subject: str = "November list",
) -> Accepted:
    """Accept a message; its links are 0 (HTML, tagged), 1 (text) and 2 (HTML, redacted)."""
    facts = MessageFacts(
        message=message_id(message),
        accepted_at=at,
        source=f"news@{from_domain}",
        source_address="198.51.100.7",
        caller="newsletter",
        from_domain=from_domain,
        configuration_set=configuration_set,
        upstream="default",
        headers=(
            HeaderField(name="From", value=f"Shop <news@{from_domain}>"),
            HeaderField(name="To", value="ana@client.example"),
            HeaderField(name="Subject", value=subject),
            HeaderField(name="Message-ID", value="<9d1@shop.example>"),
            HeaderField(name="X-SES-CONFIGURATION-SET", value="promo"),
            HeaderField(name="X-SES-MESSAGE-TAGS", value="campaign=nov, kind=promo"),
        ),
        from_header=(f"Shop <news@{from_domain}>",),
        to_header=("ana@client.example",),
        date_header="Tue, 3 Nov 2026 08:15:00 +0000",
        message_id_header="<9d1@shop.example>",
        subject=subject,
        tags=tags,
        links=(
            TrackedLink(
                index=0,
                part="html",
                section="1.2",
                url="https://shop.example/p?id=7&ref=mail",
                text="Lamp",
                tags=(("place", "header"), ("place", "top"), ("product", "lamp")),
            ),
            TrackedLink(index=1, part="text", section="1.1", url="https://shop.example/p?id=7&ref=mail"),
            TrackedLink(
                index=2, part="html", section="1.2", url="https://shop.example/login", text="Sign in", redacted=True
            ),
        ),
        skipped=(
            Skipped(reason="list_unsubscribe", section="1.2"),
            Skipped(reason="scheme", section="1.2", count=2),
        ),
        size_bytes=20_480,
    )
    copies = tuple(
        CopyFacts(copy=copy_id(message, index), recipient=recipient, opens=opens, clicks=clicks)
        for index, recipient in enumerate(recipients)
    )
    return Accepted(facts=facts, copies=copies)


def delivery(
    message: int = 1, recipient: int = 0, *, at: datetime | None = None, reply: str = "250 2.0.0 Ok: queued as 4F2C"
) -> Delivery:
    """The upstream takes a copy, 2.132 s after acceptance."""
    copy = copy_id(message, recipient)
    return Delivery(
        event=EventId.of_outcome(copy, "delivery"),
        copy=copy,
        at=at or after(2.132),
        upstream="default",
        reply=reply,
        final=False,
    )


def delay(
    message: int = 1,
    recipient: int = 0,
    *,
    number: int = 1,
    reply: str = "421 4.4.1 try later",
    phase: str = "rcpt",
) -> DeliveryDelay:
    """The upstream puts a copy off."""
    copy = copy_id(message, recipient)
    return DeliveryDelay(
        event=EventId.of_outcome(copy, f"delivery_delay:{number}"),
        copy=copy,
        at=after(4),
        upstream="default",
        phase=phase,
        reply=reply,
        expires_at=after(5 * 86_400),
    )


def bounce(
    message: int = 1,
    recipient: int = 0,
    *,
    reply: str = "550 5.1.1 no such user",
    phase: str = "rcpt",
    expired: bool = False,
) -> Bounce:
    """The upstream refuses a copy."""
    copy = copy_id(message, recipient)
    return Bounce(
        event=EventId.of_outcome(copy, "bounce"),
        copy=copy,
        at=after(3),
        upstream="default",
        phase=phase,
        reply=reply,
        expired=expired,
    )


def hit(at: datetime, *, signals: tuple[str, ...] = ()) -> Hit:
    """A request, from a browser."""
    return Hit(at=at, address="203.0.113.0", user_agent=BROWSER, signals=signals)


def opened(
    number: int, message: int = 1, recipient: int = 0, *, at: datetime | None = None, signals: tuple[str, ...] = ()
) -> Open:
    """A copy's pixel is fetched, half an hour after acceptance."""
    return Open(event=event_id(number), copy=copy_id(message, recipient), hit=hit(at or after(1800), signals=signals))


def clicked(
    number: int,
    message: int = 1,
    recipient: int = 0,
    *,
    link: int = 0,
    at: datetime | None = None,
    signals: tuple[str, ...] = (),
) -> Click:
    """A copy's link is followed, half an hour after acceptance."""
    url = "https://shop.example/login" if link == 2 else "https://shop.example/p?id=7&ref=mail"
    return Click(
        event=event_id(number),
        copy=copy_id(message, recipient),
        hit=hit(at or after(1800), signals=signals),
        link_index=link,
        part="text" if link == 1 else "html",
        url=url,
    )


def probed(
    number: int, message: int = 1, recipient: int = 0, *, at: datetime | None = None, signals: tuple[str, ...] = ()
) -> Probe:
    """A copy's pixel is asked for by HEAD."""
    return Probe(event=event_id(number), copy=copy_id(message, recipient), hit=hit(at or after(1800), signals=signals))
