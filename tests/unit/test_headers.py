"""The header block as spans: found, removed and prepended without refolding."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core import encoded_words, headers
from tests.laws import mime as laws
from tests.laws.fields import decoding_for_display_is_bounded

_FOLDED = b"Subject: one\r\n two\r\nX-Empty:\r\nTo : a@b.example\r\nsubject: three\r\n\r\nbody\r\n"
_LINES = st.lists(
    st.sampled_from([b"A: b", b"Bcc: x@y.example", b" folded", b"\tfolded", b"", b"no field", b"From x", b":", b"a:b"]),
    max_size=12,
).map(lambda lines: b"".join(line + b"\r\n" for line in lines))


def test_fields_are_found_with_their_folded_lines() -> None:
    """RFC 5322 §2.2.3: a line that begins with white space belongs to the field before it."""
    block = headers.scan(_FOLDED)
    assert [_FOLDED[field.start : field.end] for field in block.fields] == [
        b"Subject: one\r\n two\r\n",
        b"X-Empty:\r\n",
        b"To : a@b.example\r\n",
        b"subject: three\r\n",
    ]
    assert block.values("SUBJECT") == ["one two", "three"]
    assert block.values("to") == ["a@b.example"]
    assert _FOLDED[block.body :] == b"body\r\n"
    assert not block.is_cut


@pytest.mark.parametrize(
    "raw",
    [
        b"A: b\r\nno field\r\n\r\n",
        b"text only\r\n",
        b" continuation\r\nA: b\r\n\r\n",
        b":\r\n\r\n",
        b"\xc3\xa4: b\r\n\r\n",
        b"A : b\r\n\r\n",
    ],
)
def test_a_block_that_programs_would_read_differently_is_unsound(raw: bytes) -> None:
    """On any doubt the message passes as it is."""
    assert not headers.scan(raw).is_sound


@pytest.mark.parametrize(
    "raw", [b"", b"\r\nbody", b"A: b\r\n", b"A: b", b"A: b\r\n \r\n\r\n", b"From x\r\nA: b\r\n\r\n"]
)
def test_a_block_may_be_empty_or_end_with_the_message(raw: bytes) -> None:
    """There is no doubt where nothing follows."""
    assert headers.scan(raw).is_sound


def test_values_are_read_as_utf_8_or_latin_1() -> None:
    """RFC 6532, and the raw bytes that old programs write."""
    assert headers.scan("A: ä\r\n\r\n".encode()).values("A") == ["ä"]
    assert headers.scan(b"A: \xe4\r\n\r\n").values("A") == ["ä"]


@pytest.mark.parametrize(
    "name",
    [
        "X-SES-CONFIGURATION-SET",
        "X-Mailwake-Configuration-Set",
        "X-SES-MESSAGE-TAGS",
        "X-Mailwake-Track",
        "X-Mailwake-Copy",
        "X-PM-TrackOpens",
        "X-PM-TrackLinks",
        "X-MC-Track",
        "X-Mailgun-Track",
        "X-Mailgun-Track-Clicks",
        "X-SMTPAPI",
        "X-MSYS-API",
        "Bcc",
        "bCC ",
        "Resent-Bcc",
        "Return-Path",
    ],
)
def test_control_fields_leave_with_their_folded_lines(name: str) -> None:
    """Every other byte stays, also the blanks and the order of the others."""
    before, after = b"From: a@b.example\r\nX-Bcc: stays\r\n", b"To:\r\n c@d.example\r\n\r\nBcc: in the body\r\n"
    field = name.encode() + b": one,\r\n\ttwo\r\n"
    assert headers.strip_controls(field + before + field + after + field) == before + after + field


def test_a_message_without_control_fields_is_returned_as_it_is() -> None:
    """No copy is made for nothing."""
    assert headers.strip_controls(_FOLDED) is _FOLDED


@given(_LINES)
def test_removing_takes_nothing_else(raw: bytes) -> None:
    """What is left is the input without the spans of the removed fields."""
    laws.removing_takes_nothing_else(raw)


@given(_LINES)
def test_control_fields_beyond_what_is_read_leave_as_well(raw: bytes) -> None:
    """A `Bcc` does not stay for standing behind a thousand lines, or behind a field of 128 KB."""
    raw = b"a: b\r\n" + raw
    for before in (b"A: b\r\n" * headers.MAX_LINES, b"A: %b\r\n" % (b"x" * headers.MAX_BYTES)):
        assert headers.scan(before + raw).is_cut
        assert headers.strip_controls(before + raw) == before + headers.strip_controls(raw)


@pytest.mark.parametrize(
    ("raw", "is_cut"),
    [
        (b"A: b\r\n" * headers.MAX_LINES + b"\r\n", False),
        (b"A: b\r\n" * (headers.MAX_LINES + 1) + b"\r\n", True),
        (b"A:" + b"\r\n b" * headers.MAX_LINES + b"\r\n\r\n", True),
        (b"A: %b\r\n\r\nbody" % (b"x" * (headers.MAX_BYTES - 5)), False),
        (b"A: %b\r\n\r\nbody" % (b"x" * (headers.MAX_BYTES - 4)), True),
        (b" a\r\n" * (headers.MAX_LINES + 1) + b"A: b\r\n\r\n", True),
    ],
)
def test_reading_ends_at_the_limits(raw: bytes, is_cut: bool) -> None:
    """128 KB and 1,000 lines are read; more is a header that nobody wrote, and costs nothing."""
    block = headers.scan(raw)
    assert block.is_cut is is_cut
    assert block.is_sound is not is_cut
    assert len(block.fields) <= headers.MAX_LINES


@given(_LINES)
def test_fields_tile_the_block(raw: bytes) -> None:
    """Fields are contiguous from `first` to `end`; the body begins there or behind the empty line."""
    laws.fields_tile_the_block(headers.scan(raw))


@given(_LINES)
def test_what_is_prepended_is_the_first_field_and_nothing_else_changes(raw: bytes) -> None:
    """Trace fields stand first (RFC 5322 §3.6.7), behind an mbox line; a text without header gets its empty line."""
    laws.a_new_field_is_first_and_nothing_else_changes(raw)


def test_received_names_client_host_protocol_id_and_instance() -> None:
    """RFC 5321 §4.4; no `for` clause, which would tell of a Bcc."""
    line = headers.received(
        helo="client.example",
        client_address="2001:db8::1",
        host="relay.example.com",
        instance="relay1",
        protocol="ESMTPSA",
        queued_as="01k3d5q9y8zv4c6m2r7t1w0x5b",
        at=datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC),
    )
    (value,) = headers.scan(line).values("Received")
    assert value == (
        "from client.example ([IPv6:2001:db8::1]) by relay.example.com (Mailwake relay1) with ESMTPSA id "
        "01k3d5q9y8zv4c6m2r7t1w0x5b; Tue, 03 Feb 2026 04:05:06 +0000"
    )
    assert max(map(len, line.split(b"\r\n"))) <= 78


@pytest.mark.parametrize("helo", ["a b", "x\r\nBcc: v@w.example", "(comment", "", "ä.example", "a" * 256])
def test_a_helo_that_is_no_host_is_not_repeated(helo: str) -> None:
    """What a client says of itself is hostile."""
    line = headers.received(
        helo=helo,
        client_address="192.0.2.1",
        host="h",
        instance="i",
        protocol="SMTP",
        queued_as="q",
        at=datetime(2026, 2, 3, tzinfo=UTC),
    )
    assert line.startswith(b"Received: from unknown ([192.0.2.1]) by h (Mailwake i) with SMTP id q;")


@pytest.mark.parametrize("value", ["a\rb", "a\nb", "a\r\nBcc: b", "a\0b", "\x7f", "a\tb"])
def test_no_control_character_enters_a_header(value: str) -> None:
    """Header injection ends here."""
    with pytest.raises(headers.HeaderError):
        headers.make_field("X-Any", value)


@given(st.text(st.characters(blacklist_categories=["Cc", "Cs"]), max_size=300))
def test_a_field_that_we_make_is_read_back(value: str) -> None:
    """Folding happens at spaces, and unfolding gives the value again."""
    laws.a_field_that_we_make_is_read_back(value)


def test_hops_are_counted_and_loops_seen() -> None:
    """More than 50 Received, or three of our own."""

    def mail(others: int, own: int) -> headers.HeaderBlock:
        ours = headers.received(
            helo="a.example",
            client_address="192.0.2.1",
            host="relay.example.com",
            instance="relay1",
            protocol="ESMTP",
            queued_as="01k3d5q9y8zv4c6m2r7t1w0x5b",
            at=datetime(2026, 2, 3, tzinfo=UTC),
        )
        other = b"Received: from a by b (Mailwake relay10) with ESMTP id c; Tue, 03 Feb 2026 04:05:06 +0000\r\n"
        return headers.scan(other * others + ours * own + b"\r\n")

    assert headers.count_hops(mail(4, 2), "relay1") == (6, 2)
    assert not headers.is_looping(mail(48, 2), "relay1")
    assert headers.is_looping(mail(51, 0), "relay1")
    assert headers.is_looping(mail(0, 3), "relay1")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("plain", "plain"),
        ("=?utf-8?q?Gr=C3=BC?= =?UTF-8?B?w59l?=", "Grüße"),
        ("a =?iso-8859-1*de?Q?=E4_b?= c", "a ä b c"),
        ("=?x-unknown?q?a?=", "=?x-unknown?q?a?="),
        ("=?unicode_escape?q?=5Cx41?=", "=?unicode_escape?q?=5Cx41?="),
        ("=?utf-8?b?w58?=", "ß"),
        ("=?utf-8?b?YQ?= b =?utf-8?b?Y?= =?utf-8?q?x?=", "a b =?utf-8?b?Y?= x"),
        ("=?utf-8?q?a?=<a@b.example>", "a<a@b.example>"),
    ],
)
def test_encoded_words_are_decoded_for_display(value: str, shown: str) -> None:
    """RFC 2047 §6.2; what cannot be decoded is shown as it stands."""
    assert encoded_words.decode(value) == shown


@given(st.text())
def test_decoding_for_display_never_raises(value: str) -> None:
    """Subjects are hostile."""
    decoding_for_display_is_bounded(value)
