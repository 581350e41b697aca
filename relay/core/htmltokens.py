"""Tokens of HTML as byte spans: where a tag, a comment or a raw text ends, by the tokenizer of the HTML standard.

Owns the rules of the tokenizer and the way past tags that nobody asks for. Does not own what a tag means (`html`).
Everything here takes the body in lower case (`body.lower()` keeps every offset) and an `end` beyond which it does not
look. Every byte is read a fixed number of times: no pattern can backtrack over more than one byte, and whoever gets
None (the construct never ends) stops, so that no hostile body is searched twice.

Standards: HTML §13.2.5 (tokenization): tags .6-.40, comments .41-.52, DOCTYPE .53-.68, raw text .2-.14, script data
.15-.31, CDATA .69-.71. Multi-byte charsets are safe: no second byte in Shift_JIS, GBK or Big5 is below 0x40, and `<`,
`>`, `"`, `'`, `=` and `&` are; GB 18030 has digits there, which matter only within a reference.

Limits: in script data, as in the standard; elsewhere the state of the tree (a `<title>` inside `<select>`) is not
known.
"""

import re
from collections.abc import Container, Iterator
from typing import Final, NamedTuple


def _pattern(text: bytes) -> re.Pattern[bytes]:
    """Compile a pattern in which `~`, always within brackets, is the white space of HTML (no vertical tab)."""
    return re.compile(text.replace(b"~", rb"\t\n\x0c\r "))


_USUAL_VALUE: Final = rb"""(?:"[^"]*+"|'[^']*+'|[^~<>"'=]++(?=[~>]))"""
# The attributes of a tag up to its `>`, where they are written as nearly everybody does; anything else is no match, and
# `attributes` decides. A `=` that follows white space, `/` or a quote begins a name instead of a value.
_USUAL_REST: Final = rb"""[^<>"'=]*+(?:(?<![~/"'])=%b[^<>"'=]*+)*+>""" % _USUAL_VALUE
# A name ends at white space, `/` or `>` only: `<a="x>` is a tag named `a="x`.
_TAG: Final = _pattern(rb"<(/?)([a-z][^~/>]*+)(%b)?" % _USUAL_REST)

# One attribute: `>` (1), or its name (2) and perhaps its value with its quotes (3); a value that is cut off by the end
# runs to the end, so that the next match fails.
_NAME: Final = rb"[^~/>][^~/>=]*+"
_VALUE: Final = rb"""(?:"[^"]*+(?:"|\Z)|'[^']*+(?:'|\Z)|[^~>"'][^~>]*+|(?=>))"""
_ATTRIBUTE: Final = _pattern(rb"[~/]*+(?:(>)|(%b)(?:[~]*+=[~]*+(%b))?)" % (_NAME, _VALUE))
_ATTRIBUTES: Final = _pattern(rb"(?:[~/]*+%b(?:[~]*+=[~]*+%b)?){1,200}" % (_NAME, _VALUE))

RAW_TEXT: Final = frozenset(
    {b"script", b"style", b"title", b"textarea", b"xmp", b"iframe", b"noembed", b"noframes", b"plaintext"}
)
_RAW_END: Final = {name: _pattern(rb"</%b(?=[~/>])" % name) for name in RAW_TEXT}
_SCRIPT_MARK: Final = _pattern(rb"(<!--)|(-->)|<(/?)script(?=[~/>])")

_COMMENT_END: Final = re.compile(rb"--!?>")

# What may matter to whoever looks for links. Names are cut short: what else begins like this is looked at in vain.
_LOOKED_FOR: Final = (
    rb"!|\?|/(?![a-z])|/(?:body|html)|a(?:rea)?[~/>]|v:|s(?:cript|tyle|vg)|t(?:itle|extarea)|body|xmp|iframe"
    rb"|no(?:embed|frames)|plaintext|math|frameset"
)
# White space, attributes, and the first of a name with its value.
_UP_TO: Final = rb"""(?:[~]++(?!%b[~=/>])[^~/>="'<]++(?:=%b)?)*[~]++%b=(%b)"""
_UP_TO_HREF: Final = _UP_TO % (b"href", _USUAL_VALUE, b"href", _USUAL_VALUE)
_USUAL: Final = {name: _pattern(_UP_TO % (name, _USUAL_VALUE, name, _USUAL_VALUE)) for name in (b"href", b"alt")}

# What begins with `<` and does not matter.
_PASSED: Final = b"|".join(
    (
        rb"/(?!body|html)[a-z][a-z0-9]*+>",
        rb"!--(?!-?>|\[if)[^-]*+(?:-(?!-!?>)[^-]*+)*+--!?>",
        rb"""(?!%b)/?[a-z][^~/><"'=]*+(?=[~/>])%b""" % (_LOOKED_FOR, _USUAL_REST),
        rb"(?![a-z/!?])",
    )
)

TO_ANY: Final = re.compile(rb"[^<]*+(?:<(?![a-z/!?])[^<]*+)*+(?:(?!)()())?")
"""Goes from a place in text to the next thing that is none; always matches, its groups never."""
TO_LINK: Final = _pattern(rb"[^<]*+(?:<(?:%b)[^<]*+)*+(?:<(a(?:rea)?)%b%b)?" % (_PASSED, _UP_TO_HREF, _USUAL_REST))
"""Goes from a place in text to the next thing that may matter to whoever looks for links; always matches.

If that is the tag of a link, written as nearly everybody does, it goes behind it: its name is group 1, the value of its
first href, with its quotes, group 2.
"""


class Tag(NamedTuple):
    """A start or end tag: `b"a"` in lower case, where its name ends, and where the tag ends, behind `>`."""

    name: bytes
    is_end: bool
    name_end: int
    end: int


class Attribute(NamedTuple):
    """An attribute: where the white space before it begins, its name and span, and the span of its value.

    A value's quotes belong to it; the span is empty where there is no value.
    """

    name: bytes
    lead: int
    start: int
    value_start: int
    value_end: int
    end: int


def usual_tag(name: bytes) -> re.Pattern[bytes]:
    """Return the pattern of a start or end tag, written as nearly everybody does, whose name a pattern matches."""
    return _pattern(rb"</?(?i:%b)(?=[~/>])%b" % (name, _USUAL_REST))


def tag_at(low: bytes, pos: int, end: int) -> Tag | None:
    """Return the tag whose `<` stands at `pos`; None where no tag begins. Its end is -1 if it never ends."""
    match = _TAG.match(low, pos, end)
    if match is None:
        return None
    slash, name, rest = match.groups()
    name_end = match.end(2)
    return Tag(name, bool(slash), name_end, match.end() if rest else _end_of_attributes(low, name_end, end))


def attributes(low: bytes, tag: Tag, names: Container[bytes] | None = None) -> Iterator[Attribute]:
    """Give the attributes of a tag that ends, or those with one of these names, in order, doubles included."""
    match = _ATTRIBUTE.match(low, tag.name_end, tag.end)
    while match and not match[1]:
        end = match.end()
        if names is None or match[2] in names:
            value_start, value_end = match.span(3) if match[3] else (end, end)
            yield Attribute(match[2], match.start(), match.start(2), value_start, value_end, end)
        match = _ATTRIBUTE.match(low, end, tag.end)


def usual_value(low: bytes, tag: Tag, name: bytes) -> tuple[int, int] | None:
    """Return the span of the first href or alt of a tag that is written as most are; None says nothing."""
    match = _USUAL[name].match(low, tag.name_end, tag.end)
    return match.span(1) if match else None


def declaration_end(low: bytes, pos: int, end: int, *, in_foreign: bool = False) -> int:
    """Return where the thing that is no tag, and whose `<` stands at `pos`, ends; -1 if it never does.

    Comment, DOCTYPE, processing instruction, `</>`; a `<` that is only text ends behind itself. `<![CDATA[` is a bogus
    comment up to `>`, except inside SVG and MathML (`in_foreign`).
    """
    if low.startswith(b"<!--", pos, end):
        if low.startswith((b">", b"->"), pos + 4, end):  # abrupt closing of an empty comment
            return low.index(b">", pos + 4) + 1
        match = _COMMENT_END.search(low, pos + 4, end)
        return match.end() if match else -1
    if low.startswith(b"</>", pos, end):
        return pos + 3
    if in_foreign and low.startswith(b"<![cdata[", pos, end):
        return _behind(low, b"]]>", pos + 9, end)
    if low.startswith((b"<!", b"<?", b"</"), pos, end):
        return _behind(low, b">", pos + 2, end)
    return pos + 1


def raw_text_end(low: bytes, name: bytes, pos: int, end: int) -> int:
    """Return where the end tag of a raw text element stands whose content begins at `pos`; -1 if there is none."""
    if name == b"script":
        return _script_end(low, pos, end)
    match = None if name == b"plaintext" else _RAW_END[name].search(low, pos, end)
    return match.start() if match else -1


def _end_of_attributes(low: bytes, pos: int, end: int) -> int:
    while some := _ATTRIBUTES.match(low, pos, end):
        pos = some.end()
    last = _ATTRIBUTE.match(low, pos, end)
    return last.end() if last else -1


def _script_end(low: bytes, pos: int, end: int) -> int:
    """Script data, escaped (1) and double escaped (2): within `<!--`, a `<script>` hides its `</script>`."""
    escaped = 0
    while mark := _SCRIPT_MARK.search(low, pos, end):
        pos = mark.end()
        if mark[1]:
            escaped = escaped or 1
            pos -= 2  # the dashes of `<!--` may be those of `-->`
        elif mark[2]:
            escaped = 0
        elif not mark[3]:
            escaped = 2 if escaped else 0
        elif escaped == 2:
            escaped = 1
        else:
            return mark.start()
    return -1


def _behind(low: bytes, mark: bytes, pos: int, end: int) -> int:
    found = low.find(mark, pos, end)
    return found + len(mark) if found >= 0 else -1
