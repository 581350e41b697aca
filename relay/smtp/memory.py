"""How much memory messages may take: what is held of those that are read, and what those that are accepted need.

Owns the two amounts and the queue for the second. Does not know what a message is (incoming.py), nor how much memory
the process has (`tracker/runtime/memory.py`).

Theory:
    A message is read into memory up to 1 MiB, then into a file without a name: a client that sends slowly holds a file.
    All that is held together has a bound as well; a message that finds it used up goes to its file at once. Nobody ever
    waits for this amount.
    A message in a file is loaded to be accepted, which takes twice its size for a moment. These loads wait for each
    other, first come, first served, and give up after a while: `451`, and the client keeps the message. A
    message that was held in memory loads nothing and never stands in this queue, so a few letters of 25 MB do not hold
    up the others. Who waits for the second amount holds nothing of the first: there is no circle.

Limits: the small messages that are accepted just then take twice what is held of them. A message with bare line ends
takes up to four times its size while they are settled.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import BinaryIO, Final

from prometheus_client import Gauge

from tracker.runtime.budget import ByteBudget

HELD: Final = Gauge(
    "mailwake_smtp_held_bytes", "Octets in memory of messages that are being read.", multiprocess_mode="livesum"
)
LOADED: Final = Gauge(
    "mailwake_smtp_loaded_bytes",
    "Memory set aside for messages that are loaded to be accepted.",
    multiprocess_mode="livesum",
)

Scratch = Callable[[], BinaryIO]
"""Opens an empty file that nobody else can find and that is gone when it is closed. OSError: there is no room."""

ACCEPTANCE_FACTOR: Final = 2
"""The message, and the same with our Received in front."""
WAIT_S: Final = 30.0
"""For room to load a message: a tenth of what RFC 5321 §4.5.3.2.6 has clients wait at least after the dot."""


class MessageMemory:
    """The memory of all messages of a process between DATA and the reply to the dot.

    `hold_bytes` are for reading, `load_bytes` for loading. `is_short` tells that the process has too little left for
    any message.
    """

    def __init__(self, *, hold_bytes: int, load_bytes: int, scratch: Scratch, is_short: Callable[[], bool]) -> None:
        """Take the limits, where files come from, and the watch over the process's memory."""
        self.scratch = scratch
        self.is_short = is_short
        self._hold_bytes = hold_bytes
        self._loads = ByteBudget(load_bytes)
        self._held_bytes = 0

    def try_hold(self, size_bytes: int) -> bool:
        """Set memory aside for a piece that was read; False where none is left."""
        if self._held_bytes + size_bytes > self._hold_bytes:
            return False
        self._held_bytes += size_bytes
        HELD.inc(size_bytes)
        return True

    def release(self, size_bytes: int) -> None:
        """Give back what `try_hold` set aside."""
        self._held_bytes -= size_bytes
        HELD.dec(size_bytes)

    @asynccontextmanager
    async def room_to_load(self, size_bytes: int) -> AsyncIterator[bool]:
        """Set aside what accepting a message takes; False where there was no room for it in time."""
        cost_bytes = size_bytes * ACCEPTANCE_FACTOR
        has_room = await self._loads.take(cost_bytes, WAIT_S)
        LOADED.set(self._loads.used_bytes)
        try:
            yield has_room
        finally:
            if has_room:
                self._loads.give(cost_bytes)
                LOADED.set(self._loads.used_bytes)
