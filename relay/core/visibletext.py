"""The text that a reader sees of a link, for events and the console: short, folded, safe to show.

Owns how much of it is read and what stands for an image. It is an approximation: it knows nothing of style sheets.
"""

import re
from typing import Final

from relay.core import charrefs, charsets, htmlattributes, htmltokens
from relay.core.htmltokens import RAW_TEXT, Tag

MAX_TEXT: Final = 200
OPEN_TRACKER: Final = b"{{ses:openTracker}}"
"""Stands for the pixel, or is removed: no reader sees it."""

_MAX_RAW: Final = 4096  # octets read of one link: 200 characters, each a long reference
_TAG_COST: Final = 16  # octets that a tag counts for where each is read by itself
# Elements within a word; where another begins or ends, so does a word.
_INLINE: Final = frozenset(
    b"a abbr acronym b bdi bdo big cite code data del dfn em font i ins kbd mark nobr o:p q s samp small span strike "
    b"strong sub sup time tt u var wbr".split()
)
# A tag within a word (1), an image (2), or another; but not the link's own, nor one whose contents are no mark-up.
_USUAL_TAG: Final = htmltokens.usual_tag(
    rb"""(%b)|(img)|(?!(?:a|%b)[~/>])[a-z][^~/><"'=]*+""" % (b"|".join(_INLINE - {b"a"}), b"|".join(RAW_TEXT))
)
_CONTROL: Final = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f]")
_UNFIT: Final = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


def visible_text(body: bytes, low: bytes, link: Tag, end: int, codec: str) -> str:
    """Return what a link shows, up to its end tag or `end`: at most MAX_TEXT characters, white space folded.

    Where there is no text, the first `alt` of an image stands for it. `low` is the body in lower case.
    """
    start = link.end
    close = low.find(b"</%b>" % link.name, start, end)
    raw = body[start : end if close < 0 else close]
    if b"<" not in raw:
        return _text(raw, codec)
    if len(raw) <= _MAX_RAW and b"<" not in (shown := _USUAL_TAG.sub(_in_place_of_tag, raw)):
        return _text(shown, codec) or _first_alt(body, low, start, start + len(raw), codec)
    return _text_between_tags(body, low, link, end, codec)


def _in_place_of_tag(tag: re.Match[bytes]) -> bytes:
    return b"" if tag[1] else b" "


def _first_alt(body: bytes, low: bytes, start: int, end: int, codec: str) -> str:
    """Return the first `alt` that says something, among tags in their usual form."""
    if low.find(b"<img", start, end) >= 0:
        for image in _USUAL_TAG.finditer(low, start, end):
            if image[2] and (alt := alt_text(body, low, Tag(b"img", False, image.end(2), image.end()), codec)):
                return alt
    return ""


def _text_between_tags(body: bytes, low: bytes, link: Tag, end: int, codec: str) -> str:
    """Read tag by tag."""
    pieces = []
    alt = ""
    size = 0
    start = link.end
    close = b"</%b>" % link.name
    while start < end and size < _MAX_RAW:
        at = low.find(b"<", start, end)
        if at < 0 or low.startswith(close, at):
            pieces.append(body[start : at if at >= 0 else end])
            break
        pieces.append(body[start:at])
        size += at - start + _TAG_COST
        tag = htmltokens.tag_at(low, at, end)
        if tag is None:
            start = htmltokens.declaration_end(low, at, end)
            if start == at + 1:
                pieces.append(b"<")
        else:
            if tag.is_end and tag.name == link.name:
                break
            start = _behind(low, tag, end)
            if tag.name not in _INLINE:
                pieces.append(b" ")
            if tag.name == b"img" and start > 0 and not alt:
                alt = alt_text(body, low, tag, codec)
        if start < 0:
            break
    return _text(b"".join(pieces), codec) or alt


def alt_text(body: bytes, low: bytes, tag: Tag, codec: str) -> str:
    """Return the folded `alt` of a tag that ends; `""` where it has none."""
    alt = htmltokens.usual_value(low, tag, b"alt") or htmlattributes.read(low, tag).alt
    return fold(htmlattributes.value(body, alt, codec).replace(OPEN_TRACKER.decode(), "")) if alt else ""


def fold(text: str) -> str:
    """Fold white space, drop control characters and broken text, cut to MAX_TEXT characters."""
    if not text.isprintable() and _UNFIT.search(text):
        text = _CONTROL.sub("", text).encode("utf-8", "replace").decode("utf-8")
    return " ".join(text.split())[:MAX_TEXT].strip()


def _behind(low: bytes, tag: Tag, end: int) -> int:
    if tag.end < 0 or tag.is_end or tag.name not in RAW_TEXT:
        return tag.end
    return htmltokens.raw_text_end(low, tag.name, tag.end, end)


def _text(raw: bytes, codec: str) -> str:
    raw = raw.replace(OPEN_TRACKER, b"")[:_MAX_RAW]
    text = raw.decode("ascii") if raw.isascii() else charsets.decode(raw, codec)
    return fold(charrefs.decode_text(text) if "&" in text else text)
