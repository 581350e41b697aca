"""The MIME tree of a message as spans of its bytes: what each part is and where it stands.

Owns the structure, its limits, and what a part says of itself. Decodes nothing and changes nothing: what is not edited
is sent as it came, with its preamble, its epilogue and the exact form of every boundary.

Standards: RFC 2045 §5 and §6 (Content-Type, Content-Transfer-Encoding), RFC 2046 §5.1 (multipart; a delimiter is a
whole line, an outer one also ends an inner part), §5.1.5 (digest), RFC 3676 §4 (format=flowed, DelSp), RFC 9051
§6.4.5.1 (numbers of sections).

Theory:
    A multipart body is cut at the delimiter lines of its own boundary before its children are looked at, so an inner
    part that never closes ends where the outer one goes on. Each level reads its own bytes once; with depth limited,
    time is linear in the message.

Limits: 128 KB or 1,000 lines of header, 1,000 parts, depth 30, boundaries of 200 characters (RFC 2046 allows 70),
10,000 lines that begin as a delimiter and are none. A message beyond one of them has no tree but a reason, and passes
as it is.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from relay.core import headers
from relay.core.content_type import Parameterized, parse_content_type, parse_disposition, parse_word
from relay.core.headers import HeaderBlock, Span
from relay.core.reasons import SkipReason

MAX_PARTS: Final = 1000
MAX_DEPTH: Final = 30
MAX_BOUNDARY: Final = 200
MAX_NEAR_DELIMITERS: Final = 10_000

ENCODINGS: Final = frozenset({"7bit", "8bit", "binary", "quoted-printable", "base64"})
"""RFC 2045 §6.1; whatever else a part names is not decoded."""

_WINDOW: Final = 64 * 1024  # octets that are searched the ordinary way where a dash was found
_MESSAGE: Final = "message/rfc822"
_TEXT: Final = "text/plain"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of a message. Spans are half-open byte offsets into the message.

    `section` numbers it as IMAP does: `"1.2"`; the root is `""`, or `"1"` where it has no parts. `span` is header and
    body, without the line end that belongs to the delimiter behind it. `type` is `"text/html"`; `encoding` a word of
    RFC 2045 §6, not necessarily one that we know; `disposition` `""` where there is none. `children` is empty for all
    but multiparts; a `message/*` is opaque. `fault` says why the part cannot be understood.
    """

    section: str
    span: Span
    header: HeaderBlock
    body: Span
    type: str
    parameters: Mapping[str, str]
    encoding: str
    disposition: str
    filename: str | None
    children: "tuple[Part, ...]" = ()
    fault: SkipReason | None = None

    @property
    def is_multipart(self) -> bool:
        """True for `multipart/*`, also one without any part in it."""
        return self.type.startswith("multipart/")

    @property
    def charset(self) -> str | None:
        """The label in Content-Type, None where there is none."""
        return self.parameters.get("charset")

    @property
    def is_flowed(self) -> bool:
        """Lines that end with a space go on in the next (RFC 3676 §4.1)."""
        return self.parameters.get("format", "").lower() == "flowed"

    @property
    def has_delsp(self) -> bool:
        """That space is no part of the text (RFC 3676 §4.1)."""
        return self.is_flowed and self.parameters.get("delsp", "").lower() == "yes"

    def walk(self) -> "Iterator[Part]":
        """Yield the part and all below it, in the order of the message."""
        yield self
        for child in self.children:
            yield from child.walk()


class _LimitError(Exception):
    """The message is beyond a limit of structure."""

    def __init__(self, reason: SkipReason) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(slots=True)
class _Scanner:
    raw: bytes
    parts: int = 0
    near_delimiters: int = 0

    def part(self, span: Span, section: str, depth: int, default_type: str) -> Part:
        self.parts += 1
        if self.parts > MAX_PARTS:
            raise _LimitError(SkipReason.TOO_MANY_PARTS)
        if depth > MAX_DEPTH:
            raise _LimitError(SkipReason.TOO_DEEP)
        header = headers.scan(self.raw, *span)
        if header.is_cut:
            raise _LimitError(SkipReason.HEADER_TOO_LARGE)
        body = (header.body, span[1])
        content, fault = _content_type(header, default_type)
        encodings = [parse_word(value) for value in header.values("Content-Transfer-Encoding")]
        encoding = (encodings or ["7bit"])[0] or "7bit"
        if fault is None and (len(encodings) > 1 or encoding not in ENCODINGS):
            fault = SkipReason.UNKNOWN_ENCODING
        dispositions = [parse_disposition(value) for value in header.values("Content-Disposition")]
        disposition = dispositions[0] if dispositions else None
        children: tuple[Part, ...] = ()
        if content.value.startswith("multipart/") and fault is None:
            children, fault = self.children(body, content, section, depth, encoding)
        return Part(
            section=section or ("" if content.value.startswith("multipart/") else "1"),
            span=span,
            header=header,
            body=body,
            type=content.value,
            parameters=content.parameters,
            encoding=encoding,
            disposition=disposition.value if disposition else "",
            filename=(disposition.parameters.get("filename") if disposition else None)
            or content.parameters.get("name"),
            children=children,
            fault=fault,
        )

    def children(
        self, body: Span, content: Parameterized, section: str, depth: int, encoding: str
    ) -> tuple[tuple[Part, ...], SkipReason | None]:
        if encoding in {"quoted-printable", "base64"}:
            return (), SkipReason.UNKNOWN_ENCODING  # RFC 2045 §6.4 forbids it, and readers differ on what it means
        boundary = content.parameters.get("boundary", "").rstrip(" ")
        if len(boundary) > MAX_BOUNDARY:
            raise _LimitError(SkipReason.BOUNDARY_TOO_LONG)
        try:
            delimiter = b"--" + boundary.encode("ascii")
        except UnicodeEncodeError:
            delimiter = b"--"
        spans = self.split(body, delimiter) if delimiter != b"--" else []
        if not spans:
            return (), SkipReason.MALFORMED_MULTIPART
        default_type = _MESSAGE if content.value == "multipart/digest" else _TEXT
        prefix = f"{section}." if section else ""
        return tuple(
            self.part(span, f"{prefix}{number}", depth + 1, default_type) for number, span in enumerate(spans, 1)
        ), None

    def split(self, body: Span, delimiter: bytes) -> list[Span]:
        """Return the spans between the delimiter lines, without the line end before each; at most one beyond the limit.

        After the last there may be text up to the end of the body where the closing delimiter is missing.
        """
        raw = self.raw
        start, end = body
        spans: list[Span] = []
        opened_at: int | None = None  # where the part that is open begins
        position = start if raw.startswith(delimiter, start, end) else _next_line(raw, delimiter, start, end)
        while position >= 0 and len(spans) <= MAX_PARTS:
            behind, closes = _delimiter_line(raw, position + len(delimiter), end)
            if behind >= 0:
                if opened_at is not None:
                    spans.append((opened_at, max(opened_at, position - 2)))
                if closes:
                    return spans
                opened_at = behind
                position = _next_line(raw, delimiter, behind - 2, end)
            else:
                self.near_delimiters += 1
                if self.near_delimiters > MAX_NEAR_DELIMITERS:
                    raise _LimitError(SkipReason.TOO_MANY_PARTS)
                position = _next_line(raw, delimiter, position, end)
        if opened_at is not None:
            spans.append((opened_at, end))
        return spans


def scan(raw: bytes) -> Part | SkipReason:
    """Return the tree of a message whose line ends are settled, or the limit that it breaks. Linear, never raises."""
    try:
        return _Scanner(raw).part((0, len(raw)), "", 0, _TEXT)
    except _LimitError as limit:
        return limit.reason


def _content_type(header: HeaderBlock, default_type: str) -> tuple[Parameterized, SkipReason | None]:
    if not header.is_sound:
        return Parameterized(value=default_type), SkipReason.MALFORMED_HEADER
    values = header.values("Content-Type")
    if not values:
        return Parameterized(value=default_type), None
    content = parse_content_type(values[0])
    if content is None:
        return Parameterized(value=default_type), SkipReason.MALFORMED_CONTENT_TYPE
    return content, SkipReason.MALFORMED_CONTENT_TYPE if len(values) > 1 else None


def _next_line(raw: bytes, delimiter: bytes, start: int, end: int) -> int:
    """Return where the next line that begins with the delimiter stands, -1 if there is none.

    A single byte is found at the speed of memory, and base64 has no `-`: so a large attachment costs next to nothing.
    """
    line = b"\r\n" + delimiter
    while (dash := raw.find(b"-", start, end)) >= 0:
        start = max(start, dash - len(b"\r\n"))
        behind = min(start + _WINDOW, end)
        found = raw.find(line, start, min(behind + len(line), end))
        if found >= 0:
            return found + len(b"\r\n")
        start = behind
    return -1


def _delimiter_line(raw: bytes, position: int, end: int) -> tuple[int, bool]:
    """Read what follows `--boundary`: where the next line begins (-1: this is no delimiter), and whether it closes."""
    closes = raw.startswith(b"--", position, end)
    position += 2 if closes else 0
    line_end = raw.find(b"\r\n", position, end)
    behind = end if line_end < 0 else line_end + 2
    padding = raw[position : end if line_end < 0 else line_end]
    return (behind, closes) if not padding.strip(b" \t") else (-1, False)
