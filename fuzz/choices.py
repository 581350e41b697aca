"""Bytes as choices: how a target makes a structured input of what the engine gives it.

Every input is valid, and a small change of the bytes is a small change of what they mean: choices are taken from the
front, one byte or two each, and where the bytes have ended every choice is the first one. The same bytes mean the same
with and without the engine, so what it found can be run again by any test.
"""

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Choices:
    """One input, taken from the front."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    @property
    def has_more(self) -> bool:
        """False once the bytes have ended."""
        return self._position < len(self._data)

    def raw(self, size: int) -> bytes:
        """Take up to so many bytes as they are."""
        start = self._position
        self._position = min(start + size, len(self._data))
        return self._data[start : self._position]

    def rest(self) -> bytes:
        """Take all that is left."""
        return self.raw(len(self._data))

    def number(self, below: int) -> int:
        """Choose a number from 0, of one byte or, beyond 256, of two."""
        return int.from_bytes(self.raw(1 if below <= 256 else 2), "big") % below

    def flag(self) -> bool:
        """Choose yes or no."""
        return self.number(2) == 1

    def one_of(self, options: Sequence[T]) -> T:
        """Choose one of several."""
        return options[self.number(len(options))]

    def several_of(self, options: Sequence[T], most: int) -> list[T]:
        """Choose none to `most` of several."""
        return [self.one_of(options) for _ in range(self.number(most + 1))]

    def text(self, size: int) -> str:
        """Take bytes as text: UTF-8, else every byte a character."""
        return as_text(self.raw(size))


def as_text(raw: bytes) -> str:
    """Read bytes as UTF-8, what is none as lone surrogates: hostile text has those too."""
    return raw.decode("utf-8", "surrogateescape")
