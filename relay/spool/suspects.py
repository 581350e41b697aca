"""Copies that were in flight at two crashes in a row: each is tried alone, so that a third crash names the culprit.

Theory:
    A mail whose bytes crash the process, by a fault of ours or of a library, would crash it again after each restart,
    and take everything else down with it. Which of the copies in flight it was cannot be seen at once; alone, it can.
    What a copy does to us it does when it is made and sent, so a copy that is on its way for ALONE_S without harm is
    cleared, and the others go on beside it: an upstream that hangs must not stop all others, nor a kill by hand
    condemn the copy that hangs there.

Limits: a process alone knows its own attempts. Of several, each tries its suspects by itself, for a crash ends but one.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from typing import Final, TypeVar

from relay.spool.lane import Job, Lane
from relay.spool.queued import QueuedMessage

ALONE_S: Final = 10.0
_LOOK_AGAIN_S: Final = 1.0

T = TypeVar("T")
Start = Callable[[Lane, Job], "asyncio.Task[None]"]


class Suspects:
    """Those of one process. `run` in a task."""

    def __init__(
        self, *, in_flight: Collection["asyncio.Task[None]"], start: Start, on_clear: Callable[[], None]
    ) -> None:
        """Take the attempts under way, how one is started, and who is told that the others may go on."""
        self._in_flight = in_flight
        self._start = start
        self._on_clear = on_clear
        self._jobs: deque[tuple[Lane, Job]] = deque()
        self._arrived = asyncio.Event()
        self._cleared: asyncio.Event | None = None

    @property
    def are_tried(self) -> bool:
        """True while a suspect is tried: nothing else may be started."""
        return self._cleared is not None

    def add(self, lane: Lane, job: Job) -> None:
        """Add the rows of a message that are tried alone, together where they share a transaction."""
        self._jobs.append((lane, job))
        self._arrived.set()

    def withdraw(self, message: QueuedMessage) -> frozenset[int]:
        """Drop what waits to be tried of a message; return its rows."""
        mine = [item for item in self._jobs if item[1].message is message]
        for item in mine:
            self._jobs.remove(item)
        return frozenset(index for _, job in mine for index in job.indexes)

    async def run(self, may_start: Callable[[], bool]) -> None:
        """Try one after the other, whenever its upstream may be asked, until cancelled."""
        while True:
            if not self._jobs:
                self._arrived.clear()
            await self._arrived.wait()
            now_s = asyncio.get_running_loop().time()
            ready = next((item for item in self._jobs if item[0].circuit.wait_s(now_s) == 0), None)
            if ready is None or not may_start():
                await asyncio.sleep(_LOOK_AGAIN_S)
                continue
            self._jobs.remove(ready)
            await self._try(*ready, may_start)

    async def _try(self, lane: Lane, job: Job, may_start: Callable[[], bool]) -> None:
        self._cleared = cleared = asyncio.Event()
        try:
            if self._in_flight:
                await asyncio.wait(set(self._in_flight), timeout=ALONE_S)
            if not may_start():  # a stop began meanwhile, or the disk fails
                self._jobs.appendleft((lane, job))
                return
            attempt = self._start(lane, job)
            attempt.add_done_callback(lambda _: cleared.set())
            await cleared.wait()
        finally:
            self._cleared = None
            self._on_clear()

    async def watch(self, work: Awaitable[T], clear: Callable[[], Awaitable[None]]) -> T:
        """Carry a suspect's attempt out; after ALONE_S of it, call `clear` and let the others go on."""
        task = asyncio.ensure_future(work)
        try:
            done, _ = await asyncio.wait({task}, timeout=ALONE_S)
            if not done:
                await clear()
                if self._cleared is not None:
                    self._cleared.set()
            return await task
        finally:
            if not task.done():
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
