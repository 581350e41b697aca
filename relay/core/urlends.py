"""Where a URL in running text ends: which characters around it are the sentence's, not the URL's.

Owns brackets, quotes, emphasis and punctuation of all scripts, emoji and marks without a width. Does not own where a
URL begins, nor whose text it stands in (`text`).

Standards: RFC 3986 appendix C; which characters are punctuation or symbols: Unicode's general category.

Theory:
    A wrong end costs either way: too far, and words of the author vanish behind a link that leads nowhere; too short,
    and the destination loses what may be the end of a key. So what ends a sentence stays outside (`.`, `)` without its
    `(`), what may end a URL stays inside (`/`, `=`, `-`, `_`, `&`, `#`), and a character that may be either ends the
    URL only by what stands in front: a bracket or quote that was opened there, the same `*`, the same `|` of a table.

Limits: letters always belong to the URL. A script without spaces that goes on directly behind a URL becomes a part of
it, as does a word behind a dash.
"""

import re
import unicodedata
from typing import Final

Span = tuple[int, int]

# What no URL in running text goes beyond: white space, controls, quotes and brackets that delimit, marks of direction,
# CJK punctuation. Not the joiners U+200C and U+200D, which are letters' in Persian and Malayalam. Broken bytes (lone
# surrogates) do not end it: a URL that holds one must be left, not cut.
STOPS: Final = (
    r"\s\x00-\x1f\x7f-\x9f<>\"`\u00ab\u00bb\u061c\u200b\u200e\u200f\u2018\u201a-\u201f\u2028-\u202e\u2039\u203a"
    r"\u2060-\u2069\u3000-\u3003\u3008-\u3020\u3030\ufeff\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65\ufffc"
)
"""The inside of a character class of a regular expression: no character of it is part of a URL."""

_CLOSING_OF: Final = {"(": ")", "[": "]", "{": "}"}
_OPENING_OF: Final = {closing: opening for opening, closing in _CLOSING_OF.items()}
_LOOK_BACK: Final = 300
_QUOTED: Final = {"'": "'", "\u2018": "\u2019"}  # the other quotes are stops
_CELL: Final = "|"
_BOTH: Final = frozenset([*_CLOSING_OF, *_OPENING_OF, *_QUOTED.values(), _CELL])  # may stand within a URL, or end it
_INSIDE_A_CLASS: Final = re.escape("".join(sorted(_BOTH))) + STOPS
_PLAIN: Final = re.compile(f"[^{_INSIDE_A_CLASS}]*+")
_MARKS: Final = re.compile(f"[{_INSIDE_A_CLASS}]")

_TRAILING: Final = frozenset(".,;:!?'\u2019\u034f")
_EMPHASIS: Final = frozenset("*~")  # outside too, where the same stands before the URL
_BEFORE_A_SYMBOL: Final = frozenset("/?#=&.:-_+%")  # behind these a symbol is a name: https://a.example/☃
_VARIATIONS: Final = frozenset("\ufe0e\ufe0f")


def pieces(text: str, start: int, soft_break: re.Pattern[str] | None = None) -> list[Span]:
    """Return the spans of a URL that begins at `start`, trailing punctuation included; never none.

    It is one span, or several where `soft_break` matches between them. What a bracket, a single quote or `|` opened
    in front of the URL ends it when it closes.
    """
    plain = _PLAIN.match(text, start)
    if plain and soft_break is None and text[plain.end() : plain.end() + 1] not in _BOTH:
        return [plain.span()]
    before = text[start - 1 : start]
    spans: list[Span] = []
    begin = start
    depth = dict.fromkeys(_OPENING_OF, 0)
    for mark in _MARKS.finditer(text, start):
        at, character = mark.start(), mark[0]
        if at < begin:
            continue
        if character in _CLOSING_OF:
            depth[_CLOSING_OF[character]] += 1
        elif character in depth:
            depth[character] -= 1
            if depth[character] == -1 and _is_open(text, start, character):
                break
        elif character == _CELL or character in _QUOTED.values():
            if character == before == _CELL or (
                character == _QUOTED.get(before) and not text[at + 1 : at + 2].isalnum()  # not that of "it's"
            ):
                break
        elif soft_break is not None and (soft := soft_break.match(text, at)):
            spans.append((begin, at))
            begin = soft.end()
        else:
            break
    else:
        at = len(text)
    return [*spans, (begin, at)]


def trimmed(url: str, before: str) -> str:
    """Cut off what belongs to the sentence behind a URL; `before` is the character in front of it, or `""`."""
    if url[-1:].isalnum():
        return url
    end = len(url)
    surplus = {closing: url.count(closing) - url.count(opening) for closing, opening in _OPENING_OF.items()}
    while end:
        last = url[end - 1]
        if surplus.get(last, 0) > 0:
            surplus[last] -= 1
        elif not (last in _TRAILING or (last in _EMPHASIS and last == before) or _is_mark(last)):
            symbols = _start_of_symbols(url, end)
            if symbols == end or url[symbols - 1] in _BEFORE_A_SYMBOL:
                break
            end = symbols + 1
        end -= 1
    return url[:end]


def _is_open(text: str, start: int, closing: str) -> bool:
    """Say whether the bracket that is closed was opened in front of the URL, in its line."""
    line = text[max(start - _LOOK_BACK, 0) : start].rpartition("\n")[2]
    return line.rfind(_OPENING_OF[closing]) > line.rfind(closing)


def _is_mark(character: str) -> bool:
    """Say whether a character is punctuation of some script, or has no width."""
    if character.isascii():
        return False
    category = unicodedata.category(character)
    return category[0] == "P" or category == "Cf"


def _start_of_symbols(url: str, end: int) -> int:
    """Return where the emoji, arrows and the like begin that a URL ends with; `end` if there are none."""
    start = end
    while start and not url[start - 1].isascii() and _is_symbol(url[start - 1]):
        start -= 1
    return start


def _is_symbol(character: str) -> bool:
    return character in _VARIATIONS or unicodedata.category(character) in {"So", "Sm", "Sk", "Me", "Cf"}
