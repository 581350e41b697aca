"""The independent witness: BeautifulSoup and `email` say whether a rewritten message is the original but for what was
promised.

It reads both messages with parsers that share nothing with ours. Of the structure, the headers, the attachments and
every body it demands that they are the same; of edited bodies, that only promised changes are there: tracking URLs in
the place of the URLs that the plan names, our own attributes and placeholders gone, one pixel. A disagreement is a
sentence; none means agreement.

Never loaded by a serving process: the libraries need quadratic time for hostile mail (a body of `<a ` repeated, a long
`Content-Type`). `explain`, tests, and a child process with limits load it.

Limits:
    `html.parser` decodes `?a=1&copy=2` in an attribute to `?a=1©=2`, which no browser does; a URL agrees in either
    reading. It takes the contents of `<title>` and `<textarea>` for markup, in both messages alike.
    White space before line ends is no part of quoted-printable, but `email` keeps it: there it does not count.
    In a text that is flowed, or has URLs in angle brackets, white space inside of a URL may be gone.
"""

import html
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import Message
from itertools import zip_longest
from typing import Final

from bs4 import BeautifulSoup, MarkupResemblesLocatorWarning, XMLParsedAsHTMLWarning
from bs4.element import Comment, NavigableString, Tag

from relay.core.plan import RewritePlan
from relay.core.render import Mint

Token = tuple[str, ...]

_PLACEHOLDER: Final = "{{ses:openTracker}}"
_REMOVED: Final = frozenset({"ses:no-track", "ses:tags", "data-no-track"})
_WHITE: Final = re.compile(r"\s+")
_TRAILING: Final = re.compile(r"[ \t]+(?=\r?\n)")
_URL_WHITE: Final = re.compile(r"[\t\r\n]")
_CONDITIONAL: Final = re.compile(r"(\[if\b[^\]]*\]>)(.*)(<!\[endif\])", re.DOTALL)
_MAX_SHOWN: Final = 80


def check(original: bytes, rewritten: bytes, plan: RewritePlan, mint: Mint) -> list[str]:
    """Compare a message with a copy of it that was rendered from the plan with this mint; return the disagreements."""
    minted = {mint.link_url(link): link.url for link in plan.links}
    pixel_url = mint.pixel_url() if plan.pixel else None
    witness = _Witness(minted=minted, pixel_url=pixel_url)
    witness.compare(_parse(original), _parse(rewritten), "root")
    witness.close(promised=len(plan.parts))
    return witness.disagreements


def _parse(raw: bytes) -> Message:
    return message_from_bytes(raw, policy=policy.compat32)


@dataclass(slots=True, kw_only=True)
class _Witness:
    minted: Mapping[str, str]
    pixel_url: str | None
    disagreements: list[str] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)
    pixels: int = 0
    edited: int = 0

    def compare(self, before: Message, after: Message, name: str) -> None:
        """Compare two parts and all below them; `name` is for people: parts are numbered as `email` sees them."""
        children = list(zip_longest(_children(before), _children(after)))
        is_edited = not children and _raw(before) != _raw(after)
        self.edited += is_edited
        self._compare_fields(before, after, name, is_edited=is_edited)
        if before.preamble != after.preamble or before.epilogue != after.epilogue:
            self._say(name, "has another preamble or epilogue")
        for number, (one, other) in enumerate(children, 1):
            if one is None or other is None:
                self._say(name, "has another number of parts")
                return
            self.compare(one, other, f"{name}.{number}")
        if is_edited:
            self._compare_bodies(before, after, name)

    def close(self, *, promised: int) -> None:
        """Say what was promised and not found."""
        for url in self.minted.keys() - self.seen:
            self.disagreements.append(f"no link leads to {_short(self.minted[url])} as promised")
        if self.pixels != (self.pixel_url is not None):
            self.disagreements.append(f"there are {self.pixels} pixels")
        if self.edited != promised:
            self.disagreements.append(f"{self.edited} parts are changed, {promised} were to be")

    def _compare_fields(self, before: Message, after: Message, name: str, *, is_edited: bool) -> None:
        old, new = before.items(), after.items()
        if old == new:
            return
        left = {"content-md5", "content-length"} if is_edited or before.is_multipart() else set()
        if is_edited and _encoding(after) == "quoted-printable" != _encoding(before):
            left |= {"content-transfer-encoding"} | ({"mime-version"} - {field.lower() for field in before})
        if [item for item in old if item[0].lower() not in left] != [
            item for item in new if item[0].lower() not in left
        ]:
            self._say(name, "has another header")

    def _compare_bodies(self, before: Message, after: Message, name: str) -> None:
        one, other = _text(before), _text(after)
        if "quoted-printable" in {_encoding(before), _encoding(after)}:
            one, other = _TRAILING.sub("", one), _TRAILING.sub("", other)
        if before.get_content_disposition() == "attachment":
            self._say(name, "is an attachment and was changed")
        elif before.get_content_type() == "text/html":
            self._compare_html(name, one, other)
        elif before.get_content_type() == "text/plain":
            self._compare_text(name, one, other, before)
        else:
            self._say(name, "is no text and was changed")

    def _compare_text(self, name: str, one: str, other: str, part: Message) -> None:
        if self.minted:
            urls = sorted(self.minted, key=len, reverse=True)
            other = re.sub("|".join(map(re.escape, urls)), self._original_url, other)
        one = one.replace(_PLACEHOLDER, "")
        if one.rstrip() == other.rstrip():
            return
        folds = "<" in one or part.get_param("format") is not None
        if not folds or _WHITE.sub("", one) != _WHITE.sub("", other):
            self._say(name, f"text differs: {_first_difference(one, other)}")

    def _original_url(self, match: re.Match[str]) -> str:
        self.seen.add(match[0])
        return self.minted[match[0]]

    def _compare_html(self, name: str, one: str, other: str) -> None:
        old = _merge(_tokens(one))
        new = _merge(self._without_pixels(_tokens(other)))
        for before, after in zip_longest(old, new, fillvalue=("end of document",)):
            if before != after and not self._is_promised(before, after):
                self._say(name, f"has {_short(repr(after))} for {_short(repr(before))}")
                return

    def _without_pixels(self, tokens: Iterator[Token]) -> Iterator[Token]:
        for token in tokens:
            if token[:2] == ("start", "img") and ("src", self.pixel_url) in _pairs(token):
                self.pixels += 1
                next(tokens)  # its end
            else:
                yield token

    def _is_promised(self, before: Token, after: Token) -> bool:
        """Say whether two different tokens are a tag whose URL was wrapped and whose own attributes were removed."""
        if before[:2] != after[:2] or before[0] != "start":
            return False
        removed = [pair for pair in _pairs(before) if pair[0] not in _REMOVED]
        kept = [pair for pair in _pairs(after) if pair[0] not in _REMOVED]
        if len(removed) != len(kept):
            return False
        return all(one == other or self._is_wrapped(one, other) for one, other in zip(removed, kept, strict=True))

    def _is_wrapped(self, before: tuple[str, str], after: tuple[str, str]) -> bool:
        url = self.minted.get(after[1])
        if before[0] != "href" or after[0] != "href" or url is None:
            return False
        self.seen.add(after[1])
        written = _URL_WHITE.sub("", before[1]).strip()
        return written in {url, html.unescape(url), html.unescape(url).strip()}

    def _say(self, name: str, what: str) -> None:
        self.disagreements.append(f"part {name}: {what}")


def _children(part: Message) -> list[Message]:
    payload = part.get_payload()
    return [child for child in payload if isinstance(child, Message)] if isinstance(payload, list) else []


def _raw(part: Message) -> object:
    """Return the body as it stands; of a message inside the message, all of it."""
    payload = part.get_payload()
    return payload if isinstance(payload, str) else [(child.items(), _raw(child)) for child in _children(part)]


def _encoding(part: Message) -> str:
    return str(part.get("Content-Transfer-Encoding", "")).strip().lower()


def _text(part: Message) -> str:
    """Return the text of a part, lossless."""
    raw = part.get_payload(decode=True)
    raw = raw if isinstance(raw, bytes) else b""
    charset = part.get_content_charset("us-ascii")
    for codec in (charset, "utf-8"):
        try:
            text = raw.decode(codec)
            break
        except (LookupError, UnicodeError):
            continue
    else:
        text = raw.decode("latin-1")
    return text


def _tokens(markup: str) -> Iterator[Token]:
    """Yield start tags with their attributes, end tags, texts and comments; what conditional comments hide, too."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", XMLParsedAsHTMLWarning)
        warnings.simplefilter("ignore", MarkupResemblesLocatorWarning)
        soup = BeautifulSoup(markup, "html.parser", on_duplicate_attribute="ignore", multi_valued_attributes=None)
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
            yield ("start", node.name, *(text.replace(_PLACEHOLDER, "") for text in attributes))
            opened.append(node)
            stack.append(iter(node.contents))
        elif isinstance(node, Comment) and (conditional := _CONDITIONAL.fullmatch(node)) is not None:
            yield ("conditional", conditional[1])
            yield from _tokens(conditional[2])
            yield ("conditional", conditional[3])
        elif isinstance(node, NavigableString):
            kind = "text" if type(node) is NavigableString else type(node).__name__
            yield (kind, node.replace(_PLACEHOLDER, ""))


def _merge(tokens: Iterator[Token]) -> list[Token]:
    """Join texts that stood around a pixel or a placeholder; drop a line end at the end, which may be a boundary's."""
    merged: list[Token] = []
    for token in tokens:
        if token[0] == "text" and merged and merged[-1][0] == "text":
            token = ("text", merged.pop()[1] + token[1])
        if token != ("text", ""):
            merged.append(token)
    last = next((number for number in range(len(merged) - 1, -1, -1) if merged[number][0] != "end"), None)
    if last is not None and merged[last][0] == "text":
        text = merged.pop(last)[1].rstrip()
        merged[last:last] = [("text", text)] if text else []
    return merged


def _pairs(token: Token) -> list[tuple[str, str]]:
    return list(zip(token[2::2], token[3::2], strict=True))


def _first_difference(one: str, other: str) -> str:
    at = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return f"{_short(repr(other[at : at + _MAX_SHOWN]))} for {_short(repr(one[at : at + _MAX_SHOWN]))}"


def _short(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "…"
