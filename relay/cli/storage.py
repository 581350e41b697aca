"""The storage as commands use it, beside a running service or without one.

They wait while it is busy. Each way to use it ends the command with exit code 1, and says why, where the storage stays
locked or cannot be used.
"""

import asyncio
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

from relay.cli.options import end

if TYPE_CHECKING:
    from relay.appconfig import Config
    from tracker.contract.consent import Persons
    from tracker.store.database import Store

PATIENCE_S: Final = 5.0  # a transaction of the ingester takes less than one; a service that starts makes the tables
_POLL_S: Final = 0.1

T = TypeVar("T")


class Storage:
    """The storage of a configuration: each call is one transaction of its own, durable when it returns."""

    def __init__(self, store: "Store") -> None:
        """Take the store."""
        self._store = store

    async def write(self, work: Callable[[Any], T]) -> T:
        """Do it in one transaction that writes."""
        return await self._retried(self._store.write, work)

    async def read(self, work: Callable[[Any], T]) -> T:
        """Do it in one transaction that reads."""
        return await self._retried(self._store.read, work)

    async def _retried(self, run: Callable[..., Coroutine[Any, Any, T]], work: Callable[[Any], T]) -> T:
        from tracker.store.database import StorageUnavailableError

        ends_at = time.monotonic() + PATIENCE_S
        while True:
            try:
                return await run(work)
            except StorageUnavailableError as error:
                if time.monotonic() > ends_at:
                    end(str(error))
            await asyncio.sleep(_POLL_S)


def with_storage(config: "Config", work: Callable[[Storage], Coroutine[Any, Any, T]]) -> T:
    """Run `work` with the storage, for many transactions; it is made where there is none."""
    from relay.app import load_secrets
    from tracker.store.database import Store

    async def run() -> T:
        store = Store(config.storage.path)
        try:
            return await work(Storage(store))
        finally:
            await store.close()

    with _log_on_stderr():
        # The first start makes the keys while there is no storage: where this makes the storage, it is the first start.
        load_secrets(config, may_create=True)
        return asyncio.run(run())


def write(config: "Config", work: Callable[[Any], T]) -> T:
    """Do it in one transaction of the storage, which is made where there is none."""
    return with_storage(config, lambda storage: storage.write(work))


def read(config: "Config", work: Callable[[Any], T]) -> T | None:
    """Ask the storage, which is not made for it; None: there is none yet."""
    from tracker.store.database import StorageUnavailableError, reading

    ends_at = time.monotonic() + PATIENCE_S
    while config.storage.path.exists():
        try:
            with reading(config.storage.path) as connection:
                return work(connection)
        except StorageUnavailableError as error:
            if time.monotonic() > ends_at:
                end(str(error))
        time.sleep(_POLL_S)
    return None


def persons_of(config: "Config") -> "Persons":
    """Return what makes the hashes by which the storage knows people. KeysError: the keys file cannot be used."""
    from tracker.contract.consent import Persons
    from tracker.runtime import secrets

    return Persons(secrets.load(config.keys.file).person_key)


@contextmanager
def _log_on_stderr() -> Iterator[None]:
    """Keep log lines out of what a program reads."""
    import structlog

    before = structlog.get_config()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    try:
        yield
    finally:
        structlog.configure(**before)
