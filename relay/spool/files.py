"""The spool files of one slot: written, synced, listed, read, marked and removed. Knows nothing of when or to whom.

Folders of a slot: `tmp/` (being written; emptied at start), `q/` (accepted mail, one file a message, named by its
`MessageId`), `quarantine/` (files that cannot be read, kept for a human). No name ever comes from mail.

Theory:
    A message is safe when its bytes, its name and the folder are on disk: write, fsync, rename, fsync of the folder.
    The folder's fsync is shared: whoever renames waits for one that *starts* afterwards, so a hundred clients at once
    pay for two. No timer is involved: one client alone waits for nobody.
    An fsync that fails may have thrown the data away and will report success if it is asked again; so no descriptor is
    ever synced twice after an error: the file is removed and the error is the caller's.

Limits: one process owns a slot (the caller holds its flock). All I/O runs in threads of the slot's own.
"""

import asyncio
import errno
import os
import stat
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, TypeVar

import structlog

from relay.spool import entry as entries
from relay.spool import layout, metrics
from relay.spool.entry import SpoolEntry
from relay.spool.errors import SpoolDamagedError, SpoolVersionError
from relay.spool.foldersync import FolderSync
from relay.spool.layout import Header, Row
from relay.spool.stamp import QUEUE, Stamp
from tracker.contract.errors import IdError
from tracker.contract.ids import MessageId
from tracker.runtime.budget import ByteBudget
from tracker.runtime.durable import flush_data, flush_folder, make_folder, write_whole

__all__ = ["QUEUE", "Spool", "SpoolEntry", "Spooled", "Stored", "load_envelope", "opened", "read_whole"]

TMP: Final = "tmp"
QUARANTINE: Final = "quarantine"

_LOG: Final = structlog.get_logger()
_THREADS: Final = 8
_BATCH: Final = 100
_MODE: Final = 0o600
_READING: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_LARGE_BYTES: Final = 1 << 20  # more than this is counted: most mail is smaller
_UNBOUNDED_BYTES: Final = 1 << 62
_UNCOUNTED_FILES: Final = 1 << 62
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A file as `scan` finds it: the message itself is not read yet."""

    entry: SpoolEntry
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spooled:
    """A file as `read` gives it, with the checksum of all of it seen right."""

    entry: SpoolEntry
    message: bytes
    rows: tuple[Row, ...]


class Spool:
    """One slot's spool. Use: `open` before anything is put, `scan` once, `close` at the end."""

    def __init__(self, directory: Path, loads: ByteBudget | None = None, stamp: Stamp | None = None) -> None:
        """Take the slot's folder, `spool/00`; nothing is touched before `open`. `loads`: memory for large messages.

        `stamp` tells whether the spool is an older copy; without one, any is used.
        """
        self.directory = directory
        self._stamp = stamp
        self._loads = loads or ByteBudget(_UNBOUNDED_BYTES)
        self._tmp, self._queue, self._quarantine = (directory / name for name in (TMP, QUEUE, QUARANTINE))
        self._headers: dict[MessageId, Header] = {}
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix=f"spool-{directory.name}")
        self._sync = FolderSync(self._queue, self._threads)
        self._advancing: asyncio.TimerHandle | None = None
        self._found: list[str] = []
        self._usage_bytes = 0

    @property
    def usage_bytes(self) -> int:
        """The size of all files in `q/` that this object knows of."""
        return self._usage_bytes

    def open(self) -> None:
        """Make the folders, empty `tmp/` (what is in there, nobody was told 250 for), list `q/`.

        Raises, with nothing in `q/` touched, SpoolVersionError at a file of a later version and SpoolRestoredError;
        OSError: not writable.
        """
        for folder in (self._tmp, self._queue, self._quarantine):
            make_folder(folder)
        with os.scandir(self._queue) as found:
            self._found = sorted(entry.name for entry in found)
        _refuse_later_versions(self._queue, self._found)
        if self._stamp is not None:
            self._stamp.check(len(self._found))
        for path in self._tmp.iterdir():
            try:
                path.unlink()
            except (IsADirectoryError, PermissionError) as error:  # of Linux, and of macOS
                self._move_to_quarantine(path, error.strerror or "")
        for folder in (self._queue, self.directory):
            flush_folder(folder)
        if self._stamp is not None:
            self._stamp.advance()

    def close(self) -> None:
        """Wait for running I/O and end the threads."""
        if self._advancing is not None:
            self._advancing.cancel()
        self._threads.shutdown(wait=True)
        if self._stamp is not None:
            self._stamp.advance()
        for message in list(self._headers):
            self._forget(message)

    async def scan(self) -> AsyncIterator[list[Stored]]:
        """Yield the messages that `open` found, oldest first, in batches; the bytes of the mail are not read yet.

        What is damaged, empty or foreign goes to the quarantine. Raises OSError.
        """
        found, self._found = self._found, []
        for start in range(0, len(found), _BATCH):
            loaded = await self._in_thread(self._load, found[start : start + _BATCH])
            for header, stored in loaded:
                self._know(stored.entry.id, header)
            yield [stored for _, stored in loaded]

    def has(self, message: MessageId) -> bool:
        """Say whether the message is here, and known by `scan` or `put`."""
        return message in self._headers

    async def put(self, entry: SpoolEntry, message: bytes | memoryview) -> None:
        """Make a message safe: it will be found again from the moment this returns.

        A message that is there already stays as it is (a report that a crash makes twice). Shield this from
        cancellation: a put that is cut short may have happened. Raises OSError: no space, or the disk failed; then
        nothing is left of the message.
        """
        if entry.id in self._headers:
            return
        header = await self._in_thread(self._write, entry, message)
        self._know(entry.id, header)
        try:
            await self._sync.after_rename()
        except OSError:
            self._forget(entry.id)
            await self._in_thread(_unlink, self._path(entry.id))
            raise

    async def read(self, message: MessageId) -> Spooled:
        """Read a whole file. Raises SpoolDamagedError: it was damaged since it was written; OSError."""
        return await self._in_thread(self._read, message)

    async def load(self, message: MessageId) -> Spooled:
        """Read a whole file within the memory for such; `unload` gives that back. Waits for it; raises as `read`."""
        size_bytes = _large_bytes(header.message_bytes if (header := self._headers.get(message)) else 0)
        await self._loads.take(size_bytes)
        try:
            return await self.read(message)
        except BaseException:
            self._loads.give(size_bytes)
            raise

    def unload(self, spooled: Spooled) -> None:
        """Say that what `load` gave is not used any more."""
        self._loads.give(_large_bytes(len(spooled.message)))

    async def mark(self, message: MessageId, rows: Mapping[int, Row], *, durable: bool) -> None:
        """Overwrite rows in place, and wait for the disk where `durable`. Raises OSError.

        Each call has a descriptor of its own, so a mark may be repeated after an error: it is written again, too.
        """
        await self._in_thread(self._mark, message, rows, durable)
        if durable and self._stamp is not None and self._advancing is None:
            self._advancing = asyncio.get_running_loop().call_later(self._stamp.wait_s(), self._advance)

    async def remove(self, message: MessageId) -> None:
        """Remove the file of a message that is finished. Raises OSError.

        The folder is not synced: after a power cut the file may be back, with all its rows finished, and is removed.
        """
        await self._in_thread(_unlink, self._path(message))
        self._forget(message)

    async def quarantine(self, message: MessageId, why: str) -> None:
        """Move a file that `read` found damaged out of the way, for a human to look at. Raises OSError."""
        await self._in_thread(self._move_to_quarantine, self._path(message), why)
        self._forget(message)

    def scratch(self) -> BinaryIO:
        """Open an empty file on the spool's disk that has no name: the system removes it with its last use. OSError."""
        return tempfile.TemporaryFile(buffering=0, dir=self._tmp)

    def free_bytes(self) -> int:
        """Free space of the file system for users like us. Raises OSError."""
        status = os.statvfs(self.directory)
        return status.f_bavail * status.f_frsize

    def free_files(self) -> int:
        """How many more files the file system takes from users like us; some count none. Raises OSError."""
        status = os.statvfs(self.directory)
        return status.f_favail if status.f_files else _UNCOUNTED_FILES

    async def _in_thread(self, function: Callable[..., _T], *arguments: object) -> _T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)
        except OSError:
            metrics.DISK_ERRORS.inc()
            raise

    def _advance(self) -> None:
        self._advancing = None
        if self._stamp is not None:
            self._threads.submit(self._stamp.advance)  # nobody waits for it

    def _path(self, message: MessageId) -> Path:
        return self._queue / str(message)

    def _know(self, message: MessageId, header: Header) -> None:
        self._headers[message] = header
        self._usage_bytes += header.file_bytes
        metrics.SPOOL_BYTES.inc(header.file_bytes)
        metrics.SPOOL_MESSAGES.inc()

    def _forget(self, message: MessageId) -> None:
        header = self._headers.pop(message, None)
        if header is not None:
            self._usage_bytes -= header.file_bytes
            metrics.SPOOL_BYTES.dec(header.file_bytes)
            metrics.SPOOL_MESSAGES.dec()

    def _write(self, entry: SpoolEntry, message: bytes | memoryview) -> Header:
        header, pieces = layout.pack(entries.encode(entry), message, len(entry.recipients))
        temporary = self._tmp / str(entry.id)
        try:
            with opened(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as descriptor:
                write_whole(descriptor, pieces)
                os.fsync(descriptor)
            temporary.rename(self._path(entry.id))
        except OSError:
            _unlink(temporary)
            raise
        return header

    def _read(self, message: MessageId) -> Spooled:
        header, envelope, body, rows = read_whole(self._path(message))
        if header != self._headers.get(message):
            raise SpoolDamagedError("it is not the file that was accepted")
        return Spooled(entry=entries.decode(envelope), message=body, rows=rows)

    def _mark(self, message: MessageId, rows: Mapping[int, Row], durable: bool) -> None:  # noqa: FBT001 - in a thread
        header = self._headers.get(message)
        if header is None:  # quarantined while another of its copies was in flight
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(message))
        with opened(self._path(message), os.O_WRONLY) as descriptor:
            for index, row in rows.items():
                os.pwrite(descriptor, layout.pack_row(row), header.row_at(index))
            if durable:
                flush_data(descriptor)

    def _load(self, names: list[str]) -> list[tuple[Header, Stored]]:
        loaded = []
        for name in names:
            path = self._queue / name
            try:
                loaded.append(load_envelope(path, MessageId.parse(name)))
            except (SpoolDamagedError, IdError, FileNotFoundError, PermissionError) as error:
                self._move_to_quarantine(path, str(error))
        return loaded

    def _move_to_quarantine(self, path: Path, why: str) -> None:
        target = self._quarantine / f"{path.name}.{time.time_ns()}"
        with suppress(FileNotFoundError):
            path.rename(target)
            metrics.QUARANTINED.inc()
            _LOG.error("spool_file_quarantined", file=str(target), reason=why)


def _refuse_later_versions(queue: Path, names: Iterable[str]) -> None:
    """Look at the first bytes of each file: before a start says a word to anybody, of tens of thousands."""
    folder = os.open(queue, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in names:
            try:
                descriptor = os.open(name, _READING, dir_fd=folder)
                try:
                    is_ours = layout.is_of_this_version(os.pread(descriptor, layout.HEADER_BYTES, 0))
                finally:
                    os.close(descriptor)
            except OSError:  # no file, or none that can be read
                is_ours = False
            if not is_ours:
                _refuse_later_version(queue / name)
    finally:
        os.close(folder)


def _refuse_later_version(path: Path) -> None:
    try:
        with _reading(path) as file:
            layout.unpack_header(file.read(layout.HEADER_BYTES))
    except SpoolVersionError as error:
        raise SpoolVersionError(
            f"{path} cannot be used: {error}. Start the version that wrote it, or let that one empty the spool"
        ) from error
    except (SpoolDamagedError, FileNotFoundError, PermissionError):
        return  # `scan` moves it away


def load_envelope(path: Path, message: MessageId) -> tuple[Header, Stored]:
    """Read what a file says of its message, but not the message. SpoolDamagedError: it is none, or damaged; OSError."""
    with _reading(path) as file:
        header = layout.unpack_header(file.read(layout.HEADER_BYTES))
        size = os.fstat(file.fileno()).st_size
        if size != header.file_bytes:
            raise SpoolDamagedError(f"it has {size} bytes, not {header.file_bytes}")
        envelope = file.read(header.envelope_bytes)
        layout.check_envelope(header, envelope)
        entry = entries.decode(envelope)
        file.seek(header.table_at)
        rows = layout.unpack_rows(file.read())
    if entry.id != message:
        raise SpoolDamagedError("it has the name of another message")
    if len(rows) != len(entry.recipients):
        raise SpoolDamagedError("it has not one row for each recipient")
    return header, Stored(entry=entry, rows=rows)


def read_whole(path: Path) -> tuple[Header, bytes, bytes, tuple[Row, ...]]:
    """Read a file: header, envelope, message, rows. SpoolDamagedError: it is none, or damaged; OSError."""
    with _reading(path) as file:
        return layout.read(file)


@contextmanager
def _reading(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading. SpoolDamagedError: a link, a folder, or a pipe, which would block us."""
    try:
        descriptor = os.open(path, _READING)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):  # a link; a socket
            raise SpoolDamagedError("it is no regular file") from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise SpoolDamagedError("it is no regular file")
    with os.fdopen(descriptor, "rb") as file:
        yield file


@contextmanager
def opened(path: Path, flags: int) -> Iterator[int]:
    """Open a file of the spool for writing, and close it. OSError: it cannot be, or it is a link."""
    descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, _MODE)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _large_bytes(size_bytes: int) -> int:
    """Return what a message takes of the memory for large ones: small ones never wait behind them."""
    return size_bytes if size_bytes > _LARGE_BYTES else 0


def _unlink(path: Path) -> None:
    with suppress(FileNotFoundError):
        path.unlink()
