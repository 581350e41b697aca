"""The storage as commands use it beside a running service: patient while it is busy, and clear where it stays so."""

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

from relay.cli.options import end

if TYPE_CHECKING:
    from relay.appconfig import Config
    from tracker.store.watched import Watched

_PATIENCE_S: Final = 5.0  # a transaction of the ingester takes less than one
_POLL_S: Final = 0.1

_T = TypeVar("_T")


def read(watched: "Watched[_T]") -> _T:
    """Read a subject of the storage; exit code 1: it cannot be read now."""
    ends_at = time.monotonic() + _PATIENCE_S
    while True:
        watched.look()
        if watched.found is not None:
            return watched.found
        if time.monotonic() > ends_at:
            end("the storage cannot be read now")
        time.sleep(_POLL_S)


def change(config: "Config", work: Callable[[Any], _T]) -> _T:
    """Do it in one transaction of the storage; exit code 1: it stays locked, or cannot be used."""
    from relay.app import load_secrets
    from tracker.store.database import StorageUnavailableError, Store

    # The first start makes the keys while there is no storage: where this makes the storage, it is the first start.
    load_secrets(config, may_create=True)

    async def run() -> _T:
        store = Store(config.storage.path)
        ends_at = time.monotonic() + _PATIENCE_S
        try:
            while True:
                try:
                    return await store.write(work)
                except StorageUnavailableError as error:
                    if time.monotonic() > ends_at:
                        end(str(error))
                await asyncio.sleep(_POLL_S)
        finally:
            await store.close()

    return asyncio.run(run())
