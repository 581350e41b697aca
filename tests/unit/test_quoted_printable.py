"""Quoted-printable is spliced: only lines that an edit touches change."""

import binascii
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core import base64_body, quoted_printable
from relay.core.splices import Splice
from tests.laws import encodings as laws

_WORDS = [b"\r\n", b" ", b"\t", b"=", b"a", b"word " * 9, b"\xc3\xa9", b".", b"x" * 80, b"\r", b"\n", b"From "]
_TEXTS = st.lists(st.sampled_from(_WORDS)).map(b"".join)
_BREAKS = [b"\r\n", b"=\r\n", b"= \r\n", b" \r\n"]
_CODES = [b"=3D", b"=3d", b"=ZZ", b"=", b"==", b"=0D=0A", b"=0A", b"text ", b"y" * 70]
_ENCODED = st.lists(st.sampled_from([*_BREAKS, *_CODES])).map(b"".join)


def _spliced(encoded: bytes, splices: list[Splice]) -> bytes:
    quoted = quoted_printable.decode(encoded)
    out, position = [], 0
    for run in quoted.runs(splices):
        out.append(encoded[position : run.span[0]])
        pieces = b"".join(piece for piece in run.pieces if isinstance(piece, bytes))
        out.append(quoted_printable.encode(pieces, ends_soft=run.ends_soft))
        position = run.span[1]
    return b"".join([*out, encoded[position:]])


@given(_TEXTS)
def test_what_is_encoded_decodes_to_itself(text: bytes) -> None:
    """RFC 2045 §6.7: lines of at most 76, no white space at their end, nothing bare."""
    encoded = quoted_printable.encode(text)
    assert quoted_printable.decode(encoded).text == text
    assert binascii.a2b_qp(encoded) == text
    assert re.fullmatch(rb"(?:[^\r\n]{0,76}\r\n)*[^\r\n]{0,76}", encoded)
    assert not re.search(rb"[ \t](?:\r\n|\Z)", encoded)


@given(st.text("ab =.", max_size=400).map(str.encode))
def test_a_line_of_ascii_is_broken_where_the_library_breaks_it(line: bytes) -> None:
    """It has a quicker way of its own."""
    assert quoted_printable.encode(line) == binascii.b2a_qp(line, istext=False).replace(b"\n", b"\r\n")


@given(_TEXTS, _TEXTS)
def test_a_soft_end_goes_on_in_what_follows(text: bytes, rest: bytes) -> None:
    """The run's last line ends with `=`, within 76 characters."""
    laws.a_soft_end_goes_on_in_what_follows(text, rest)


@given(_ENCODED, st.integers(0, 20_000))
def test_a_place_in_the_text_leads_to_its_line(encoded: bytes, offset: int) -> None:
    """The way from text to encoded text holds for clean and for broken bodies, small and large."""
    quoted = quoted_printable.decode(encoded * 50)
    offset = min(offset, len(quoted.text))
    (run,) = quoted.runs([Splice(offset, offset)])
    before = quoted.encoded[: run.span[0]]
    start = len(quoted_printable.decode(before).text)
    line = b"".join(piece for piece in run.pieces if isinstance(piece, bytes))
    assert not before or before.endswith(b"\r\n")
    assert start <= offset <= start + len(line) + len(b"\r\n")
    assert quoted.text.startswith(line, start)


@given(_ENCODED, st.lists(st.tuples(st.integers(0, 400), st.integers(0, 60), _TEXTS), max_size=4))
def test_a_splice_changes_its_own_text_and_nothing_else(encoded: bytes, edits: list[tuple[int, int, bytes]]) -> None:
    """Every byte outside an edit is unchanged after decoding, and lines that no edit touches keep their form."""
    size = len(quoted_printable.decode(encoded).text)
    splices = [Splice(at % (size + 1), at % (size + 1) + length, (new,)) for at, length, new in edits]
    laws.a_splice_changes_its_own_text_and_nothing_else(encoded, splices)


def test_only_touched_lines_are_encoded_again() -> None:
    """A link that soft breaks cut is one link, and the lines around it keep odd but lawful forms."""
    encoded = b"=41=42=43\r\nsee http://a.exam=\r\nple/?a=3Db=\r\n&c now=20\r\nlow=c3=a9er\r\n"
    text = quoted_printable.decode(encoded).text
    url = b"http://a.example/?a=b&c"
    start = text.index(url)
    changed = _spliced(encoded, [Splice(start, start + len(url), (b"http://t.example/l/" + b"x" * 100,))])
    assert changed == (
        b"=41=42=43\r\nsee http://t.example/l/" + b"x" * 52 + b"=\r\n" + b"x" * 48 + b" now=20\r\nlow=c3=a9er\r\n"
    )


@pytest.mark.parametrize("body", [b"", b"QUJD\r\nREVG\r\n", b"QQ==\r\n\r\n", b"QUI=", b"QUJD REVG\r\n"])
def test_clean_base64_is_decoded_with_its_form(body: bytes) -> None:
    """The length of its lines and its end are kept."""
    found = base64_body.decode(body)
    assert found is not None
    assert found.raw == binascii.a2b_base64(body)


@pytest.mark.parametrize("body", [b"QUJ", b"QUJD*", b"QQ==QQ==", b"Q=UJ", b"QUJD\r\n-- \r\nlist footer\r\n"])
def test_base64_in_doubt_is_not_decoded(body: bytes) -> None:
    """A reader that skips what is foreign and one that stops there would see two texts."""
    assert base64_body.decode(body) is None


@given(st.binary(max_size=400), st.sampled_from([60, 64, 72, 76]))
def test_base64_is_encoded_at_its_own_line_length(raw: bytes, octets: int) -> None:
    """What was base64 of that line length is so again, byte for byte."""
    laws.base64_keeps_its_form(raw, octets)
