"""Replies and the sanitiser (RFC 5321 §4.2, RFC 3463)."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.reply import MAX_LINE_BYTES, Reply, multiline, sanitize


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Ok", "Ok"),
        ("no\r\n250 ok", "no 250 ok"),
        (" a\t\tb\0c\x7f ", "a b c"),
        ("Grüße", "Gr??e"),
        ("a\u2028b\u0085c", "a b c"),
        ("\ud800", "?"),
        ("x" * 201, "x" * 197 + "..."),
        ("x" * 200, "x" * 200),
    ],
)
def test_a_text_from_outside_becomes_one_harmless_line(text: str, expected: str) -> None:
    """No reply and no log line can be forged by what a peer wrote."""
    assert sanitize(text) == expected


@given(text=st.text(), limit=st.integers(min_value=0, max_value=600))
def test_a_sanitised_text_is_printable_short_and_stable(text: str, limit: int) -> None:
    """Printable ASCII within the limit, and clean text stays as it is."""
    clean = sanitize(text, limit)

    assert re.fullmatch(r"[ -~]*", clean)
    assert len(clean) <= limit
    assert sanitize(clean, max(limit, 3)) == clean.strip()


@given(text=st.text(max_size=2000))
def test_a_reply_is_one_line_within_512_octets(text: str) -> None:
    """RFC 5321 §4.5.3.1.5, the CRLF included."""
    line = Reply(code=550, enhanced="5.7.1", text=text).line()

    assert line.startswith("550 5.7.1 ")
    assert len(line.encode("ascii")) <= MAX_LINE_BYTES
    assert line.isprintable()


def test_a_reply_without_an_enhanced_code_begins_with_its_text() -> None:
    """RFC 2034 §4: the greeting, EHLO and 354 have none."""
    assert Reply(code=354, enhanced="", text="Go").line() == "354 Go"


@pytest.mark.parametrize(
    ("code", "enhanced"),
    [(199, ""), (600, ""), (260, ""), (250, "4.0.0"), (450, "4.0"), (550, "5.7.1000"), (354, "3.0.0")],
)
def test_a_reply_that_rfc_5321_has_not_is_a_broken_contract(code: int, enhanced: str) -> None:
    """The class of the enhanced code is that of the code (RFC 2034 §4)."""
    with pytest.raises(ValueError, match=r"is no (SMTP reply|enhanced status) code"):
        Reply(code=code, enhanced=enhanced, text="x")


def test_a_reply_of_several_lines_marks_all_but_the_last() -> None:
    """RFC 5321 §4.2.1."""
    assert multiline(250, ("relay.example", "SIZE 9", "8BITMIME")) == "250-relay.example\r\n250-SIZE 9\r\n250 8BITMIME"
