"""What makes files durable, for every room that promises it: whole writes, flushed data, flushed folders.

After an error of any of these nothing is known of what is on the disk: whoever calls them gives the file up and writes
a new one. A flush that is tried again may report success for data that is gone.

Limits: where there is no `fdatasync` (macOS), it is `fsync`, which there does not flush the drive's own cache.
"""

import errno
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

flush_data: Final = getattr(os, "fdatasync", os.fsync)
"""Make the data of a descriptor durable, and of its metadata what is needed to read them. OSError: they are not."""

NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT)
"""The numbers of an OSError that says that the disk is full, for all or for us: it may have room later."""

_DRAFT: Final = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW


def write_whole(descriptor: int, pieces: Iterable[bytes | memoryview]) -> None:
    """Write every byte of the pieces: `os.write` may write fewer. OSError: some may be written."""
    for piece in pieces:
        rest = memoryview(piece)
        while rest:
            rest = rest[os.write(descriptor, rest) :]


def replace_file(path: Path, raw: bytes, *, owner: tuple[int, int] | None = None) -> None:
    """Write a file of mode 0600 that is there whole, as it was or as it is now, whatever happens.

    `owner` is a user and a group; None: those of this process. OSError: it is as it was, or as it is now but not for
    certain.
    """
    draft = path.with_name(f".{path.name}.new")
    try:
        descriptor = os.open(draft, _DRAFT, 0o600)
        try:
            if owner is not None:
                os.fchown(descriptor, *owner)
            os.fchmod(descriptor, 0o600)  # a draft that a crash left may have had another
            write_whole(descriptor, [raw])
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        draft.rename(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    flush_folder(path.parent)


def flush_folder(directory: Path) -> None:
    """Make the names in a folder durable: those that came, went and changed. OSError: they are not."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(directory: Path) -> None:
    """Make a folder that this user alone can enter, and what is missing above it; durable like what comes into it.

    One that is there is left as it is. OSError: it cannot be made.
    """
    if directory.is_dir():
        return
    make_folder(directory.parent)
    directory.mkdir(mode=0o700, exist_ok=True)
    flush_folder(directory.parent.resolve())  # a link may lead to where it is
