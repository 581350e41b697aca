"""What the witness is asked and what it says: values that another process can be sent.

Owns the promise, the account of all that a plan does to one copy, in words that need no plan to be understood. Does not
compare anything: `witness.py` does.

Limits: of a part in 7bit, 8bit or base64 the promise names the whole body as what may change; of one in
quoted-printable, lines of it.
"""

from collections.abc import Iterator
from enum import StrEnum
from typing import Final, assert_never

from msgspec import Struct

from relay.core import headers
from relay.core.bodies import Content, PartEdit, Reencoded, SplicedQuoted, SplicedText
from relay.core.copies import COPY_HEADER, CopyMint, copy_of
from relay.core.plan import RewritePlan
from relay.core.render import Mint
from relay.core.splices import Piece, Slot, SlotKind, Span

_MAX_SHOWN: Final = 80


class PromisedPart(Struct, frozen=True, kw_only=True):
    """A part that is edited; `links` are the numbers of its links, in the order and as often as they stand in it."""

    section: str
    links: tuple[int, ...]


class Promise(Struct, frozen=True, kw_only=True):
    """All that a copy may differ in from its message.

    `links` are pairs of tracking URL and URL, by number. `spans` are the bytes of the message that may change, sorted.
    `field` is a header field that comes, whole, at `field_at` of the message; empty where none does. `unsigned`: the
    signatures in the message's header leave.
    """

    links: tuple[tuple[str, str], ...] = ()
    parts: tuple[PromisedPart, ...] = ()
    pixel_url: str | None = None
    spans: tuple[Span, ...] = ()
    field: bytes = b""
    field_at: int = 0
    unsigned: bool = False


class Question(Struct, frozen=True, kw_only=True):
    """A message, a copy of it, and what the copy was to be."""

    message: bytes
    copy: bytes
    promise: Promise


class Kind(StrEnum):
    """What a disagreement is about; the only thing of it that may be logged."""

    BYTES = "bytes"
    """Bytes outside of what may change are others."""
    STRUCTURE = "structure"
    """Parts came, left or moved."""
    HEADER = "header"
    """A header field is another."""
    PART = "part"
    """A part was changed that was to stay, or the other way round."""
    TEXT = "text"
    """A plain text is another."""
    MARKUP = "markup"
    """An HTML document is another."""
    LINK = "link"
    """A link leads elsewhere, was wrapped against its author's will, or is missing."""
    PIXEL = "pixel"
    """The pixel is missing, is there twice, or stands where nobody loads it."""


class Disagreement(Struct, frozen=True, kw_only=True):
    """One thing that was not promised. `detail` is a sentence for people, and may hold text of the mail."""

    kind: Kind
    section: str
    detail: str


def question_of(plan: RewritePlan, mint: CopyMint) -> Question:
    """Make a copy as it is sent, and ask whether it is what was promised."""
    field = headers.make_field(COPY_HEADER, str(mint.copy))
    at = headers.first_field_at(plan.message)
    return Question(
        message=plan.message,
        copy=b"".join(copy_of(plan, mint)),
        promise=promise_of(plan, mint, field=field, field_at=at),
    )


def promise_of(plan: RewritePlan, mint: Mint, *, field: bytes = b"", field_at: int = 0) -> Promise:
    """Return what a copy, rendered from this plan with this mint, may differ in from its message."""
    spans = [span for edit in plan.parts for span in _spans(edit)]
    return Promise(
        links=tuple((mint.link_url(link), link.url) for link in plan.links),
        parts=tuple(PromisedPart(section=edit.section, links=tuple(_links(edit.content))) for edit in plan.parts),
        pixel_url=mint.pixel_url() if plan.pixel else None,
        spans=tuple(sorted([*spans, *plan.cuts])),
        field=field,
        field_at=field_at,
        unsigned=plan.unsigned,
    )


def _links(content: Content) -> Iterator[int]:
    for piece in _pieces(content):
        if isinstance(piece, Slot) and piece.kind in {SlotKind.HTML_LINK, SlotKind.TEXT_LINK}:
            yield piece.index


def _pieces(content: Content) -> Iterator[Piece]:
    match content:
        case SplicedText(pieces=pieces) | Reencoded(pieces=pieces):
            yield from pieces
        case SplicedQuoted(runs=runs):
            for run in runs:
                yield from run.pieces
        case _:
            assert_never(content)


def _spans(edit: PartEdit) -> Iterator[Span]:
    """Yield the lines of a quoted-printable body that are encoded again; else all of the body, and its encoding."""
    if isinstance(edit.content, SplicedQuoted):
        offset = edit.body[0]
        yield from ((start + offset, end + offset) for start, end in (run.span for run in edit.content.runs))
    else:
        yield edit.encoding_field
        yield edit.body


def short(text: str) -> str:
    """Cut a text to what a sentence can bear."""
    return text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "…"


def first_difference(one: str, other: str) -> str:
    """Say what stands where two texts part."""
    at = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return f"{short(repr(other[at : at + _MAX_SHOWN]))} for {short(repr(one[at : at + _MAX_SHOWN]))}"
