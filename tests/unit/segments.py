"""Builders of journal folders, written byte by byte, past our own writer."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from tracker.journal.segment import Framer, SegmentName, header

CREATED_MS: Final = 1_793_693_702_101


def name(number: int = 0) -> SegmentName:
    """Name segment `number` of a slot."""
    return SegmentName(sequence=CREATED_MS + number, random=number.to_bytes(8, "big"))


def image(payloads: Iterable[bytes], number: int = 0) -> bytes:
    """Give the bytes of a whole segment."""
    framer = Framer(name(number))
    return header(name(number), unix_ms=CREATED_MS) + b"".join(framer.frame(payload) for payload in payloads)


def write(root: Path, raw: bytes, number: int = 0, slot: str = "00") -> Path:
    """Put a segment into a slot."""
    path = root / slot / str(name(number))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(raw)
    return path
