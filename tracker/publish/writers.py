"""What a kind of destination is to the worker that feeds it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from tracker.publish.outcome import Outcome
from tracker.store.publishing import LogEntry


class Writer(Protocol):
    """Hands events over. Called by one task, one call at a time; never blocks the loop; total."""

    async def write(self, entries: Sequence[LogEntry], now: datetime) -> Outcome:
        """Hand the events over, in order, and say what came of it.

        `body` of an entry is the text to hand over, already in the destination's format.
        """
        ...

    async def tidy(self, now: datetime) -> None:
        """Remove what is not kept any longer; called once a day, with or without events."""
        ...

    async def close(self) -> None:
        """Let go of what is open; called once, also after a `write` that was cancelled. Waits for nobody."""
        ...
