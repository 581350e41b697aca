"""Address lists of header fields (`From`, `To`): split into entries, the first mailbox found, or all of them strictly.

Standards: RFC 5322 §3.4 with quoted strings, nested comments, angle addresses and groups; the obsolete forms that begin
with a route are not read. One pass over the value, in linear time: a header is hostile text.

`split` and `first_mailbox` make the best of a value and never raise. `strict_mailboxes` takes only what every program
reads alike, because a permission hangs on it: no group, no route, no comment inside another or with an address in it,
no white space inside an address, no display name with an unquoted special, no local part that reads like an address.

Does not read addresses in encoded words: there are none (RFC 2047 §5).
"""

import re
import unicodedata
from typing import Final

from relay.core import encoded_words
from tracker.contract.address import Address, is_canonical_domain
from tracker.contract.errors import AddressError

MAX_VALUE: Final = 65_536
"""Characters of one field that are read; longer lists name no sender that a person wrote."""

_QUOTED: Final = r'"(?:[^"\\\x00-\x1f\x7f-\x9f]|\\[ -~])*+"'
_COMMENT: Final = r'\([^()<>@,;:"\\\x00-\x1f\x7f-\x9f]*+\)'
_WORD: Final = r"[^\s()<>@,;:\"\\\[\]\x00-\x1f\x7f-\x9f]++"  # an atom, with the dots that names have: "Ana B. Example"
_SPACE: Final = r"[ \t]*+"
_MAILBOX: Final = re.compile(
    rf"{_SPACE}(?:"
    rf"(?:(?:{_WORD}|{_QUOTED}|{_COMMENT}){_SPACE})*+<(?P<angle>(?:{_QUOTED}|[^<>\"\s])*+)>"
    rf"|(?P<bare>(?:{_QUOTED}|{_WORD})@{_WORD})"
    rf"){_SPACE}(?:{_COMMENT}{_SPACE})*+"
)
_SPECIALS: Final = frozenset('()<>@,;:\\"[]')
_UNSHOWN: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


class MailboxError(ValueError):
    """A list of mailboxes that programs may read differently; the message says why, without the addresses."""


def split(value: str) -> list[str]:
    """Split at the commas between entries: `'"Shop, Inc" <a@b.example>, c@d.example'` gives two texts.

    A group is opened up: `Team: a@b.example, c@d.example;` gives its two members.
    """
    return [text for text, _ in _entries(value)]


def first_mailbox(value: str) -> Address | None:
    """Return the first mailbox of an address list, None where there is none that our grammar reads."""
    entries = _entries(value)
    if not entries:
        return None
    try:
        return Address.parse(entries[0][1])
    except AddressError:
        return None


def strict_mailboxes(value: str) -> list[Address]:
    """Return every mailbox of an unfolded value. MailboxError: it is not a plain list of at least one."""
    if len(value) > MAX_VALUE:
        raise MailboxError("it is too long")
    found = []
    position = 0
    while True:
        match = _MAILBOX.match(value, position)
        if match is None:
            raise MailboxError("it is not a plain list of mailboxes")
        kind = "angle" if match["bare"] is None else "bare"
        found.append(_strict_address(match[kind]))
        _check_name(value[position : match.start(kind)] + value[match.end(kind) : match.end()])
        position = match.end()
        if position == len(value):
            return found
        if value[position] != ",":
            raise MailboxError("something stands between mailboxes that is no comma")
        position += 1


def _strict_address(text: str) -> Address:
    try:
        address = Address.parse(text)
    except AddressError as error:
        raise MailboxError(str(error)) from error
    if "=?" in address.local:  # some programs decode it, and see another address
        raise MailboxError("an address holds an encoded word")
    # Of `"ceo@bank.example"@shop.example` some programs see the first address; of full-width letters (NFKC), too.
    if _SPECIALS & set(unicodedata.normalize("NFKC", address.local.strip('"'))):
        raise MailboxError("a local part reads like an address")
    if not is_canonical_domain(text[len(address.local) + 1 :]):
        raise MailboxError("a domain is not spelled as it is registered")
    return address


def _check_name(text: str) -> None:
    """Refuse what stands around an address where an encoded control character would hide the rest from the reader.

    A program that ends a text at NUL or at a line end shows `ceo@bank.example`, and nothing of ours.
    """
    if "=?" not in text:
        return
    if len(text) > encoded_words.MAX_VALUE:
        raise MailboxError("a name is too long")
    shown = encoded_words.decode(text)
    if "@" in shown and _UNSHOWN.search(shown):
        raise MailboxError("a name holds an address and a control character")


def _entries(value: str) -> list[tuple[str, str]]:
    """Give each entry as its text and its addr-spec: what stands in angle brackets, else all but the comments."""
    found: list[tuple[str, str]] = []
    start = 0
    depth = 0  # of nested comments
    bare: list[str] = []  # the entry without its comments
    angle: str | None = None
    position = 0
    value = value[:MAX_VALUE]
    while position <= len(value):
        character = value[position : position + 1]
        if depth:
            depth += {"(": 1, ")": -1, "": -depth}.get(character, 0)
            position += 2 if character == "\\" else 1
            if character:
                continue
        if character == '"':
            end = _end_of_quoted(value, position)
            bare.append(value[position:end])
            position = end
            continue
        if character == "(":
            depth = 1
        elif character == "<" and angle is None:
            end = _end_of_angle(value, position)
            angle = value[position + 1 : end]
            position = end
        elif character in (",", ";", ""):
            text = value[start:position].strip()
            if text:
                found.append((text, "".join(bare).strip() if angle is None else angle))
            start, bare, angle = position + 1, [], None
        elif character == ":":
            start, bare, angle = position + 1, [], None
        else:
            bare.append(character)
        position += 1
    return found


def _end_of_quoted(value: str, start: int) -> int:
    """Return the position behind the quoted string that begins at `start`; the end of the value if it never closes."""
    position = start + 1
    while position < len(value):
        if value[position] == '"':
            return position + 1
        position += 2 if value[position] == "\\" else 1
    return len(value)


def _end_of_angle(value: str, start: int) -> int:
    """Return the position of the `>` that closes the angle address; a quoted local part may hold one."""
    position = start + 1
    while position < len(value) and value[position] != ">":
        position = _end_of_quoted(value, position) if value[position] == '"' else position + 1
    return position
