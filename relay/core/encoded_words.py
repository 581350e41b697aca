"""Encoded words of header values, decoded for people to read: `=?utf-8?q?Gr=C3=BC=C3=9Fe?=` gives `Grüße`.

For display (subject and sender in events and console), and for the question what a reader may be shown (mailboxes.py).
Nothing that is sent passes here: an address inside an encoded word is never one (RFC 2047 §5).

Standards: RFC 2047 §2, §4, §6.2 (white space between two of them is not shown); RFC 2231 §5 (a language is ignored).

Limits: the first 10 KB of a value. The standard library's decoder is not used: its pattern looks for the end of every
beginning, in time that grows with the square of the value.
"""

import binascii
import re
from typing import Final

from relay.core import transcoding

MAX_VALUE: Final = 10_240
"""Characters of a value that are decoded; what follows is cut."""

_WORD: Final = re.compile(r"=\?([^?\s*]{1,60})(?:\*[^?\s]{0,20})?\?([bBqQ])\?([^?\s]*)\?=")


def decode(value: str) -> str:
    """Return the text of an unfolded value; a word that cannot be decoded stays as it is. Linear, never raises."""
    value = value[:MAX_VALUE]
    shown: list[str] = []
    position = 0
    after_word = False
    for match in _WORD.finditer(value):
        text = _decode_word(*match.groups())
        between = value[position : match.start()]
        if not (after_word and text is not None and between.isspace()):
            shown.append(between)
        shown.append(match[0] if text is None else text)
        after_word = text is not None
        position = match.end()
    return "".join([*shown, value[position:]])


def _decode_word(charset_name: str, encoding: str, text: str) -> str | None:
    charset = transcoding.lookup(charset_name)
    if charset is None or not text.isascii():
        return None
    try:
        if encoding in "bB":
            raw = binascii.a2b_base64(text + "=" * (-len(text) % 4))
        else:
            raw = binascii.a2b_qp(text, header=True)
        return raw.decode(charset.codec, "replace")
    except (binascii.Error, UnicodeError):
        return None
