"""The links of one text/plain body, as byte spans: where a URL stands in running text, and whose text it is.

Owns where a URL may begin, URLs in angle brackets and over the soft breaks of format=flowed, and which text is somebody
else's (quoted lines, the signature). Does not own which characters around a URL are the sentence's (`urlends`), whether
a URL may be tracked (`linkrules`), nor parts that must not be touched at all, such as inline OpenPGP (`bodies`).

Standards: RFC 3986 §3.1 (scheme), appendix C (delimiters); RFC 3676 §4 (format=flowed, DelSp, signature separator).

Limits: MAX_ADDRESSES. A URL that was hard-wrapped outside of angle brackets ends at the line's end: nobody can know
better. Quoting is `>` at the beginning of a line, so the text of a forwarded message without it is the author's.
"""

import re
from dataclasses import dataclass
from itertools import islice
from typing import Final

from relay.core import charsets, urlends
from relay.core.reasons import SkipReason
from relay.core.urlends import STOPS, Span

MAX_ADDRESSES: Final = 5_000
"""Places of a body that are looked at: a megabyte of nothing but links takes seconds."""

_Anchor = tuple[int, int, str]  # where an address may begin, where its scheme ends, the scheme (`""` of `www.`)

_OPEN_TRACKER: Final = re.compile(re.escape("{{ses:openTracker}}"))
_BLANK: Final = " " * len("{{ses:openTracker}}")

_HTTP: Final = frozenset({"http", "https", "http+notrack", "https+notrack"})
_MARKED: Final = re.compile(r"(https?)(\+notrack)://", re.IGNORECASE)  # the opt-out of Postal
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*+\Z")
_LONGEST_SCHEME: Final = 32
# "here.https://": no scheme ends so, but a sentence may.
_GLUED: Final = re.compile(r"[.\-](?=https?\Z)", re.IGNORECASE)
_OPAQUE: Final = frozenset({"mailto", "sms", "magnet"})  # without `//`, and URLs may stand in what follows
_BEHIND_SCHEME: Final = re.compile(r":(?://|(?:(?<=mailto:)|(?<=sms:)|(?<=magnet:))(?!https?:))", re.IGNORECASE)
_BEHIND_WWW: Final = re.compile(r"\.(?<=[wW]{3}\.)(?<![\w@./:+\-][wW]{3}\.)")
_OPENING_BRACKET: Final = re.compile(r"<(?:[uU][rR][lL]:)?[ \t]{0,8}\Z")
_LONGEST_BRACKET: Final = len("<URL:") + 8

# `<https://…>` may be folded inside its brackets, with white space round the line break.
_BRACKETED: Final = re.compile(rf"([^{STOPS}]++(?:[ \t]*+\r?\n[ \t]*+[^{STOPS}]++)*)[ \t\r\n]*+>")
_FOLD: Final = re.compile(r"[ \t]*\r?\n[ \t]*")
# RFC 3676 §4.1, §4.2, §4.4: with DelSp, the space before a soft break and the stuffed one behind it are no text; a line
# that is quoted, empty or the signature separator continues nothing.
_SOFT_BREAK: Final = re.compile(rf" \r?\n(?!-- (?:\r?\n|\Z)) ?(?=[^{STOPS}])")
_SIGNATURE: Final = re.compile(r"^-- \r?$", re.MULTILINE)
_SUFFIX: Final = re.compile(r"\[\[\s*+data-msys-clicktrack\s*+=\s*+\"?([01])\"?\s*+\]\]", re.IGNORECASE)
_PLACEHOLDERS: Final = (("{{", "}}"), ("{%", "%}"), ("*|", "|*"), ("[[", "]]"), ("${", "}"))
_BEGUN: Final = re.compile("|".join(re.escape(opening) for opening, _ in _PLACEHOLDERS))


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
    deleted in any case, `open_trackers` are the `{{ses:openTracker}}`. `addresses` is how many places were looked at;
    of a body that `is_too_complex` nothing is known.
    """

    links: tuple[TextLink, ...]
    left: tuple[tuple[Span, str, SkipReason], ...]
    removals: tuple[Span, ...]
    open_trackers: tuple[Span, ...]
    addresses: int
    is_too_complex: bool = False


def find(
    body: bytes,
    *,
    charset: str = charsets.DEFAULT,
    flowed: bool = False,
    delsp: bool = False,
    max_addresses: int = MAX_ADDRESSES,
) -> TextScan:
    """Find the links of a text body in a charset that ASCII is a part of; linear time, and never raises.

    `flowed` and `delsp` are the parameters `format=flowed` and `delsp=yes` of its Content-Type.
    """
    codec = charsets.codec(charset)
    text = charsets.decode(body, codec)
    if not body.isascii() and text.encode(codec, "surrogateescape") != body:
        # Not the only way to write this text, so that offsets would be wrong: what is not ASCII counts as broken.
        codec = "ascii"
        text = body.decode(codec, "surrogateescape")
    trackers = list(islice(_OPEN_TRACKER.finditer(text), max_addresses + 1))
    # It goes away, so it ends a URL, and is no placeholder inside of one.
    blanked = _OPEN_TRACKER.sub(_BLANK, text) if trackers else text
    anchors = _anchors(blanked, max_addresses)
    addresses = len(anchors) + len(trackers)
    if addresses > max_addresses:
        return TextScan(links=(), left=(), removals=(), open_trackers=(), addresses=addresses, is_too_complex=True)
    scan = _Scan(blanked, joins_lines=flowed and delsp)
    scan.run(anchors)
    return scan.result(codec, [tracker.span() for tracker in trackers], addresses)


class _Scan:
    """One pass over one text, in offsets of characters; `run`, then `result`."""

    def __init__(self, text: str, *, joins_lines: bool) -> None:
        self.text = text
        self.joins_lines = joins_lines
        separator = _SIGNATURE.search(text)
        self.signature = separator.start() if separator else len(text)
        self.is_quoted = text.startswith(">")
        self.links: list[tuple[Span, str, SkipReason | None]] = []
        self.left: list[tuple[Span, str, SkipReason]] = []
        self.removals: list[Span] = []

    def run(self, anchors: list[_Anchor]) -> None:
        """Find all addresses."""
        text = self.text
        pos = 0
        for start, behind, scheme in anchors:
            if start < pos:
                continue
            line = text.rfind("\n", pos, start) + 1
            if line:
                self.is_quoted = text.startswith(">", line)
            if scheme not in _HTTP:
                pos = self._other(start, behind, SkipReason.SCHEME if scheme else SkipReason.NO_SCHEME)
            elif bracketed := self._bracketed(start):
                self._add(bracketed.span(1), _FOLD.sub("", bracketed[1]))
                pos = bracketed.end()
            else:
                pos = self._running(start, behind)
            line = text.rfind("\n", start, pos) + 1
            if line:  # it went on in another line, whose > was not for quoting unless all of it was quoted
                self.is_quoted = self.is_quoted and text.startswith(">", line)

    def result(self, codec: str, trackers: list[Span], addresses: int) -> TextScan:
        """Say what was found, in offsets of bytes."""
        taken = [span for span, _, _ in self.links]
        trackers = _apart(trackers, sorted((*taken, *self.removals)))
        spans = (*taken, *(span for span, _, _ in self.left), *self.removals, *trackers)
        at = _byte_offsets(self.text, codec, sorted({offset for span in spans for offset in span}))

        def in_bytes(span: Span) -> Span:
            return at[span[0]], at[span[1]]

        return TextScan(
            links=tuple(TextLink(span=in_bytes(span), url=url, opt_out=opt_out) for span, url, opt_out in self.links),
            left=tuple((in_bytes(span), url, reason) for span, url, reason in self.left),
            removals=tuple(map(in_bytes, self.removals)),
            open_trackers=tuple(map(in_bytes, trackers)),
            addresses=addresses,
        )

    def _add(self, span: Span, url: str, opt_out: SkipReason | None = None) -> bool:
        """Add a link; False if it is somebody else's."""
        if self.is_quoted or span[0] >= self.signature:
            reason = SkipReason.QUOTED_TEXT if self.is_quoted else SkipReason.SIGNATURE_TEXT
            self.left.append((span, url, reason))
            return False
        marked = _MARKED.match(url)
        if marked:
            self.removals.append((span[0] + marked.start(2), span[0] + marked.end(2)))
            url, opt_out = marked[1] + url[marked.end(2) :], SkipReason.OPT_OUT
        self.links.append((span, url, opt_out))
        return True

    def _bracketed(self, start: int) -> re.Match[str] | None:
        if _OPENING_BRACKET.search(self.text, max(start - _LONGEST_BRACKET, 0), start):
            return _BRACKETED.match(self.text, start)
        return None

    def _other(self, start: int, behind: int, reason: SkipReason) -> int:
        """Take in an address that is none of http's; return where it ends, since a URL within it is a part of it."""
        pieces = self._pieces(start)
        address = urlends.trimmed(_joined(self.text, pieces), self.text[start - 1 : start])
        if len(address) > behind - start and (reason is SkipReason.SCHEME or "." in address[len("www.") :]):
            self.left.append(((start, _end_of(pieces, len(address))), address, reason))
        return max(behind, pieces[-1][1])

    def _running(self, start: int, behind: int) -> int:
        """Take in a URL in running text whose scheme ends at `behind`; return where what belongs to it ends."""
        text = self.text
        pieces = self._pieces(start)
        url = _joined(text, pieces)
        end = max(behind, pieces[-1][1])
        opt_out = None
        suffix = _SUFFIX.match(text, start + url.find("[["), len(text)) if "[[" in url else None
        if suffix:
            url, end = text[start : suffix.start()], suffix.end()
            pieces = [(start, suffix.start())]
            opt_out = SkipReason.OPT_OUT if suffix[1] == "0" else None
        url = urlends.trimmed(url, text[start - 1 : start])
        if len(url) <= behind - start:
            return end
        span = (start, _end_of(pieces, len(url)))
        if text.startswith("<%", end) or _has_open_placeholder(url):
            self.left.append((span, url, SkipReason.PLACEHOLDER))
        elif self._add(span, url, opt_out) and suffix:
            self.removals.append(suffix.span())
        return end

    def _pieces(self, start: int) -> list[Span]:
        """The spans of a URL between its soft breaks."""
        return urlends.pieces(self.text, start, _SOFT_BREAK if self.joins_lines else None)


def _anchors(text: str, most: int) -> list[_Anchor]:
    """Give where an address may begin, in order; no more than it takes to know that there are more than `most`."""
    # A dot and a colon are soon found; what stands in front of them is looked at only then.
    found = [(dot.start() - len("www"), dot.end(), "") for dot in islice(_BEHIND_WWW.finditer(text), most + 1)]
    for colon in _BEHIND_SCHEME.finditer(text):
        scheme = _SCHEME.search(text, max(colon.start() - _LONGEST_SCHEME, 0), colon.start())
        if scheme and (colon[0] == "://" or scheme[0].lower() in _OPAQUE):
            glued = _GLUED.search(scheme[0])
            begin = glued.end() if glued else 0
            found.append((scheme.start() + begin, colon.end(), scheme[0][begin:].lower()))
            if len(found) > most:
                break
    return sorted(found)


def _has_open_placeholder(url: str) -> bool:
    """Say whether a placeholder begins in a URL and is closed only behind a white space: half a URL must be left."""
    if not _BEGUN.search(url):
        return False
    last = ((url.rfind(opening), opening, closing) for opening, closing in _PLACEHOLDERS)
    return any(at >= 0 and url.find(closing, at + len(opening)) < 0 for at, opening, closing in last)


def _joined(text: str, pieces: list[Span]) -> str:
    if len(pieces) == 1:
        return text[slice(*pieces[0])]
    return "".join(text[begin:end] for begin, end in pieces)


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
