"""Charsets of parts: which ones we know, and whether ASCII can be spliced into their bytes as they stand.

Most charsets keep ASCII as ASCII, and the bytes of a link or a tag are found and replaced without decoding anything:
that keeps even mislabelled text intact. The others (UTF-16, UTF-32, UTF-7, HZ, the ISO-2022 family) give the same bytes
another meaning by state or by place, and Johab has `<` inside of characters; they are decoded, and only where encoding
again gives the very same bytes.

The list names charsets, not whatever Python can decode: its codecs include `punycode` and `unicode_escape`, which no
mail may reach. How a URL in the bytes is read is `charsets.py`.

Standards: RFC 2045 §5.1 and RFC 2046 §4.1.2 (charset), RFC 2781 §4 (the marks of UTF-16), the IANA registry of
character sets.

Limits: what is not exactly of its charset is left alone: among it, text in the enlarged `iso-2022-jp` of Windows.
"""

import codecs
import re
from dataclasses import dataclass
from encodings import normalize_encoding
from encodings.aliases import aliases
from typing import Final

DEFAULT: Final = "us-ascii"
"""RFC 2045 §5.2: the charset of a text part that names none."""

_ASCII_COMPATIBLE: Final = re.compile(
    r"ascii|utf-8|iso8859-\d+|cp125[0-8]|cp874|cp8(?:50|52|55|57|58|60|61|62|63|65|66)|cp437|cp720|cp737|cp775"
    r"|koi8-[rut]|kz1048|ptcp154|mac-(?:roman|cyrillic|greek|latin2|turkish|iceland|croatian|romanian)|tis-620"
    r"|gb2312|gbk|gb18030|big5|big5hkscs|cp950|cp949|euc_kr|euc_jp|euc_jis_2004|euc_jisx0213|shift_jis|cp932"
)
_STATEFUL: Final = re.compile(
    r"utf-7|utf-16(?:-[bl]e)?|utf-32(?:-[bl]e)?|hz|iso2022_(?:kr|jp(?:_1|_2|_2004|_3|_ext)?)|johab"
    r"|shift_jis_2004|shift_jisx0213"
)
_ALIASES: Final = {
    "iso-8859-8-i": "iso-8859-8",
    "iso-8859-8-e": "iso-8859-8",
    "windows-874": "cp874",
    "windows-31j": "cp932",
    "x-sjis": "shift_jis",
    "x-gbk": "gbk",
    "x-mac-roman": "mac-roman",
    "ks_c_5601-1987": "cp949",
    "cp-850": "cp850",
}
_MAX_LABEL: Final = 40
# Python looks for a module of every name that it is asked for, 170 µs each, and keeps the name for ever: a stranger may
# have a thousand of them in one message. Names are asked for that are known to be there.
_KNOWN: Final = frozenset({*aliases, *aliases.values(), "cp720", "cp737", "cp874", "koi8_t", "koi8_u", "mac_croatian"})
_MARKS: Final = {
    "utf-16": ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")),
    "utf-32": ((codecs.BOM_UTF32_LE, "utf-32-le"), (codecs.BOM_UTF32_BE, "utf-32-be")),
}
_WIDE: Final = ("utf-16", "utf-32")
_ASCII: Final = re.compile(r"[\x00-\x7f]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Charset:
    """A charset that we know, by the name of its codec: `"utf-8"`, `"iso2022_jp"`.

    `is_ascii_compatible`: an ASCII byte that is no part of a longer character is ASCII; the body is spliced as bytes.
    """

    codec: str
    is_ascii_compatible: bool


def lookup(label: str | None) -> Charset | None:
    """Return the charset of a label as mail writes it, `"ks_c_5601-1987"`; None for one that we do not know."""
    name = (label or DEFAULT).strip().lower()
    if len(name) > _MAX_LABEL or not name.isascii():
        return None
    name = normalize_encoding(_ALIASES.get(name, name))
    if name not in _KNOWN:
        return None
    try:
        codec = codecs.lookup(name).name
    except LookupError:  # a codec of another operating system
        return None
    is_ascii_compatible = _ASCII_COMPATIBLE.fullmatch(codec) is not None
    if not is_ascii_compatible and _STATEFUL.fullmatch(codec) is None:
        return None
    return Charset(codec=codec, is_ascii_compatible=is_ascii_compatible)


def to_utf8(raw: bytes, charset: Charset) -> tuple[bytes, str] | None:
    """Turn a body whose bytes cannot be spliced into UTF-8; return that, and the codec that turns it back.

    None where the bytes are not of this charset, or where the way back would lead to other bytes; where the order of
    bytes is not said (big-endian by RFC 2781 §4.3, little-endian in browsers); and where no character is ASCII, not
    even a line end: that is ASCII under the label of UTF-16, which reads as Chinese.
    """
    codec = charset.codec
    if codec in _MARKS:
        marked = [name for mark, name in _MARKS[codec] if raw.startswith(mark)]
        if not marked:
            return None
        codec = marked[0]  # the mark stays in the text, as U+FEFF
    try:
        text = raw.decode(codec)
        is_sure = _ASCII.search(text) is not None and text.encode(codec) == raw
        return (text.encode("utf-8"), codec) if is_sure else None
    except UnicodeError:
        return None


def from_utf8(text: bytes, codec: str) -> bytes:
    """Turn a text of `to_utf8`, into which only ASCII was spliced, back into its charset."""
    return text.decode("utf-8").encode(codec)


def has_line_ends(codec: str) -> bool:
    """Say whether CR and LF in the bytes are a line end: in UTF-16 and UTF-32 they are halves of characters."""
    return not codec.startswith(_WIDE)
