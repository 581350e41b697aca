"""Quoted-printable, spliced: only the lines that an edit touches are encoded again, all others keep their bytes.

Decoding and encoding a whole part again would change its every line and take the greatest share of the time that a
copy costs.

Standards: RFC 2045 §6.7, rules 1 to 5. White space at the end of a line is no part of the text (rule 3). What is no
encoding (`=ZZ`) stands for itself, as most readers have it.

Theory:
    Of a clean body the decoded length of a stretch of whole lines is its length less two for every `=` and one more for
    every soft break. Counting is fast, and text is never longer than its encoded form, so from a known line a leap as
    long as the text that is still to go never lands behind the place that is looked for; a few leaps reach its line. A
    body whose text is not as long as counting says, or that has white space before a line end, is decoded line by line,
    and where each begins is kept.
"""

import re
from binascii import a2b_qp, b2a_qp
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final, NamedTuple

from relay.core.splices import Piece, Span, Splice

MAX_LINE: Final = 76

_PRINTABLE: Final = bytes(range(0x20, 0x7F))
_ESCAPE: Final = ord("=")
_NEAR: Final = 2 * MAX_LINE  # octets of text that are walked, line by line, at the end of the way
_EMPTY_LINES: Final = re.compile(rb"(?:=\r\n)*+")


class Run(NamedTuple):
    """Lines that are encoded again: their `span` in the encoded body, without the last line end, and their text.

    `ends_soft` where the last one goes on in the next.
    """

    span: Span
    pieces: tuple[Piece, ...]
    ends_soft: bool


class _Line(NamedTuple):
    """One encoded line and its text, both without the line end; `following` is where the text of the next begins."""

    encoded: Span
    text: Span
    following: int
    is_soft: bool


@dataclass(slots=True, kw_only=True)
class _Group:
    """Splices whose lines overlap."""

    first: _Line
    last: _Line
    splices: list[Splice]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quoted:
    """A quoted-printable body and its text.

    `starts` has where each line begins, in the body (line ends not counted) and in the text, unless the body is clean:
    see "Theory".
    """

    encoded: bytes
    text: bytes
    starts: tuple[Sequence[int], Sequence[int]] | None

    def runs(self, splices: Iterable[Splice]) -> list[Run]:
        """Turn splices of the text (sorted, disjoint) into the runs of encoded lines that they touch."""
        groups: list[_Group] = []
        for splice in splices:
            known = groups[-1].last if groups else None
            first = self._line_at(splice.start, known)
            last = first
            while splice.end > last.text[1] and last.encoded[1] < len(self.encoded):
                last = self._line_from(last.encoded[1] + 2, last.following)
            if first != known:
                groups.append(_Group(first=first, last=last, splices=[]))
            groups[-1].last = last
            groups[-1].splices.append(splice)
        return [self._run(group) for group in groups]

    def _run(self, group: _Group) -> Run:
        position = group.first.text[0]
        pieces: list[Piece] = []
        for splice in group.splices:
            pieces += (self.text[position : splice.start], *splice.pieces)
            position = splice.end
        return Run(
            span=(group.first.encoded[0], group.last.encoded[1]),
            pieces=(*pieces, self.text[position : group.last.text[1]]),
            ends_soft=group.last.is_soft,
        )

    def _line_at(self, offset: int, known: _Line | None) -> _Line:
        """Return the line that the byte of the text at `offset` comes from; the last line for its end.

        `known` is a line that is not behind it: no byte behind that is read again, however many are asked for.
        """
        if known is not None and offset < known.following:
            return known
        if self.starts is not None:
            encoded_starts, text_starts = self.starts
            number = bisect_right(text_starts, offset) - 1
            return self._line_from(encoded_starts[number] + 2 * number, text_starts[number])
        start, at = (known.encoded[1] + 2, known.following) if known is not None else (0, 0)
        encoded = self.encoded
        while offset - at > _NEAR and (end := encoded.rfind(b"\r\n", start, start + offset - at)) >= 0:
            at += _size(encoded, start, end + 2)
            start = end + 2
        line = self._line_from(start, at)
        while offset >= line.following and line.encoded[1] < len(encoded):
            start = line.encoded[1] + 2
            if line.following == line.text[0] and (empty := _EMPTY_LINES.match(encoded, start)):
                start = empty.end()
            line = self._line_from(start, line.following)
        return line

    def _line_from(self, start: int, at: int) -> _Line:
        """Return the line that begins at `start` of the body and `at` of the text."""
        encoded = self.encoded
        end = encoded.find(b"\r\n", start)
        is_last = end < 0
        end = len(encoded) if is_last else end
        if self.starts is None:
            is_soft = encoded.endswith(b"=", start, end)
            text_end = at + end - start - 2 * encoded.count(b"=", start, end) + is_soft
        else:
            line = encoded[start:end]
            is_soft = _is_soft(line)
            text_end = at + len(_decode_line(line))
        following = text_end + (1 if is_last else 0 if is_soft else 2)
        return _Line((start, end), (at, text_end), following, is_soft)


def decode(encoded: bytes) -> Quoted:
    """Decode a body; linear, never raises."""
    text = a2b_qp(encoded)
    # Whatever is no encoding decodes to more than counting says, never to less.
    if _size(encoded, 0, len(encoded)) == len(text) and not _has_white_line_ends(encoded):
        return Quoted(encoded=encoded, text=text, starts=None)
    lines = encoded.split(b"\r\n")
    decoded = [
        line.rstrip(b" \t") + b"\r\n" if b"=" not in line else _decode_line(line) + (b"" if _is_soft(line) else b"\r\n")
        for line in lines[:-1]
    ]
    return Quoted(
        encoded=encoded,
        text=b"".join([*decoded, _decode_line(lines[-1])]),
        starts=(
            tuple(accumulate(map(len, lines[:-1]), initial=0)),
            tuple(accumulate(map(len, decoded), initial=0)),
        ),
    )


def encode(text: bytes, *, ends_soft: bool = False) -> bytes:
    r"""Encode text whose line ends are CRLF; every other control byte, bare CR and LF among them, is encoded.

    No line is longer than 76. With `ends_soft` the last one ends with `=`, to go on in what follows.
    """
    if _is_plain(text):
        encoded = _break(text.replace(b"=", b"=3D"))
    else:
        encoded = b"\r\n".join([_encode_line(line) for line in text.split(b"\r\n")])
    return _soften(encoded) if ends_soft else encoded


def _size(encoded: bytes, start: int, end: int) -> int:
    """Count how long the text of whole lines of a clean body is."""
    escapes, soft = encoded.count(b"=", start, end), encoded.count(b"=\r\n", start, end)
    ends_soft = end == len(encoded) and encoded.endswith(b"=")
    return end - start - 2 * escapes - soft + ends_soft


def _has_white_line_ends(encoded: bytes) -> bool:
    if b" \r\n" in encoded or encoded.endswith((b" ", b"\t")):
        return True
    return b"\t" in encoded and b"\t\r\n" in encoded


def _is_plain(line: bytes) -> bool:
    """Say whether nothing but `=` has to be encoded; a space at the end has, and a dot that may come to stand alone."""
    return not line.translate(None, _PRINTABLE) and not line.endswith((b" ", b"."))


def _encode_line(line: bytes) -> bytes:
    if _is_plain(line):
        return _break(line.replace(b"=", b"=3D"))
    if b"\n" in line:
        return _encode_stray_line_feeds(line)
    return b2a_qp(line, istext=False).replace(b"\n", b"\r\n")


def _break(line: bytes) -> bytes:
    """Put soft breaks into an encoded line, where `b2a_qp` has them; that takes four times as long."""
    pieces = []
    start = 0
    while len(line) - start >= MAX_LINE:
        end = start + MAX_LINE - 1
        if len(line) == end + 1 and line[end - 2] != _ESCAPE:
            break  # the last character may stand where the `=` of a break would
        end -= 1 if line[end - 1] == _ESCAPE else 2 if line[end - 2] == _ESCAPE else 0
        pieces.append(line[start:end])
        start = end
    return b"=\r\n".join([*pieces, line[start:]])


def _encode_stray_line_feeds(line: bytes) -> bytes:
    """Encode a line with bare LF, before which `b2a_qp` makes lines of 77."""
    pieces: list[bytes] = []
    width = 0
    for behind, octet in enumerate(line, 1):
        is_plain = behind < len(line) if octet in b"\t " else 0x21 <= octet <= 0x7E and octet != 0x3D
        code = bytes([octet]) if is_plain else b"=%02X" % octet
        if width + len(code) >= MAX_LINE:
            pieces.append(b"=\r\n")
            width = 0
        pieces.append(code)
        width += len(code)
    return b"".join(pieces)


def _soften(encoded: bytes) -> bytes:
    """Add the soft break, before which a full line must give up its last character."""
    last = encoded[encoded.rfind(b"\n") + 1 :]
    if len(last) < MAX_LINE:
        return encoded + b"="
    cut = 3 if last[-3:-2] == b"=" else 1
    return encoded[:-cut] + b"=\r\n" + encoded[-cut:] + b"="


def _is_soft(line: bytes) -> bool:
    line = line.rstrip(b" \t")
    # `==` stands for `=`, and before a soft break too.
    return line.endswith(b"=") and (len(line) - len(line.rstrip(b"="))) % 2 == 1


def _decode_line(line: bytes) -> bytes:
    line = line.rstrip(b" \t")
    return a2b_qp(line[:-1] if _is_soft(line) else line)
