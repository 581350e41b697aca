"""The text that a reader sees of a link, for events and the console: short, folded, safe to show.

Owns how much of it is read and what stands for an image. It is an approximation: it knows nothing of style sheets.
"""

import re
from typing import Final

from relay.core import charrefs, charsets, htmlattributes, htmltokens
from relay.core.htmltokens import Tag

MAX_TEXT: Final = 200

_MAX_RAW: Final = 4096  # octets and tags read of one link: 200 characters, each a long reference
# Elements within a word; where another begins or ends, so does a word.
_INLINE: Final = frozenset(
    b"a abbr acronym b bdi bdo big cite code data del dfn em font i ins kbd mark nobr o:p q s samp small span strike "
    b"strong sub sup time tt u var wbr".split()
)
_CONTROL: Final = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f]")


def visible_text(body: bytes, low: bytes, link: Tag, end: int, codec: str) -> str:
    """Return what a link shows, up to its end tag or `end`: at most MAX_TEXT characters, white space folded.

    Where there is no text, the first `alt` of an image stands for it. `low` is the body in lower case.
    """
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
        size += at - start + 1
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
    raw = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    return fold(charrefs.decode_text(charsets.decode(raw[:_MAX_RAW], codec))) or alt


def alt_text(body: bytes, low: bytes, tag: Tag, codec: str) -> str:
    """Return the folded `alt` of a tag that ends; `""` where it has none."""
    alt = htmlattributes.read(low, tag).alt
    return fold(htmlattributes.value(body, alt, codec)) if alt else ""


def fold(text: str) -> str:
    """Fold white space, drop control characters and broken text, cut to MAX_TEXT characters."""
    if not text.isprintable():  # so is a broken character, and white space other than the ASCII one
        text = _CONTROL.sub("", text).encode("utf-8", "replace").decode("utf-8")
    return " ".join(text.split())[:MAX_TEXT].strip()


def _behind(low: bytes, tag: Tag, end: int) -> int:
    if tag.end < 0 or tag.is_end or tag.name not in htmltokens.RAW_TEXT:
        return tag.end
    return htmltokens.raw_text_end(low, tag.name, tag.end, end)
