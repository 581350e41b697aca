"""What is written and made durable together, and whom to tell of it: the calls of one turn of the event loop.

Owns who waits for what: a hit until it is durable or its time is up, everybody else until it is durable or failed.
"""

import asyncio
from collections.abc import Callable
from enum import StrEnum


class Kept(StrEnum):
    """How safe a hit's record was when its time was up."""

    DURABLE = "durable"
    """On the disk."""
    WRITTEN = "written"
    """In the kernel: safe from the death of this process, not from a power cut."""
    WAITING = "waiting"
    """Not even written: the disk is stuck."""
    DROPPED = "dropped"
    """It cannot be written; counted."""


Tell = Callable[[Kept], None]
"""Hears once of a hit how safe it is; called on the loop."""


class Group:
    """Records and those who wait for them. Filled on the loop, read by the threads once it is handed over."""

    __slots__ = ("callers", "hits", "hits_count", "is_written", "payloads", "size_bytes")

    def __init__(self) -> None:
        """Hold nothing yet."""
        self.payloads: list[bytes] = []
        self.size_bytes = 0
        self.hits: list[Tell] = []
        self.hits_count = 0
        """How many hits the records of hits stand for: more than there are records, where some were folded."""
        self.callers: list[asyncio.Future[OSError | None]] = []
        self.is_written = False

    def let_hits_go(self) -> None:
        """Tell the hits that are still waiting how safe they are by now: their time is up."""
        self._tell_hits(Kept.WRITTEN if self.is_written else Kept.WAITING)

    def settle(self, failure: OSError | None) -> None:
        """Tell all who wait what came of it. What a flush did not make durable is written all the same."""
        if failure is None:
            self._tell_hits(Kept.DURABLE)
        else:
            self._tell_hits(Kept.WRITTEN if self.is_written else Kept.DROPPED)
        for future in self.callers:
            if not future.done():
                future.set_result(failure)

    def _tell_hits(self, kept: Kept) -> None:
        hits, self.hits = self.hits, []
        for tell in hits:
            tell(kept)
