"""The tree of an HTML body as html5lib, a parser that follows the HTML standard, has it: what a program would show.

Two trees are compared as rows: one row an element, a text, a comment or a doctype, each with its depth. A conditional
comment, which Outlook reads as HTML, is compared by its tokens.
"""

import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import html5lib
from html5lib import _tokenizer as html5lib_tokenizer
from html5lib.constants import DataLossWarning, tokenTypes

Pair = tuple[str, str]
Row = tuple[object, ...]
"""`(depth, kind, name or text, pairs of attributes)`."""

_REMOVED: Final = frozenset({"ses:no-track", "ses:tags", "data-no-track"})
_PLACEHOLDER: Final = "{{ses:openTracker}}"
_WHITE: Final = {9: None, 10: None, 13: None}
_KINDS: Final = {number: kind for kind, number in tokenTypes.items()}
_STARTS: Final = frozenset({"element", "StartTag", "EmptyTag"})
_SHOWN: Final = 5


def differences(before: str, after: str, urls: Mapping[str, str], pixel_url: str) -> list[str]:
    """Say in what the trees of two bodies differ but for what is promised; `urls` has the URL behind each of ours.

    Promised are: an `href` leads to the tracking URL that stands for it, our own attributes and placeholders are gone,
    and there is one image of the pixel's URL, or none. The line end that ends both is the message's: where nothing is
    shown before it, it stands in another place of the tree behind a pixel.
    """
    old = list(_merged(_rows(_without_line_end(before))))
    rows = list(_rows(_without_line_end(after), urls))
    pixels = [number for number, row in enumerate(rows) if _is_pixel(row, pixel_url)]
    new = list(_merged(row for number, row in enumerate(rows) if number not in pixels))
    found = [f"{one!r} became {other!r}" for one, other in zip(old, new, strict=False) if one != other][:_SHOWN]
    if len(old) != len(new):
        found.append(f"{len(old)} rows became {len(new)}")
    if len(pixels) > 1:
        found.append(f"there are {len(pixels)} pixels")
    return found


def shown_links(body: str) -> set[str]:
    """Return the `href` of every link in the tree, and of those that a conditional comment keeps for Outlook."""
    links = [row for row in _rows(body, {}) if row[1] in _STARTS and _is_link(str(row[-2]))]
    return {value for row in links if isinstance(row[-1], tuple) for name, value in row[-1] if name == "href"}


def _without_line_end(body: str) -> str:
    return body.removesuffix("\n").removesuffix("\r")


def _rows(body: str, urls: Mapping[str, str] | None = None) -> Iterator[Row]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataLossWarning)
        document: Any = html5lib.parse(body, treebuilder="dom")
    stack = [(0, node) for node in reversed(document.childNodes)]
    while stack:
        depth, node = stack.pop()
        if node.nodeType == node.ELEMENT_NODE:
            yield (depth, "element", node.namespaceURI, node.tagName, _pairs(node.attributes.items(), urls))
            stack += [(depth + 1, child) for child in reversed(node.childNodes)]
        elif node.nodeType == node.TEXT_NODE:
            yield (depth, "text", node.data.replace(_PLACEHOLDER, ""))
        elif node.nodeType == node.COMMENT_NODE and node.data.startswith("[if"):
            yield from _merged(_tokens(depth, node.data, urls))
        elif node.nodeType == node.COMMENT_NODE:
            yield (depth, "comment", node.data.replace(_PLACEHOLDER, ""))
        else:
            yield (depth, "doctype", node.toxml())


def _tokens(depth: int, conditional: str, urls: Mapping[str, str] | None) -> Iterator[Row]:
    """Give what stands in a conditional comment; raw text is not told apart there, in either of the two."""
    for token in html5lib_tokenizer.HTMLTokenizer(conditional):
        kind = _KINDS[token["type"]]
        data: Any = token["data"]
        if kind in {"StartTag", "EmptyTag"}:
            pairs: Iterable[Pair] = data.items() if isinstance(data, Mapping) else data
            yield (depth, kind, token["name"], _pairs(pairs, urls))
        elif kind == "EndTag":
            yield (depth, kind, token["name"])
        elif kind != "ParseError":
            text = str(data).replace(_PLACEHOLDER, "")
            yield (depth, "text" if kind in {"Characters", "SpaceCharacters"} else kind, text)


def _merged(rows: Iterable[Row]) -> Iterator[Row]:
    """Join texts that stood around a pixel or a placeholder."""
    waiting: Row | None = None
    for row in rows:
        if waiting is not None and row[:2] == waiting[:2]:
            waiting = (*row[:2], f"{waiting[2]}{row[2]}")
            continue
        if waiting is not None and waiting[2]:
            yield waiting
        waiting = row if row[1] == "text" else None
        if waiting is None:
            yield row
    if waiting is not None and waiting[2]:
        yield waiting


def _pairs(pairs: Iterable[Pair], urls: Mapping[str, str] | None) -> tuple[Pair, ...]:
    """Give the attributes that stay, an `href` as every program reads it and as the original had it."""
    return tuple(
        sorted((name, _href(value, urls) if name == "href" else value) for name, value in pairs if name not in _REMOVED)
    )


def _href(value: str, urls: Mapping[str, str] | None) -> str:
    url = value.translate(_WHITE).strip()
    return url if urls is None else urls.get(url, url)


def _is_link(tag: str) -> bool:
    return tag in {"a", "area"} or tag.startswith("v:")


def _is_pixel(row: Row, pixel_url: str) -> bool:
    pairs = row[-1]
    return isinstance(pairs, tuple) and "img" in row and ("src", pixel_url) in pairs
