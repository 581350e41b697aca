"""A number of bytes that tasks share: who wants some waits for its turn, and gives them back.

First come, first served, so that nobody with much to ask for waits for ever behind many with little. What asks for more
than there is in all is let in when nobody else has any.
"""

import asyncio
from collections import deque


class ByteBudget:
    """So many bytes for all; `used_bytes` is what is taken just now."""

    def __init__(self, limit_bytes: int) -> None:
        """Begin with nothing taken."""
        self.used_bytes = 0
        self._limit_bytes = limit_bytes
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def take(self, size_bytes: int, wait_s: float | None = None) -> bool:
        """Take some, after a wait of `wait_s` at most; False: there was no room in time, and nothing is taken."""
        if not size_bytes:
            return True
        if not self._waiting and self._fits(size_bytes):
            self.used_bytes += size_bytes
            return True
        turn = asyncio.get_running_loop().create_future()
        place = (size_bytes, turn)
        self._waiting.append(place)
        try:
            await asyncio.wait([turn], timeout=wait_s)
        except asyncio.CancelledError:
            if turn.done():
                self.give(size_bytes)
            else:
                self._leave(place)
            raise
        if not turn.done():
            self._leave(place)
        return turn.done()

    def give(self, size_bytes: int) -> None:
        """Give back what was taken."""
        self.used_bytes -= size_bytes
        self._admit()

    def _leave(self, place: tuple[int, asyncio.Future[None]]) -> None:
        self._waiting.remove(place)
        self._admit()  # the one behind may need less

    def _admit(self) -> None:
        while self._waiting and self._fits(self._waiting[0][0]):
            size_bytes, turn = self._waiting.popleft()
            self.used_bytes += size_bytes
            turn.set_result(None)

    def _fits(self, size_bytes: int) -> bool:
        return not self.used_bytes or self.used_bytes + size_bytes <= self._limit_bytes
