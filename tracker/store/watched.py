"""Settings that live in the storage, as each process that serves has them in memory: in force within two seconds.

Theory: whoever writes a subject counts its revision up in the same transaction (`has_changed`). A process looks once a
    second; it opens the storage only when its files have changed since, or change just now (their times are no finer
    than a tick of the kernel), and reads a subject only when its revision is another. Neither mail nor hits wait for
    it: what was read last is what is in force, whatever has become of the storage. So it is too when the storage was
    lost and made anew: it says nothing of a subject before somebody changes that.

Limits: a storage that was put back to an older state, with the same revision, is not noticed before the next change.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Generic, TypeVar

import sqlalchemy as sa
import structlog
from sqlalchemy.dialects.sqlite import insert as upsert

from tracker.store.database import StorageUnavailableError, reading
from tracker.store.schema import revision

LOOK_EVERY_S: Final = 1.0
_SETTLED_S: Final = 2.0
_FAILURES_TOLD: Final = 3  # the first ones may be a storage that is being made

_T = TypeVar("_T")
_log = structlog.get_logger()

_insert = upsert(revision).values(number=1)
_COUNT_UP: Final = _insert.on_conflict_do_update(index_elements=["subject"], set_={"number": revision.c.number + 1})


def has_changed(connection: sa.Connection, subject: str) -> None:
    """Say, in the transaction that changes it, that a subject is other than before."""
    connection.execute(_COUNT_UP, {"subject": subject})


class Watched(Generic[_T]):
    """One subject, as last read: `found` is None until the storage could be read once."""

    def __init__(self, path: Path, subject: str, read: Callable[[sa.Connection], _T], *, nothing: _T) -> None:
        """Take the storage's path and what reads the subject; `nothing` is what a storage that is not there holds."""
        self.found: _T | None = None
        self.subject = subject
        self._path = path
        self._read = read
        self._nothing = nothing
        self._seen: tuple[tuple[int, int, int], ...] | None = None
        self._revision: int | None = None
        self._inode: int | None = None
        self._failures = 0

    def look(self) -> bool:
        """Read the subject if it may have changed; True: it is other than before. Blocks."""
        try:
            stamp = self._stamp()
        except OSError as error:  # its folder cannot be entered, or its disk is gone
            return self._fail(error)
        newest_ns = max((modified_ns for _, _, modified_ns in stamp), default=0)
        if stamp == self._seen and time.time_ns() - newest_ns > _SETTLED_S * 1e9:
            return False
        before = self.found
        if not stamp:  # no storage: nothing was ever stored, or it is gone, and what was read stays
            self.found = self._nothing if before is None else before
        elif not self._read_anew(stamp[0][0]):
            return False
        self._seen, self._failures = stamp, 0
        return self.found != before

    def _read_anew(self, inode: int) -> bool:
        try:
            with reading(self._path) as connection:
                number = connection.execute(sa.select(revision.c.number).where(revision.c.subject == self.subject))
                found = number.scalar()
                if self.found is None or found != self._revision or inode != self._inode:
                    if self.found is None or found is not None:
                        self.found = self._read(connection)
                    self._revision, self._inode = found, inode
        except StorageUnavailableError as error:
            return self._fail(error)
        return True

    def _fail(self, error: Exception) -> bool:
        """Say once that it goes on; what was read last stays. False, always."""
        self._failures += 1
        if self._failures == _FAILURES_TOLD:
            _log.warning("settings_not_read", subject=self.subject, error=str(error))
        return False

    def _stamp(self) -> tuple[tuple[int, int, int], ...]:
        """Tell the files' states apart: a commit changes the write-ahead log, a checkpoint the file."""
        states: list[tuple[int, int, int]] = []
        for path in (self._path, self._path.with_name(self._path.name + "-wal")):
            try:
                stat = path.stat()
            except FileNotFoundError:
                continue
            if stat.st_size or states:
                states.append((stat.st_ino, stat.st_size, stat.st_mtime_ns))
        return tuple(states)
