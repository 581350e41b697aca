"""The report to the author: RFC 3464, readable by the standard library's parser, and never a loop."""

import email
import email.policy
from dataclasses import replace
from datetime import UTC, datetime
from email.message import EmailMessage

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core import dsn
from relay.core.attempt import UpstreamReply
from relay.core.dsnrequest import DsnRequest, RecipientRequest
from tests.unit.spooling import MESSAGE, make_entry

ENTRY = make_entry(1)
COPY = ENTRY.accepted.copies[0].copy


def _facts(
    *,
    recipient: str = "ana@a.example",
    reply: UpstreamReply | None = UpstreamReply(550, "5.1.1 no such user"),  # noqa: B008 - frozen
    detail: str = "",
    expired: bool = False,
) -> dsn.ReportFacts:
    return dsn.ReportFacts(
        hostname="relay.example.com",
        copy=COPY,
        sender="shop@shop.example",
        recipient=recipient,
        arrived_at=datetime(2026, 3, 1, 12, tzinfo=UTC),
        ended_at=datetime(2026, 3, 1, 13, tzinfo=UTC),
        reply=reply,
        detail=detail,
        expired=expired,
        upstream_host="smtp.example.com",
    )


def _parse(raw: bytes) -> tuple[EmailMessage, EmailMessage, str]:
    """Return the report, the fields of its recipient, and the header it gives back."""
    message = email.message_from_bytes(raw, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    _, status, returned = message.iter_parts()
    groups = status.get_payload()
    assert isinstance(groups, list)
    assert isinstance(groups[1], EmailMessage)
    content = returned.get_payload(decode=True)
    assert isinstance(content, bytes)
    return message, groups[1], content.decode("utf-8", "replace")


def test_a_report_shows_what_its_author_asked_by() -> None:
    """RFC 3464 §2.2.1, §2.3.1: ENVID and ORCPT, decoded; so that a program finds its own mail and address."""
    asked = RecipientRequest(original="rfc822;ana+2Blist@a.example")
    facts = replace(_facts(), message_request=DsnRequest(envelope_id="QQ+2D314+2B159"), request=asked)
    raw = dsn.make(facts, MESSAGE)
    _, fields, _ = _parse(raw)

    assert fields["Original-Recipient"] == "rfc822; ana+list@a.example"
    assert b"\r\nOriginal-Envelope-Id: QQ-314+159\r\n" in raw
    plain = dsn.make(_facts(), MESSAGE)
    assert b"Original-" not in plain


@pytest.mark.parametrize(
    "returned, action, octets, is_whole",
    [
        ("FULL", dsn.Action.FAILED, 10, True),
        ("FULL", dsn.Action.FAILED, 50_000, False),
        ("FULL", dsn.Action.RELAYED, 10, False),
        ("HDRS", dsn.Action.FAILED, 10, False),
        ("", dsn.Action.FAILED, 10, False),
    ],
)
def test_a_message_is_returned_whole_only_where_that_was_asked_and_fits(
    returned: str, action: dsn.Action, octets: int, is_whole: bool
) -> None:
    """RFC 3461 §4.3: RET=FULL counts for failures; what is too large is cut to its header."""
    facts = replace(_facts(), action=action, message_request=DsnRequest(returned=returned))
    raw = dsn.make(facts, MESSAGE + b"a word\r\n" * (octets // 8))
    part = list(email.message_from_bytes(raw, policy=email.policy.default).iter_parts())[2]

    assert part.get_content_type() == ("message/rfc822" if is_whole else "text/rfc822-headers")
    assert (b"A line." in raw) is is_whole


def test_a_report_has_three_parts_and_says_it_is_automatic() -> None:
    """RFC 6522, RFC 3464, RFC 3834."""
    message, fields, returned = _parse(dsn.make(_facts(), MESSAGE))

    assert message.get_content_type() == "multipart/report"
    assert message["Content-Type"].params["report-type"] == "delivery-status"
    assert message["Auto-Submitted"] == "auto-replied"
    assert message["To"] == "shop@shop.example"
    assert message["Message-ID"] == f"<{dsn.report_id(COPY)}@relay.example.com>"
    assert message["Date"].datetime == datetime(2026, 3, 1, 13, tzinfo=UTC)
    assert [part.get_content_type() for part in message.iter_parts()] == [
        "text/plain",
        "message/delivery-status",
        "text/rfc822-headers",
    ]
    assert dict(fields.items()) == {
        "Final-Recipient": "rfc822; ana@a.example",
        "Action": "failed",
        "Status": "5.1.1",
        "Remote-MTA": "dns; smtp.example.com",
        "Diagnostic-Code": "smtp; 550 5.1.1 no such user",
        "Last-Attempt-Date": "Sun, 01 Mar 2026 13:00:00 +0000",
    }
    assert returned.startswith("From: shop@shop.example")
    assert "A line." not in returned


@pytest.mark.parametrize(
    "reply, expired, status",
    [
        (UpstreamReply(550, "5.7.1 relaying denied"), False, "5.7.1"),
        (UpstreamReply(550, "no such user"), False, "5.0.0"),
        (UpstreamReply(451, "4.3.0 later"), True, "5.4.7"),
        (None, True, "5.4.7"),
    ],
)
def test_the_status(reply: UpstreamReply | None, expired: bool, status: str) -> None:
    """The upstream's enhanced code where it has one of failure; expiry has its own (RFC 3463 §3.5)."""
    _, fields, _ = _parse(dsn.make(_facts(reply=reply, expired=expired, detail="connection refused"), MESSAGE))

    assert fields["Status"] == status
    assert (fields["Diagnostic-Code"] is None) == (reply is None)


def test_an_address_in_utf_8_is_written_in_ascii() -> None:
    """RFC 6533 §3: the report needs no SMTPUTF8 for it."""
    raw = dsn.make(_facts(recipient="jörg+a@a.example"), MESSAGE)

    assert raw.isascii()
    assert _parse(raw)[1]["Final-Recipient"] == r"utf-8; j\x{F6}rg\x{2B}a@a.example"


def test_the_returned_header_is_cut_at_a_field_and_has_no_blind_copies() -> None:
    """At most 50 KB; Bcc would tell of others."""
    block = b"Bcc: secret@a.example\r\n" + b"X-Long: " + b"x" * 900 + b"\r\n y\r\n"
    raw = dsn.make(_facts(), block * 100 + b"\r\nbody\r\n")

    returned = _parse(raw)[2]
    assert len(raw) < dsn.MAX_RETURNED_BYTES + 3000
    assert "secret" not in returned
    assert returned.replace("\r\n", "\n").rstrip("\n").endswith("\n y")


def test_a_header_in_8_bits_comes_back_as_it_was_in_a_report_of_ascii() -> None:
    """Quoted-printable: the report can pass any upstream."""
    header = "Subject: Grüße\r\nX: =3D\r\n"
    raw = dsn.make(_facts(), header.encode() + b"\r\nbody\r\n")

    assert raw.isascii()
    assert _parse(raw)[2].replace("\r\n", "\n").rstrip("\n") == header.replace("\r\n", "\n").rstrip("\n")


@given(words=st.binary(max_size=300), header=st.binary(max_size=300))
def test_nothing_from_outside_adds_a_field_or_a_part(words: bytes, header: bytes) -> None:
    """The upstream's words and the author's header are hostile."""
    text = words.decode("latin-1")
    header = header.replace(b"\n", b" ").replace(b"\r", b" ")  # line ends are settled before mail is spooled
    raw = dsn.make(_facts(reply=UpstreamReply(550, text), detail=text), b"X: " + header + b"\r\n\r\n" + header)

    message, fields, _ = _parse(raw)
    assert len(list(message.iter_parts())) == 3
    assert len(fields.keys()) == 6
    assert raw.count(b"\n") == raw.count(b"\r\n")


def test_the_same_failure_makes_the_same_report() -> None:
    """A crash between spooling it and marking the row repeats it under the same name."""
    assert dsn.make(_facts(), MESSAGE) == dsn.make(_facts(), MESSAGE)
    assert dsn.report_id(COPY) != dsn.report_id(make_entry(2).accepted.copies[0].copy)
    assert dsn.report_id(COPY).raw[:6] == COPY.raw[:6]


@pytest.mark.parametrize(
    "reverse_path, header, due",
    [
        ("shop@shop.example", b"", True),
        ("", b"", False),
        ("shop@shop.example", b"Auto-Submitted: no\r\n", True),
        ("shop@shop.example", b"auto-submitted: Auto-Generated; x=y\r\n", False),
        ("shop@shop.example", b"Auto-Submitted: no\r\nAuto-Submitted: auto-replied\r\n", False),
    ],
)
def test_when_a_report_is_due(reverse_path: str, header: bytes, due: bool) -> None:
    """RFC 5321 §4.5.5, RFC 3834 §5."""
    assert dsn.is_due(reverse_path=reverse_path, header_of=header + MESSAGE) is due
