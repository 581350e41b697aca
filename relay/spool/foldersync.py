"""The fsync of a folder, shared: whoever has renamed a file into it waits for one that starts afterwards.

No timer is involved: one caller alone waits for nobody, and a hundred at once pay for two.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tracker.runtime.durable import flush_folder


class FolderSync:
    """Lets concurrent callers share the fsyncs of a folder."""

    def __init__(self, folder: Path, threads: ThreadPoolExecutor) -> None:
        """Take the folder, and the threads that an fsync blocks one of."""
        self._folder = folder
        self._threads = threads
        self._next: asyncio.Future[None] | None = None
        self._runner: asyncio.Task[None] | None = None

    async def after_rename(self) -> None:
        """Return when an fsync that started after this call has ended. OSError where it failed."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        waiter = self._next
        if self._runner is None:
            self._runner = asyncio.create_task(self._run())
        await asyncio.shield(waiter)

    async def _run(self) -> None:
        while self._next is not None:
            batch, self._next = self._next, None
            try:
                await asyncio.get_running_loop().run_in_executor(self._threads, flush_folder, self._folder)
            except OSError as error:
                batch.set_exception(error)
                batch.exception()  # every waiter may be gone by now
            else:
                batch.set_result(None)
        self._runner = None
