"""Character references of HTML, decoded as browsers decode them: once, and in an attribute by the attribute's rule.

`&copy=2` and `&region=3` stay as they are in a URL; the standard library's own decoding makes `©=2` and `®ion=3` of
them, and stops at 4,300 digits with an exception. Does not own the encoding back: `html.quote` does.

Standards: HTML §13.2.5.72-80 (character reference states), §13.5 (the table, here `html.entities.html5`).
"""

import re
from html.entities import html5
from typing import Final

_REFERENCE: Final = re.compile(r"&(?:#(?:[xX]([0-9A-Fa-f]++)|([0-9]++));?|([A-Za-z0-9]{1,32}+)(;?))")
_ALNUM_OR_EQUALS: Final = frozenset("=0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
_LONGEST_LEGACY: Final = max(len(name) for name in html5 if not name.endswith(";"))
_REPLACEMENT: Final = "\ufffd"
_MAX_DIGITS: Final = 7  # 1114111, 10FFFF: what is longer is beyond Unicode
_MAX_CODE_POINT: Final = 0x10FFFF
# HTML §13.2.5.80: numbers of C1 controls mean the windows-1252 character in that place, where there is one.
_C1: Final = {
    number: bytes([number]).decode("cp1252")
    for number in range(0x80, 0xA0)
    if number not in {0x81, 0x8D, 0x8F, 0x90, 0x9D}
}


def decode_attribute(text: str) -> str:
    """Decode an attribute's value: `"?a=1&amp;b&copy=2"` gives `"?a=1&b&copy=2"` (HTML §13.2.5.73)."""
    return _REFERENCE.sub(_in_attribute, text) if "&" in text else text


def decode_text(text: str) -> str:
    """Decode text between tags: `"Caf&eacute; &notit;"` gives `"Café ¬it;"`."""
    return _REFERENCE.sub(_in_text, text) if "&" in text else text


def _in_attribute(match: re.Match[str]) -> str:
    name = match[3]
    if name is None:
        return _numeric(match)
    if match[4]:
        return html5.get(name + ";") or match[0]
    # Without its semicolon a reference counts only where neither a letter, a digit nor = follows: it is more likely a
    # parameter.
    if match.string[match.end() : match.end() + 1] in _ALNUM_OR_EQUALS:
        return match[0]
    return html5.get(name) or match[0]


def _in_text(match: re.Match[str]) -> str:
    name = match[3]
    if name is None:
        return _numeric(match)
    if match[4] and (found := html5.get(name + ";")):
        return found
    for length in range(min(len(name), _LONGEST_LEGACY), 1, -1):
        if found := html5.get(name[:length]):
            return found + match[0][1 + length :]
    return match[0]


def _numeric(match: re.Match[str]) -> str:
    base, digits = (16, match[1]) if match[1] else (10, match[2])
    digits = digits.lstrip("0")
    if not digits or len(digits) > _MAX_DIGITS:
        return _REPLACEMENT
    number = int(digits, base)
    if number > _MAX_CODE_POINT or 0xD800 <= number <= 0xDFFF:
        return _REPLACEMENT
    return _C1.get(number) or chr(number)
