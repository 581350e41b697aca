"""What the overview shows, as values: the process and its parts, and the events of the last day.

Owns the queries of the console. What the events mean is `tracker.core.statistics`' and the reference's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from tracker.contract.events import EventType
from tracker.store import dashboard, schema
from tracker.store.backlog import behind_bytes, read_places
from tracker.store.database import StorageUnavailableError, Store
from tracker.store.times import from_ms

PERIOD: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessView:
    """What the service says of itself. `listening` is by part; `upstreams` by name, as they are written in the file.

    `pids` are its processes, the one that answers first; `queue` is how many messages wait in all of them.
    """

    version: str
    pids: Sequence[int]
    started_at: datetime
    config_path: str
    listening: Mapping[str, Sequence[str]]
    upstreams: Mapping[str, str]
    queue: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageView:
    """Events of the last day by type, when the last one was, and what of the journals is not taken in yet.

    `trouble` says why none of it can be seen.
    """

    counts: Mapping[str, int]
    last_at: datetime | None = None
    behind_bytes: int = 0
    trouble: str = ""


async def look(store: Store, journal_root: Path, now: datetime) -> StorageView:
    """Count the events of the last day; a storage that cannot be used is an answer, too."""

    def work(connection: sa.Connection) -> StorageView:
        event = schema.event.c
        found = dashboard.event_totals(connection, since=now - PERIOD)
        last = connection.execute(sa.select(sa.func.max(event.at_ms))).scalar()
        return StorageView(
            counts={kind.value: found.get(kind.value, 0) for kind in EventType},
            last_at=None if last is None else from_ms(last),
            behind_bytes=behind_bytes(journal_root, read_places(connection)),
        )

    try:
        return await store.read(work)
    except StorageUnavailableError as error:
        return StorageView(counts={}, trouble=str(error))
