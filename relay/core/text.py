"""The links of one text/plain body, as byte spans: where a URL begins and ends among the punctuation around it.

Owns what belongs to a URL in running text, in angle brackets, in Markdown, over the soft breaks of format=flowed, and
which text is somebody else's (quoted lines, the signature). Does not own whether a URL may be tracked (`linkrules`),
nor parts that must not be touched at all, such as inline OpenPGP (`plan`).

Standards: RFC 3986 appendix C (delimiters); RFC 3676 §4 (format=flowed, DelSp, the signature separator).

Limits: a URL that was hard-wrapped outside of angle brackets ends at the line's end: nobody can know better. Quoting is
`>` at the beginning of a line.
"""

import re
from dataclasses import dataclass
from typing import Final

from relay.core import charsets
from relay.core.reasons import SkipReason

Span = tuple[int, int]

_OPEN_TRACKER: Final = re.compile(re.escape("{{ses:openTracker}}"))
_BLANK: Final = " " * len("{{ses:openTracker}}")

# What no URL in running text goes beyond: white space, controls, quotes and brackets that delimit, marks without a
# width, CJK punctuation. Broken bytes (lone surrogates) do not end it: a URL that holds one must be left, not cut.
_STOPS: Final = (
    r"\s\x00-\x1f\x7f-\x9f<>\"`\u00ab\u00bb\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\u2018\u201a-\u201f\u2039\u203a"
    r"\u3000-\u3003\u3008-\u3020\u3030\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65"
)
_SCHEMES: Final = ("http", "https")
_WITHOUT_SCHEME: Final = re.compile(r"[wW]{3}\.")
_WITHIN_WORD: Final = re.compile(r"[A-Za-z0-9+.\-]")  # before a scheme: it is part of another one
_WITHIN_ADDRESS: Final = re.compile(r"[\w@./:+\-]")  # before www.
_OPENING_BRACKET: Final = re.compile(r"<(?:[uU][rR][lL]:)?[ \t]{0,8}\Z")
_LONGEST_BRACKET: Final = len("<URL:") + 8

_RUN: Final = re.compile(rf"[^{_STOPS}]++")
# `<https://…>` may be folded inside its brackets, with white space round the line break.
_BRACKETED: Final = re.compile(rf"([^{_STOPS}]++(?:[ \t]*+\r?\n[ \t]*+[^{_STOPS}]++)*)[ \t\r\n]*+>")
_FOLD: Final = re.compile(r"[ \t]*\r?\n[ \t]*")
# RFC 3676 §4.1, §4.2, §4.4: with DelSp, the space before a soft break and the stuffed one behind it are no text; a line
# that is quoted, empty or the signature separator continues nothing.
_SOFT_BREAK: Final = re.compile(rf" \r?\n(?!-- \r?\n) ?(?=[^{_STOPS}])")
_SIGNATURE: Final = re.compile(r"^-- \r?$", re.MULTILINE)
_SUFFIX: Final = re.compile(r"\[\[\s*+data-msys-clicktrack\s*+=\s*+\"?([01])\"?\s*+\]\]", re.IGNORECASE)
_OPEN_PLACEHOLDERS: Final = ("{{", "{%", "*|", "[[", "${")  # what is closed only behind a white space

_TRAILING: Final = frozenset(".,;:!?'\u2019\u2026\u00b7")
_EMPHASIS: Final = frozenset("*|")  # outside too, where the same stands before the URL
_OPENING_OF: Final = {")": "(", "]": "[", "}": "{"}
_CLOSING_OF: Final = {opening: closing for closing, opening in _OPENING_OF.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class TextLink:
    """A URL: `span` is how it stands in the body, delimiters outside, folds and soft breaks inside; `url` its meaning.

    `opt_out` is OPT_OUT where the author excluded it by SparkPost's suffix `[[data-msys-clicktrack="0"]]`.
    """

    span: Span
    url: str
    opt_out: SkipReason | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TextScan:
    """What one body holds; all spans are half-open byte offsets, sorted, and apart from each other.

    `links` may be wrapped. `left` are addresses that are nobody's to wrap: span, address, reason. `removals` are to be
    deleted in any case, `open_trackers` are the `{{ses:openTracker}}`.
    """

    links: tuple[TextLink, ...]
    left: tuple[tuple[Span, str, SkipReason], ...]
    removals: tuple[Span, ...]
    open_trackers: tuple[Span, ...]


def find(body: bytes, *, charset: str = charsets.DEFAULT, flowed: bool = False, delsp: bool = False) -> TextScan:
    """Find the links of a text body in a charset that ASCII is a part of; linear time, and never raises.

    `flowed` and `delsp` are the parameters `format=flowed` and `delsp=yes` of its Content-Type.
    """
    codec = charsets.codec(charset)
    text = charsets.decode(body, codec)
    if not body.isascii() and text.encode(codec, "surrogateescape") != body:
        # Not the only way to write this text, so that offsets would be wrong: what is not ASCII counts as broken.
        codec = "ascii"
        text = body.decode(codec, "surrogateescape")
    scan = _Scan(text, joins_lines=flowed and delsp)
    scan.run()
    return scan.result(codec)


class _Scan:
    """One pass over one text, in offsets of characters; `run`, then `result`."""

    def __init__(self, text: str, *, joins_lines: bool) -> None:
        self.trackers = [match.span() for match in _OPEN_TRACKER.finditer(text)]
        # It goes away, so it ends a URL, and is no placeholder inside of one.
        self.text = text = _OPEN_TRACKER.sub(_BLANK, text) if self.trackers else text
        self.joins_lines = joins_lines
        separator = _SIGNATURE.search(text)
        self.signature = separator.start() if separator else len(text)
        self.is_quoted = text.startswith(">")
        self.links: list[tuple[Span, str, SkipReason | None]] = []
        self.left: list[tuple[Span, str, SkipReason]] = []
        self.removals: list[Span] = []

    def run(self) -> None:
        """Find all addresses."""
        text = self.text
        pos = 0
        for start, behind in _anchors(text):
            if start < pos:
                continue
            line = text.rfind("\n", pos, start) + 1
            if line:
                self.is_quoted = text.startswith(">", line)
            if text[start] in "wW":
                pos = self._without_scheme(start, behind)
            elif start and _WITHIN_WORD.match(text, start - 1):
                pos = behind
            elif bracketed := self._bracketed(start):
                self._add(bracketed.span(1), _FOLD.sub("", bracketed[1]))
                pos = bracketed.end()
            else:
                pos = self._running(start, behind)
            if "\n" in text[start:pos]:
                self.is_quoted = False  # it went on in another line, whose > was not for quoting

    def result(self, codec: str) -> TextScan:
        """Say what was found, in offsets of bytes."""
        taken = [span for span, _, _ in self.links]
        trackers = _apart(self.trackers, taken)
        spans = (*taken, *(span for span, _, _ in self.left), *self.removals, *trackers)
        at = _byte_offsets(self.text, codec, sorted({offset for span in spans for offset in span}))

        def in_bytes(span: Span) -> Span:
            return at[span[0]], at[span[1]]

        return TextScan(
            links=tuple(TextLink(span=in_bytes(span), url=url, opt_out=opt_out) for span, url, opt_out in self.links),
            left=tuple((in_bytes(span), url, reason) for span, url, reason in self.left),
            removals=tuple(map(in_bytes, self.removals)),
            open_trackers=tuple(map(in_bytes, trackers)),
        )

    def _add(self, span: Span, url: str, opt_out: SkipReason | None = None) -> bool:
        """Add a link; False if it is somebody else's."""
        if self.is_quoted or span[0] >= self.signature:
            reason = SkipReason.QUOTED_TEXT if self.is_quoted else SkipReason.SIGNATURE_TEXT
            self.left.append((span, url, reason))
            return False
        self.links.append((span, url, opt_out))
        return True

    def _bracketed(self, start: int) -> re.Match[str] | None:
        if _OPENING_BRACKET.search(self.text, max(start - _LONGEST_BRACKET, 0), start):
            return _BRACKETED.match(self.text, start)
        return None

    def _without_scheme(self, start: int, behind: int) -> int:
        run = _RUN.match(self.text, behind)
        if run is None or (start and _WITHIN_ADDRESS.match(self.text, start - 1)):
            return behind
        address = _trimmed(self.text[start : run.end()], self.text[start - 1 : start])
        if "." in address[len("www.") :]:
            self.left.append(((start, start + len(address)), address, SkipReason.NO_SCHEME))
        return run.end()

    def _running(self, start: int, behind: int) -> int:
        """Take in a URL in running text whose scheme ends at `behind`; return where what belongs to it ends."""
        text = self.text
        pieces = self._pieces(start)
        url = "".join(text[begin:end] for begin, end in pieces)
        end = pieces[-1][1]
        opt_out = None
        suffix = _SUFFIX.match(text, start + url.find("[["), len(text)) if "[[" in url else None
        if suffix:
            url, end = text[start : suffix.start()], suffix.end()
            pieces = [(start, suffix.start())]
            opt_out = SkipReason.OPT_OUT if suffix[1] == "0" else None
        url = _trimmed(url, text[start - 1 : start])
        if len(url) <= behind - start:
            return end
        span = (start, _end_of(pieces, len(url)))
        if text.startswith("<%", end) or any(opening in url for opening in _OPEN_PLACEHOLDERS):
            self.left.append((span, url, SkipReason.PLACEHOLDER))
        elif self._add(span, url, opt_out) and suffix:
            self.removals.append(suffix.span())
        return end

    def _pieces(self, start: int) -> list[Span]:
        """The spans of a URL between its soft breaks."""
        pieces = []
        run = _RUN.match(self.text, start)
        while run:
            pieces.append(run.span())
            soft = _SOFT_BREAK.match(self.text, run.end()) if self.joins_lines else None
            run = _RUN.match(self.text, soft.end()) if soft else None
        return pieces


def _anchors(text: str) -> list[Span]:
    """Where `http://`, `https://` and `www.` stand, in order."""
    found = [match.span() for match in _WITHOUT_SCHEME.finditer(text)]
    at = text.find("://")
    while at >= 0:
        for scheme in _SCHEMES:
            start = at - len(scheme)
            if start >= 0 and text[start:at].lower() == scheme:
                found.append((start, at + len("://")))
        at = text.find("://", at + 1)
    return sorted(found)


def _trimmed(url: str, before: str) -> str:
    """Cut off what belongs to the text around a URL; `before` is the character in front of it."""
    if closing := _CLOSING_OF.get(before):
        url = url[: _first_unbalanced(url, before, closing)]
    end = len(url)
    surplus = {closing: url.count(closing) - url.count(opening) for closing, opening in _OPENING_OF.items()}
    while end:
        last = url[end - 1]
        if surplus.get(last, 0) > 0:
            surplus[last] -= 1
        elif last not in _TRAILING and not (last in _EMPHASIS and last == before):
            break
        end -= 1
    return url[:end]


def _first_unbalanced(url: str, opening: str, closing: str) -> int:
    depth = 0
    for match in re.finditer(f"[{re.escape(opening + closing)}]", url):
        depth += 1 if match[0] == opening else -1
        if depth < 0:
            return match.start()
    return len(url)


def _end_of(pieces: list[Span], length: int) -> int:
    """Where the first `length` characters of the pieces, put together, end."""
    for begin, end in pieces:
        if length <= end - begin:
            return begin + length
        length -= end - begin
    return pieces[-1][1]


def _apart(spans: list[Span], taken: list[Span]) -> list[Span]:
    """Leave out the spans that overlap a taken one; both are sorted."""
    kept = []
    number = 0
    for span in spans:
        while number < len(taken) and taken[number][1] <= span[0]:
            number += 1
        if number == len(taken) or span[1] <= taken[number][0]:
            kept.append(span)
    return kept


def _byte_offsets(text: str, codec: str, offsets: list[int]) -> dict[int, int]:
    """Turn sorted offsets of characters into offsets of bytes."""
    if text.isascii():
        return {offset: offset for offset in offsets}
    result = {}
    done = in_bytes = 0
    for offset in offsets:
        in_bytes += len(text[done:offset].encode(codec, "surrogateescape"))
        done = offset
        result[offset] = in_bytes
    return result
