"""Settings that live in the storage: read when they change, kept when they cannot be read."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from structlog.testing import capture_logs

from relay.app import watch
from tracker.core.blocks import Block, BlockKind
from tracker.store import blocks
from tracker.store.database import Store
from tracker.store.watched import Watched


def _write(path: Path, work: Callable[[sa.Connection], Any]) -> None:
    async def run() -> None:
        store = Store(path)
        await store.write(work)
        await store.close()

    asyncio.run(run())


def _block(value: str) -> Block:
    return Block(kind=BlockKind.HOST, value=value, reason="", added_at=datetime(2026, 1, 31, tzinfo=UTC))


def _watched(path: Path) -> Watched[tuple[Block, ...]]:
    return Watched(path, blocks.SUBJECT, blocks.read_all, nothing=())


def _remove(path: Path) -> None:
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()


def test_what_was_read_stays_when_the_storage_is_gone_and_when_it_is_made_anew(tmp_path: Path) -> None:
    """A new storage says nothing of a subject before somebody changes that in it."""
    path = tmp_path / "mailwake.db"
    watched = _watched(path)
    assert (watched.look(), watched.found) == (True, ())
    _write(path, lambda connection: blocks.put(connection, _block("evil.example")))
    assert (watched.look(), watched.found) == (True, (_block("evil.example"),))

    _remove(path)
    assert (watched.look(), watched.found) == (False, (_block("evil.example"),))
    _write(path, lambda connection: None)
    assert (watched.look(), watched.found) == (False, (_block("evil.example"),))
    _write(path, lambda connection: blocks.put(connection, _block("worse.example")))
    assert (watched.look(), watched.found) == (True, (_block("worse.example"),))
    _write(path, lambda connection: blocks.remove(connection, BlockKind.HOST, "worse.example"))
    assert (watched.look(), watched.found) == (True, ())


def test_a_folder_that_cannot_be_looked_into_changes_nothing(tmp_path: Path) -> None:
    """Said once, when it goes on; the process that looks goes on, too."""
    path = tmp_path / "var" / "mailwake.db"
    _write(path, lambda connection: blocks.put(connection, _block("evil.example")))
    watched = _watched(path)
    watched.look()
    path.parent.rename(tmp_path / "elsewhere")
    path.parent.touch()
    with capture_logs() as logs:
        assert [watched.look() for _ in range(5)] == [False] * 5

    assert watched.found == (_block("evil.example"),)
    assert [line["event"] for line in logs] == ["settings_not_read"]


def test_a_row_of_an_unknown_kind_stops_nothing_and_breaks_nothing(tmp_path: Path) -> None:
    """Somebody wrote it by hand."""
    path = tmp_path / "mailwake.db"

    def write(connection: sa.Connection) -> None:
        blocks.put(connection, _block("evil.example"))
        connection.exec_driver_sql("INSERT INTO block VALUES ('link', 'x', '', 0)")

    _write(path, write)
    watched = _watched(path)
    watched.look()
    assert watched.found == (_block("evil.example"),)


async def test_a_fault_in_a_look_is_said_once_and_the_next_look_is_made() -> None:
    """The process that answers links must not end for it; a fault after that is another one."""
    seen: list[int] = []
    done = asyncio.Event()

    def look() -> bool:
        seen.append(len(seen))
        if len(seen) in {1, 2, 5}:
            raise RuntimeError("broken")
        return len(seen) >= 6

    with capture_logs() as logs:
        task = asyncio.create_task(watch(0.0, look, done.set))
        async with asyncio.timeout(10):
            await done.wait()
        task.cancel()

    assert [line["event"] for line in logs] == ["look_failed"] * 2
