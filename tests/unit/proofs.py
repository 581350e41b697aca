"""What must hold of every copy, whatever the message: proven on real mail and on generated mail alike.

The bytes are compared without the scanners of links: what stands between two tracking URLs of the copy must follow in
the original, byte by byte, and what a tracking URL stands for must be the next thing there.
"""

import base64
import binascii
import re
from collections import Counter
from collections.abc import Mapping
from typing import Final

from relay import witness
from relay.core import charrefs, charsets, linkrules, mime, plan, transcoding
from relay.core.mime import Part
from relay.core.plan import MAX_SHOWN_URL, RewriteOptions, RewritePlan
from relay.core.reasons import SkipReason
from tests.unit.rewriting import HOST, NOTHING, FixedMint, joined, options

MINT: Final = FixedMint(token_characters=180)
EVERY_LINK: Final = options(max_links=10_000)
"""No link is left for its number: what one pass leaves, the next would not take."""

_HOST: Final = re.escape(HOST).encode()
_IN_HTML: Final = re.compile(rb'["\'](https://%b/l/[^"\']*)["\']|<img src="https://%b/i/[^"]*"[^>]*>' % (_HOST, _HOST))
_IN_TEXT: Final = re.compile(rb"(https://%b/l/[\w-]*)" % _HOST)
_VALUE: Final = re.compile(rb"\"[^\"]*\"|'[^']*'|[^\s>]+")
_MARKS: Final = (b"ses:", b"data-no-track", b"data-msys-clicktrack", b"{{ses", b"+notrack")
_STALE: Final = ("Content-Transfer-Encoding", "Content-MD5", "Content-Length", "MIME-Version")
_PADDING: Final = re.compile(rb"[ \t]+(?=\r?\n)")


def prove(message: bytes, chosen: RewriteOptions = EVERY_LINK) -> tuple[RewritePlan, bytes]:
    """Rewrite a message and check every law of rewriting; return the plan and the copy."""
    made = plan.make(message, chosen)
    copy = joined(made, MINT)
    assert joined(made, MINT) == copy
    assert joined(plan.make(message, chosen), MINT) == copy
    if not made.parts:
        assert copy == message
    nothing = plan.make(message, NOTHING)
    assert (nothing.links, nothing.pixel) == ((), False)
    if not nothing.parts:
        assert joined(nothing, MINT) == message
    assert witness.check(message, copy, made, MINT) == []
    assert links_of_a_second_pass(made, copy, chosen) == []
    assert_only_edits_differ(message, copy, made)
    return made, copy


def links_of_a_second_pass(made: RewritePlan, copy: bytes, chosen: RewriteOptions) -> list[str]:
    """Return the URLs that a plan of the copy would wrap: none.

    A link that its author opted out has lost the mark that said so, and would be found; its URL does not count.
    """
    opted_out = {skip.url for skip in made.skips if skip.reason is SkipReason.OPT_OUT}
    again = plan.make(copy, chosen)
    return [link.url for link in again.links if (linkrules.storable(link.url) or "")[:MAX_SHOWN_URL] not in opted_out]


def assert_only_edits_differ(message: bytes, copy: bytes, made: RewritePlan) -> None:
    """Outside the bodies that are edited every byte is the same; inside, decoded, every byte that is no edit."""
    before, after = mime.scan(message), mime.scan(copy)
    if isinstance(before, SkipReason):
        assert copy == message
        return
    assert isinstance(after, Part)
    edited = {edit.section for edit in made.parts}
    old, new = ({part.section: part for part in root.walk()} for root in (before, after))
    assert list(old) == list(new)
    assert _outside(message, old, edited) == _outside(copy, new, edited)
    for section in edited:
        one, other = old[section], new[section]
        assert other.encoding in {one.encoding, "quoted-printable"}
        urls = {MINT.link_url(link).encode(): link.url for link in made.links if link.section == section}
        _assert_undoes(
            _decoded(message, one), _decoded(copy, other), urls, codec=_codec(one), is_html=one.type == "text/html"
        )


def _outside(message: bytes, parts: Mapping[str, Part], edited: set[str]) -> list[bytes]:
    """Return what stands around the edited bodies; of their headers, and of those around them, what must be the same.

    A part that is encoded anew says so, and fields that measure a body are gone.
    """
    holes: set[tuple[int, int]] = set()
    for section, part in parts.items():
        is_edited = section in edited
        if is_edited or any(one == section or one.startswith(f"{section}.") or not section for one in edited):
            names = _STALE if is_edited else _STALE[1:3]
            holes |= {(field.start, field.end) for name in names for field in part.header.find(name)}
        if is_edited:
            holes.add(part.body)
    pieces: list[bytes] = []
    position = 0
    bodies = {parts[section].body for section in edited}
    kept = b""
    for start, end in sorted(holes):
        kept += message[position:start]
        position = end
        if (start, end) in bodies:
            pieces.append(kept)
            kept = b""
    return [*pieces, kept + message[position:]]


def _decoded(message: bytes, part: Part) -> bytes:
    """Decode a body with the standard library, to bytes in which ASCII is ASCII."""
    raw = message[slice(*part.body)]
    if part.encoding == "quoted-printable":
        raw = binascii.a2b_qp(_PADDING.sub(b"", raw))
    elif part.encoding == "base64":
        raw = base64.b64decode(raw)
    charset = transcoding.lookup(part.charset)
    assert charset is not None
    return raw if charset.is_ascii_compatible else raw.decode(charset.codec).encode()


def _codec(part: Part) -> str:
    charset = transcoding.lookup(part.charset)
    return charsets.codec(charset.codec if charset is not None and charset.is_ascii_compatible else "utf-8")


def _assert_undoes(before: bytes, after: bytes, urls: Mapping[bytes, str], *, codec: str, is_html: bool) -> None:
    """Follow the copy through the original: the same bytes, and at each tracking URL the URL that it stands for.

    Marks that are taken out leave nothing to follow: a body that has any is for the witness alone.
    """
    low = before.lower()
    if any(mark in low for mark in _MARKS):
        return
    at = position = 0
    for match in (_IN_HTML if is_html else _IN_TEXT).finditer(after):
        url = match[1]
        if url is not None and url not in urls:  # it was there before
            continue
        piece = after[position : match.start()]
        assert before.startswith(piece, at), (before[at : at + 80], piece[:80])
        at += len(piece)
        position = match.end()
        if url is not None:
            at = _behind(before, at, urls[url], codec, is_html=is_html)
    assert before[at:].rstrip() == after[position:].rstrip()


def _behind(before: bytes, at: int, url: str, codec: str, *, is_html: bool) -> int:
    """Return where a URL of the original that begins at `at` ends; of text, white space may fold it."""
    if is_html:
        value = _VALUE.match(before, at)
        assert value is not None
        text = charsets.decode(value[0].strip(b"\"'"), codec)
        written = charrefs.decode_attribute(text).translate({9: None, 10: None, 13: None}).strip()
        assert written == url
        return value.end()
    folded = re.compile(r"\s*".join(map(re.escape, url)).encode(codec, "surrogateescape"))
    found = folded.match(before, at)
    assert found is not None, (before[at : at + 80], url)
    return found.end()


def count(made: RewritePlan, *, is_rewritten: bool) -> Counter[str]:
    """Count what became of a message: links and parts, by reason where they are left."""
    counts: Counter[str] = Counter()
    counts["messages"] += 1
    counts["rewritten"] += is_rewritten
    counts["links wrapped"] += len(made.links)
    counts["pixels"] += made.pixel
    counts["parts witnessed"] += len(made.parts)
    if made.reason:
        counts[f"message left: {made.reason}"] += 1
    for skip in made.skips:
        counts[f"{'part' if skip.url is None else 'link'} left: {skip.reason}"] += 1
    return counts
