"""The engine: one SQLite file, one thread that all work runs on, and what happens while it is locked, broken or gone.

Owns opening, migrating and reopening. A removed file is noticed at the next use, made anew, and filled again from what
the journal keeps. Does not retry: whoever has work (ingester, publishers) tries again; this says once that the storage
became unavailable, and once that it is back.

Theory:
    WAL with synchronous=FULL: a commit that returned survives power loss, and readers never wait for the writer.
    A transaction that writes begins as IMMEDIATE: one that reads first and writes later fails at once with "database is
    locked", whatever the busy timeout. The busy timeout is short, because it holds up the one thread; waiting longer is
    for the caller, who waits without a thread.
"""

import asyncio
import os
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import quote

import sqlalchemy as sa
import structlog
from prometheus_client import Counter
from sqlalchemy import event as hooks
from sqlalchemy.exc import DatabaseError, InternalError, OperationalError
from sqlalchemy.pool import NullPool

from tracker.contract.errors import TrackerError
from tracker.store.schema import HEAD

BUSY_TIMEOUT_MS: Final = 500
PAGE_BYTES: Final = 8192  # of a new file: records of 2 to 4 KB leave half of a page of 4096 bytes empty
CACHE_KIB: Final = 64 * 1024  # a batch of a backlog is 40 MB: what does not fit is written twice
CHECKPOINT_PAGES: Final = 4000  # 32 MB of log: a checkpoint writes a page once that many batches have changed

_T = TypeVar("_T")
_BEGIN: Final = "mailwake_begin"
_log = structlog.get_logger()

UNAVAILABLE: Final = Counter("mailwake_storage_unavailable_total", "Transactions that the storage could not take then.")


class StorageUnavailableError(TrackerError):
    """The storage is locked, damaged, gone or of a later version; the message says which file and what was answered."""


class Store:
    """The storage of this process. Opened at first use; `read` and `write` may be called by any number of tasks."""

    def __init__(self, path: Path) -> None:
        """Take the file's path; nothing is opened yet."""
        self._path = path
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="storage")
        self._engine: sa.Engine | None = None
        self._identity: tuple[int, int] | None = None
        self._is_available = True

    async def read(self, work: Callable[[sa.Connection], _T]) -> _T:
        """Run `work` on the storage thread inside a read transaction and return what it returns.

        StorageUnavailableError: try again later. What `work` raises itself comes through.
        """
        return await self._run(work, "BEGIN")

    async def write(self, work: Callable[[sa.Connection], _T]) -> _T:
        """Run `work` on the storage thread inside one transaction: durable when this returns, undone when it raises.

        Where the caller is cancelled the transaction is still finished, as a whole. Raises as `read` does.
        """
        return await self._run(work, "BEGIN IMMEDIATE")

    async def close(self) -> None:
        """Finish the work in progress and close the file."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._dispose)
        self._thread.shutdown()

    async def _run(self, work: Callable[[sa.Connection], _T], begin: str) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._work, work, begin)

    def _work(self, work: Callable[[sa.Connection], _T], begin: str) -> _T:
        try:
            with self._open().connect().execution_options(**{_BEGIN: begin}) as connection, connection.begin():
                result = work(connection)
        except Exception as error:
            if not is_unavailable(error):
                raise
            self._dispose()
            UNAVAILABLE.inc()
            if self._is_available:
                self._is_available = False
                _log.warning("storage_unavailable", path=str(self._path), error=_cause(error))
            raise StorageUnavailableError(f"the storage {self._path} cannot be used now: {_cause(error)}") from error
        if not self._is_available:
            self._is_available = True
            _log.info("storage_available", path=str(self._path))
        return result

    def _open(self) -> sa.Engine:
        """Return the engine of the file that is there now; a file that was removed or replaced is opened anew."""
        if self._engine is not None and self._identity == _identify(self._path):
            return self._engine
        self._dispose()
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))  # -wal and -shm take its mode over
        engine = _make_engine(self._path, "rwc")
        try:
            _migrate(engine)
            self._identity = _identify(self._path)
        except BaseException:
            engine.dispose()
            raise
        self._engine = engine
        return engine

    def _dispose(self) -> None:
        if self._engine is not None:
            self._engine.dispose()
        self._engine = self._identity = None


@contextmanager
def reading(path: Path) -> Iterator[sa.Connection]:
    """Open the storage read-only beside a process that writes it, for one read transaction.

    StorageUnavailableError: there is no storage yet, or it cannot be read.
    """
    engine = _make_engine(path, "ro", poolclass=NullPool)
    try:
        with engine.connect() as connection:
            version = _version(connection)
            if version != HEAD:
                raise StorageUnavailableError(f"the storage {path} has tables of version {version}, not {HEAD}")
            yield connection
    except DatabaseError as error:
        if not is_unavailable(error):
            raise
        raise StorageUnavailableError(f"the storage {path} cannot be read: {_cause(error)}") from error
    finally:
        engine.dispose()


def empty_log(path: Path) -> bool:
    """Bring all of the write-ahead log into the file and cut it to nothing; False: somebody is reading in it now.

    Until then it has pages as they were before the last changes. StorageUnavailableError: it cannot be done now.
    """
    engine = _make_engine(path, "rw", poolclass=NullPool)
    try:
        with closing(engine.raw_connection()) as connection:
            row = connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            return row is not None and row[0] == 0
    except sqlite3.Error as error:
        raise StorageUnavailableError(f"the storage {path} cannot be used now: {error}") from error
    finally:
        engine.dispose()


def is_unavailable(error: Exception) -> bool:
    """Tell a storage that cannot be used now from a statement or a value that it refuses.

    A damaged file is a plain DatabaseError; of its subclasses these two are about the storage.
    """
    if isinstance(error, DatabaseError):
        return type(error) is DatabaseError or isinstance(error, OperationalError | InternalError)
    if isinstance(error, sqlite3.DatabaseError):  # of `bulk.Query`, which asks the driver itself
        return type(error) is sqlite3.DatabaseError or isinstance(
            error, sqlite3.OperationalError | sqlite3.InternalError
        )
    return isinstance(error, OSError | StorageUnavailableError)


def _make_engine(path: Path, mode: str, poolclass: type[sa.Pool] | None = None) -> sa.Engine:
    uri = f"file:{quote(str(path))}?mode={mode}"

    def connect() -> sqlite3.Connection:
        # isolation_level None: the module begins no transaction of its own, `begin` below does.
        return sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)

    engine = sa.create_engine("sqlite://", creator=connect, poolclass=poolclass or sa.QueuePool)

    def set_up(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        if mode != "ro":
            connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
            connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
            connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA secure_delete = ON")  # what is deleted of a person is not in the file either
        connection.execute("PRAGMA foreign_keys = ON")

    def begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get(_BEGIN, "BEGIN"))

    hooks.listen(engine, "connect", set_up)
    hooks.listen(engine, "begin", begin)
    return engine


def _migrate(engine: sa.Engine) -> None:
    with engine.connect().execution_options(**{_BEGIN: "BEGIN IMMEDIATE"}) as connection, connection.begin():
        version = _version(connection)
        if version == HEAD:
            return
        from alembic import command  # noqa: PLC0415
        from alembic.config import Config  # noqa: PLC0415 - only a new storage or version needs alembic
        from alembic.script import ScriptDirectory  # noqa: PLC0415

        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
        known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
        if version is not None and version not in known:
            raise StorageUnavailableError(f"its tables are of version {version}, this program knows {HEAD}")
        command.upgrade(config, "head")


def _version(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    version: str | None = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    return version


def _identify(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_dev, stat.st_ino


def _cause(error: Exception) -> str:
    """Return the driver's words: SQLAlchemy's own hold the statement and its parameters, addresses among them."""
    return str(error.orig) if isinstance(error, DatabaseError) else str(error)
