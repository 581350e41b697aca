"""The header block as spans: find, read, remove and prepend fields without refolding a byte of the others.

Owns the shape of a header block, the `Received` field that we add, the hop count, and which control fields leave. Does
not read what the control fields say (`controls.py`) nor `Content-Type` (`mime.py`).

Standards: RFC 5322 §2.2 (fields, folding), §3.6.7 (trace fields stand first), §4.5 (white space before the colon is
obsolete: understood, and a doubt); RFC 5321 §4.4 (Received), §6.3 (loops); RFC 6532 (UTF-8 in values).

Theory:
    A block is a row of fields, each a line that begins with a name and a colon and the lines after it that begin with
    white space. It ends at the first empty line. A line that is neither ends it too, and makes it unsound, as does
    white space before a colon: programs disagree on what follows, so nothing in such a message is touched. Lines before
    the first field that are none (an mbox `From ` line, a continuation of nothing) stay where they are, and new fields
    go behind them.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime
from typing import Final

from relay.core import controls

Span = tuple[int, int]

MAX_BYTES: Final = 128 * 1024
MAX_LINES: Final = 1000
"""What is read of a block; Postfix stops at 100 KB."""
MAX_HOPS: Final = 50
"""Received fields after which a message is in a loop; Postfix's `hopcount_limit`."""
MAX_OWN_HOPS: Final = 3
"""Received fields of our own instance after which it is in a loop with us."""

CONTROLS: Final = frozenset(name.lower().encode() for name in controls.names()) | {
    b"x-mailwake-copy",
    b"bcc",
    b"resent-bcc",
    b"return-path",
}
"""Fields that never leave: what clients tell us, what would tell of a Bcc, and what only the last hop may write."""
CONTROL_PREFIX: Final = b"x-mailgun-track"

# Possessive, all of them: what a group of thousands of lines could go back to takes hundreds of megabytes.
_FIELD: Final = re.compile(rb"([!-9;-~]++)[ \t]*+:[^\n]*+(?:\n[ \t][^\n]*+)*+\n?")
_PREFACE: Final = re.compile(rb"(?:>?From (?![ \t]*:)|[ \t])[^\n]*+\n?(?:[ \t][^\n]*+\n?)*+")
_NO_FIELD: Final = re.compile(rb"\n(?![ \t]|[!-9;-~]++[ \t]*+:)")
_CONTROL_FIELD: Final = re.compile(
    rb"\n(?=[BRXbrx])(?i:(?:%b)[ \t]*+:|%b)[^\n]*+(?:\n[ \t][^\n]*+)*+" % (b"|".join(sorted(CONTROLS)), CONTROL_PREFIX)
)
_FOLD: Final = re.compile(r"\r?\n(?=[ \t])")
_UNSAFE: Final = re.compile(r"[\x00-\x1f\x7f]")
_HELO: Final = re.compile(r"[A-Za-z0-9._:\[\]-]{1,255}")
_LINE_OCTETS: Final = 78  # RFC 5322 §2.1.1: should not be longer


class HeaderError(ValueError):
    """A value cannot stand in a header field; the message says why, without the value."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field: its name in lower case, `(start, end)` with folded lines and line end, `value` where that begins."""

    name: bytes
    start: int
    value: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderBlock:
    """The fields of a message or part that begins at `start` of `raw`.

    `first` is where a new first field goes, `end` is behind the last field, `body` behind the empty line. `is_sound` is
    False where programs disagree: the block does not end with an empty line (or with the part), begins with a
    continuation, or has white space before a colon. `is_cut` where it goes on beyond what is read; then `end` and
    `body` are where that ends.
    """

    raw: bytes
    start: int
    first: int
    end: int
    body: int
    is_sound: bool
    is_cut: bool
    fields: tuple[Field, ...]

    @property
    def is_ascii(self) -> bool:
        """True where no field has an octet above 127."""
        return self.raw[self.start : self.end].isascii()

    def find(self, name: str) -> Iterator[Field]:
        """Yield the fields of a name (any case), first to last."""
        wanted = name.lower().encode("ascii")
        return (field for field in self.fields if field.name == wanted)

    def values(self, name: str) -> list[str]:
        r"""Return the unfolded values of a name: `["a b"]` for `"X: a\r\n b"`. UTF-8, else read as Latin-1."""
        return [self.value(field) for field in self.find(name)]

    def value(self, field: Field) -> str:
        """Return the unfolded value of a field, without the white space around it."""
        raw = self.raw[field.value : field.end]
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError:
            text = raw.decode("latin-1")
        return _FOLD.sub("", text).strip(" \t\r\n")  # RFC 5322 §2.2.3: no other character is white space

    def has(self, name: str) -> bool:
        """Say whether a field of that name stands in the block."""
        return next(self.find(name), None) is not None


def scan(raw: bytes, start: int = 0, end: int | None = None) -> HeaderBlock:
    """Find the fields of the header block in `raw[start:end]`, whose line ends are CRLF. Linear, never raises."""
    limit = len(raw) if end is None else end
    beyond = min(limit, start + MAX_BYTES + 1)  # where a field ends there it is cut, or too long by one byte
    first = position = first_field_at(raw, start, beyond)
    fields: list[Field] = []
    is_sound = not raw.startswith((b" ", b"\t"), start, limit)
    is_cut = _is_too_large(raw, start, first)
    while not is_cut and (match := _FIELD.match(raw, position, beyond)) is not None:
        if match.end() - start > MAX_BYTES or len(fields) == MAX_LINES:
            is_cut = True
            break
        colon = raw.index(b":", match.end(1))
        fields.append(Field(match[1].lower(), position, colon + 1, match.end()))
        is_sound &= colon == match.end(1)
        position = match.end()
    is_cut = is_cut or _is_too_large(raw, start, position)
    is_closed = not is_cut and _is_empty_line(raw, position, limit)
    has_fields = bool(fields) or is_closed or start == limit
    return HeaderBlock(
        raw=raw,
        start=start,
        first=first,
        end=position,
        body=position + 2 if is_closed else position,
        is_sound=is_sound and has_fields and not is_cut and (is_closed or position == limit),
        is_cut=is_cut,
        fields=tuple(fields),
    )


def first_field_at(raw: bytes, start: int = 0, end: int | None = None) -> int:
    """Return where the first field stands, or would: behind lines that are none, as an mbox `From ` line is."""
    preface = _PREFACE.match(raw, start, len(raw) if end is None else end)
    return start if preface is None else preface.end()


def strip_controls(raw: bytes) -> bytes:
    """Return the message without the fields that must not leave; the message itself where it has none of them.

    Those beyond the limits of a block leave as well: a `Bcc` does not stay for standing behind 128 KB.
    """
    block = scan(raw)
    view = memoryview(raw)
    pieces: list[bytes | memoryview] = []
    kept_to = 0
    for field in block.fields:
        if _is_control(field.name):
            pieces.append(view[kept_to : field.start])
            kept_to = field.end
    if block.is_cut:
        pieces += (view[kept_to : block.end], _without_controls(raw[block.end :]))
        kept_to = len(raw)
    return b"".join([*pieces, view[kept_to:]]) if pieces else raw


def prepend(raw: bytes, *fields: bytes) -> bytes:
    """Return the message with finished fields (of `make_field` or `received`) before its first one.

    A message without any header gets the empty line that its text now needs.
    """
    block = scan(raw)
    view = memoryview(raw)
    has_header = bool(block.fields) or block.is_cut or block.body > block.end
    separator = b"" if has_header or block.end == len(raw) else b"\r\n"
    # An mbox line may be all there is, without its end: nothing may become a part of it.
    line_end = b"\r\n" if 0 < block.first == len(raw) and not raw.endswith(b"\r\n") else b""
    return b"".join([view[: block.first], line_end, *fields, separator, view[block.first :]])


def make_field(name: str, value: str) -> bytes:
    r"""Return a whole field, folded at its spaces: `b"X-Mailwake-Copy: 01k3\r\n"`.

    Everything that we write into a header passes here.

    Raises:
        HeaderError: the value holds a control character, CR, LF and NUL among them: a peer's HELO or address must not
            become a field of its own (header injection).
    """
    if _UNSAFE.search(value) or _UNSAFE.search(name):
        raise HeaderError(f"the value for {name!r} holds a control character")
    lines = [f"{name}:"]
    for word in value.split(" "):
        if word and lines[-1].strip() and len(lines[-1]) + 1 + len(word.encode()) > _LINE_OCTETS:
            lines.append("")
        lines[-1] += f" {word}"
    return ("\r\n".join(lines) + "\r\n").encode()


def received(
    *, helo: str, client_address: str, host: str, instance: str, protocol: str, queued_as: str, at: datetime
) -> bytes:
    """Return our trace field (RFC 5321 §4.4); `protocol` is `"ESMTP"`, `"ESMTPSA"` … of RFC 3848.

    There is no `for` clause: one field stands in the copies of all recipients, and would tell of a Bcc. The comment
    with the instance is what `count_hops` looks for.
    """
    name = helo if _HELO.fullmatch(helo) else "unknown"
    address = f"IPv6:{client_address}" if ":" in client_address else client_address
    return make_field(
        "Received",
        f"from {name} ([{address}]) by {host} {_mark(instance)} with {protocol} id {queued_as}; {format_datetime(at)}",
    )


def count_hops(block: HeaderBlock, instance: str) -> tuple[int, int]:
    """Return how many Received fields the message has, and how many of them this instance wrote."""
    hops = block.values("Received")
    return len(hops), sum(_mark(instance) in hop for hop in hops)


def is_looping(block: HeaderBlock, instance: str) -> bool:
    """Say whether the message has been on the way too long: `554 5.4.6`."""
    hops, own = count_hops(block, instance)
    return hops > MAX_HOPS or own >= MAX_OWN_HOPS


def _mark(instance: str) -> str:
    return f"(Mailwake {instance})"


def _is_control(name: bytes) -> bool:
    return name in CONTROLS or name.startswith(CONTROL_PREFIX)


def _without_controls(lines: bytes) -> bytes:
    """Take the control fields out of the lines of a header and the body behind it, without a look at other fields."""
    lines = b"\n" + lines
    lowered = lines.lower()
    if not any(b"\n" + name in lowered for name in (*CONTROLS, CONTROL_PREFIX)):
        return lines[1:]
    last = _NO_FIELD.search(lines)
    end = len(lines) if last is None else last.start()
    header = _CONTROL_FIELD.sub(b"", lines[:end])
    if header.endswith(b"\r") and end == len(lines):
        header += b"\n"  # the last field had no line end
    return header[1:] + lines[end:] if header else lines[end + 1 :]


def _is_too_large(raw: bytes, start: int, end: int) -> bool:
    return end - start > MAX_BYTES or raw.count(b"\n", start, end) > MAX_LINES


def _is_empty_line(raw: bytes, position: int, limit: int) -> bool:
    return raw.startswith(b"\r\n", position, limit)
