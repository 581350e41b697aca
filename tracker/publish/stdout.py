"""Standard output, one record a line; for containers, pipes and eyes.

Theory: whoever reads may pause (a pager, a full pipe), and a thread that is blocked in `write` would keep the process
from ending. So each piece is at most what a pipe takes at once, and is written only when there is room for it.

Limits: what is in a pipe is handed over, though nobody may ever read it.
"""

import os
import select
from collections.abc import Sequence
from datetime import datetime
from threading import Event
from typing import Final

_PIECE: Final = select.PIPE_BUF  # what a pipe that polls as writable takes without blocking
_LOOK_UP_S: Final = 0.2


class StdoutWriter:
    """Writes to a file descriptor, standard output by default."""

    def __init__(self, descriptor: int = 1) -> None:
        """Take the descriptor; it stays open."""
        self._descriptor = descriptor
        self._is_stopped = Event()

    def write(self, records: Sequence[str], now: datetime) -> None:
        """Write the records. OSError: nobody reads any more, or `stop` was called."""
        view = memoryview(b"".join([record.encode() + b"\n" for record in records]))
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        while view:
            if self._is_stopped.is_set():
                raise InterruptedError("stopped while standard output was full")
            if poll.poll(_LOOK_UP_S * 1000):
                view = view[os.write(self._descriptor, view[:_PIECE]) :]

    def tidy(self, now: datetime) -> None:
        """Do nothing: nothing is kept."""

    def stop(self) -> None:
        """End a write that waits for room."""
        self._is_stopped.set()
