"""A message while it is read: in memory while it is small, in a file without a name when it is not.

The file has no name from its first moment, so whatever happens (the client leaves, the message is too big, the process
is killed), the system removes it when it is closed. What is not kept any more is still counted, to its end.

Standards: RFC 5321 §4.5.3.1.7, RFC 1870 §6.1 (too big), §6.4 (no room).
"""

import asyncio
import os
from typing import BinaryIO, Final

from relay.core import reply as replies
from relay.core.reply import Reply
from relay.smtp.memory import MessageMemory
from tracker.runtime.durable import write_whole

IN_MEMORY_BYTES: Final = 1 << 20
"""What is larger goes to a file: most mail is smaller, and a thousand slow clients hold no more than the limit."""
_WRITE_BYTES: Final = 1 << 18  # written at a time: fewer changes to a thread


class Incoming:
    """One message on its way in. Use: `add` each piece, `finish`, `load` it once; `close` in any case.

    `size_bytes` counts all that came; `refusal` is the reply where it cannot be kept.
    """

    def __init__(self, memory: MessageMemory, *, max_bytes: int) -> None:
        """Begin with nothing."""
        self.size_bytes = 0
        self.refusal: Reply | None = None
        self._memory = memory
        self._max_bytes = max_bytes
        self._pieces: list[bytes] = []
        self._held_bytes = 0
        self._file: BinaryIO | None = None
        self._at_work: asyncio.Future[None] | None = None

    @property
    def is_in_file(self) -> bool:
        """Say whether `load` needs memory that nobody has set aside yet."""
        return self._file is not None

    async def add(self, piece: bytes) -> None:
        """Keep the next piece, or only count it where the message is refused already."""
        self.size_bytes += len(piece)
        if self.refusal is not None:
            return
        if self.size_bytes > self._max_bytes:
            self.refusal = replies.MESSAGE_TOO_BIG
            self._drop()
            return
        self._pieces.append(piece)
        if self._memory.try_hold(len(piece)):
            self._held_bytes += len(piece)
            if self._file is None and self.size_bytes <= IN_MEMORY_BYTES:
                return
            if self._file is not None and self._held_bytes < _WRITE_BYTES:
                return
        await self._to_file()

    async def finish(self) -> None:
        """Say that all has come; `refusal` is certain now."""
        if self._file is not None and self._pieces:
            await self._to_file()

    async def load(self) -> bytes:
        """Return the whole message, once. OSError: the disk does not give it back."""
        if self._file is None:
            message = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
            self._pieces.clear()
            return message
        return await asyncio.get_running_loop().run_in_executor(None, _read, self._file, self.size_bytes)

    def close(self) -> None:
        """Let go of memory and file; may be called again."""
        self._drop()

    async def _to_file(self) -> None:
        """Move what is in memory behind what is in the file; a disk that takes no more refuses the message."""
        pieces, self._pieces = self._pieces, []
        work = asyncio.get_running_loop().run_in_executor(None, self._write, pieces)
        self._at_work = asyncio.ensure_future(work)
        try:
            # A session that is cancelled does not stop the thread, and the file must stay open as long as it writes.
            await asyncio.shield(self._at_work)
        except OSError:
            self.refusal = replies.SPOOL_FULL
            self._drop()
        else:
            self._release()

    def _write(self, pieces: list[bytes]) -> None:
        if self._file is None:
            self._file = self._memory.scratch()
        write_whole(self._file.fileno(), pieces)

    def _drop(self) -> None:
        self._pieces.clear()
        self._release()
        if self._at_work is not None and not self._at_work.done():
            self._at_work.add_done_callback(self._close_file)
        else:
            self._close_file()

    def _release(self) -> None:
        self._memory.release(self._held_bytes)
        self._held_bytes = 0

    def _close_file(self, work: asyncio.Future[None] | None = None) -> None:
        if work is not None:
            work.exception()  # nobody waits for it any more
        if self._file is not None:
            self._file.close()
            self._file = None


def _read(file: BinaryIO, size_bytes: int) -> bytes:
    """Read a whole file at once. OSError: it has not what was written."""
    message = os.pread(file.fileno(), size_bytes, 0)
    while len(message) < size_bytes:  # one call gives 2 GiB at most, and may be interrupted
        more = os.pread(file.fileno(), size_bytes - len(message), len(message))
        if not more:
            raise OSError("a scratch file is shorter than what was written")
        message += more
    return message
