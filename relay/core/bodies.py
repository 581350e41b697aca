"""The body of one text part: opened for scanning, and closed into the edit of its encoded form.

Owns the way from the bytes of a part to a text in which ASCII is ASCII, and the way back: which of the three forms of
an edit (spliced text, spliced lines of quoted-printable, encoded again) a part gets.

Limits: 1 MiB of decoded text.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from relay.core import base64_body, lineends, quoted_printable, splices, transcoding
from relay.core.mime import Part
from relay.core.reasons import SkipReason
from relay.core.splices import Piece, Slot, Span, Splice

MAX_TEXT_BYTES: Final = 1024 * 1024
MAX_LINE_OCTETS: Final = 998
"""Octets of a line without its end (RFC 5322 §2.1.1)."""

_PGP: Final = re.compile(rb"-----BEGIN PGP (MESSAGE|SIGNED MESSAGE|SIGNATURE)-----")
_QUOTED_FIELD: Final = b"Content-Transfer-Encoding: quoted-printable\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class SplicedText:
    """A 7bit or 8bit body: its pieces, and of each line that they touch the octets without slots, and the slots.

    `is_long` where some line is beyond 998 octets as it is.
    """

    pieces: tuple[Piece, ...]
    lines: tuple[tuple[int, tuple[Slot, ...]], ...]
    is_long: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SplicedQuoted:
    """A quoted-printable body: the runs of lines that are encoded again."""

    runs: tuple[quoted_printable.Run, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reencoded:
    """A body that is encoded again as a whole: base64, quoted-printable with lines over 998 octets, or a charset that
    must be decoded (`codec`; else None).

    `line_octets` is that of a base64 body; `tail` follows as it stood: what is behind base64, the last line end of
    quoted-printable.
    """

    pieces: tuple[Piece, ...]
    codec: str | None
    encoding: str
    line_octets: int = base64_body.MAX_LINE
    tail: bytes = b""


Content = SplicedText | SplicedQuoted | Reencoded


@dataclass(frozen=True, slots=True, kw_only=True)
class PartEdit:
    """The edit of one part, whose body stands at `body` of the message.

    `encoding_field` gives way to `quoted_field` in a copy whose lines would be too long for the part's encoding.
    """

    section: str
    body: Span
    content: Content
    encoding_field: Span
    quoted_field: bytes


@dataclass(slots=True, kw_only=True)
class OpenBody:
    """A text part opened for planning; `splices` are those found so far.

    `text` is what is scanned: in the bytes of `charset`; where a `codec` is set, in UTF-8, to be turned back by it.
    """

    part: Part
    text: bytes
    charset: str
    codec: str | None
    quoted: quoted_printable.Quoted | None
    base64: base64_body.Base64 | None
    tail: bytes
    splices: list[Splice] = field(default_factory=list)

    @property
    def is_html(self) -> bool:
        """True for HTML, False for plain text."""
        return self.part.type == "text/html"


def open_part(message: bytes, part: Part) -> OpenBody | SkipReason:
    """Decode a text part, or say why that cannot be done without doubt."""
    charset = transcoding.lookup(part.charset)
    if charset is None:
        return SkipReason.UNKNOWN_CHARSET
    start, end = part.body
    if end - start > 4 * MAX_TEXT_BYTES:  # 1 MiB with every byte quoted-printable, and its soft breaks
        return SkipReason.TOO_LARGE
    encoded = message[start:end]
    tail = b""
    if part.encoding == "quoted-printable" and not charset.is_ascii_compatible and encoded.endswith(b"\r\n"):
        # In 16 bits it would be half a character, or another one: a line end there is of the message, not of the text.
        encoded, tail = encoded[:-2], b"\r\n"
    quoted = quoted_printable.decode(encoded) if part.encoding == "quoted-printable" else None
    base64 = base64_body.decode(encoded) if part.encoding == "base64" else None
    if part.encoding == "base64" and base64 is None:
        return SkipReason.UNDECODABLE
    text = quoted.text if quoted else base64.raw if base64 else encoded
    if len(text) > MAX_TEXT_BYTES:
        return SkipReason.TOO_LARGE
    codec = None
    if not charset.is_ascii_compatible:
        turned = transcoding.to_utf8(text, charset)
        if turned is None:
            return SkipReason.UNDECODABLE
        text, codec = turned
    pgp = _PGP.search(text)
    if pgp is not None:
        return SkipReason.ENCRYPTED if pgp[1] == b"MESSAGE" else SkipReason.SIGNED
    return OpenBody(
        part=part,
        text=text,
        charset="utf-8" if codec else charset.codec,
        codec=codec,
        quoted=quoted,
        base64=base64,
        tail=base64.tail if base64 else tail,
    )


def close(body: OpenBody) -> PartEdit | None:
    """Return the edit of a part, None where nothing of it changes."""
    found = splices.settle(body.splices)
    if not found:
        return None
    part = body.part
    return PartEdit(
        section=part.section,
        body=part.body,
        content=_content(body, found),
        encoding_field=_encoding_span(part),
        quoted_field=_quoted_field(part),
    )


def has_long_line(body: bytes) -> bool:
    """Say whether a line is beyond 998 octets."""
    return lineends.has_line_over(body, MAX_LINE_OCTETS)


def _content(body: OpenBody, found: Sequence[Splice]) -> Content:
    if body.quoted is not None and body.codec is None and not has_long_line(body.quoted.encoded):
        return SplicedQuoted(runs=tuple(body.quoted.runs(found)))
    pieces = splices.cut(body.text, found)
    if body.base64 is not None:
        octets = body.base64.line_octets
        return Reencoded(pieces=pieces, codec=body.codec, encoding="base64", line_octets=octets, tail=body.tail)
    if body.codec is not None or body.quoted is not None:
        return Reencoded(pieces=pieces, codec=body.codec, encoding=body.part.encoding, tail=body.tail)
    return SplicedText(pieces=pieces, lines=tuple(_touched_lines(pieces)), is_long=has_long_line(body.text))


def _touched_lines(pieces: Sequence[Piece]) -> list[tuple[int, tuple[Slot, ...]]]:
    lines: list[tuple[int, tuple[Slot, ...]]] = []
    octets = 0
    slots: list[Slot] = []
    for piece in pieces:
        if isinstance(piece, Slot):
            slots.append(piece)
            continue
        end = piece.find(b"\r\n")
        if end < 0:
            octets += len(piece)
            continue
        lines.append((octets + end, tuple(slots)))
        octets, slots = len(piece) - piece.rindex(b"\n") - 1, []
    return [*lines, (octets, tuple(slots))]


def _encoding_span(part: Part) -> Span:
    """Return where Content-Transfer-Encoding stands, or where it would."""
    known = next(part.header.find("Content-Transfer-Encoding"), None)
    return (part.header.end, part.header.end) if known is None else (known.start, known.end)


def _quoted_field(part: Part) -> bytes:
    """Return the field that says quoted-printable, with what a message without MIME needs beside it (RFC 2045 §4)."""
    is_message = part.span[0] == 0
    if is_message and not part.header.has("MIME-Version"):
        return b"MIME-Version: 1.0\r\n" + _QUOTED_FIELD
    return _QUOTED_FIELD
