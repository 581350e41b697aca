"""One recipient's copy: the plan's slots filled, as slices of the message and the few bytes between them.

What no edit touches is a memoryview of the message, shared by all copies: a large attachment is never copied. The same
plan and the same URLs give the same bytes, so a copy that is tried again is the same mail.
"""

from collections.abc import Iterable, Iterator
from operator import itemgetter
from typing import Protocol, assert_never

from relay.core import base64_body, html, quoted_printable, transcoding
from relay.core.bodies import MAX_LINE_OCTETS, PartEdit, Reencoded, SplicedQuoted, SplicedText, has_long_line
from relay.core.plan import Link, RewritePlan
from relay.core.splices import Piece, Slot, SlotKind, Span

Chunk = bytes | memoryview

_PIXEL_STYLE = b' width="1" height="1" alt="" style="border:0;width:1px;height:1px;margin:0;padding:0;display:block"'


class Mint(Protocol):
    """Makes the URLs of one copy: absolute, of ASCII characters."""

    def link_url(self, link: Link) -> str:
        """Return the tracking URL that stands for a link."""
        ...

    def pixel_url(self) -> str:
        """Return the URL of the copy's pixel."""
        ...


def render(plan: RewritePlan, mint: Mint) -> list[Chunk]:
    """Return the copy as slices that give it when joined; the message itself where the plan has no edits."""
    view = memoryview(plan.message)
    fill = _Filler(plan.links, mint)
    changes: list[tuple[Span, list[Chunk]]] = [(span, []) for span in plan.cuts]
    for edit in plan.parts:
        changes += _changes(edit, fill)
    chunks: list[Chunk] = []
    position = 0
    for (start, end), replacement in sorted(changes, key=itemgetter(0)):
        if position < start:
            chunks.append(view[position:start])
        chunks += replacement
        position = end
    if position < len(view):
        chunks.append(view[position:])
    return chunks


# A member of an enumeration is not found quickly (CPython 3.11), and is asked for with each link of each copy.
_HTML_LINK, _TEXT_LINK, _PIXEL = SlotKind.HTML_LINK, SlotKind.TEXT_LINK, SlotKind.PIXEL


class _Filler:
    """Fills slots; each URL of the copy is minted once, also for a link that stands in several places."""

    def __init__(self, links: tuple[Link, ...], mint: Mint) -> None:
        self._links = links
        self._mint = mint
        self._filled: dict[int, bytes] = {}  # by index

    def __call__(self, slot: Slot) -> bytes:
        filled = self._filled.get(slot.index)
        if filled is None:
            filled = self._filled[slot.index] = self._make(slot)
        return filled

    def join(self, pieces: Iterable[Piece]) -> bytes:
        return b"".join([piece if isinstance(piece, bytes) else self(piece) for piece in pieces])

    def _make(self, slot: Slot) -> bytes:
        kind = slot.kind
        if kind is _HTML_LINK:
            return html.encode(self._mint.link_url(self._links[slot.index]))
        if kind is _TEXT_LINK:
            return self._mint.link_url(self._links[slot.index]).encode("ascii")
        end = b">" if kind is _PIXEL else b" />"
        return b"<img src=" + html.quote(self._mint.pixel_url()) + _PIXEL_STYLE + end


def _changes(edit: PartEdit, fill: _Filler) -> Iterator[tuple[Span, list[Chunk]]]:
    """Yield what changes of one part: its body or lines of it, and its encoding where lines would be too long."""
    content = edit.content
    match content:
        case SplicedQuoted():
            offset = edit.body[0]
            for run in content.runs:
                encoded = quoted_printable.encode(fill.join(run.pieces), ends_soft=run.ends_soft)
                yield (run.span[0] + offset, run.span[1] + offset), [encoded]
        case SplicedText():
            if _fits(content, fill):
                yield edit.body, [fill(piece) if isinstance(piece, Slot) else piece for piece in content.pieces]
            else:
                yield edit.encoding_field, [edit.quoted_field]
                yield edit.body, [quoted_printable.encode(fill.join(content.pieces))]
        case Reencoded():
            yield from _reencode(edit, content, fill.join(content.pieces))
        case _:
            assert_never(content)


def _fits(content: SplicedText, fill: _Filler) -> bool:
    """Say whether every line stays within 998 octets: longer ones are broken, or refused, on the way."""
    return not content.is_long and all(
        octets + sum(len(fill(slot)) for slot in slots) <= MAX_LINE_OCTETS for octets, slots in content.lines
    )


def _reencode(edit: PartEdit, content: Reencoded, raw: bytes) -> Iterator[tuple[Span, list[Chunk]]]:
    if content.codec is not None:
        raw = transcoding.from_utf8(raw, content.codec)
    if content.encoding == "base64":
        yield edit.body, [base64_body.encode(raw, line_octets=content.line_octets), content.tail]
    elif content.encoding == "quoted-printable":
        yield edit.body, [_quoted(raw, content.codec), content.tail]
    elif has_long_line(raw):
        yield edit.encoding_field, [edit.quoted_field]
        yield edit.body, [quoted_printable.encode(raw)]
    else:
        yield edit.body, [raw]


def _quoted(raw: bytes, codec: str | None) -> bytes:
    """Encode; CR and LF that are no line end are encoded as well (RFC 2045 §6.7, rule 4)."""
    if codec is None or transcoding.has_line_ends(codec) or b"\r\n" not in raw:
        return quoted_printable.encode(raw)
    *before, last = raw.split(b"\r\n")
    lines = [quoted_printable.encode(line, ends_soft=True) + b"\r\n=0D=0A=\r\n" for line in before]
    return b"".join([*lines, quoted_printable.encode(last)])
