"""Standard output, one record a line; for containers, pipes and eyes.

Theory: whoever reads may pause (a pager, a full pipe), and a thread that is blocked in `write` would keep the process
from ending. So each piece is at most what a pipe takes at once, and is written only when there is room for it.

Limits: what is in a pipe is handed over, though nobody may ever read it.
"""

import asyncio
import os
import select
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from threading import Event
from typing import Final

from tracker.publish.outcome import Delivered, Outcome, TryAgain
from tracker.store.publishing import LogEntry

_PIECE: Final = select.PIPE_BUF  # what a pipe that polls as writable takes without blocking
_LOOK_UP_S: Final = 0.2


class StdoutWriter:
    """Writes to a file descriptor, standard output by default."""

    def __init__(self, descriptor: int = 1) -> None:
        """Take the descriptor; it stays open."""
        self._descriptor = descriptor
        self._is_closed = Event()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="publish-stdout")

    async def write(self, entries: Sequence[LogEntry], now: datetime) -> Outcome:
        """Write the records; they have to come again where nobody reads any more."""
        lines = b"".join([entry.body.encode() + b"\n" for entry in entries])
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._put, lines)
        except OSError as error:
            return TryAgain(reason=error.strerror or str(error))
        return Delivered()

    async def tidy(self, now: datetime) -> None:
        """Do nothing: nothing is kept."""

    async def close(self) -> None:
        """End a write that waits for room."""
        self._is_closed.set()
        self._thread.shutdown(wait=False)

    def _put(self, lines: bytes) -> None:
        view = memoryview(lines)
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        while view:
            if self._is_closed.is_set():
                raise InterruptedError("closed while standard output was full")
            if poll.poll(_LOOK_UP_S * 1000):
                view = view[os.write(self._descriptor, view[:_PIECE]) :]
