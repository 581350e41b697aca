"""The storage as commands write it, beside a service that writes it too, or without one."""

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

import click

from relay.cli.options import EXIT_NO

if TYPE_CHECKING:
    from relay.appconfig import Config
    from tracker.contract.consent import Persons
    from tracker.store.database import Store

PATIENCE_S: Final = 5.0  # with a storage that is busy; a transaction of the ingester takes less than one

T = TypeVar("T")


class Storage:
    """The storage of a configuration: `write` runs one transaction each, durable when it returns."""

    def __init__(self, store: "Store") -> None:
        """Take the store."""
        self.store = store

    async def write(self, work: Callable[[Any], T]) -> T:
        """Do it in one transaction, waiting for others. Exit code 1: it stays locked, or cannot be used."""
        return await self._retried(self.store.write, work)

    async def read(self, work: Callable[[Any], T]) -> T:
        """Read in one transaction; as `write`."""
        return await self._retried(self.store.read, work)

    async def _retried(self, run: Callable[..., Any], work: Callable[[Any], T]) -> T:
        from tracker.store.database import StorageUnavailableError

        now_s = asyncio.get_running_loop().time
        ends_at = now_s() + PATIENCE_S
        while True:
            try:
                done: T = await run(work)
                return done
            except StorageUnavailableError as error:
                if now_s() > ends_at:
                    end(str(error))
            await asyncio.sleep(0.1)


def with_storage(config: "Config", work: "Callable[[Storage], Any]") -> Any:  # noqa: ANN401 - what `work` returns
    """Run `work` with the storage, which is made where there is none."""
    from relay.app import load_secrets
    from tracker.store.database import Store

    async def run() -> Any:  # noqa: ANN401
        store = Store(config.storage.path)
        try:
            return await work(Storage(store))
        finally:
            await store.close()

    with _log_on_stderr():
        # The first start makes the keys while there is no storage: where this makes the storage, it is the first start.
        load_secrets(config, may_create=True)
        return asyncio.run(run())


def persons_of(config: "Config") -> "Persons":
    """Return what makes the hashes of addresses. KeysError: the keys file cannot be used."""
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


def end(why: str, code: int = EXIT_NO) -> NoReturn:
    """Say why a command ends."""
    click.echo(f"mailwake: {why}", err=True)
    raise SystemExit(code)
