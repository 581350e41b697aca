"""The independent witness: BeautifulSoup and `email` say whether a rewritten message is the original but for what was
promised.

It reads both messages with parsers that share nothing with ours. Of the structure, the headers, the attachments and
every body it demands that they are the same; of edited bodies, that only promised changes are there: tracking URLs in
the place of the URLs that the plan names, in its order and as often, our own attributes and placeholders gone, one
pixel where it is loaded. A disagreement is a sentence and its kind; none means agreement.

Never loaded by a serving process: the libraries need quadratic time for hostile mail (a body of `<a ` repeated, a long
`Content-Type`). A child process with limits loads it, and tests do.

Theory:
    Bytes come first: what the promise does not name must be there, in its order, as literals of a pattern match it;
    of several ways to match, the first ends first, so no other need be tried. Then both messages are read and compared
    part by part, texts character by character, HTML (`witness_html.py`) token by token.

Limits:
    How a tag is written (quotes, the white space between attributes, case) is the bytes' to witness, and in a body that
    may change as a whole nobody's.
    Which of two equal links was wrapped is seen by opt-outs on the link itself alone.
"""

import binascii
import re
from collections import deque
from dataclasses import dataclass, field
from email import message_from_string, policy
from email.message import Message
from itertools import zip_longest
from typing import Final

from relay import witness_html
from relay.core.plan import RewritePlan
from relay.core.render import Mint
from relay.testimony import Disagreement, Kind, Promise, PromisedPart, first_difference, promise_of, short

MAX_DISAGREEMENTS: Final = 20
"""More of them tell nobody more."""

_PLACEHOLDER: Final = "{{ses:openTracker}}"
_MARKER: Final = re.compile(r"(?<![^\s<(\[])(https?)\+notrack(?=://)", re.IGNORECASE)  # Postal's opt-out
_SUFFIX: Final = re.compile(r'\[\[\s*data-msys-clicktrack\s*=\s*"?[01]"?\s*\]\]', re.IGNORECASE)
_URL_WHITE: Final = " \t\r\n"
_TRAILING: Final = re.compile(rb"[ \t]+(?=\r?\n|\Z)")
_COMMENT: Final = re.compile(r"\([^()]*\)")
# Labels that browsers and mail clients read as a larger charset (Encoding Standard §4.2).
_NEIGHBOURS: Final = {
    "iso-8859-1": "cp1252",
    "latin1": "cp1252",
    "ks_c_5601-1987": "cp949",
    "euc-kr": "cp949",
    "shift_jis": "cp932",
    "gb2312": "gb18030",
}
_STALE: Final = frozenset({"content-md5", "content-length"})
_SIGNATURES: Final = frozenset({"dkim-signature", "arc-seal", "arc-message-signature", "arc-authentication-results"})
_ENCODING: Final = "content-transfer-encoding"


def check(original: bytes, rewritten: bytes, plan: RewritePlan, mint: Mint) -> list[Disagreement]:
    """Compare a message with a copy of it that was rendered from the plan with this mint; return the disagreements."""
    return compare(original, rewritten, promise_of(plan, mint))


def compare(original: bytes, rewritten: bytes, promise: Promise) -> list[Disagreement]:
    """Compare a message with a copy of it; return what was not promised, the first twenty of it."""
    witness = _Witness(promise=promise, parts=deque(promise.parts))
    rewritten = witness.without_field(rewritten)
    witness.compare_bytes(original, rewritten)
    if rewritten == original and not promise.spans:
        return witness.disagreements
    before, after = _parse(original), _parse(rewritten)
    witness.compare(before, after, "" if before.is_multipart() else "1")
    witness.close()
    return witness.disagreements[:MAX_DISAGREEMENTS]


@dataclass(slots=True, kw_only=True)
class _Witness:
    promise: Promise
    parts: deque[PromisedPart]
    disagreements: list[Disagreement] = field(default_factory=list)
    pixels: int = 0

    def without_field(self, rewritten: bytes) -> bytes:
        """Take the field that comes out of the copy."""
        at, line = self.promise.field_at, self.promise.field
        if not rewritten.startswith(line, at):
            self._say(Kind.HEADER, "", "the field that was to come is not there")
            return rewritten
        return rewritten[:at] + rewritten[at + len(line) :]

    def compare_bytes(self, original: bytes, rewritten: bytes) -> None:
        """Look for the bytes that must stay, stretch by stretch."""
        if not self.promise.spans:
            if rewritten != original:
                self._say(Kind.BYTES, "", "bytes are changed where none was to be")
            return
        ends = [0, *(end for _, end in self.promise.spans)]
        starts = [*(start for start, _ in self.promise.spans), len(original)]
        kept = [original[end:start] for end, start in zip(ends, starts, strict=True)]
        position = len(kept[0])
        is_kept = rewritten.startswith(kept[0])
        for stretch in kept[1:-1]:
            found = rewritten.find(stretch, position)
            is_kept &= found >= 0
            position = found + len(stretch)
        if not is_kept or len(rewritten) - len(kept[-1]) < position or not rewritten.endswith(kept[-1]):
            self._say(Kind.BYTES, "", "bytes are changed where none was to be")

    def compare(self, before: Message, after: Message, section: str) -> None:
        """Compare two parts and all below them; `section` counts as `email` does, which drops empty parts."""
        children = list(zip_longest(_children(before), _children(after)))
        is_edited = not children and before.get_payload() != after.get_payload()
        self._compare_fields(before, after, section, is_edited=is_edited)
        if before.preamble != after.preamble or before.epilogue != after.epilogue:
            self._say(Kind.STRUCTURE, section, "another preamble or epilogue")
        for number, (one, other) in enumerate(children, 1):
            if one is None or other is None:
                self._say(Kind.STRUCTURE, section, "another number of parts")
                return
            self.compare(one, other, f"{section}.{number}" if section else str(number))
        if is_edited:
            self._compare_bodies(before, after, section)

    def close(self) -> None:
        """Say what was promised of the whole message and not found."""
        for part in self.parts:
            self._say(Kind.PART, part.section, "nothing is changed, and something was to be")
        if self.pixels != (self.promise.pixel_url is not None):
            self._say(Kind.PIXEL, "", f"there are {self.pixels} pixels")

    def _compare_fields(self, before: Message, after: Message, section: str, *, is_edited: bool) -> None:
        old, new = list(before.raw_items()), list(after.raw_items())
        if old == new and before.get_unixfrom() == after.get_unixfrom():
            return
        left = set(_STALE) if is_edited or before.is_multipart() else set()
        if is_edited and _encoding(after) == "quoted-printable" != _encoding(before):
            left |= {_ENCODING} | ({"mime-version"} - {name.lower() for name, _ in old})
        if self.promise.unsigned:
            left |= _SIGNATURES
            if any(name.lower() in _SIGNATURES for name, _ in new):
                self._say(Kind.HEADER, section, "a signature that was to leave is there")
        kept = [[item for item in items if item[0].lower() not in left] for items in (old, new)]
        if kept[0] != kept[1] or len(new) > len(old) + 2:
            self._say(Kind.HEADER, section, "another header")

    def _compare_bodies(self, before: Message, after: Message, section: str) -> None:
        if not self.parts:
            self._say(Kind.PART, section, "changed, and it was to stay")
            return
        links = [self.promise.links[number] for number in self.parts.popleft().links]
        one, other = _text(before), _text(after)
        content_type = _type(before)
        if content_type == "text/html":
            found = witness_html.compare(one, other, links, self.promise.pixel_url)
            self.pixels += found.pixels
            for kind, detail in found.disagreements:
                self._say(kind, section, detail)
        elif content_type == "text/plain":
            self._compare_text(section, one, other, links, _folds(one, before))
        else:
            self._say(Kind.PART, section, "changed, and it is no text")

    def _compare_text(self, section: str, one: str, other: str, links: list[tuple[str, str]], folds: str) -> None:
        """Walk along both texts; `folds` is the white space that may stand inside of a URL."""
        one, other = (_MARKER.sub(r"\1", _SUFFIX.sub("", text.replace(_PLACEHOLDER, ""))) for text in (one, other))
        at = behind = 0
        for tracking_url, url in links:
            found = other.find(tracking_url, behind)
            start = at + found - behind
            if found >= 0 and not self._is_same_text(section, one[at:start], other[behind:found]):
                return
            end = -1 if found < 0 else _consume(one, start, url, folds)
            if end < 0:
                self._say(Kind.LINK, section, f"no link leads to {short(url)} where it was to")
                return
            at, behind = end, found + len(tracking_url)
        self._is_same_text(section, one[at:], other[behind:])

    def _is_same_text(self, section: str, one: str, other: str) -> bool:
        if one == other:
            return True
        is_link = any(tracking_url in other for tracking_url, _ in self.promise.links)
        kind = Kind.LINK if is_link else Kind.TEXT
        self._say(kind, section, f"the text differs: {first_difference(one, other)}")
        return False

    def _say(self, kind: Kind, section: str, detail: str) -> None:
        self.disagreements.append(Disagreement(kind=kind, section=section, detail=_sendable(detail)))


class _Exact(policy.Compat32):
    """Keeps the value of a field to the byte: the library's own drops the white space at its beginning."""

    def header_source_parse(self, sourcelines: list[str]) -> tuple[str, str]:
        name, _, value = sourcelines[0].partition(":")
        return name, value + "".join(sourcelines[1:])

    def header_fetch_parse(self, name: str, value: str) -> str:
        return str(super().header_fetch_parse(name, value.strip()))


def _parse(raw: bytes) -> Message:
    """Read a message as one character a byte: of bytes, the library loses those that are not of their charset."""
    return message_from_string(raw.decode("latin-1"), policy=_Exact())


def _children(part: Message) -> list[Message]:
    payload = part.get_payload()
    return [child for child in payload if isinstance(child, Message)] if isinstance(payload, list) else []


def _encoding(part: Message) -> str:
    return _COMMENT.sub("", str(part.get("Content-Transfer-Encoding", ""))).strip().lower()


def _type(part: Message) -> str:
    """Return the type of a part; `email` takes a comment behind it for a part of it."""
    value = _COMMENT.sub("", str(part.get("Content-Type", ""))).partition(";")[0]
    return "".join(value.split()).lower() or "text/plain"


def _text(part: Message) -> str:
    """Return the text of a part, lossless."""
    if _encoding(part) == "quoted-printable":
        raw = str(part.get_payload()).encode("latin-1")
        raw = binascii.a2b_qp(_TRAILING.sub(b"", raw))  # RFC 2045 §6.7 rule 3, which the library does not know
    else:
        decoded = part.get_payload(decode=True)
        raw = decoded if isinstance(decoded, bytes) else b""
    charset = part.get_content_charset("us-ascii")
    for codec in (_NEIGHBOURS.get(charset, charset), charset, "utf-8"):
        try:
            return raw.decode(codec)
        except (LookupError, UnicodeError):
            continue
    return raw.decode("latin-1")


def _folds(text: str, part: Message) -> str:
    return _URL_WHITE if "<" in text or part.get_param("format") is not None else ""


def _consume(text: str, at: int, url: str, folds: str) -> int:
    """Return where a URL ends that begins at `at`, -1 where it does not."""
    if text.startswith(url, at):
        return at + len(url)
    for character in url if folds else "":
        while text[at : at + 1] and text[at] in folds and text[at] != character:
            at += 1
        if text[at : at + 1] != character:
            return -1
        at += 1
    return at if folds else -1


def _sendable(detail: str) -> str:
    """Write broken characters as escapes: the answer crosses a pipe as UTF-8."""
    return detail.encode("utf-8", "backslashreplace").decode()
