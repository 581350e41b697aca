"""Address lists of header fields (`From`, `To`): split into entries, and the first mailbox found.

Standards: RFC 5322 §3.4 with quoted strings, nested comments, angle addresses and groups; the obsolete forms that begin
with a route are not read. One pass over the value, in linear time, never an exception: a header is hostile text.

Does not decode encoded words: an address is never inside one (RFC 2047 §5).
"""

from typing import Final

from tracker.contract.address import Address
from tracker.contract.errors import AddressError

MAX_VALUE: Final = 65_536
"""Characters of one field that are read; longer lists name no sender that a person wrote."""


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
