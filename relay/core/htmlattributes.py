"""What the attributes of one tag say about tracking: its link, its tags, its opt-out, and what has to be deleted.

Owns the names that all vendors use. Does not own how attributes are cut apart (`htmltokens`) or inherited
(`openelements`).

Standards: HTML §13.2.5.33 (of two attributes with one name the first counts). Amazon SES FAQ of metrics
(`ses:no-track`, `ses:tags`); the manuals of Postmark, Mandrill, SendGrid, SparkPost and Mailgun.
"""

import re
from dataclasses import dataclass
from typing import Final

from relay.core import charrefs, charsets, htmltokens
from relay.core.htmltokens import Attribute, Tag

Span = tuple[int, int]

MAX_TAGS: Final = 50  # of one link, as Amazon SES has it for a message

_NEEDLES: Final = (b"no-track", b"clicktrack", b"disable-tracking")
_HINT: Final = re.compile(
    rb"ses:(?:no-track|tags)|data-(?:no-track|pm-no-track|msys-clicktrack)|clicktracking|disable-tracking"
)
# Attribute -> the values that mean "do not track"; None: any value, or none at all.
_OPT_OUTS: Final[dict[bytes, frozenset[bytes] | None]] = {
    b"ses:no-track": None,  # Amazon SES
    b"data-no-track": None,  # ours
    b"data-pm-no-track": None,  # Postmark
    b"mc:disable-tracking": None,  # Mandrill
    b"clicktracking": frozenset({b"off"}),  # SendGrid
    b"data-msys-clicktrack": frozenset({b"0"}),  # SparkPost
    b"disable-tracking": frozenset({b"", b"true"}),  # Mailgun
}
_REMOVED: Final = frozenset({b"ses:no-track", b"ses:tags", b"data-no-track"})

_READ: Final = frozenset({b"href", b"alt", b"ses:tags", *_OPT_OUTS})

_WHITE_SPACE: Final = b"\t\n\x0c\r "
_EQUALS: Final = re.compile(rb"[\t\n\x0c\r ]*+=")
_TAG_TEXT: Final = re.compile(r"[A-Za-z0-9_-]{1,256}")  # Amazon SES


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """What one start tag says: spans of values with their quotes (None: no such attribute, or no value)."""

    href: Span | None = None
    alt: Span | None = None
    tags: Span | None = None
    opted_out: bool = False
    removals: tuple[Span, ...] = ()


NOTHING: Final = Meaning()


def hints(low: bytes) -> list[int]:
    """Return the offsets at which a name of ours or of another vendor may stand; a tag without one needs no reading."""
    # Each name holds one of them; the first two are quicker to rule out than all of _HINT, the third for whoever
    # links to /track.
    if b"ses:tags" not in low and not (b"track" in low and any(needle in low for needle in _NEEDLES)):
        return []
    return [match.start() for match in _HINT.finditer(low)]


def read(low: bytes, tag: Tag) -> Meaning:
    """Read a start tag of the body in lower case."""
    values: dict[bytes, Span] = {}
    removals = []
    for attribute in htmltokens.attributes(low, tag, _READ):
        values.setdefault(attribute.name, (attribute.value_start, attribute.value_end))
        if attribute.name in _REMOVED and (span := _removal(low, attribute)):
            removals.append(span)
    return Meaning(
        href=_present(values.get(b"href")),
        alt=_present(values.get(b"alt")),
        tags=_present(values.get(b"ses:tags")),
        opted_out=any(
            name in values and (accepted is None or unquoted(low, values[name]).strip() in accepted)
            for name, accepted in _OPT_OUTS.items()
        ),
        removals=tuple(removals),
    )


def unquoted(body: bytes, span: Span) -> bytes:
    """Return the value of an attribute without its quotes."""
    start, end = span
    if body.startswith((b'"', b"'"), start, end):
        return body[start + 1 : end - 1]
    return body[start:end]


def value(body: bytes, span: Span, codec: str) -> str:
    """Return the value of an attribute as text, its character references decoded by the attribute's rule."""
    return charrefs.decode_attribute(charsets.decode(unquoted(body, span), codec))


def link_tags(text: str) -> tuple[tuple[str, str], ...]:
    """Parse the value of `ses:tags`: `"kind:book; season:winter;"` gives `(("kind", "book"), ("season", "winter"))`.

    The first colon splits; a pair that Amazon SES would refuse (other characters than letters, digits, `_` and `-`, or
    more than 256) is left out, and so is what exceeds MAX_TAGS pairs.
    """
    pairs = (tuple(side.strip() for side in pair.split(":", 1)) for pair in text.split(";"))
    good = [(pair[0], pair[1]) for pair in pairs if len(pair) > 1 and all(map(_TAG_TEXT.fullmatch, pair))]
    return tuple(good[:MAX_TAGS])


def _present(span: Span | None) -> Span | None:
    return span if span and span[0] < span[1] else None


def _removal(low: bytes, attribute: Attribute) -> Span | None:
    """Span to delete so that its neighbours stay what they are."""
    following = low[attribute.end : attribute.end + 1]
    if _EQUALS.match(low, attribute.end):
        return None  # `ses:tags="a" ="b"`: the second = would become that of the attribute before
    if following not in b"\t\n\x0c\r >":
        return attribute.start, attribute.end  # `id=a ses:tags="b"href=c`: the white space still separates
    before = low[attribute.lead : attribute.start]
    return attribute.lead + len(before.rstrip(_WHITE_SPACE)), attribute.end
