"""Entries and copies for the tests of the spool and the upstreams."""

from datetime import UTC, datetime

from relay.spool.entry import SpoolEntry
from tracker.contract.events import Accepted, CopyFacts, HeaderField, MessageFacts
from tracker.contract.ids import CopyId, MessageId

ACCEPTED_AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
MESSAGE = (
    b"From: shop@shop.example\r\nTo: ana@a.example\r\nSubject: Hello\r\nMessage-ID: <1@shop.example>\r\n\r\n"
    b"A line.\r\n.A line that begins with a dot.\r\n"
)


def make_id(number: int, at: datetime = ACCEPTED_AT) -> MessageId:
    """Make the id of a test's message."""
    return MessageId.make(unix_ms=int(at.timestamp() * 1000), entropy=number.to_bytes(10, "big"))


def make_entry(
    number: int = 1,
    *recipients: str,
    at: datetime = ACCEPTED_AT,
    upstream: str = "default",
    reverse_path: str = "shop@shop.example",
    body_8bit: bool = False,
    report: bool = False,
    fallbacks: tuple[str, ...] = (),
) -> SpoolEntry:
    """Make an entry whose copies are numbered like its recipients; by default there is one, `ana@a.example`."""
    message = make_id(number, at)
    addresses = recipients or ("ana@a.example",)
    copies = tuple(
        CopyFacts(copy=CopyId(message, index.to_bytes(6, "big")), recipient=address, opens=True, clicks=True)
        for index, address in enumerate(addresses)
    )
    facts = MessageFacts(
        message=message,
        accepted_at=at,
        source=reverse_path,
        source_address="192.0.2.1",
        caller="",
        from_domain="shop.example",
        configuration_set="default",
        upstream=upstream,
        headers=(HeaderField(name="Subject", value="Grüße"),),
    )
    return SpoolEntry(
        accepted=Accepted(facts=facts, copies=copies),
        reverse_path=reverse_path,
        recipients=tuple(addresses),
        upstream=upstream,
        body_8bit=body_8bit,
        report=report,
        fallbacks=fallbacks,
    )
