"""Slots: the folders `spool/NN/` and `journal/NN/`, each owned by the process that holds the lock on `NN/lock`.

Theory:
    A flock belongs to an open file and ends with the process, however that ends. So a slot whose process was killed is
    free at once, without a pid to guess from, and whoever starts next takes what is in it.
    A process claims the lowest number that is free in all of its roots, so that its folders and its control socket bear
    one number; a restart comes back to the folders that it left.
    A command that changes what lies in free slots locks them for that long. A process that starts just then would take
    them for owned and leave their content to the next start; so it waits for the command (`hold_off_starts`).

Limits: a command that takes longer than WAIT_S, as one that was stopped by hand, is not waited for any more. The
folders must be on a local disk: flock over a network file system is not what it seems.
"""

import errno
import fcntl
import os
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tracker.runtime.configfile import ConfigError, Problem
from tracker.runtime.durable import make_folder

LOCK: Final = "lock"
MAX_SLOTS: Final = 100
WAIT_S: Final = 10.0
_LOOK_AGAIN_S: Final = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A folder that this process owns until it closes the slot or ends."""

    number: int
    directory: Path
    descriptor: int

    def close(self) -> None:
        """Give the folder back."""
        os.close(self.descriptor)


def slot_directory(root: Path, number: int) -> Path:
    """Return `root/NN`."""
    return root / f"{number:02d}"


def prepare_root(root: Path, key: str) -> None:
    """Make a folder that this user alone can enter. ConfigError: it cannot be made or written, or others can enter."""
    try:
        make_folder(root)
        mode = root.stat().st_mode
    except OSError as error:
        raise _unusable(key, root, error) from error
    if mode & 0o077:
        wrong, remedy = f"{root} is open to other users, and mail lies in it", f"run: chmod 700 {root}"
        raise ConfigError(None, [Problem(key=key, wrong=wrong, remedy=remedy)])
    if not os.access(root, os.W_OK | os.X_OK):
        raise _unusable(key, root, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))


def prepare_file(path: Path, key: str) -> None:
    """Make the folder of a private file. ConfigError: it cannot be written, or others can read the file."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = path.stat().st_mode if path.exists() else 0
    except OSError as error:
        raise _unusable(key, path, error) from error
    if mode & 0o077:
        wrong, remedy = f"{path} is open to other users, and addresses lie in it", f"run: chmod 600 {path}"
        raise ConfigError(None, [Problem(key=key, wrong=wrong, remedy=remedy)])
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise _unusable(key, path.parent, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))


def claim(roots: Mapping[str, Path]) -> dict[str, Slot]:
    """Claim one number in every root, by key: `{"journal.directory": Path("var/journal")}`.

    ConfigError: no number is free, or a lock cannot be made.
    """
    for key, root in roots.items():
        _await_commands(key, root)
    for number in range(MAX_SLOTS):
        taken: dict[str, Slot] = {}
        for key, root in roots.items():
            slot = _take(key, root, number)
            if slot is None:
                break
            taken[key] = slot
        if len(taken) == len(roots):
            return taken
        for slot in taken.values():
            slot.close()
    problem = Problem(key="slots", wrong=f"all {MAX_SLOTS} are taken", remedy="stop a process that uses these folders")
    raise ConfigError(None, [problem])


def left(root: Path, content: str) -> set[int]:
    """Return the numbers of the slots that nobody owns and in whose folder `content` (`"q"`) something lies."""
    return {
        number
        for number in range(MAX_SLOTS)
        if has_content(slot_directory(root, number) / content) and is_free(slot_directory(root, number))
    }


def adopt(key: str, root: Path, content: str, numbers: Collection[int] = range(MAX_SLOTS)) -> list[Slot]:
    """Take every free slot of these in whose folder `content` something lies: what a process that is gone has left."""
    found = []
    if numbers:
        _await_commands(key, root)
    for number in numbers:
        if has_content(slot_directory(root, number) / content):
            slot = _take(key, root, number)
            if slot is not None:
                found.append(slot)
    return found


@contextmanager
def hold_off_starts(root: Path) -> Iterator[None]:
    """Let processes that start wait, for the length of a block, before they look which slots of a folder are free.

    OSError: the folder cannot be used.
    """
    with _root_lock(root) as descriptor:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


def has_content(directory: Path) -> bool:
    """Say whether any file but a slot's lock lies in a folder or below; a folder that is not there has none."""
    return any(name != LOCK for _, _, names in os.walk(directory) for name in names)


def is_unused(roots: Sequence[Path]) -> bool:
    """Say whether nothing was ever kept in these folders, or they are not there."""
    return not any(has_content(root) for root in roots)


def is_free(directory: Path) -> bool:
    """Say whether no process owns a slot. Its lock is held for the moment of asking."""
    descriptor = lock(directory / LOCK)
    if descriptor is None:
        return False
    os.close(descriptor)
    return True


def lock(path: Path) -> int | None:
    """Take the lock on a file, making it; None while another process has it. Close the descriptor to give it back."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _take(key: str, root: Path, number: int) -> Slot | None:
    directory = slot_directory(root, number)
    try:
        make_folder(directory)
        descriptor = lock(directory / LOCK)
    except OSError as error:
        raise _unusable(key, directory, error) from error
    return None if descriptor is None else Slot(number=number, directory=directory, descriptor=descriptor)


def _await_commands(key: str, root: Path) -> None:
    deadline = time.monotonic() + WAIT_S
    try:
        with _root_lock(root) as descriptor:
            while not _try_to_share(descriptor) and time.monotonic() < deadline:
                time.sleep(_LOOK_AGAIN_S)
    except OSError as error:
        raise _unusable(key, root, error) from error


def _try_to_share(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _root_lock(root: Path) -> Iterator[int]:
    """Open the folder itself: it can be locked, too, and whoever may use it need not own a file in it."""
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _unusable(key: str, path: Path, error: OSError) -> ConfigError:
    wrong = f"{path} cannot be used: {error.strerror}"
    return ConfigError(
        None, [Problem(key=key, wrong=wrong, remedy="let this user write there, or name another folder")]
    )
