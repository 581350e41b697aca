"""A process's seat among those that serve one node: its share of the node's limits, and what all count together.

Theory:
    What must never be passed in sum (connections to an upstream, its pace) is divided: whoever shares nothing needs no
    agreement. What comes unevenly (clients, and the mail that waits) is counted together: each process writes a row of
    its own in a map that all share, and a count is the sum of a column. One writer a row, so there is no lock; a sum is
    as fresh as the last write of each.
    An address has no column of its own: it has the one that a keyed hash gives it, of 65,536. Two addresses in one
    column count as one, which nobody can bring about without the key.

Limits: the counts are those of one node, and of processes that one `mailwake serve` started.
"""

import hashlib
import mmap
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

_KEY_BYTES: Final = 16
_COLUMN_BYTES: Final = 8
_NAMED: Final = 16
_HASHED: Final = 1 << 16
_COLUMNS: Final = _NAMED + _HASHED


@dataclass(frozen=True, slots=True)
class Share:
    """That of process `index` of `count`; the default is all of it."""

    index: int = 0
    count: int = 1

    def of(self, total: int) -> int:
        """Divide a number of things that cannot be cut; the shares add up to the total."""
        return total // self.count + (self.index < total % self.count)

    def at_least_of(self, total: int, least: int = 1) -> int:
        """Divide a limit that no share of may be too small to work with: rounded up, and no less than `least`."""
        return max(-(-total // self.count), least) if self.count > 1 else total

    def of_rate(self, per_s: float | None) -> float | None:
        """Divide a rate; None stays None, which is no limit."""
        return None if per_s is None else per_s / self.count


class Column(IntEnum):
    """What has a column of its own."""

    CONNECTIONS = 0
    SPOOL_BYTES = 1


class Counts:
    """What the processes of a node count together. Made before they are; each then takes its row with `of_process`."""

    def __init__(self, rows: int = 1) -> None:
        """Begin with nothing counted, in memory that child processes share."""
        self._memory = mmap.mmap(-1, rows * _COLUMNS * _COLUMN_BYTES)
        self._cells = memoryview(self._memory).cast("q")
        self._rows = rows
        self._own = 0
        self._key = os.urandom(_KEY_BYTES)

    def of_process(self, index: int) -> "Counts":
        """Write row `index` from now on, beginning with nothing."""
        self._own = index
        self.forget(index)
        return self

    def forget(self, index: int) -> None:
        """Drop what a process has counted that is gone."""
        start = index * _COLUMNS * _COLUMN_BYTES
        self._memory[start : start + _COLUMNS * _COLUMN_BYTES] = bytes(_COLUMNS * _COLUMN_BYTES)

    def add(self, column: int, step: int) -> None:
        """Count up, or down."""
        self._cells[self._own * _COLUMNS + column] += step

    def put(self, column: int, value: int) -> None:
        """Say what the count of this process is."""
        self._cells[self._own * _COLUMNS + column] = value

    def total(self, column: int) -> int:
        """Return the count over all processes."""
        return sum(self._cells[row * _COLUMNS + column] for row in range(self._rows))

    def column_of(self, name: str) -> int:
        """Return the column of a name out of many, such as an address."""
        digest = hashlib.blake2b(name.encode(), digest_size=2, key=self._key).digest()
        return _NAMED + int.from_bytes(digest, "big")


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """`report` takes one line, to the process that started this one; `lifeline` is at its end when that one is gone.

    The default is the seat of a process that serves alone.
    """

    share: Share = Share()
    counts: Counts = field(default_factory=Counts)
    report: Callable[[bytes], None] | None = None
    lifeline: int | None = None

    @property
    def is_alone(self) -> bool:
        """True where nobody started this process to be one of several, who would start it again."""
        return self.lifeline is None
