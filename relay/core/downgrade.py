"""A message in 8 bits, encoded again for an upstream that takes 7 alone.

Owns which encoding each part gets. What is not touched keeps its bytes: headers, boundaries, every part that is ASCII.

Standards: RFC 6152 §3 (a client that cannot send 8 bits converts or refuses), RFC 2045 §6 (encodings), §6.4 (a
multipart has none), RFC 2046 §5.2.1 (nor has a message/rfc822; what is in it is encoded there), RFC 1847 §2.1 (what is
signed must not change).

Theory:
    Only leaves are encoded: text as quoted-printable, that stays readable; everything else as base64. A multipart or
    an enclosed message that was labelled 8bit or binary is labelled 7bit then. Decoded, every part is what it was.

    Header fields in raw 8 bits stay as they are: their charset is not said anywhere, so that an encoded word (RFC 2047)
    would be a guess, and servers pass them on. Where nothing says how a text is encoded, nothing is guessed either: a
    field that says quoted-printable is added, its charset stays unsaid.

Limits: no form in 7 bits for what is signed, by its author's DKIM or as multipart/signed; for a message whose structure
is in doubt; for an encoding that the part claims and does not keep; for messages in messages beyond five levels.
"""

from collections.abc import Iterator
from typing import Final

from relay.core import base64_body, headers, mime, quoted_printable
from relay.core.mime import Part
from relay.core.reasons import SkipReason

_MAX_ENCLOSED: Final = 5
_ENCLOSED: Final = "message/rfc822"
_IDENTITY: Final = frozenset({"7bit", "8bit", "binary"})
_WIDE: Final = ("utf-16", "utf-32", "ucs-2", "ucs-4")  # their line ends are not the bytes CR and LF
_TO_ASCII: Final = bytes(byte if byte < 0x80 else ord("?") for byte in range(256))

_Change = tuple[int, int, bytes]  # from, to, what stands there instead


class _NoFormError(Exception):
    """The message cannot be sent in 7 bits as the mail that it is."""


def to_seven_bit(raw: bytes) -> bytes | None:
    """Return the message with a body of ASCII alone, None where there is no such form; itself where it is one."""
    if raw.isascii():
        return raw
    if headers.scan(raw).has("DKIM-Signature"):
        return None
    try:
        return _message(raw, 0)
    except _NoFormError:
        return None


def _message(raw: bytes, depth: int) -> bytes:
    root = mime.scan(raw)
    if depth > _MAX_ENCLOSED or isinstance(root, SkipReason):
        raise _NoFormError
    pieces: list[bytes] = []
    position = 0
    for start, end, instead in sorted(_changes(raw, root, depth)):
        pieces += (raw[position:start], instead)
        position = end
    return b"".join([*pieces, raw[position:]])


def _changes(raw: bytes, part: Part, depth: int) -> Iterator[_Change]:
    start, end = part.body
    body = raw[start:end]
    if body.isascii():
        return
    if part.fault is not None or not part.header.is_sound or part.encoding not in _IDENTITY:
        raise _NoFormError
    if part.type == "multipart/signed":
        raise _NoFormError
    if part.is_multipart:
        yield from _label(part, "7bit")
        position = start
        for child in part.children:  # between the parts is nothing but what no reader shows
            yield position, child.span[0], raw[position : child.span[0]].translate(_TO_ASCII)
            yield from _changes(raw, child, depth)
            position = child.span[1]
        yield position, end, raw[position:end].translate(_TO_ASCII)
    elif part.type == _ENCLOSED:
        yield from _label(part, "7bit")
        yield start, end, _message(body, depth + 1)
    elif part.type.startswith("message/"):
        raise _NoFormError
    elif part.type.startswith("text/") and not (part.charset or "").lower().startswith(_WIDE):
        yield from _label(part, "quoted-printable")
        yield start, end, quoted_printable.encode(body)
    else:
        yield from _label(part, "base64")
        yield start, end, base64_body.encode(body)


def _label(part: Part, encoding: str) -> Iterator[_Change]:
    """Say how the part is encoded now, where it stood or as its last field."""
    if part.encoding == "7bit" and encoding == "7bit":
        return
    field = headers.make_field("Content-Transfer-Encoding", encoding)
    known = next(part.header.find("Content-Transfer-Encoding"), None)
    if known is not None:
        yield known.start, known.end, field
        return
    if part.span[0] == 0 and not part.header.has("MIME-Version"):
        field = headers.make_field("MIME-Version", "1.0") + field
    # A part may begin with its empty line, and a message without any header has not even that.
    separator = b"" if part.header.body > part.header.end else b"\r\n"
    yield part.header.end, part.header.end, field + separator
