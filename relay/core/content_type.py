"""`Content-Type` and `Content-Disposition`: the value and its parameters, parsed in linear time.

Standards: RFC 2045 §5.1 (grammar), RFC 2183 (disposition), RFC 2231 §3, §4 (values in pieces, values with a charset).
Departs from the grammar where mail does: unquoted values may hold `=` and `/`, quotes may stay open, comments may stand
anywhere. `email`'s own parser takes six seconds for a hostile field of 20 KB.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final
from urllib.parse import unquote_to_bytes

_ATOM: Final = r"[!#-'*+\-.0-9A-Z^_`a-z{|}~]+"
_MEDIA_TYPE: Final = re.compile(rf"({_ATOM})[ \t]*/[ \t]*({_ATOM})[ \t]*(?:;|$)")
_WORD: Final = re.compile(rf"({_ATOM})[ \t]*(?:;|$)")
_PARAMETER: Final = re.compile(r'([^\s=;"]++)\s*+(?:=\s*+(?:"((?:[^"\\]|\\.)*+)"?|([^;\s]*+)))?', re.DOTALL)
_QUOTED_PAIR: Final = re.compile(r"\\(.)", re.DOTALL)
_COMMENT: Final = re.compile(r'"(?:[^"\\]|\\.)*+"?|\([^()"]*+\)')
_SECTION: Final = re.compile(r"([^*]+)(?:\*(\d{1,3}))?(\*)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameterized:
    """A field's value in lower case, `"text/html"` or `"attachment"`, and its parameters under lower-case names."""

    value: str
    parameters: Mapping[str, str] = field(default_factory=dict)


def parse_content_type(value: str) -> Parameterized | None:
    """Parse `text/html; charset="utf-8"`; None where there is no type and subtype (RFC 2045 §5.2)."""
    value = _without_comments(value).strip()
    match = _MEDIA_TYPE.match(value)
    if match is None:
        return None
    return Parameterized(value=f"{match[1]}/{match[2]}".lower(), parameters=_parameters(value[match.end() :]))


def parse_disposition(value: str) -> Parameterized:
    """Parse `attachment; filename=a.pdf`; a kind that is unreadable is an attachment (RFC 2183 §2.8)."""
    value = _without_comments(value).strip()
    match = _WORD.match(value)
    if match is None:
        return Parameterized(value="attachment", parameters=_parameters(value.partition(";")[2]))
    return Parameterized(value=match[1].lower(), parameters=_parameters(value[match.end() :]))


def parse_word(value: str) -> str:
    """Return a field of one word in lower case, without comments: `"base64"` for `Base64 (encoded)`."""
    return _without_comments(value).strip().lower()


def _without_comments(value: str) -> str:
    """Drop `(...)` outside of quotes. A nested comment keeps its outer part, which makes the value unreadable."""
    if "(" not in value:
        return value
    return _COMMENT.sub(lambda match: match[0] if match[0].startswith('"') else " ", value)


def _parameters(text: str) -> Mapping[str, str]:
    plain: dict[str, str] = {}
    sections: dict[str, dict[int, tuple[str, bool]]] = {}
    for match in _PARAMETER.finditer(text):
        name, quoted, bare = match[1].lower(), match[2], match[3]
        value = _QUOTED_PAIR.sub(r"\1", quoted) if quoted is not None else bare or ""
        section = _SECTION.fullmatch(name)
        if section is None or (section[2] is None and section[3] is None):
            plain.setdefault(name, value)  # of two, the first: as most readers do
        else:
            sections.setdefault(section[1], {}).setdefault(int(section[2] or 0), (value, section[3] is not None))
    for name, pieces in sections.items():
        plain.setdefault(name, _join(pieces))
    return MappingProxyType(plain)


def _join(pieces: Mapping[int, tuple[str, bool]]) -> str:
    """Put the sections of RFC 2231 together, up to the first that is missing."""
    raw = b""
    charset = "utf-8"
    for index in range(len(pieces)):
        if index not in pieces:
            break
        value, is_extended = pieces[index]
        if index == 0 and is_extended and value.count("'") >= 2:
            charset, _, value = value.split("'", 2)
        raw += unquote_to_bytes(value) if is_extended else value.encode("utf-8", "surrogatepass")
    codec = charset.lower() if charset.lower() in {"utf-8", "iso-8859-1", "us-ascii", "windows-1252"} else "utf-8"
    return raw.decode(codec, "replace")
