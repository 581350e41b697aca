"""Splices: what is cut out of one decoded body and what takes its place, with slots for what each recipient gets.

The vocabulary that `plan`, `render` and the encodings share.
"""

from collections.abc import Iterable
from enum import Enum
from operator import itemgetter
from typing import NamedTuple

from msgspec import Struct

Span = tuple[int, int]


class SlotKind(Enum):
    """What a slot is filled with."""

    HTML_LINK = "html_link"
    """The URL of a link as an attribute value, without quotes."""
    TEXT_LINK = "text_link"
    """The URL of a link as it is."""
    PIXEL = "pixel"
    """The image element."""
    XHTML_PIXEL = "xhtml_pixel"
    """The image element, closed by itself."""


class Slot(Struct, frozen=True):
    """A place that render fills: `index` is that of the link, -1 for the pixel, which there is one of."""

    kind: SlotKind
    index: int = -1


Piece = bytes | Slot


class Splice(NamedTuple):
    """`body[start:end]` gives way to `pieces`; none of them where something is only removed."""

    start: int
    end: int
    pieces: tuple[Piece, ...] = ()


def settle(splices: Iterable[Splice]) -> list[Splice]:
    """Sort splices, and drop each that begins inside an earlier one: a placeholder in a link goes with the link."""
    kept: list[Splice] = []
    for splice in sorted(splices, key=itemgetter(0, 1)):
        if not kept or splice.start >= kept[-1].end:
            kept.append(splice)
    return kept


def cut(body: bytes, splices: Iterable[Splice]) -> tuple[Piece, ...]:
    """Return the body as pieces, with the splices (settled) in their places."""
    pieces: list[Piece] = []
    position = 0
    for splice in splices:
        pieces += (body[position : splice.start], *splice.pieces)
        position = splice.end
    return tuple(piece for piece in (*pieces, body[position:]) if piece != b"")
