"""The witness of one HTML body: what BeautifulSoup reads of it before and after, token by token.

Owns what a wrapped link, a removed attribute and a pixel look like in a tree that is not ours. Never loaded by a
serving process, as `witness.py` says.

Limits: `html.parser` decodes `?a=1&copy=2` in an attribute to `?a=1©=2`, which no browser does; a URL agrees in either
reading. It takes the contents of `<title>` and `<textarea>` for markup, in both messages alike.
"""

import html
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Final

from bs4 import BeautifulSoup, MarkupResemblesLocatorWarning, XMLParsedAsHTMLWarning
from bs4.element import Comment, NavigableString, Tag

from relay.testimony import Kind, first_difference, short

Token = tuple[str, ...]

_PLACEHOLDER: Final = "{{ses:openTracker}}"
_REMOVED: Final = frozenset({"ses:no-track", "ses:tags", "data-no-track"})
_OPT_OUTS: Final = _REMOVED - {"ses:tags"} | {"data-pm-no-track", "mc:disable-tracking"}
_OPT_OUT_VALUES: Final = {"clicktracking": "off", "data-msys-clicktrack": "0", "disable-tracking": "true"}
_MARKER: Final = re.compile(r"\A([\x00-\x20]*https?)\+notrack(?=://)", re.IGNORECASE)  # Postal's opt-out, in the URL
_URL_WHITE: Final = re.compile(r"[\t\r\n]")
_STRIPPED: Final = "".join(map(chr, range(0x21)))
_CONDITIONAL: Final = re.compile(r"(\[if\b[^\]]*\]>)(.*)(<!\[endif\])", re.DOTALL)
# No program loads a picture that stands in one of these.
_UNSEEN: Final = frozenset(
    {"comment", "frameset", "iframe", "math", "noembed", "noframes", "plaintext", "script", "style", "svg"}
    | {"template", "textarea", "title", "xmp"}
)


@dataclass(slots=True, kw_only=True)
class Found:
    """What was not promised, each with its kind, and how many pixels there are."""

    pixels: int = 0
    disagreements: list[tuple[Kind, str]] = field(default_factory=list)


def compare(one: str, other: str, links: Sequence[tuple[str, str]], pixel_url: str | None) -> Found:
    """Compare a body with its copy, whose links were to be these pairs of tracking URL and URL, in this order."""
    comparison = _Comparison(links=links, pixel_url=pixel_url, has_placeholder=_PLACEHOLDER in one)
    comparison.run(one, other)
    return comparison.found


@dataclass(slots=True, kw_only=True)
class _Comparison:
    links: Sequence[tuple[str, str]]
    pixel_url: str | None
    has_placeholder: bool
    found: Found = field(default_factory=Found)
    wrapped: list[tuple[str, str]] = field(default_factory=list)

    def run(self, one: str, other: str) -> None:
        old = _merge(_tokens(one))
        has_body = any(token[:2] == ("start", "body") for token in old)
        new = _merge(self._without_pixels(_tokens(other), has_body=has_body))
        for before, after in zip_longest(old, new, fillvalue=("end of document",)):
            if before != after and not self._is_promised(before, after):
                self._say(Kind.MARKUP, _difference(before, after))
                return
        if self.wrapped != list(self.links):
            missing = [url for tracking_url, url in self.links if (tracking_url, url) not in self.wrapped]
            text = f"no link leads to {short(missing[0])} as promised" if missing else "links are wrapped in disorder"
            self._say(Kind.LINK, text)

    def _without_pixels(self, tokens: Iterator[Token], *, has_body: bool) -> Iterator[Token]:
        opened: list[str] = []
        for token in tokens:
            if token[:2] == ("start", "img") and ("src", self.pixel_url) in _pairs(token):
                self.found.pixels += 1
                self._look_at_place(opened, has_body=has_body)
                next(tokens)  # its end
                continue
            if token[0] == "start":
                opened.append(token[1])
            elif token[0] == "conditional" and token[1].startswith("[if"):
                opened.append("comment")
            elif token[0] in {"end", "conditional"}:
                opened.pop()
            yield token

    def _look_at_place(self, opened: Sequence[str], *, has_body: bool) -> None:
        """Say where nobody would load the pixel; a placeholder of its author's may stand anywhere in the body."""
        hidden = _UNSEEN.intersection(opened)
        if hidden:
            self._say(Kind.PIXEL, f"the pixel stands in {min(hidden)}")
        elif has_body and not self.has_placeholder and "body" not in opened:
            self._say(Kind.PIXEL, "the pixel stands outside of the body")

    def _is_promised(self, before: Token, after: Token) -> bool:
        """Say whether two different tokens are a tag whose URL was wrapped and whose own attributes were removed."""
        if before[:2] != after[:2] or before[0] != "start":
            return False
        kept = [pair for pair in _pairs(before) if pair[0].partition(" ")[0] not in _REMOVED or pair in _pairs(after)]
        if len(kept) != len(after) // 2 - 1:
            return False
        return all(
            one == two or self._is_wrapped(one, two, before) for one, two in zip(kept, _pairs(after), strict=True)
        )

    def _is_wrapped(self, before: tuple[str, str], after: tuple[str, str], tag: Token) -> bool:
        if before[0] != "href" or after[0] != "href" or not (tag[1] in {"a", "area"} or tag[1].startswith("v:")):
            return False
        written = _URL_WHITE.sub("", before[1]).strip(_STRIPPED)
        for tracking_url, url in self.links:
            if tracking_url == after[1]:
                self.wrapped.append((tracking_url, url))
                if any(name in _OPT_OUTS or _OPT_OUT_VALUES.get(name) == value for name, value in _pairs(tag)):
                    self._say(Kind.LINK, f"its author wanted no tracking of {short(url)}")
                return _is_read_as(url, written)
        return False

    def _say(self, kind: Kind, detail: str) -> None:
        self.found.disagreements.append((kind, detail))


def _is_read_as(url: str, written: str) -> bool:
    """Say whether html.parser reads some spelling of a URL as that.

    It decodes a reference without a semicolon where no browser does, so each `&` may have become `©` or the like if its
    author wrote it as it is, and stayed `&` if he wrote `&amp;`.
    """
    first, *others = url.split("&")
    pattern = re.escape(first)
    for other in others:
        misread = html.unescape(f"&{other}")
        readings = dict.fromkeys([f"&{other}", misread, misread.strip(_STRIPPED)])
        pattern += f"(?:{'|'.join(map(re.escape, readings))})"
    return re.fullmatch(pattern, written) is not None


def _tokens(markup: str) -> Iterator[Token]:
    """Yield start tags with their attributes, end tags, texts and comments; what conditional comments hide, too."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", XMLParsedAsHTMLWarning)
        warnings.simplefilter("ignore", MarkupResemblesLocatorWarning)
        soup = BeautifulSoup(
            markup,
            "html.parser",
            on_duplicate_attribute=_keep_duplicate,
            multi_valued_attributes=None,
            preserve_whitespace_tags={BeautifulSoup.ROOT_TAG_NAME},  # else white space between tags is folded
        )
    stack: list[Iterator[object]] = [iter(soup.contents)]
    opened: list[Tag] = []
    while stack:
        node = next(stack[-1], None)
        if node is None:
            stack.pop()
            if opened:
                yield ("end", opened.pop().name)
        elif isinstance(node, Tag):
            attributes = [text for name, value in node.attrs.items() for text in (name, str(value))]
            yield ("start", node.name, *(_MARKER.sub(r"\1", text.replace(_PLACEHOLDER, "")) for text in attributes))
            opened.append(node)
            stack.append(iter(node.contents))
        elif isinstance(node, Comment) and (conditional := _CONDITIONAL.fullmatch(node)) is not None:
            yield ("conditional", conditional[1])
            yield from _tokens(conditional[2])
            yield ("conditional", conditional[3])
        elif isinstance(node, NavigableString):
            kind = "text" if type(node) is NavigableString else type(node).__name__
            yield (kind, node.replace(_PLACEHOLDER, ""))


def _keep_duplicate(attributes: dict[str, str], name: str, value: str) -> None:
    """Keep the second of two attributes with one name under a name that no markup can write."""
    attributes[f"{name} {len(attributes)}"] = value


def _merge(tokens: Iterator[Token]) -> list[Token]:
    """Join texts that stood around a pixel or a placeholder."""
    merged: list[Token] = []
    for token in tokens:
        if token[0] == "text" and merged and merged[-1][0] == "text":
            token = ("text", merged.pop()[1] + token[1])
        if token != ("text", ""):
            merged.append(token)
    return merged


def _pairs(token: Token) -> list[tuple[str, str]]:
    return list(zip(token[2::2], token[3::2], strict=True))


def _difference(before: Token, after: Token) -> str:
    if before[0] == after[0] == "text":
        return f"the text differs: {first_difference(before[1], after[1])}"
    return f"{short(repr(after))} for {short(repr(before))}"
