"""A folder of files, one a UTC day, one record a line: `PATH/2026-11-03.jsonl`.

A record is in the file of the day on which it was written, which may be later than the event's. A file is opened for
each write and closed after it: whoever moves or removes it meets no surprise, and midnight needs no thought.

Theory: a line that a crash or a full disk cut off was never acknowledged, so it is cut away and written again. That is
done before a write and not at start, because a failed write leaves one too.

Whoever rewrites files of the folder, to take a person's lines out of them, holds its lock meanwhile (`locked`): the
writer holds it for each write, so that neither works on what the other is about to replace.

Limits: the folder belongs to one destination; a program that appends to the files too would have its unfinished last
line cut away.
"""

import fcntl
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final

from tracker.runtime.durable import flush_folder, write_whole

_LOCK: Final = ".lock"
_NAME: Final = re.compile(r"(\d{4}-\d\d-\d\d)\.jsonl", re.ASCII)
_OPEN: Final = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
_CHUNK: Final = 65536


class JsonlWriter:
    """Writes into a folder; files older than `keep` are removed, none where it is None."""

    def __init__(self, directory: Path, keep: timedelta | None) -> None:
        """Take the folder, which is made when it is needed."""
        self._directory = directory
        self._keep = keep
        self._named: Path | None = None  # the file whose name is certainly on the disk

    def write(self, records: Sequence[str], now: datetime) -> None:
        """Append the records to the day's file and flush it to the disk. OSError: it cannot be written."""
        path = self._directory / f"{now.astimezone(UTC).date().isoformat()}.jsonl"
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with locked(self._directory):
            if not path.exists():
                self._named = None
            descriptor = os.open(path, _OPEN, 0o600)  # addresses are in it
            try:
                _cut_unfinished_line(descriptor)
                write_whole(descriptor, [b"".join([record.encode() + b"\n" for record in records])])
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        if path != self._named:
            flush_folder(self._directory)  # else a power cut may take the whole file
            self._named = path

    def tidy(self, now: datetime) -> None:
        """Remove the files of days that ended longer than `keep` ago; other files are left alone."""
        if self._keep is None or not self._directory.is_dir():
            return
        for path in self._directory.iterdir():
            day = _day_of(path.name)
            if day is not None and _end_of(day) + self._keep <= now:
                path.unlink(missing_ok=True)

    def stop(self) -> None:
        """Do nothing: a disk cannot be told to hurry."""


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the lock of a folder of files; waits for whoever has it. OSError: its file cannot be made."""
    descriptor = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _cut_unfinished_line(descriptor: int) -> None:
    size = os.fstat(descriptor).st_size
    end = size
    while end:
        start = max(0, end - _CHUNK)
        newline = os.pread(descriptor, end - start, start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    if end < size:
        os.ftruncate(descriptor, end)


def _day_of(name: str) -> date | None:
    match = _NAME.fullmatch(name)
    try:
        return date.fromisoformat(match.group(1)) if match is not None else None
    except ValueError:
        return None


def _end_of(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
