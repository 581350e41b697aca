"""The links of one HTML body and the place of its pixel, as byte spans: located here, spliced elsewhere.

Owns which tags are links (`<a>`, `<area>`, the VML shapes that Outlook shows as buttons) and where a pixel may stand.
Does not own the tokenizer (`htmltokens`), what attributes mean (`htmlattributes`), whether a URL may be tracked
(`linkrules`), or any change to the body. Nothing is built up and written again: what is not edited cannot change.

One walk in steps, each a match of one regular expression that passes whatever does not matter and takes a link in its
usual form with it. Only a body with `{{ses:openTracker}}`, or with an opt-out elsewhere than on a link, is walked tag
by tag, since opt-outs are inherited.

Standards: HTML §13.2.5 (tokenization), §13.2.6.5 (foreign content); URL Standard §4.4 (what is stripped from a URL).

Limits: MAX_STEPS. Links inside SVG and MathML are left alone. The state of the tree is not known: an `<a>` that
browsers drop (within `<select>`) is still a link here. A non-ASCII query is taken as Unicode, whatever the charset of
the body.
"""

import re
from dataclasses import dataclass
from typing import Final, NamedTuple

from relay.core import charsets, htmlattributes, htmltokens
from relay.core.htmlattributes import NOTHING, Meaning
from relay.core.htmltokens import RAW_TEXT, Tag
from relay.core.openelements import OpenElements
from relay.core.reasons import SkipReason
from relay.core.visibletext import OPEN_TRACKER, alt_text, visible_text

Span = tuple[int, int]

MAX_STEPS: Final = 20_000
"""Tags that are looked at in one message, a link counting as four: a fifth of a second. A newsletter takes 200."""

_OPEN_TRACKER: Final = re.compile(re.escape(OPEN_TRACKER))

_VML: Final = frozenset(
    b"v:" + name for name in b"roundrect rect shape oval image group line polyline arc curve".split()
)
_CHILDLESS: Final = frozenset({b"a", b"area"})  # no link is inside of them, so that nothing inherits their opt-outs
_LINKS: Final = _VML | _CHILDLESS

# A downlevel-hidden conditional comment: Outlook takes what is in it for mark-up.
_CONDITION: Final = re.compile(rb"<!--\[if\s([^\]>]{0,200})\]>")
_OUTLOOK: Final = (b"mso", b"vml")
_ENDIF: Final = b"<![endif]"
_COMMENT_END: Final = re.compile(rb"\s*+--!?>")
_XHTML: Final = re.compile(rb"<!doctype[^>]*?xhtml")

_FOREIGN: Final = frozenset({b"svg", b"math"})
# HTML §13.2.6.5: these start tags end SVG and MathML, whatever is open in them.
_BREAKOUT: Final = frozenset(
    b"b big blockquote body br center code dd div dl dt em embed h1 h2 h3 h4 h5 h6 head hr i img li listing menu meta "
    b"nobr ol p pre ruby s small span strong strike sub sup table tt u ul var".split()
)

_BREAKOUT_ENDS: Final = frozenset({b"br", b"p"})

_LINK_STEPS: Final = 4
_MAX_RAW_URL: Final = 32_768  # octets of a value that are decoded; what is longer is too long in any spelling

# A link with a placeholder is left as it is; the others go as a whole.
_WHOLE: Final = frozenset({b"href", b"ses:tags", b"ses:no-track", b"data-no-track"})
_PIXEL_PLACES: Final = frozenset({b"body", b"html"})
_STRIPPED: Final = "".join(map(chr, range(0x21)))  # C0 controls and space, at both ends
_REFERENCES: Final = (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;"), ("'", "&#39;"))
_DROPPED: Final = str.maketrans("", "", "\t\n\r")


class HtmlLink(NamedTuple):
    """One link of a body.

    `value` is the span of the attribute's value with the quotes it has; `url` is what it means; `text` is the visible
    text, white space folded, cut to 200 characters; `tag` is `"a"`, `"area"` or a VML name such as `"v:roundrect"`;
    `tags` are the pairs of `ses:tags`; `opt_out` is OPT_OUT where the link or an element around it bears an opt-out.
    Where `is_cut`, `url` is but the beginning of what is written.
    """

    value: Span
    url: str
    text: str
    tag: str
    tags: tuple[tuple[str, str], ...]
    opt_out: SkipReason | None
    is_cut: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class HtmlScan:
    """What one body holds; all spans are half-open byte offsets, sorted, and apart from each other.

    `links` are in document order. `removals` are to be deleted in any case: our own attributes with the white space
    before them, and `{{ses:openTracker}}` in another attribute. `open_trackers` are those in the text. `pixel_at` is
    where a pixel goes: before the last real `</body>`, else before the last real `</html>`, else at the end; None where
    nobody would load it (an empty body, a frameset). `is_xhtml`: the doctype asks for `<img … />`. `steps` is what was
    taken of MAX_STEPS; of a body that `is_too_complex` nothing is known.
    """

    links: tuple[HtmlLink, ...]
    removals: tuple[Span, ...]
    open_trackers: tuple[Span, ...]
    pixel_at: int | None
    is_xhtml: bool
    steps: int
    is_too_complex: bool = False


def find(body: bytes, *, charset: str = charsets.DEFAULT, max_steps: int = MAX_STEPS) -> HtmlScan:
    """Find the links of an HTML body in a charset that ASCII is a part of; linear time, and never raises."""
    codec = charsets.codec(charset)
    walk = _Walk(body, codec, max_steps)
    scan = walk.scan()
    if walk.is_inconclusive and not scan.is_too_complex:
        return _Walk(body, codec, max_steps, is_thorough=True).scan()
    return scan


def quote(url: str) -> bytes:
    """Return the attribute value for a URL, in double quotes: `"http://a/?b&c"` gives `b'"http://a/?b&amp;c"'`."""
    return b'"%b"' % encode(url)


def encode(url: str) -> bytes:
    """Return what stands for a URL between quotes of either kind: `"http://a/?b&c"` gives `b"http://a/?b&amp;c"`."""
    # A tracking URL has none of these; str.translate would take longer than sealing the token.
    for character, reference in _REFERENCES:
        if character in url:
            url = url.replace(character, reference)
    return url.encode("ascii", "xmlcharrefreplace")


@dataclass(slots=True)
class _Found:
    """A link while the walk goes on: its text ends at the next link at the latest."""

    tag: Tag
    href: Span
    tags: Span | None
    opted_out: bool
    text_end: int


class _Walk:
    """One pass over one body: `scan`, once."""

    def __init__(self, body: bytes, codec: str, max_steps: int, *, is_thorough: bool = False) -> None:
        self.body = body
        self.low = body.lower()
        self.codec = codec
        self.end = len(body)  # of what is walked now: the body, or the mark-up in a comment
        self.comment_end = 0  # of the comment that is walked inside; 0 outside of one
        # Both are offsets, the next one last.
        self.trackers = [match.start() for match in _OPEN_TRACKER.finditer(body)][::-1] if OPEN_TRACKER in body else []
        self.hints = htmlattributes.hints(self.low)[::-1]
        self.is_skipping = not is_thorough and not self.trackers
        self.elements = OpenElements() if self.hints and not self.is_skipping else None
        self.is_inconclusive = False
        self.max_steps = max_steps
        self.steps = len(self.trackers) + len(self.hints)
        self.found: list[_Found] = []
        self.open_link: _Found | None = None
        self.outer_link: _Found | None = None  # the one that was open where the comment began
        self.removals: list[Span] = []
        self.open_trackers: list[Span] = []
        self.foreign = b""  # b"svg" or b"math" while in one
        self.foreign_depth = 0
        self.pixel_places: dict[bytes, int] = {}
        self.has_body = False
        self.is_frameset = False
        self.is_xhtml = False

    def scan(self) -> HtmlScan:
        """Walk through the body and say what was found; another walk has to, if this `is_inconclusive`."""
        end = self._run()
        self.is_inconclusive |= self.elements is None and bool(self.hints)
        if self.steps > self.max_steps:
            return HtmlScan(
                links=(),
                removals=(),
                open_trackers=(),
                pixel_at=None,
                is_xhtml=self.is_xhtml,
                steps=self.steps,
                is_too_complex=True,
            )
        places = self.pixel_places
        has_pixel = not self.is_frameset and bool(self.body.strip())
        return HtmlScan(
            links=tuple(map(self._link, self.found)),
            removals=tuple(sorted(self.removals)),
            open_trackers=tuple(self.open_trackers),
            pixel_at=places.get(b"body", places.get(b"html", end)) if has_pixel else None,
            is_xhtml=self.is_xhtml,
            steps=self.steps,
        )

    def _run(self) -> int:
        """Walk, and return where it ended: what begins and never ends hides all that follows it, as in browsers."""
        low = self.low
        step = htmltokens.TO_LINK if self.is_skipping else htmltokens.TO_ANY
        pos = 0
        while (match := step.match(low, pos, self.end)) and self.steps <= self.max_steps:
            pos = match.end()
            if match[1]:
                if not self.hints or self.hints[-1] >= pos:
                    self._usual_link(match, pos)
                    continue
                pos = match.start(1) - 1
            self.steps += 1
            if pos < self.end:
                tag = htmltokens.tag_at(low, pos, self.end)
                behind = self._declaration(pos) if tag is None else self._tag(tag, pos)
                if behind >= 0:
                    pos = behind
                    if self.foreign:
                        step = htmltokens.TO_ANY
                    continue
                if not self.comment_end:
                    break
                self._settle_trackers(pos, self.end)
            elif not self.comment_end:
                break
            pos = self._leave_comment()
        self._finish(pos)
        return pos

    def _finish(self, pos: int) -> None:
        self._settle_trackers(pos, len(self.low))
        self._close_link(pos)

    def _usual_link(self, match: re.Match[bytes], end: int) -> None:
        """Take in a link in its usual form, without opt-out, that ends the match."""
        name_start, name_end = match.span(1)
        if self.open_link:
            self.open_link.text_end = name_start - 1
        self.open_link = _Found(Tag(match[1], False, name_end, end), match.span(2), None, False, end)
        self.found.append(self.open_link)
        self.steps += _LINK_STEPS

    def _link(self, found: _Found) -> HtmlLink:
        body, tag, codec = self.body, found.tag, self.codec
        if tag.name == b"area":
            text = alt_text(body, self.low, tag, codec)
        else:
            text = visible_text(body, self.low, tag, found.text_end, codec)
        start, end = found.href
        is_cut = end - start > _MAX_RAW_URL
        url = htmlattributes.url(body, (start, start + _MAX_RAW_URL) if is_cut else found.href, codec)
        if not url.isprintable():
            url = url.translate(_DROPPED)
        return HtmlLink(
            found.href,
            url.strip(_STRIPPED),
            text,
            tag.name.decode("ascii"),
            htmlattributes.link_tags(htmlattributes.value(body, found.tags, codec)) if found.tags else (),
            SkipReason.OPT_OUT if found.opted_out else None,
            is_cut,
        )

    def _declaration(self, pos: int) -> int:
        """Pass what is no tag, or enter it if Outlook takes it for mark-up; return where the walk goes on, or -1."""
        low = self.low
        behind = htmltokens.declaration_end(low, pos, self.end, in_foreign=bool(self.foreign))
        if behind > pos + 1:
            if low.startswith(b"<!--[if", pos):
                behind = self._conditional(pos, behind) or behind
            elif low.startswith(b"<!doctype", pos):
                self.is_xhtml = self.is_xhtml or _XHTML.match(low, pos, behind) is not None
            self._settle_trackers(pos, behind)
        return behind

    def _conditional(self, pos: int, end: int) -> int:
        """Enter a conditional comment that Outlook reads and that is closed as it should be; 0 where it is not."""
        condition = _CONDITION.match(self.low, pos, end)
        if condition is None or not any(word in condition[1] for word in _OUTLOOK) or self.comment_end or self.foreign:
            return 0
        if self.is_skipping and not self.hints and self.low.find(b"href", pos, end) < 0:
            return 0  # as nearly all of them
        last = self.low.rfind(_ENDIF, condition.end(), end)
        if last < 0 or not _COMMENT_END.fullmatch(self.low, last + len(_ENDIF), end):
            return 0
        self._settle_trackers(pos, condition.end())
        self.end, self.comment_end = last, end
        self.outer_link, self.open_link = self.open_link, None
        return condition.end()

    def _leave_comment(self) -> int:
        self._settle_trackers(self.end, self.comment_end)
        self._close_link(self.end)
        self.open_link = self.outer_link  # a comment ends nothing around it
        self.foreign = b""
        pos, self.end, self.comment_end = self.comment_end, len(self.low), 0
        return pos

    def _tag(self, tag: Tag, pos: int) -> int:
        """Take in a tag; return where the walk goes on, -1 where nothing can follow."""
        if tag.end < 0:
            return -1
        if self.trackers and self.trackers[-1] < tag.end:
            self._settle_trackers(pos, pos)
            self._remove_trackers(tag)
        if tag.is_end:
            self._end_tag(tag.name, pos)
        else:
            self._start_tag(tag, pos)
            if tag.name in RAW_TEXT and not self.foreign:
                behind = htmltokens.raw_text_end(self.low, tag.name, tag.end, self.end)
                self._settle_trackers(pos, behind)
                return behind
        return tag.end

    def _start_tag(self, tag: Tag, pos: int) -> None:
        name = tag.name
        if self.foreign or name in _FOREIGN:
            self._enter_foreign(tag)
        meaning = self._read(tag)
        if name in _LINKS and not self.foreign:
            self._close_link(pos)
            if meaning.href:
                opted_out = meaning.opted_out or (self.elements is not None and self.elements.opted_out)
                self.open_link = _Found(tag, meaning.href, meaning.tags, opted_out, tag.end)
                self.found.append(self.open_link)
                self.steps += _LINK_STEPS - 1  # one was counted
        if self.elements:
            self.elements.start(name, opted_out=meaning.opted_out)
        if not self.comment_end:
            self.has_body = self.has_body or name == b"body"
            self.is_frameset = self.is_frameset or (name == b"frameset" and not self.has_body)

    def _read(self, tag: Tag) -> Meaning:
        """Read the attributes of a tag, as far as anything is in them."""
        has_hint = bool(self.hints) and self._has_hint(tag)
        if not has_hint and tag.name not in _LINKS:
            return NOTHING
        if not has_hint and (href := htmltokens.usual_value(self.low, tag, b"href")):
            return Meaning(href=href)
        while self.hints and self.hints[-1] < tag.end:
            self.hints.pop()
            self.is_inconclusive |= self.elements is None and tag.name not in _CHILDLESS
        meaning = htmlattributes.read(self.low, tag)
        self.removals += meaning.removals
        return meaning

    def _end_tag(self, name: bytes, pos: int) -> None:
        if self.elements:
            self.elements.end(name)
        if self.foreign:
            self._leave_foreign(name)
        elif not self.comment_end and name in _PIXEL_PLACES:
            self.pixel_places[name] = pos

    def _enter_foreign(self, tag: Tag) -> None:
        if self.foreign and tag.name in _BREAKOUT:
            self.foreign = b""
        elif tag.name == (self.foreign or tag.name) and not self.low.endswith(b"/>", tag.name_end, tag.end):
            self.foreign_depth = self.foreign_depth + 1 if self.foreign else 1
            self.foreign = tag.name

    def _leave_foreign(self, name: bytes) -> None:
        if name == self.foreign:
            self.foreign_depth -= 1
        if not self.foreign_depth or name in _BREAKOUT_ENDS:
            self.foreign = b""

    def _close_link(self, pos: int) -> None:
        if self.open_link:
            self.open_link.text_end = max(pos, self.open_link.text_end)
            self.open_link = None

    def _has_hint(self, tag: Tag) -> bool:
        while self.hints and self.hints[-1] < tag.name_end:
            self.hints.pop()
            self.is_inconclusive |= self.elements is None
        return bool(self.hints) and self.hints[-1] < tag.end

    def _remove_trackers(self, tag: Tag) -> None:
        """Remove those in the quoted values of a tag, which a reader may come to see (`alt`), and drop the others."""
        for attribute in htmltokens.attributes(self.low, tag):
            self._settle_trackers(0, attribute.value_start)
            is_quoted = self.low.startswith((b'"', b"'"), attribute.value_start)
            while self.trackers and self.trackers[-1] < attribute.value_end:
                at = self.trackers.pop()
                if is_quoted and attribute.name not in _WHOLE:
                    self.removals.append((at, at + len(OPEN_TRACKER)))
        self._settle_trackers(0, tag.end)

    def _settle_trackers(self, start: int, end: int) -> None:
        """Decide on those before `start`, which stand in text, and drop those up to `end`, which do not."""
        while self.trackers and self.trackers[-1] < end:
            at = self.trackers.pop()
            if at < start:
                spans = self.removals if self.comment_end else self.open_trackers
                spans.append((at, at + len(OPEN_TRACKER)))
