"""The storage's bad days: locked, killed, removed, damaged, of another version; and records that are poison."""

import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from tests.integration.storage import counted, drain, node, recount, until
from tests.unit.happenings import accepted, clicked, delivery, opened
from tracker.contract import records
from tracker.journal.reader import Batch, Damaged, Position
from tracker.journal.segment import Fault
from tracker.store import ingest
from tracker.store.database import BUSY_TIMEOUT_MS, StorageUnavailableError, Store, is_unavailable, reading
from tracker.store.ingest import Ingester
from tracker.store.intake import Entry, Intake


class _KilledError(BaseException):
    """Stands for the end of the process: nothing catches it."""


async def test_ingest_waits_while_another_program_holds_the_storage(tmp_path: Path) -> None:
    """`BEGIN EXCLUSIVE` for some busy timeouts: nothing is lost, and the log says it once each way."""
    async with node(tmp_path) as here:
        await here.take_in(accepted())
        with capture_logs() as logs, closing(sqlite3.connect(here.database, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            await here.journal.emit([delivery(), opened(1), clicked(2)])
            ingester = here.ingester()
            running = asyncio.create_task(ingester.run())
            await until(lambda: ingester._failures >= 1000 // BUSY_TIMEOUT_MS)
            assert here.rows("SELECT count(*) FROM event") == [(1,)]
            other.execute("ROLLBACK")
            await until(lambda: here.commits > 1)
            running.cancel()

        assert [body["eventType"] for body in here.bodies()] == ["Send", "Delivery", "Open", "Click"]
        assert [entry["event"] for entry in logs if entry["event"].startswith("storage_")] == [
            "storage_unavailable",
            "storage_available",
        ]


async def test_a_storage_that_is_locked_from_the_start_is_waited_for(tmp_path: Path) -> None:
    """Opening needs the lock too: the mode is set and the tables are made."""
    with closing(sqlite3.connect(tmp_path / "mailwake.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        async with node(tmp_path) as here:
            await here.journal.emit([accepted()])
            ingester = here.ingester()
            running = asyncio.create_task(ingester.run())
            await until(lambda: ingester._failures > 0)
            other.execute("ROLLBACK")
            await until(lambda: here.commits > 0)
            running.cancel()

            assert len(here.bodies()) == 1


@pytest.mark.parametrize("statement", ["INSERT INTO message (", "INSERT INTO event", "INSERT INTO cursor"])
async def test_a_kill_in_the_middle_leaves_all_or_nothing(tmp_path: Path, statement: str) -> None:
    """Rows, counters and cursor are one transaction: after the kill the batch is read again, once."""

    def kill(_conn: object, _cursor: object, text: str, *_: object) -> None:
        if text.startswith(statement):
            raise _KilledError

    async with node(tmp_path) as here:
        await here.journal.emit([accepted(), delivery(), opened(1)])
        ingester = here.ingester()
        sa.event.listen(sa.Engine, "before_cursor_execute", kill)
        try:
            with pytest.raises(_KilledError):
                await drain(ingester)
        finally:
            sa.event.remove(sa.Engine, "before_cursor_execute", kill)
        assert here.rows("SELECT count(*) FROM event") == [(0,)]
        assert here.rows("SELECT count(*) FROM cursor") == [(0,)]

        await drain(here.ingester())
        assert [body["eventType"] for body in here.bodies()] == ["Send", "Delivery", "Open"]
        assert counted(here) == recount(here)


async def test_a_removed_storage_is_made_anew_and_filled_from_the_journal(tmp_path: Path) -> None:
    """The storage may be lost: what the journal keeps comes back, under the same ids."""
    async with node(tmp_path) as here:
        ingester = here.ingester(destinations=["archive"])
        await here.take_in(accepted(), delivery(), ingester=ingester)
        ids = here.rows("SELECT event_id FROM event")
        for path in tmp_path.glob("mailwake.db*"):
            path.unlink()
        await here.take_in(opened(1), ingester=ingester)

        assert here.rows("SELECT event_id FROM event ORDER BY seq")[:2] == ids
        assert len(here.bodies()) == 3
        assert here.rows("SELECT destination, seq FROM destination_cursor") == [("archive", 0)]


async def test_a_damaged_storage_is_an_unavailable_one(tmp_path: Path) -> None:
    """What is no database is not written over; the operator is told which file it is."""
    (tmp_path / "mailwake.db").write_bytes(b"not a database at all" * 100)
    store = Store(tmp_path / "mailwake.db")

    with pytest.raises(StorageUnavailableError, match=r"mailwake\.db"):
        await store.read(lambda connection: None)
    with pytest.raises(StorageUnavailableError, match=r"mailwake\.db"), reading(tmp_path / "mailwake.db"):
        pass
    assert (tmp_path / "mailwake.db").read_bytes().startswith(b"not a database")
    await store.close()


async def test_a_storage_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    """An older program must not write into tables that it does not know."""
    async with node(tmp_path) as here:
        await here.take_in(accepted())
    with closing(sqlite3.connect(here.database)) as other:
        other.execute("UPDATE alembic_version SET version_num = '9999'")
        other.commit()
    store = Store(here.database)

    with pytest.raises(StorageUnavailableError, match="9999"):
        await store.read(lambda connection: None)
    with pytest.raises(StorageUnavailableError, match="9999"), reading(here.database):
        pass
    await store.close()


async def test_what_cannot_be_read_is_put_aside_and_the_rest_goes_on(tmp_path: Path) -> None:
    """Poison, a later version's kind and a damaged segment are kept with the reason; nothing waits behind them."""
    bad = [b"{", b'{"kind":"from_the_future"}', records.encode(clicked(9, link=2**70))]
    raws = _Raws(
        [records.encode(accepted()), bad[0], records.encode(delivery()), bad[1], bad[2], records.encode(opened(1))]
    )
    async with node(tmp_path) as here:
        await drain(_with(here.ingester(), raws))

        assert [body["eventType"] for body in here.bodies()] == ["Send", "Delivery", "Open"]
        aside = here.rows("SELECT slot, raw, error FROM aside ORDER BY id")
        assert [raw for _, raw, _ in aside] == [b"", *bad]
        assert [error.partition(":")[0] for *_, error in aside] == ["Damaged", *["RecordError"] * 3]
        assert counted(here) == recount(here)


async def test_a_record_that_the_database_refuses_is_put_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that nobody foresaw, while rows are written, costs its own record alone."""
    write = Intake._write

    def refuse(self: Intake) -> None:
        rows = self._events
        rows[:] = [(*row[:-1], None) if row[0].endswith("2") else row for row in rows]
        write(self)

    monkeypatch.setattr(Intake, "_write", refuse)
    async with node(tmp_path) as here:
        await here.take_in(accepted(), opened(1), opened(2), opened(3))

        ids = [event_id[-1] for (event_id,) in here.rows("SELECT event_id FROM event WHERE type = 'open'")]
        assert ids == ["1", "3"]
        assert [error.partition(":")[0] for (error,) in here.rows("SELECT error FROM aside")] == ["IntegrityError"]
        assert counted(here) == recount(here)


async def test_a_poison_hit_that_comes_before_its_message_costs_itself_alone(tmp_path: Path) -> None:
    """It does not wait for the message, which would be put aside in its place."""
    async with node(tmp_path) as here:
        await here.take_in(clicked(9, link=70_000), opened(1))
        await here.take_in(accepted())

        assert [body["eventType"] for body in here.bodies()] == ["Send", "Open"]
        assert [error.partition(":")[0] for (error,) in here.rows("SELECT error FROM aside")] == ["RecordError"]
        assert counted(here) == recount(here)


async def test_no_address_is_logged(tmp_path: Path) -> None:
    """An error of the database quotes the row that it was about."""
    with capture_logs() as logs:
        async with node(tmp_path) as here:
            await drain(_with(here.ingester(), _Raws([b'{"kind":"open","copy":"ana@client.example"}'])))

    assert [entry["event"] for entry in logs] == ["record_put_aside", "record_put_aside"]
    assert "ana@client.example" not in str(logs)


async def test_an_unreadable_journal_is_said_once_and_tried_again(tmp_path: Path) -> None:
    """A folder without rights must not end the task that everything else waits for."""
    raws = _Raws([records.encode(accepted())], failures=3)
    with capture_logs() as logs:
        async with node(tmp_path) as here:
            running = asyncio.create_task(_with(here.ingester(), raws).run())
            await until(lambda: here.commits > 0)
            running.cancel()

    assert [entry["event"] for entry in logs].count("journal_unreadable") == 1


async def test_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    """Recipients and what they did are in them."""
    async with node(tmp_path) as here:
        await here.take_in(accepted())

        assert {path.stat().st_mode & 0o777 for path in tmp_path.glob("mailwake.db*")} == {0o600}


class _Raws:
    """A journal of one slot that holds what no writer would write; it begins with a damaged segment."""

    def __init__(self, raws: list[bytes], failures: int = 0) -> None:
        self._raws = raws
        self._failures = failures

    def read(self, cursor: dict[str, Position], *, max_records: int) -> list[Batch]:
        if self._failures:
            self._failures -= 1
            raise PermissionError(13, "Permission denied", "journal/00")
        start = cursor["00"].offset if "00" in cursor else 0
        found = self._raws[start : start + max_records]
        if not found:
            return []
        damaged = Damaged(slot="00", position=Position(segment="a", offset=26), fault=Fault.CHECKSUM, lost_bytes=7)
        after = Position(segment="b", offset=start + len(found))
        return [Batch(slot="00", after=after, entries=(damaged, *found))]

    def prune(self, cursor: object, *, before: object) -> int:
        return 0


def _with(ingester: Ingester, raws: _Raws) -> Ingester:
    ingester._reader = raws  # type: ignore[assignment]
    return ingester


async def test_large_records_are_taken_in_by_portions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is made of records is in memory at once, so a batch of large ones is cut, and the next one is no larger."""
    sizes: list[int] = []
    take = Intake.take

    def note(self: Intake, entries: Sequence[Entry]) -> None:
        sizes.append(sum(len(entry.raw) for entry in entries))
        take(self, entries)

    monkeypatch.setattr(Intake, "take", note)
    monkeypatch.setattr(ingest, "INTAKE_BYTES", 10_000)
    async with node(tmp_path) as here:
        await here.take_in(*(accepted(number, subject="x" * 3000) for number in range(1, 12)), delivery(7), opened(1))

        assert len(here.bodies()) == 13
        assert len(sizes) > 3
        assert max(sizes) <= 10_000


@pytest.mark.parametrize(
    "asked, came, size_bytes, expected",
    [
        (ingest.BATCH, ingest.BATCH - 1, 100, ingest.BATCH),
        (ingest.BATCH, ingest.BATCH, 100, ingest.BATCH_BEHIND),
        (ingest.BATCH_BEHIND, ingest.BATCH_BEHIND, 100, ingest.BATCH_BEHIND),
        (ingest.BATCH, ingest.BATCH, 100_000, ingest.BATCH),
    ],
)
def test_a_batch_is_large_where_ingest_is_behind_and_records_are_small(
    asked: int, came: int, size_bytes: int, expected: int
) -> None:
    """Catching up is fast, and memory has a limit."""
    batch = Batch(slot="00", after=Position(segment="a", offset=1), entries=(b"x" * size_bytes,) * came)

    assert ingest._next_batch([batch], asked) == expected


@pytest.mark.parametrize(
    "error, expected",
    [
        (sqlite3.OperationalError("database is locked"), True),
        (sqlite3.DatabaseError("database disk image is malformed"), True),
        (sqlite3.IntegrityError("UNIQUE constraint failed"), False),
        (sqlite3.ProgrammingError("wrong number of bindings"), False),
    ],
)
def test_an_error_of_the_driver_itself_is_told_apart_too(error: Exception, expected: bool) -> None:
    """Look-ups of single rows go past SQLAlchemy, and so do their errors: a locked storage must not put mail aside."""
    assert is_unavailable(error) is expected
