"""How far the storage is behind the journals of the node: in bytes, and in seconds.

Owns the two gauges. The ingesting process looks every few seconds, whether or not the storage can be used: what is
known of its place in the journals still holds while it is locked or gone.

Theory: a place in the journals that was their end when it was looked at is behind the storage's own place once
everything of that time is taken in. So the seconds are the age of the latest such look. No record is read for it.

Limits: the seconds are exact to a few, and what lay in the journals before the start counts from the start.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from prometheus_client import Gauge

from tracker.contract.ports import Clock
from tracker.store import schema
from tracker.store.database import StorageUnavailableError, Store

LOOK_EVERY_S: Final = 2.0
_MAX_LOOKS: Final = 1000  # while the storage is away; then every second one is forgotten, and the grain is coarser

BACKLOG: Final = Gauge(
    "mailwake_journal_backlog_bytes",
    "Bytes of the journals that the storage has not taken in.",
    multiprocess_mode="livemax",
)
LAG: Final = Gauge(
    "mailwake_ingest_lag_seconds",
    "How long the oldest of them have waited; 0 where there are none.",
    multiprocess_mode="livemax",
)

Places = Mapping[str, tuple[str, int]]
"""A place in the journal of each slot: the name of a segment, and an offset in it."""

_START: Final = ("", 0)
_CURSOR: Final = sa.select(schema.cursor.c.slot, schema.cursor.c.segment, schema.cursor.c.offset)


class BacklogWatch:
    """Looks, and sets the gauges; `run` until cancelled."""

    def __init__(self, store: Store, root: Path, clock: Clock) -> None:
        """`root` is the folder of all slots' journals."""
        self._store = store
        self._root = root
        self._clock = clock
        self._cursor: Places = {}
        self._covered_at = clock()
        self._looks: list[tuple[datetime, Places]] = []

    async def run(self) -> None:
        """Look every few seconds."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_EVERY_S)

    async def look(self) -> None:
        """Compare the journals with what the storage says that it has."""
        now, sizes = self._clock(), await asyncio.to_thread(_sizes, self._root)
        with suppress(StorageUnavailableError):  # the store has said so
            self._cursor = await self._store.read(read_places)
        behind = _behind(sizes, self._cursor)
        self._looks.append((now, {slot: max(segments.items()) for slot, segments in sizes.items() if segments}))
        while self._looks and _covers(self._cursor, self._looks[0][1]):
            self._covered_at, _ = self._looks.pop(0)
        if not behind:  # also where a journal was taken away
            self._covered_at = now
            self._looks.clear()
        if len(self._looks) > _MAX_LOOKS:
            self._looks = self._looks[::2]
        BACKLOG.set(behind)
        LAG.set(max((now - self._covered_at).total_seconds(), 0.0))


def read_places(connection: sa.Connection) -> Places:
    """Say up to where the storage has each slot's journal."""
    return {str(slot): (str(segment), int(offset)) for slot, segment, offset in connection.execute(_CURSOR)}


def behind_bytes(root: Path, cursor: Places) -> int:
    """Add up what of the journals lies behind a place."""
    return _behind(_sizes(root), cursor)


def _sizes(root: Path) -> dict[str, dict[str, int]]:
    """Give the size of each segment of each slot; their names sort by age."""
    sizes: dict[str, dict[str, int]] = {}
    for path in root.glob("*/*.mwj"):
        with suppress(FileNotFoundError):  # pruned meanwhile
            sizes.setdefault(path.parent.name, {})[path.name] = path.stat().st_size
    return sizes


def _behind(sizes: Mapping[str, Mapping[str, int]], cursor: Places) -> int:
    behind = 0
    for slot, segments in sizes.items():
        segment, offset = cursor.get(slot, _START)
        behind += sum(size - (offset if name == segment else 0) for name, size in segments.items() if name >= segment)
    return max(behind, 0)


def _covers(cursor: Places, ends: Places) -> bool:
    return all(cursor.get(slot, _START) >= end for slot, end in ends.items())
