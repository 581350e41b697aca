"""From the log to destinations: in order, at least once, each at its own pace."""

import asyncio
import errno
import json
import os
import select
import sqlite3
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.integration.storage import Node, node, running, until
from tests.unit.happenings import accepted, clicked, delivery, opened
from tracker.contract.events import EventType
from tracker.contract.settings import ConfigurationSet, EventDestination, Settings
from tracker.publish import jsonl
from tracker.publish.jsonl import JsonlWriter
from tracker.publish.outcome import Delivered, Outcome, TryAgain
from tracker.publish.publisher import Publisher
from tracker.publish.schedule import Schedule
from tracker.publish.stdout import StdoutWriter
from tracker.publish.writers import Writer
from tracker.store.publishing import DestinationState, LogEntry, Page, Progress, settle

NOON = datetime(2026, 11, 3, 12, tzinfo=UTC)
ALL = frozenset(kind.value for kind in EventType)


class Memory:
    """A destination that remembers; it fails as often as it is told to, and can be made to hang."""

    def __init__(self, failures: int = 0) -> None:
        self.entries: list[LogEntry] = []
        self.failures = failures
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()
        self.tidied = 0

    async def write(self, entries: Sequence[LogEntry], now: datetime) -> Outcome:
        await self.may_go_on.wait()
        if self.failures:
            self.failures -= 1
            self.entries += entries[:1]  # the first has arrived all the same
            return TryAgain(reason="Connection reset by peer")
        self.entries += entries
        return Delivered()

    async def tidy(self, now: datetime) -> None:
        self.tidied += 1

    async def close(self) -> None:
        pass

    @property
    def records(self) -> list[str]:
        return [entry.body for entry in self.entries]

    @property
    def types(self) -> list[str]:
        return [json.loads(record)["eventType"] for record in self.records]


def _settings(*destinations: EventDestination) -> Settings:
    names = tuple(destination.name for destination in destinations)
    return Settings(
        base_url="http://127.0.0.1:8080",
        account_set="default",
        sets={
            "default": ConfigurationSet(name="default", destinations=names[:1]),
            "promo": ConfigurationSet(name="promo", destinations=names),
        },
        destinations={destination.name: destination for destination in destinations},
    )


def _destination(name: str, *, events: frozenset[str] = ALL, sets: tuple[str, ...] = ("*",)) -> EventDestination:
    return EventDestination(name=name, type="stdout", events=events, sets=sets)


@asynccontextmanager
async def _publishing(here: Node, settings: Settings, **writers: Writer) -> AsyncIterator[Publisher]:
    began_s = time.monotonic()
    publisher = Publisher(
        store=here.store,
        settings=settings,
        clock=lambda: here.now + timedelta(seconds=time.monotonic() - began_s),
        writers=writers,
        schedule=lambda destination: Schedule(pauses=[timedelta(milliseconds=5)]),
        poll_s=0.02,
    )
    async with running(publisher.run()):
        yield publisher


async def test_a_destination_gets_every_event_in_the_order_of_the_log(tmp_path: Path) -> None:
    """More than a page, and what comes while it runs."""
    archive = Memory()
    async with node(tmp_path) as here:
        await here.take_in(ingester=here.ingester(["archive"]))
        await here.take_in(accepted(), *(opened(number) for number in range(1, 700)))
        async with _publishing(here, _settings(_destination("archive")), archive=archive) as publisher:
            await until(lambda: len(archive.records) == 700)
            ingester = here.ingester(["archive"], on_commit=publisher.wake)
            await here.take_in(opened(1000), ingester=ingester)
            await until(lambda: len(archive.records) == 701)

        assert archive.records == here.records()


async def test_a_destination_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """The cursor is in the storage."""
    first, second = Memory(), Memory()
    settings = _settings(_destination("archive"))
    async with node(tmp_path) as here:
        await here.take_in(accepted(), ingester=here.ingester(["archive"]))
        async with _publishing(here, settings, archive=first):
            await until(lambda: here.rows("SELECT seq FROM destination_cursor") == [(1,)])
        await here.take_in(delivery())
        async with _publishing(here, settings, archive=second):
            await until(lambda: bool(second.records))

        assert (first.types, second.types) == (["Send"], ["Delivery"])


async def test_a_failed_write_is_made_again_and_said_once(tmp_path: Path) -> None:
    """At least once: what had arrived comes twice, nothing is missing."""
    archive = Memory(failures=3)
    async with node(tmp_path) as here:
        await here.take_in(accepted(), delivery(), ingester=here.ingester(["archive"]))
        with capture_logs() as logs:
            async with _publishing(here, _settings(_destination("archive")), archive=archive):
                await until(lambda: "destination_recovered" in [entry["event"] for entry in logs])

        assert archive.types == ["Send", "Send", "Send", "Send", "Delivery"]
        assert [entry["event"] for entry in logs].count("destination_failed") == 1
        assert here.rows("SELECT seq FROM destination_cursor") == [(2,)]


async def test_a_record_that_a_format_cannot_tell_of_ends_no_process(tmp_path: Path) -> None:
    """It is a fault of ours, which its destination waits for; the other one gets the event."""
    archive, broken = Memory(), Memory()
    settings = _settings(
        _destination("archive"),
        EventDestination(name="broken", type="stdout", events=ALL, sets=("*",), format="tencent"),
    )
    async with node(tmp_path) as here:
        await here.take_in(accepted(), delivery(), ingester=here.ingester(["archive", "broken"]))
        with closing(sqlite3.connect(here.database)) as other:
            other.execute("UPDATE event SET body = '{}' WHERE type = 'delivery'")
            other.commit()
        with capture_logs() as logs:
            async with _publishing(here, settings, archive=archive, broken=broken):
                await until(
                    lambda: len(archive.entries) == 2 and any(log["event"] == "destination_failed" for log in logs)
                )

        assert broken.entries == []
        assert "destination_broken" in [log["event"] for log in logs]


async def test_a_slow_destination_holds_up_no_other(tmp_path: Path) -> None:
    """Each has a task of its own."""
    slow, quick = Memory(), Memory()
    slow.may_go_on.clear()
    async with node(tmp_path) as here:
        await here.take_in(accepted(), delivery(), opened(1), ingester=here.ingester(["slow", "quick"]))
        settings = _settings(_destination("slow"), _destination("quick"))
        async with _publishing(here, settings, slow=slow, quick=quick):
            await until(lambda: len(quick.records) == 3)
            assert slow.records == []
            slow.may_go_on.set()
            await until(lambda: len(slow.records) == 3)


async def test_a_destination_takes_what_it_was_set_up_for(tmp_path: Path) -> None:
    """By type, and by set; events without a set go to the destinations of the account's."""
    every, clicks, promo = Memory(), Memory(), Memory()
    settings = _settings(
        _destination("every"),
        _destination("clicks", events=frozenset({"click"})),
        _destination("promo", sets=("promo",)),
    )
    async with node(tmp_path) as here:
        await here.take_in(
            accepted(1),
            clicked(1),
            accepted(2, configuration_set=None),
            opened(2, 2),
            ingester=here.ingester(settings.destinations),
        )
        async with _publishing(here, settings, every=every, clicks=clicks, promo=promo):
            await until(lambda: here.rows("SELECT DISTINCT seq FROM destination_cursor") == [(4,)])

        assert every.types == ["Send", "Click", "Send", "Open"]
        assert clicks.types == ["Click"]
        assert promo.types == ["Send", "Click"]


async def test_a_destination_that_is_added_later_begins_at_the_end(tmp_path: Path) -> None:
    """It does not repeat months of history; those of a new storage begin at its first event."""
    old, new = Memory(), Memory()
    settings = _settings(_destination("old"), _destination("new"))
    async with node(tmp_path) as here:
        await here.take_in(accepted(), ingester=here.ingester(["old"]))
        await here.take_in(delivery(), ingester=here.ingester(["old", "new"]))
        async with _publishing(here, settings, old=old, new=new):
            await until(lambda: len(old.records) == 2 and len(new.records) == 1)

        assert new.types == ["Delivery"]


async def test_a_storage_that_comes_late_is_waited_for(tmp_path: Path) -> None:
    """Publishing starts with the process, whatever state the storage is in."""
    archive = Memory()
    (tmp_path / "mailwake.db").mkdir()
    async with node(tmp_path) as here:
        with capture_logs() as logs:
            async with _publishing(here, _settings(_destination("archive")), archive=archive):
                await until(lambda: any(entry["event"] == "storage_unavailable" for entry in logs))
                (tmp_path / "mailwake.db").rmdir()
                await here.take_in(accepted(), ingester=here.ingester(["archive"]))
                await until(lambda: archive.types == ["Send"])


async def test_a_locked_storage_does_not_repeat_what_was_handed_over(tmp_path: Path) -> None:
    """The cursor cannot be moved for a while; the destination is not flooded with the same page meanwhile."""
    archive = Memory()
    async with node(tmp_path) as here:
        await here.take_in(accepted(), delivery(), ingester=here.ingester(["archive"]))
        with closing(sqlite3.connect(here.database, isolation_level=None)) as other, capture_logs() as logs:
            other.execute("BEGIN EXCLUSIVE")
            async with _publishing(here, _settings(_destination("archive")), archive=archive):
                await until(lambda: any(entry["event"] == "storage_unavailable" for entry in logs))
                other.execute("ROLLBACK")
                await until(lambda: here.rows("SELECT seq FROM destination_cursor") == [(2,)])

        assert archive.types == ["Send", "Delivery"]
        assert "destination_failed" not in [entry["event"] for entry in logs]


async def test_a_storage_made_anew_does_not_inherit_a_place(tmp_path: Path) -> None:
    """Its numbers begin again: a cursor from the old one would skip its first events."""
    async with node(tmp_path) as here:
        await here.take_in(accepted(), delivery(), ingester=here.ingester(["archive"]))
        old = Page(
            after=1,
            entries=(LogEntry(seq=9, event_id="e", type="open", configuration_set=None, agent_class=None, body="{}"),),
        )
        progress = Progress(after=1, to=old.last, state=DestinationState(fingerprint=""), at=NOON, dead=old.entries)
        await here.store.write(lambda connection: settle(connection, "archive", progress))

        assert here.rows("SELECT seq FROM destination_cursor") == [(0,)]
        assert here.rows("SELECT * FROM dead_letter") == []


async def test_tidying_is_done_once_a_day(tmp_path: Path) -> None:
    """Also where there are no events."""
    archive = Memory()
    async with node(tmp_path) as here, _publishing(here, _settings(_destination("archive")), archive=archive):
        await until(lambda: archive.tidied == 1)
        here.now += timedelta(days=1)
        await until(lambda: archive.tidied == 2)


def _entries(*bodies: str) -> list[LogEntry]:
    return [
        LogEntry(seq=seq, event_id=str(seq), type="open", configuration_set=None, agent_class=None, body=body)
        for seq, body in enumerate(bodies, 1)
    ]


async def test_records_are_lines_of_the_day_of_writing(tmp_path: Path) -> None:
    """In UTC, whatever the clock's zone."""
    writer = JsonlWriter(tmp_path / "events", keep=None)
    late = datetime.fromisoformat("2026-11-04T01:30:00+02:00")

    assert await writer.write(_entries('{"a":1}', '{"b":2}'), late) == Delivered()
    assert await writer.write(_entries('{"c":3}'), late + timedelta(hours=1)) == Delivered()

    assert (tmp_path / "events" / "2026-11-03.jsonl").read_text() == '{"a":1}\n{"b":2}\n'
    assert (tmp_path / "events" / "2026-11-04.jsonl").read_text() == '{"c":3}\n'
    assert (tmp_path / "events" / "2026-11-04.jsonl").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("rest", [b"", b'{"a":1}\n{"b"', b'{"a":1}\n' + b"x" * 200_000, b"x" * 70_000])
async def test_a_line_that_a_crash_cut_off_is_cut_away(tmp_path: Path, rest: bytes) -> None:
    """It was never acknowledged and is written again: else two records would stand on one line."""
    path = tmp_path / "2026-11-03.jsonl"
    path.write_bytes(rest)
    await JsonlWriter(tmp_path, keep=None).write(_entries('{"b":2}'), NOON)

    assert path.read_bytes() == rest[: rest.rfind(b"\n") + 1] + b'{"b":2}\n'


async def test_the_folder_is_flushed_until_the_name_of_a_file_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that failed leaves the file there, but not for certain: the next one must not take its name for safe."""
    flushed: list[str] = []

    def flush(folder: Path) -> None:
        flushed.append(folder.name)
        if len(flushed) == 1:
            raise OSError(errno.EIO, "the folder cannot be flushed")

    monkeypatch.setattr(jsonl, "flush_folder", flush)
    writer = JsonlWriter(tmp_path / "events", keep=None)

    assert await writer.write(_entries('{"a":1}'), NOON) == TryAgain(reason="the folder cannot be flushed")
    for _ in range(2):
        await writer.write(_entries('{"a":1}'), NOON)
    assert len(flushed) == 2
    (tmp_path / "events" / "2026-11-03.jsonl").unlink()
    await writer.write(_entries('{"b":2}'), NOON)
    assert len(flushed) == 3


async def test_old_files_are_removed_and_foreign_ones_are_not(tmp_path: Path) -> None:
    """A file goes when its day ended longer than `keep` ago."""
    names = ["2026-11-01.jsonl", "2026-11-02.jsonl", "2026-13-99.jsonl", "notes.txt", "2026-10-01.jsonl.gz"]
    for name in names:
        (tmp_path / name).touch()
    await JsonlWriter(tmp_path, keep=timedelta(days=1)).tidy(NOON)

    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names[1:])


async def test_a_file_that_is_a_link_elsewhere_is_not_followed(tmp_path: Path) -> None:
    """Who may write into the folder must not choose what we append to."""
    (tmp_path / "2026-11-03.jsonl").symlink_to(tmp_path / "victim")

    outcome = await JsonlWriter(tmp_path, keep=None).write(_entries("{}"), NOON)
    assert isinstance(outcome, TryAgain)
    assert "symbolic" in outcome.reason
    assert not (tmp_path / "victim").exists()


async def test_a_writer_waits_for_whoever_rewrites_the_files(tmp_path: Path) -> None:
    """Else a line would be appended to a file that is just being replaced by one without a person's lines."""
    writer = JsonlWriter(tmp_path, keep=None)
    with jsonl.locked(tmp_path):
        writing = asyncio.create_task(writer.write(_entries("{}"), NOON))
        await asyncio.wait([writing], timeout=0.1)
        assert not writing.done()
        assert not (tmp_path / "2026-11-03.jsonl").exists()

    assert await writing == Delivered()


async def test_standard_output_gets_lines_and_gives_up_when_told_to() -> None:
    """A pager that pauses must not keep the process from ending."""
    reading, writing = os.pipe()
    writer = StdoutWriter(writing)
    assert await writer.write(_entries('{"a":1}', '{"b":2}'), NOON) == Delivered()
    assert os.read(reading, 100) == b'{"a":1}\n{"b":2}\n'

    blocked = asyncio.create_task(writer.write(_entries("x" * 1_000_000), NOON))
    has_room = select.poll()
    has_room.register(writing, select.POLLOUT)
    await until(lambda: not has_room.poll(0))
    await writer.close()
    assert isinstance(await blocked, TryAgain)

    os.close(reading)
    assert await StdoutWriter(writing).write(_entries("{}"), NOON) == TryAgain(reason="Broken pipe")
    os.close(writing)
