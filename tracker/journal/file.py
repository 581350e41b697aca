"""The file of one segment while it is written: created, appended to, flushed, closed.

Owns modes (files 0600, folders 0700) and what is done with a write that failed half-way. Does not own the order of
these steps, nor threads (`writer.py`), nor the layout (`segment.py`).
"""

import contextlib
import errno
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Self

from tracker.contract.ports import Entropy
from tracker.journal.segment import HEADER_BYTES, RANDOM_BYTES, Framer, header, names_in, next_name
from tracker.runtime.durable import flush_data, flush_folder, write_whole

_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC


class SegmentFile:
    """An open segment. `append` is for one thread, `flush` and `close` are for another that follows it."""

    def __init__(self, path: Path, descriptor: int, framer: Framer) -> None:
        self.path = path
        self.size_bytes = HEADER_BYTES
        self.has_failed_flush = False
        self._descriptor = descriptor
        self._framer = framer

    @classmethod
    def create(cls, directory: Path, *, unix_ms: int, entropy: Entropy) -> Self:
        """Create the next segment of a slot, its name durable, and the folder where there is none.

        OSError: the folder cannot be written, or the disk is full; then no file is left behind.
        """
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        segments = names_in(path.name for path in directory.iterdir())
        name = next_name(segments[-1] if segments else None, unix_ms=unix_ms, entropy=entropy(RANDOM_BYTES))
        path = directory / str(name)
        descriptor = os.open(path, _CREATE, 0o600)
        try:
            write_whole(descriptor, [header(name, unix_ms=unix_ms)])
            flush_folder(directory)
        except OSError:
            os.close(descriptor)
            path.unlink(missing_ok=True)
            raise
        return cls(path, descriptor, Framer(name))

    def append(self, payloads: Iterable[bytes]) -> None:
        """Write the records. OSError: they are not written, none of them; the segment must not be appended to again."""
        raw = b"".join([self._framer.frame(payload) for payload in payloads])
        try:
            write_whole(self._descriptor, [raw])
        except OSError:
            # Records whose caller was told that they failed shall not be read back; where even this fails, they may be.
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self.size_bytes)
            raise
        self.size_bytes += len(raw)

    def flush(self) -> OSError | None:
        """Make durable what was appended; after one failure never tried again: it might report a false success."""
        if self.has_failed_flush:
            return OSError(errno.EIO, "an earlier flush of the segment failed", str(self.path))
        try:
            flush_data(self._descriptor)
        except OSError as error:
            self.has_failed_flush = True
            return error
        return None

    def close(self) -> None:
        """Close the file; the segment is complete."""
        with contextlib.suppress(OSError):  # what is flushed is safe, and what is not has been told to whoever waited
            os.close(self._descriptor)
