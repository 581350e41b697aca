"""Addresses and paths of the envelope: parsed, checked and printed by one strict grammar.

The string that was checked is the string that is sent: nothing here decodes encoded words, drops what it does not
understand, or leaves a control character in place (the library's parser does all three).

Standards: RFC 5321 §4.1.2 (Mailbox, Path, address literals), §4.5.3.1 (sizes); RFC 6531 §3.3 (UTF-8 in the local part
and in domains); domains become lower-case A-labels by UTS 46 (package idna: the standard library's codec turns
`faß.de` into another owner's domain).
"""

import ipaddress
import re
from dataclasses import dataclass
from typing import Final, Self

import idna

from tracker.contract.errors import AddressError

MAX_LOCAL_BYTES: Final = 64  # RFC 5321 §4.5.3.1.1
MAX_DOMAIN_BYTES: Final = 255  # RFC 5321 §4.5.3.1.2
MAX_PATH_BYTES: Final = 256  # RFC 5321 §4.5.3.1.3, with its angle brackets

_ATEXT: Final = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\-\u0080-\U0010ffff]"
_DOT_STRING: Final = re.compile(rf"{_ATEXT}+(?:\.{_ATEXT}+)*")
_QUOTED: Final = re.compile(r'"(?:[ !#-\[\]-~\u0080-\U0010ffff]|\\[ -~])*"')
_LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?|_[a-z0-9_-]{1,62}")
_SOURCE_ROUTE: Final = re.compile(r"@[^<>,:\s]+(?:,@[^<>,:\s]+)*:")
_MAX_LABEL: Final = 63
_FIRST_C1, _LAST_C1 = "\u0080", "\u009f"


@dataclass(frozen=True, slots=True)
class Address:
    """A mailbox: `local` as it was written, quotes included (`ana`, `"ana b"`); `domain` in lower-case A-labels.

    `str` gives `"ana@shop.example"`; a domain may also be an address literal, `"[192.0.2.1]"`.
    """

    local: str
    domain: str

    def __str__(self) -> str:
        return f"{self.local}@{self.domain}"

    @property
    def is_ascii(self) -> bool:
        """False where the upstream must offer SMTPUTF8 (RFC 6531 §3.3)."""
        return self.local.isascii()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `"ana@shop.example"`. AddressError says which rule is broken, without repeating the address."""
        local, rest = _split_local(text)
        if not rest.startswith("@"):
            raise AddressError("there is no @ after the local part")
        if len(local.encode()) > MAX_LOCAL_BYTES:
            raise AddressError(f"the local part is longer than {MAX_LOCAL_BYTES} octets")
        address = cls(local, normalize_domain(rest[1:]))
        if len(str(address).encode()) > MAX_PATH_BYTES - 2:
            raise AddressError(f"the path is longer than {MAX_PATH_BYTES} octets")
        return address


@dataclass(frozen=True, slots=True)
class NullSender:
    """The reverse-path `<>` of reports (RFC 5321 §4.5.5); prints as the empty string."""

    def __str__(self) -> str:
        return ""


NULL_SENDER: Final = NullSender()
ReversePath = Address | NullSender


def parse_path(text: str) -> tuple[ReversePath, str]:
    """Parse the path that `text` begins with; return it and what stands after its closing bracket.

    `"<ana@shop.example> SIZE=9"` gives the address and `" SIZE=9"`; `"<>"` gives NULL_SENDER. A source route
    (`<@a.example:b@c.example>`) is accepted and ignored, as RFC 5321 §4.1.1.3 asks. AddressError: no angle brackets, or
    the mailbox breaks the grammar.
    """
    if not text.startswith("<"):
        raise AddressError("the path does not begin with <")
    end = _closing_bracket(text)
    inner = text[1:end]
    rest = text[end + 1 :]
    if rest and not rest.startswith(" "):
        raise AddressError("something stands directly behind the path's >")
    if not inner:
        return NULL_SENDER, rest
    route = _SOURCE_ROUTE.match(inner)
    return Address.parse(inner[route.end() :] if route else inner), rest


def normalize_domain(text: str) -> str:
    """Return a domain in lower-case A-labels (`"Bücher.Example"` gives `"xn--bcher-kva.example"`), a literal checked.

    AddressError: an empty or overlong label, a character that no host name has, an address literal that is none.
    """
    if text.startswith("["):
        return _normalize_literal(text)
    if text.isascii():
        domain = text.lower()
    else:
        try:
            domain = idna.encode(text, uts46=True).decode("ascii").lower()
        except (idna.IDNAError, UnicodeError) as error:
            raise AddressError("the domain is no internationalized domain name") from error
    if not domain or len(domain) > MAX_DOMAIN_BYTES:
        raise AddressError(f"the domain is empty or longer than {MAX_DOMAIN_BYTES} octets")
    for label in domain.split("."):
        if len(label) > _MAX_LABEL or not _LABEL.fullmatch(label):
            raise AddressError("a label of the domain is empty, too long or holds a character that is not allowed")
    return domain


def is_canonical_domain(text: str) -> bool:
    """Say whether everybody reads a domain alike: ASCII, or the one spelling in Unicode of its A-labels.

    Other spellings (full-width letters, another dot, capitals outside ASCII) mean what the reader makes of them.
    """
    if text.isascii():
        return True
    try:
        return idna.decode(normalize_domain(text)) == text
    except (AddressError, idna.IDNAError, UnicodeError):
        return False


def _split_local(text: str) -> tuple[str, str]:
    pattern = _QUOTED if text.startswith('"') else _DOT_STRING
    match = pattern.match(text)
    if match is None:
        raise AddressError("the local part is empty or holds a character that is not allowed")
    local = match.group()
    if any(_FIRST_C1 <= character <= _LAST_C1 for character in local):
        raise AddressError("the local part holds a control character")
    try:
        local.encode()
    except UnicodeEncodeError as error:
        raise AddressError("the local part is not valid UTF-8") from error
    return local, text[match.end() :]


def _closing_bracket(text: str) -> int:
    """Find the `>` that ends a path; one inside a quoted local part does not."""
    quoted = _QUOTED.search(text) if '"' in text else None
    start = quoted.end() if quoted is not None and ">" not in text[: quoted.start()] else 1
    end = text.find(">", start)
    if end < 0:
        raise AddressError("the path does not end with >")
    return end


def _normalize_literal(text: str) -> str:
    """RFC 5321 §4.1.3: `[192.0.2.1]` and `[IPv6:2001:db8::1]`; general literals have no registered use."""
    inner = text[1:-1]
    if not text.endswith("]"):
        raise AddressError("the address literal does not end with ]")
    try:
        if inner[:5].lower() == "ipv6:":
            return f"[IPv6:{ipaddress.IPv6Address(inner[5:]).compressed}]"
        return f"[{ipaddress.IPv4Address(inner)}]"
    except ValueError as error:
        raise AddressError("the address literal is no IPv4 or IPv6 address") from error
