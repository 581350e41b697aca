"""The plan of a message's copies: which parts are edited and where, with a slot for each token.

Made once a message; rendering a copy then costs its tokens and the lines they stand in. Owns the numbers of the links
and the reason for everything that is left as it was. Does not choose the parts (`selection.py`), does not judge a URL
(`linkrules.py`), and changes nothing: `render.py` does.

Theory:
    An edit is found in the decoded body and applied in the encoded one (`splices.py`). Links count from 0 over all that
    are wrapped: HTML first, in the order of the message, then text, as SES does; with the cap, the text goes first.
    A button drawn for Outlook (VML) and the anchor that other programs show in its place are one link.

Limits: MAX_TEXT_BYTES; `html.MAX_STEPS`; `text.MAX_ADDRESSES`; `tracker.contract.token.room_for_url` bytes of a URL.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import Final, Literal, NamedTuple

from msgspec import Struct

from relay.core import bodies, html, linkrules, mime, selection, text
from relay.core.bodies import OpenBody, PartEdit
from relay.core.linkrules import LinkRules, LinkVerdict
from relay.core.mime import Part
from relay.core.reasons import SkipReason
from relay.core.splices import Slot, SlotKind, Span, Splice
from tracker.contract.token import MAX_LINK_INDEX, room_for_url

MAX_TEXT_BYTES: Final = 2 * bodies.MAX_TEXT_BYTES
"""Decoded text of all parts of a message that are edited: an HTML part and its text, each as large as one may be."""
MAX_SHOWN_URL: Final = 500
"""Characters of a URL in a skip: a `data:` URL may hold a whole picture."""

_HTML_LINK, _TEXT_LINK = SlotKind.HTML_LINK, SlotKind.TEXT_LINK
_STALE_WHEN_CHANGED: Final = ("Content-MD5", "Content-Length")
_ANGLES: Final = re.compile(r"<([^<>]*)>")
_WHITE: Final = re.compile(r"\s+")


@dataclass(frozen=True, slots=True, kw_only=True)
class RewriteOptions:
    """What is done to a message; stored with it, so that a copy sent days later is the copy that was planned.

    `leave` is set where nothing of the message may be touched, whatever the rest says. `resign`: signatures that
    rewriting breaks are taken off, for a new one is put on; else a signed message is left. `configuration_set` and
    `from_domain` are the labels of its tokens; empty in options that were stored before there were labels.
    """

    open_tracking: bool
    html_links: bool
    text_links: bool
    max_links: int
    rules: LinkRules
    leave: SkipReason | None = None
    resign: bool = False
    configuration_set: str = ""
    from_domain: str = ""


class Link(Struct, frozen=True, kw_only=True):
    """A link that is wrapped. `section` is that of its part (`"1.2"`), `tags` are the pairs of `ses:tags`.

    `position` counts from 0 over all links of the message, those that are left alone too, HTML before text: where in
    the mail the link stands.
    """

    index: int
    position: int
    part: Literal["html", "text"]
    section: str
    url: str
    text: str
    tags: tuple[tuple[str, str], ...]
    redact: bool


class Skip(Struct, frozen=True, kw_only=True):
    """A link, or a part (`url` and `position` None), that is left as it was; of a URL, what may be stored of it."""

    section: str
    url: str | None
    text: str
    reason: SkipReason
    position: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RewritePlan:
    """All that is done to `message`. `parts` are in the order of the message, `cuts` are fields that become untrue.

    `reason` is set where the whole message is left untouched, `pixel` where a pixel is added, `unsigned` where the
    signatures that it bore are among the cuts.
    """

    message: bytes
    links: tuple[Link, ...] = ()
    skips: tuple[Skip, ...] = ()
    pixel: bool = False
    reason: SkipReason | None = None
    cuts: tuple[Span, ...] = ()
    parts: tuple[PartEdit, ...] = ()
    unsigned: bool = False


def make(message: bytes, options: RewriteOptions) -> RewritePlan:
    """Plan the copies of a message whose line ends are settled. Linear, never raises on what mail may hold."""
    if options.leave is not None:
        return RewritePlan(message=message, reason=options.leave)
    root = mime.scan(message)
    if isinstance(root, SkipReason):
        return RewritePlan(message=message, reason=root)
    chosen = selection.select(root, resign=options.resign)
    if isinstance(chosen, SkipReason):
        return RewritePlan(message=message, reason=chosen)
    rules = replace(options.rules, untouchable=options.rules.untouchable | _unsubscribe_urls(root))
    planner = _Planner(options=options, rules=rules)
    planner.skips += [Skip(section=part.section, url=None, text="", reason=reason) for part, reason in chosen.left]
    opened = [body for part in chosen.edited if (body := planner.open(message, part)) is not None]
    planner.plan_html([body for body in opened if body.is_html], chosen.pixel_scope)
    planner.plan_text([body for body in opened if not body.is_html])
    edits = [edit for body in opened if (edit := bodies.close(body)) is not None]
    changed = {edit.section for edit in edits}
    broken = _signatures(root) if changed else []
    return RewritePlan(
        message=message,
        links=tuple(planner.links),
        skips=tuple(planner.skips),
        pixel=planner.has_pixel,
        cuts=tuple(sorted([*_stale_fields(root, changed), *broken])),
        parts=tuple(edits),
        unsigned=bool(broken),
    )


class _Candidate(NamedTuple):
    """A link that was found, before it is judged; `left` is a reason that is known already."""

    position: int
    url: str
    text: str = ""
    tags: tuple[tuple[str, str], ...] = ()
    left: SkipReason | None = None


@dataclass(slots=True, kw_only=True)
class _Planner:
    options: RewriteOptions
    rules: LinkRules
    links: list[Link] = field(default_factory=list)
    skips: list[Skip] = field(default_factory=list)
    opted_out: set[str] = field(default_factory=set)
    has_pixel: bool = False
    position: int = 0  # of the next link
    text_bytes: int = 0  # of all parts so far
    steps: int = html.MAX_STEPS  # that are left
    addresses: int = text.MAX_ADDRESSES  # that are left

    def open(self, message: bytes, part: Part) -> OpenBody | None:
        """Decode a part for scanning; None, with a skip, where that cannot be done without doubt."""
        opened = bodies.open_part(message, part)
        if not isinstance(opened, SkipReason):
            self.text_bytes += len(opened.text)
            if self.text_bytes <= MAX_TEXT_BYTES:
                return opened
            opened = SkipReason.TOO_LARGE
        self._leave(part, opened)
        return None

    def _leave(self, part: Part, reason: SkipReason) -> None:
        self.skips.append(Skip(section=part.section, url=None, text="", reason=reason))

    def plan_html(self, opened: Sequence[OpenBody], pixel_scope: frozenset[str]) -> None:
        """Plan the links of every HTML part, what is removed from it, and one pixel for the message."""
        scans = []
        for body in opened:
            scan = html.find(body.text, charset=body.charset, max_steps=self.steps)
            self.steps -= scan.steps
            if scan.is_too_complex:
                self._leave(body.part, SkipReason.TOO_COMPLEX)
            else:
                scans.append((body, scan))
        for body, scan in scans:
            body.splices += [Splice(*span) for span in scan.removals]
            self.opted_out.update(link.url for link in scan.links if link.opt_out)
            if self.options.html_links:
                self._wrap_html(body, scan.links)
            self.position += len(scan.links)
        self._place_pixel(scans, pixel_scope)

    def plan_text(self, opened: Sequence[OpenBody]) -> None:
        """Plan the links of every text part; a URL that was opted out in HTML is left there too."""
        for body in opened:
            part = body.part
            scan = text.find(
                body.text,
                charset=body.charset,
                flowed=part.is_flowed,
                delsp=part.has_delsp,
                max_addresses=self.addresses,
            )
            self.addresses = max(self.addresses - scan.addresses, 0)
            if scan.is_too_complex:
                self._leave(part, SkipReason.TOO_COMPLEX)
                continue
            body.splices += [Splice(*span) for span in (*scan.open_trackers, *scan.removals)]
            if not self.options.text_links:
                continue
            found = [
                *scan.left,
                *((link.span, link.url, link.opt_out or self._opt_out(link.url)) for link in scan.links),
            ]
            for span, url, reason in sorted(found, key=itemgetter(0)):
                index = self._add(body, _Candidate(position=self.position, url=url, left=reason))
                self.position += 1
                if index is not None:
                    body.splices.append(Splice(*span, (Slot(_TEXT_LINK, index),)))

    def _opt_out(self, url: str) -> SkipReason | None:
        return SkipReason.OPT_OUT if url in self.opted_out else None

    def _wrap_html(self, body: OpenBody, found: Sequence[html.HtmlLink]) -> None:
        twins = _twins(found)
        opt_outs = {twins.get(number, number): link.opt_out for number, link in enumerate(found) if link.opt_out}
        indices: dict[int, int | None] = {}
        for number, link in enumerate(found):
            shown_number = twins.get(number, number)
            if shown_number not in indices:
                shown = found[shown_number]
                candidate = _Candidate(
                    position=self.position + shown_number,
                    url=shown.url,
                    text=shown.text,
                    tags=shown.tags,
                    left=opt_outs.get(shown_number) or (SkipReason.TOO_LONG if shown.is_cut else None),
                )
                indices[shown_number] = self._add(body, candidate)
            index = indices[shown_number]
            if index is not None:
                body.splices.append(_value_splice(body.text, link.value, Slot(_HTML_LINK, index)))

    def _add(self, body: OpenBody, candidate: _Candidate) -> int | None:
        """Number a link that may be wrapped; record why another may not."""
        verdict = self._judge(candidate)
        if verdict.reason is not None:
            shown_url = (linkrules.storable(candidate.url) or "")[:MAX_SHOWN_URL]
            self.skips.append(
                Skip(
                    section=body.part.section,
                    url=shown_url,
                    text=candidate.text,
                    reason=verdict.reason,
                    position=candidate.position,
                )
            )
            return None
        index = len(self.links)
        self.links.append(
            Link(
                index=index,
                position=candidate.position,
                part="html" if body.is_html else "text",
                section=body.part.section,
                url=candidate.url,
                text=candidate.text,
                tags=candidate.tags,
                redact=verdict.redact,
            )
        )
        return index

    def _judge(self, candidate: _Candidate) -> LinkVerdict:
        verdict = linkrules.judge(candidate.url, self.rules, text=candidate.text, opt_out=candidate.left)
        if not verdict.wrap:
            return verdict
        if not self._is_sealable(candidate.url):
            return LinkVerdict(wrap=False, reason=SkipReason.TOO_LONG)
        if len(self.links) >= min(self.options.max_links, MAX_LINK_INDEX + 1):
            return LinkVerdict(wrap=False, reason=SkipReason.MAX_LINKS)
        return verdict

    def _is_sealable(self, url: str) -> bool:
        room = room_for_url(self.options.configuration_set, self.options.from_domain)
        return len(url) <= room // 4 or len(url.encode("utf-8", "surrogatepass")) <= room

    def _place_pixel(self, scans: Sequence[tuple[OpenBody, html.HtmlScan]], scope: frozenset[str]) -> None:
        """Put the pixel at the first placeholder, else at its place in the last HTML of the scope; drop the others."""
        wanted = self.options.open_tracking
        for body, scan in scans:
            for start, end in scan.open_trackers:
                body.splices.append(Splice(start, end, (_pixel(scan),) if wanted else ()))
                self.has_pixel |= wanted
                wanted = False
        places = [(body, scan) for body, scan in scans if scan.pixel_at is not None and body.part.section in scope]
        if wanted and places:
            body, scan = places[-1]
            at = scan.pixel_at or 0
            if at == len(body.text) and body.text.endswith(b"\r\n"):
                at -= 2  # a message ends with a line end
            body.splices.append(Splice(at, at, (_pixel(scan),)))
            self.has_pixel = True


def _pixel(scan: html.HtmlScan) -> Slot:
    return Slot(SlotKind.XHTML_PIXEL if scan.is_xhtml else SlotKind.PIXEL)


def _value_splice(text: bytes, value: Span, slot: Slot) -> Splice:
    """Replace the value of an attribute within the quotes that it has; in double quotes where it has none."""
    start, end = value
    if text.startswith((b'"', b"'"), start, end):
        return Splice(start + 1, end - 1, (slot,))
    return Splice(start, end, (b'"', slot, b'"'))


def _twins(found: Sequence[html.HtmlLink]) -> dict[int, int]:
    """Pair each VML link with the anchor of the same URL: the next one, else the last before it."""
    twins: dict[int, int] = {}
    if not any(":" in link.tag for link in found):
        return twins
    for numbers in (range(len(found)), range(len(found) - 1, -1, -1)):  # the second pass, backwards, wins
        anchors: dict[str, int] = {}
        for number in numbers:
            link = found[number]
            if ":" not in link.tag:
                anchors[link.url] = number
            elif link.url in anchors:
                twins[number] = anchors[link.url]
    return twins


def _unsubscribe_urls(root: Part) -> frozenset[str]:
    """Return the targets of List-Unsubscribe (RFC 2369 §3.2, RFC 8058): reached directly or not at all."""
    values = root.header.values("List-Unsubscribe")
    return frozenset(_WHITE.sub("", url) for value in values for url in _ANGLES.findall(value))


def _stale_fields(root: Part, changed: set[str]) -> list[Span]:
    """Return the fields of changed parts, and of the parts around them, that are no longer true."""
    around = {section[:end] for section in changed for end in _prefix_ends(section)}
    return [
        (found.start, found.end)
        for part in root.walk()
        if part.section in changed or part.section in around
        for name in _STALE_WHEN_CHANGED
        for found in part.header.find(name)
    ]


def _signatures(root: Part) -> list[Span]:
    """Return the fields of the signatures that a changed body breaks, all of them.

    ARC goes as a whole: its third field has no meaning without the other two (RFC 8617 §4.2), and a chain that fails
    speaks against a message for ever (§5.2).
    """
    names = (*selection.SIGNATURES, "ARC-Authentication-Results")
    return [(found.start, found.end) for name in names for found in root.header.find(name)]


def _prefix_ends(section: str) -> list[int]:
    return [0, *(end for end, character in enumerate(section) if character == ".")]
