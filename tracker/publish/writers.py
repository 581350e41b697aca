"""What a kind of destination is to the worker that feeds it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol


class Writer(Protocol):
    """Hands records over. Called on a thread of its own, one call at a time; may block."""

    def write(self, records: Sequence[str], now: datetime) -> None:
        """Hand the records over, in order; when this returns, the destination has them all.

        OSError: it has perhaps some of them; all are written again later.
        """
        ...

    def tidy(self, now: datetime) -> None:
        """Remove what is not kept any longer; called now and then, with or without events. OSError: not now."""
        ...

    def stop(self) -> None:
        """Make a blocked `write` end soon, with an OSError; called from another thread."""
        ...
