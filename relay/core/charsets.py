"""Text out of the bytes of a body whose charset somebody else declared.

Owns the choice of a codec in which ASCII stands for itself, so that a scanner may look for ASCII in the bytes, and the
decoding that loses nothing: a byte that the codec does not know becomes a lone surrogate, which later says that this
text was broken (PEP 383). Does not own charsets in which ASCII means something else (UTF-16, UTF-7, ISO-2022-JP,
EBCDIC): whoever calls has turned those into UTF-8 first.

Standards: RFC 2045 §5.1, RFC 2046 §4.1.2; Encoding Standard §4.2 for the labels that mail gets wrong.
"""

import codecs
from functools import lru_cache
from typing import Final

DEFAULT: Final = "utf-8"

# Every ASCII character, and the escapes of those codecs (utf-7, unicode-escape, hz, idna, iso-2022) that read some of
# them as something else: a declared charset is any string that a stranger likes.
_PROBE: Final = bytes(range(0x80)) + rb"+AEE- ~{AB~} \u0041 \x41 xn--bcher-kva" + b"\x1b$B!!\x1b(B"
_MAX_LABEL: Final = 40  # the longest IANA name, without a chance to make the import system look for novels
# The standard of the web reads these as their larger neighbours, and so does every mail client; us-ascii with bytes
# over 127 is nearly always UTF-8 that nobody declared.
_NEIGHBOURS: Final = {
    "iso8859-1": "cp1252",
    "ascii": DEFAULT,
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "gb2312": "gb18030",
    "utf-8-sig": DEFAULT,
}


@lru_cache(maxsize=64)
def codec(charset: str) -> str:
    """Return the name of the Python codec for a declared charset: `"ISO-8859-1"` gives `"cp1252"`.

    `"utf-8"` where there is no such codec, or where ASCII does not stand for itself in it.
    """
    try:
        if len(charset) > _MAX_LABEL:
            return DEFAULT
        name = codecs.lookup(charset).name
        name = _NEIGHBOURS.get(name, name)
        if _PROBE.decode(name) == _PROBE.decode("ascii"):
            return name
    except (LookupError, ValueError):  # ValueError: a NUL in the name, or a codec that the probe breaks
        return DEFAULT
    return DEFAULT


def decode(raw: bytes, name: str) -> str:
    """Decode with a codec that `codec` named; a byte that it does not know becomes a lone surrogate."""
    if raw.isascii():
        return raw.decode("ascii")
    try:
        return raw.decode(name, "surrogateescape")
    except UnicodeError:  # a codec that pays no heed to the error handler
        return raw.decode("ascii", "surrogateescape")
