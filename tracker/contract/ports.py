"""What one half of the product asks of the other, or of the world: callables handed over when things are wired."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

from tracker.contract.events import JournalRecord

Clock = Callable[[], datetime]
"""Returns the wall-clock time, aware and in UTC."""

Entropy = Callable[[int], bytes]
"""Returns that many random bytes."""


class EventSink(Protocol):
    """Where outcomes and hits go: the journal of this process."""

    async def emit(self, records: Sequence[JournalRecord]) -> None:
        """Append the records and return when they are durable. Raises OSError where the journal cannot be written."""
        ...
