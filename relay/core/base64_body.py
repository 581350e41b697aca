"""Base64 bodies: decoded strictly, encoded again at the line length that they had.

Standards: RFC 2045 §6.8; RFC 4648 §3.3 (what is not of the alphabet is refused: a reader that skips it and one that
stops there would see two texts).
"""

import binascii
from dataclasses import dataclass
from typing import Final

MAX_LINE: Final = 76
_MIN_LINE: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Base64:
    """A base64 body: its bytes, the length of its lines, and the white space at its end."""

    raw: bytes
    line_octets: int
    tail: bytes


def decode(encoded: bytes) -> Base64 | None:
    """Decode a body; None where it is not clean base64, padding included."""
    body = encoded.rstrip(b" \t\r\n")
    try:
        raw = binascii.a2b_base64(body.translate(None, b" \t\r\n"), strict_mode=True)
    except binascii.Error:
        return None
    first, line_end, _ = body.lstrip(b" \t\r\n").partition(b"\r\n")
    octets = len(first.rstrip(b" \t"))
    is_usual = bool(line_end) and _MIN_LINE <= octets <= MAX_LINE
    return Base64(raw=raw, line_octets=octets if is_usual else MAX_LINE, tail=encoded[len(body) :])


def encode(raw: bytes, *, line_octets: int = MAX_LINE) -> bytes:
    """Encode in lines of that length, with CRLF between them and none at the end."""
    line = binascii.b2a_base64(raw, newline=False)
    return b"\r\n".join([line[start : start + line_octets] for start in range(0, len(line), line_octets)])
