"""Laws of transfer encodings and charsets: there and back again, and what no edit touches keeps its bytes."""

import re
from binascii import a2b_base64
from collections.abc import Sequence

from relay.core import base64_body, quoted_printable, transcoding
from relay.core.splices import Splice, settle

_SOFT = re.compile(rb"(?<!=)=(?:==)*\Z")  # `==` is a `=` that some programs write; a third one breaks the line
_CODES = re.compile(rb"==|=([0-9A-Fa-f]{2})")


def what_is_quoted_decodes_to_itself(text: bytes) -> None:
    """RFC 2045 §6.7: lines of at most 76, no white space at their end, nothing bare. `text` has CRLF line ends."""
    encoded = quoted_printable.encode(text)
    assert quoted_printable.decode(encoded).text == text
    assert _read_by_the_rules(encoded) == text
    assert re.fullmatch(rb"(?:[^\r\n]{0,76}\r\n)*[^\r\n]{0,76}", encoded)
    assert not re.search(rb"[ \t](?:\r\n|\Z)", encoded)


def a_soft_end_goes_on_in_what_follows(text: bytes, rest: bytes) -> None:
    """The run's last line ends with `=`, within 76 characters."""
    encoded = quoted_printable.encode(text, ends_soft=True)
    assert max(map(len, encoded.split(b"\r\n"))) <= 76
    assert quoted_printable.decode(encoded + b"\r\n" + quoted_printable.encode(rest)).text == text + rest


def decoding_follows_the_rules(encoded: bytes) -> None:
    """The quick decoder and the rules, line by line, give the same text. `encoded` has CRLF line ends."""
    assert quoted_printable.decode(encoded).text == _read_by_the_rules(encoded)


def a_splice_changes_its_own_text_and_nothing_else(encoded: bytes, splices: Sequence[Splice]) -> None:
    """Every byte outside an edit is unchanged after decoding, and lines that no edit touches keep their form."""
    quoted = quoted_printable.decode(encoded)
    size = len(quoted.text)
    settled = settle(Splice(min(one.start, size), min(one.end, size), one.pieces) for one in splices)
    expected = bytearray(quoted.text)
    for splice in reversed(settled):
        expected[splice.start : splice.end] = _joined(splice.pieces)
    out: list[bytes] = []
    position = 0
    for run in quoted.runs(settled):
        assert position <= run.span[0] <= run.span[1] <= len(encoded)
        assert encoded[: run.span[0]].endswith(b"\r\n") or not run.span[0]
        assert encoded.startswith(b"\r\n", run.span[1]) or run.span[1] == len(encoded)
        out += [encoded[position : run.span[0]]]
        out += [quoted_printable.encode(_joined(run.pieces), ends_soft=run.ends_soft)]
        position = run.span[1]
    changed = b"".join([*out, encoded[position:]])
    assert quoted_printable.decode(changed).text == bytes(expected)


def base64_keeps_its_form(raw: bytes, octets: int) -> None:
    """What was base64 of that line length is so again, byte for byte."""
    encoded = base64_body.encode(raw, line_octets=octets) + b"\r\n"
    found = base64_body.decode(encoded)
    assert found is not None
    assert found.raw == raw
    if b"\r\n" in encoded.rstrip(b"\r\n"):
        assert found.line_octets == octets
    assert base64_body.encode(found.raw, line_octets=octets) + found.tail == encoded


def base64_is_clean_or_refused(body: bytes) -> None:
    """What is decoded, every reader decodes alike; its end is kept."""
    found = base64_body.decode(body)
    if found is None:
        return
    assert found.raw == a2b_base64(body)
    assert body.endswith(found.tail)
    assert base64_body.MAX_LINE >= found.line_octets >= 1
    again = base64_body.decode(base64_body.encode(found.raw, line_octets=found.line_octets) + found.tail)
    assert again is not None
    assert again.raw == found.raw


def a_charset_leads_there_and_back(raw: bytes, label: str, spliced: str) -> None:
    """What is decoded is encoded to the very same bytes, also with ASCII spliced into it."""
    charset = transcoding.lookup(label)
    if charset is None or charset.is_ascii_compatible:
        return
    turned = transcoding.to_utf8(raw, charset)
    if turned is None:
        return
    text, codec = turned
    assert transcoding.from_utf8(text, codec) == raw
    whole = text.decode("utf-8")
    for at in {0, len(whole) // 2, len(whole)}:
        edited = whole[:at] + spliced + whole[at:]
        assert transcoding.from_utf8(edited.encode("utf-8"), codec).decode(codec) == edited


def _joined(pieces: Sequence[object]) -> bytes:
    return b"".join(piece for piece in pieces if isinstance(piece, bytes))


def _read_by_the_rules(encoded: bytes) -> bytes:
    """RFC 2045 §6.7, as slow as it is plain: white space at line ends goes, then soft breaks, then codes."""
    text = bytearray()
    *lines, last = encoded.split(b"\r\n")
    for line in lines:
        line = line.rstrip(b" \t")
        is_soft = _SOFT.search(line) is not None
        text += _CODES.sub(_code, line[:-1] if is_soft else line) + (b"" if is_soft else b"\r\n")
    last = last.rstrip(b" \t")
    return bytes(text) + _CODES.sub(_code, last[:-1] if _SOFT.search(last) else last)


def _code(match: re.Match[bytes]) -> bytes:
    return bytes.fromhex(match[1].decode()) if match[1] else b"="
