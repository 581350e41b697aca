"""How much memory messages may take: what is held of those that are read, and what those that are accepted need.

Owns the two amounts and the queue for the second. Does not know what a message is (incoming.py), nor how much memory
the process has (`tracker/runtime/memory.py`).

Theory:
    A message is read into memory up to 1 MiB, then into a file without a name: a client that sends slowly holds a file.
    All that is held together has a bound as well; a message that finds it used up goes to its file at once. Nobody ever
    waits for this amount.
    A message in a file is loaded to be accepted, which takes up to three times its size for a moment. These loads wait
    for each other, first come, first served, and give up after a while: `451`, and the client keeps the message. A
    message that was held in memory loads nothing and never stands in this queue, so a few letters of 25 MB do not hold
    up the others. Who waits for the second amount holds nothing of the first: there is no circle.

Limits: the peak is about the size that was set, and once more for the small messages that are accepted just then.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import BinaryIO, Final

from prometheus_client import Gauge

HELD: Final = Gauge("mailwake_smtp_held_bytes", "Octets in memory of messages that are being read.")
LOADED: Final = Gauge("mailwake_smtp_loaded_bytes", "Memory set aside for messages that are loaded to be accepted.")

Scratch = Callable[[], BinaryIO]
"""Opens an empty file that nobody else can find and that is gone when it is closed. OSError: there is no room."""

ACCEPTANCE_FACTOR: Final = 3
"""The message, the same with our Received in front, and what is made on the way from one to the other."""
WAIT_S: Final = 30.0
"""For room to load a message: a tenth of what RFC 5321 §4.5.3.2.6 has clients wait at least after the dot."""
_HELD_SHARE: Final = 4


class MessageMemory:
    """The memory of all messages of a process between DATA and the reply to the dot.

    A quarter of `limit_bytes` is for reading, the rest for loading. `is_short` tells that the process has too little
    left for any message.
    """

    def __init__(self, limit_bytes: int, scratch: Scratch, is_short: Callable[[], bool]) -> None:
        """Take the limit, where files come from, and the watch over the process's memory."""
        self.scratch = scratch
        self.is_short = is_short
        self._may_hold_bytes = limit_bytes // _HELD_SHARE
        self._may_load_bytes = limit_bytes - self._may_hold_bytes
        self._held_bytes = 0
        self._loaded_bytes = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    def try_hold(self, size_bytes: int) -> bool:
        """Set memory aside for a piece that was read; False where none is left."""
        if self._held_bytes + size_bytes > self._may_hold_bytes:
            return False
        self._held_bytes += size_bytes
        HELD.inc(size_bytes)
        return True

    def release(self, size_bytes: int) -> None:
        """Give back what `try_hold` set aside."""
        self._held_bytes -= size_bytes
        HELD.dec(size_bytes)

    @asynccontextmanager
    async def room_to_load(self, size_bytes: int, wait_s: float = WAIT_S) -> AsyncIterator[bool]:
        """Set aside what accepting a message takes; False where there was no room for it in time.

        A message that needs more than there is in all is let in alone.
        """
        cost_bytes = size_bytes * ACCEPTANCE_FACTOR
        has_room = await self._take(cost_bytes, wait_s)
        try:
            yield has_room
        finally:
            if has_room:
                self._give(cost_bytes)

    async def _take(self, cost_bytes: int, wait_s: float) -> bool:
        if not self._waiting and self._fits(cost_bytes):
            self._add(cost_bytes)
            return True
        turn = asyncio.get_running_loop().create_future()
        place = (cost_bytes, turn)
        self._waiting.append(place)
        try:
            await asyncio.wait([turn], timeout=wait_s)
        except asyncio.CancelledError:
            if turn.done():
                self._give(cost_bytes)
            else:
                self._leave(place)
            raise
        if not turn.done():
            self._leave(place)
        return turn.done()

    def _give(self, cost_bytes: int) -> None:
        self._add(-cost_bytes)
        self._admit()

    def _leave(self, place: tuple[int, asyncio.Future[None]]) -> None:
        self._waiting.remove(place)
        self._admit()  # the one behind may need less

    def _admit(self) -> None:
        while self._waiting and self._fits(self._waiting[0][0]):
            cost_bytes, turn = self._waiting.popleft()
            self._add(cost_bytes)
            turn.set_result(None)

    def _fits(self, cost_bytes: int) -> bool:
        return not self._loaded_bytes or self._loaded_bytes + cost_bytes <= self._may_load_bytes

    def _add(self, cost_bytes: int) -> None:
        self._loaded_bytes += cost_bytes
        LOADED.inc(cost_bytes)
