"""What the attributes of one tag say about tracking: its link, its tags, its opt-out, and what has to be deleted.

Owns the names that all vendors use. Does not own how attributes are cut apart (`htmltokens`) or inherited
(`openelements`).

Standards: HTML §13.2.5.33 (of two attributes with one name the first counts), §2.3.7 (the words of `class`). Amazon
SES FAQ of metrics (`ses:no-track`, `ses:tags`). Opt-outs as the manuals of their vendors have them: Postmark, Mandrill
and Mailchimp, SendGrid, SparkPost, Mailgun, Mautic (the old name and the new one), Campaign Monitor, SocketLabs,
MessageGears, Mapp, Konvey; as a class: Customer.io, Marketo, Keap; as a scheme: Postal. Those of others are settings,
or not documented.
"""

import re
from dataclasses import dataclass
from typing import Final

from relay.core import charrefs, charsets, htmltokens
from relay.core.htmltokens import Attribute, Tag

Span = tuple[int, int]

MAX_TAGS: Final = 50  # of one link, as Amazon SES has it for a message

# Attribute -> the values that mean "do not track"; None: any value, or none at all.
_OPT_OUTS: Final[dict[bytes, frozenset[bytes] | None]] = {
    b"ses:no-track": None,  # Amazon SES
    b"data-no-track": None,  # ours
    b"data-pm-no-track": None,  # Postmark
    b"mc:disable-tracking": None,  # Mandrill
    b"clicktracking": frozenset({b"off"}),  # SendGrid
    b"data-msys-clicktrack": frozenset({b"", b"0"}),  # SparkPost
    b"disable-tracking": frozenset({b"", b"true"}),  # Mailgun
    b"mautic:disable-tracking": None,
    b"data-mautic-disable-tracking": frozenset({b"", b"true"}),
    b"mb_dontconvertlink": None,  # Campaign Monitor
    b"hstracking": frozenset({b"false"}),  # SocketLabs
    b"autotrack": frozenset({b"false"}),  # MessageGears
    b"ecm:tracking": frozenset({b"false"}),  # Mapp
    b"konvey-notrack": None,
}
_OPT_OUT_CLASSES: Final = frozenset({b"untracked", b"mktnotrack", b"inf-track-no"})  # Customer.io, Marketo, Keap
# Where one of these names may stand. All but two hold one word, which is quick to rule out and to find.
_HINT: Final = re.compile(
    rb"track(?:(?<=no-track)|(?<=clicktrack)|(?<=disable-track)ing|(?<=notrack)|(?<=untrack)ed|(?<=inf-track)-no"
    rb"|(?<=hstrack)ing|(?<=autotrack)|(?<=ecm:track)ing)"
)
_HINTS_BY_THEMSELVES: Final = (b"ses:tags", b"mb_dontconvertlink")
# Postal's stands in the URL, as a scheme that no program knows: `https+notrack://…` has to leave as `https://…`.
_MARKED_SCHEME: Final = re.compile(rb"""["']?[\x00-\x20]*+https?(\+notrack)://""")
_MARKED_URL: Final = re.compile(r"\A([\x00-\x20]*+https?)\+notrack(?=://)", re.IGNORECASE)
_REMOVED: Final = frozenset({b"ses:no-track", b"ses:tags", b"data-no-track"})

_READ: Final = frozenset({b"href", b"alt", b"class", b"ses:tags", *_OPT_OUTS})

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
    """Return offsets, one at least in each name of ours or of another vendor; a tag without one needs no reading."""
    offsets = [match.start() for match in _HINT.finditer(low)] if b"track" in low else []
    for name in _HINTS_BY_THEMSELVES:
        if name in low:
            offsets += [match.start() for match in re.finditer(name, low)]
            offsets.sort()
    return offsets


def read(low: bytes, tag: Tag) -> Meaning:
    """Read a start tag of the body in lower case."""
    values: dict[bytes, Span] = {}
    removals = []
    for attribute in htmltokens.attributes(low, tag, _READ):
        values.setdefault(attribute.name, (attribute.value_start, attribute.value_end))
        if attribute.name in _REMOVED and (span := _removal(low, attribute)):
            removals.append(span)
    href = _present(values.get(b"href"))
    marked = _MARKED_SCHEME.match(low, *href) if href else None
    if marked:
        removals.append(marked.span(1))
    return Meaning(
        href=href,
        alt=_present(values.get(b"alt")),
        tags=_present(values.get(b"ses:tags")),
        opted_out=marked is not None or _is_opted_out(low, values),
        removals=tuple(removals),
    )


def unquoted(body: bytes, span: Span) -> bytes:
    """Return the value of an attribute without its quotes."""
    start, end = span
    if body.startswith((b'"', b"'"), start, end):
        return body[start + 1 : end - 1]
    return body[start:end]


def value(body: bytes, span: Span, codec: str) -> str:
    """Return the value of an attribute as text, its character references decoded by the attribute's rule.

    NUL becomes U+FFFD, as in browsers (HTML §13.2.5.36-38), which go to that address.
    """
    text = charrefs.decode_attribute(charsets.decode(unquoted(body, span), codec))
    return text.replace("\0", "\ufffd") if "\0" in text else text


def url(body: bytes, span: Span, codec: str) -> str:
    """Return the value of an `href`, without the marker of Postal's opt-out."""
    text = value(body, span, codec)
    return _MARKED_URL.sub(r"\1", text) if "+" in text else text


def link_tags(text: str) -> tuple[tuple[str, str], ...]:
    """Parse the value of `ses:tags`: `"kind:book; season:winter;"` gives `(("kind", "book"), ("season", "winter"))`.

    The first colon splits; a pair that Amazon SES would refuse (other characters than letters, digits, `_` and `-`, or
    more than 256) is left out, and so is what exceeds MAX_TAGS pairs.
    """
    pairs = (tuple(side.strip() for side in pair.split(":", 1)) for pair in text.split(";"))
    good = [(pair[0], pair[1]) for pair in pairs if len(pair) > 1 and all(map(_TAG_TEXT.fullmatch, pair))]
    return tuple(good[:MAX_TAGS])


def _is_opted_out(low: bytes, values: dict[bytes, Span]) -> bool:
    for name, span in values.items():
        if name in _OPT_OUTS:
            accepted = _OPT_OUTS[name]
            if accepted is None or unquoted(low, span).strip() in accepted:
                return True
        elif name == b"class" and not _OPT_OUT_CLASSES.isdisjoint(unquoted(low, span).split()):
            return True
    return False


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
