"""Line ends: what leaves this room holds CRLF and nothing else that a peer could take for a line end.

Settled once, at acceptance, before anything is located or signed, so every offset and every signature is of the bytes
that go on the wire. A relay that reads one line end and writes another lets a peer see a second message inside the
first (SMTP smuggling); here a bare LF becomes CRLF, a bare CR becomes a space, and NUL is refused.

Does not un-stuff dots and does not find the end of DATA: the listener does. Says whether a line is too long; does not
shorten it.

Standards: RFC 5321 §2.3.8 (CR and LF only together, as line end), §4.5.2; RFC 5322 §2.3; RFC 2045 §2.7 and §2.8.
"""

from enum import StrEnum
from typing import Final, Literal

Mode = Literal["normalize", "reject"]

_STRIDE_BYTES: Final = 1 << 16  # half a millisecond of counting at the most: no other thread runs meanwhile
_CR_TO_SPACE: Final = bytes.maketrans(b"\r", b" ")


class LineEndFault(StrEnum):
    """Why a message is refused for its line ends; the value is for logs."""

    NUL = "nul"
    """It holds a NUL, which ends the text for some readers: `550 5.6.0` in either mode."""
    BARE_LINE_END = "bare_line_end"
    """It holds a CR without LF or an LF without CR, and the mode is `reject`."""


def settle(raw: bytes, mode: Mode = "normalize") -> bytes | LineEndFault:
    r"""Return the message with CRLF line ends only: `b"a\nb\rc"` gives `b"a\r\nb c"`; or say why it is refused.

    The message itself is returned where nothing is wrong. Linear, at memory speed.
    """
    if any(raw.find(b"\0", start, start + _STRIDE_BYTES) >= 0 for start in range(0, len(raw), _STRIDE_BYTES)):
        return LineEndFault.NUL
    if not _has_bare(raw):
        return raw
    if mode == "reject":
        return LineEndFault.BARE_LINE_END
    # Once the pairs are gone every CR is bare; the CR before a pair (CR CR LF) is one of them.
    return raw.replace(b"\r\n", b"\n").translate(_CR_TO_SPACE).replace(b"\n", b"\r\n")


def _has_bare(raw: bytes) -> bool:
    """Say whether a CR or an LF stands alone: where there are more of either than pairs."""
    for start in range(0, len(raw), _STRIDE_BYTES):
        end = start + _STRIDE_BYTES
        pairs = raw.count(b"\r\n", start, end)
        cut_before = start > 0 and raw.startswith(b"\r\n", start - 1)
        cut_behind = raw.startswith(b"\r\n", end - 1)
        if raw.count(b"\n", start, end) != pairs + cut_before or raw.count(b"\r", start, end) != pairs + cut_behind:
            return True
    return False


def has_line_over(raw: bytes, octets: int, start: int = 0) -> bool:
    """Say whether a line, its end not counted, is longer: read in leaps from one line end to the last within reach."""
    while len(raw) - start > octets:
        line_end = raw.rfind(b"\r\n", start, start + octets + 2)
        if line_end < 0:
            return True
        start = line_end + 2
    return False
