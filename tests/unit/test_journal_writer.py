"""Writing the journal: durable when it says so, honest when it cannot, and never in the way of a redirect."""

import asyncio
import errno
import os
import stat
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from tests.unit.happenings import accepted, clicked, opened
from tracker.contract.events import JournalRecord
from tracker.contract.records import decode
from tracker.journal import file as journal_file
from tracker.journal.group import Kept
from tracker.journal.reader import JournalReader, Position
from tracker.journal.segment import MAX_PAYLOAD_BYTES, names_in
from tracker.journal.writer import Journal
from tracker.runtime import durable


@asynccontextmanager
async def _journal(root: Path, **options: Any) -> AsyncIterator[Journal]:  # noqa: ANN401 - options of Journal
    journal = Journal(root / "00", **options)
    await journal.open()
    try:
        yield journal
    finally:
        await journal.close()


def _read(root: Path) -> list[JournalRecord]:
    """Read all that is whole."""
    reader = JournalReader(root, slot_is_free=lambda slot: True)
    after: dict[str, Position] = {}
    records: list[JournalRecord] = []
    while batches := reader.read(after):
        for batch in batches:
            records += [decode(entry) for entry in batch.entries if isinstance(entry, bytes)]
            after[batch.slot] = batch.after
    return records


def _segments(root: Path) -> list[Path]:
    return [root / "00" / str(name) for name in names_in(path.name for path in (root / "00").iterdir())]


def _dropped() -> float:
    return REGISTRY.get_sample_value("mailwake_events_dropped_total") or 0


def _swap_file(journal: Journal, descriptor: int) -> None:
    """Let the kernel answer for the open segment with another file: a full device, a pipe."""
    assert journal._current is not None
    os.dup2(descriptor, journal._current._descriptor)
    os.close(descriptor)


@contextmanager
def _slow_flush(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Hold every flush until the event is set."""
    go_on = threading.Event()
    flush = durable.flush_data

    def wait_then_flush(descriptor: int) -> None:
        go_on.wait()
        flush(descriptor)

    monkeypatch.setattr(journal_file, "flush_data", wait_then_flush)
    try:
        yield go_on
    finally:
        go_on.set()


async def test_what_was_emitted_is_in_the_file(tmp_path: Path) -> None:
    """Durable when `emit` returns, in the order of the call."""
    records: list[JournalRecord] = [accepted(1), opened(1), clicked(2), accepted(2)]
    async with _journal(tmp_path) as journal:
        await journal.emit(records[:3])
        assert _read(tmp_path) == records[:3]
        await journal.emit([])
        await journal.emit(records[3:])

    assert _read(tmp_path) == records


async def test_nobody_else_reads_the_journal(tmp_path: Path) -> None:
    """It holds addresses: files 0600, folders 0700."""
    async with _journal(tmp_path / "journal"):
        modes = [
            stat.S_IMODE(path.stat().st_mode)
            for path in (tmp_path / "journal" / "00", *_segments(tmp_path / "journal"))
        ]

    assert modes == [0o700, 0o600]


async def test_each_start_opens_a_segment_of_its_own(tmp_path: Path) -> None:
    """Behind a torn tail nothing would be read, so nothing is written there."""
    async with _journal(tmp_path) as journal:
        await journal.emit([opened(1)])
    (first,) = _segments(tmp_path)
    with first.open("ab") as file:
        file.write(b"\0\0\1")
    before = first.read_bytes()
    async with _journal(tmp_path) as journal:
        await journal.emit([opened(2)])

    assert len(_segments(tmp_path)) == 2
    assert first.read_bytes() == before
    assert _read(tmp_path) == [opened(1), opened(2)]


async def test_a_full_segment_is_followed_by_another(tmp_path: Path) -> None:
    """What is taken in can be deleted in pieces."""
    async with _journal(tmp_path, segment_bytes=2000) as journal:
        for number in range(30):
            await journal.emit([opened(number)])

    assert len(_segments(tmp_path)) > 3
    assert _read(tmp_path) == [opened(number) for number in range(30)]


async def test_what_comes_together_is_flushed_together(tmp_path: Path) -> None:
    """Group commit: the cost of a flush is shared by all that wait."""
    flushes = 0

    def count() -> None:
        nonlocal flushes
        flushes += 1

    async with _journal(tmp_path, on_durable=count) as journal:
        kept = await asyncio.gather(*(journal.emit_within(opened(number)) for number in range(200)))

    assert len(_read(tmp_path)) == 200
    assert set(kept) <= {Kept.DURABLE, Kept.WRITTEN}
    assert 1 <= flushes <= 5


async def test_a_full_disk_is_an_oserror_and_heals(tmp_path: Path) -> None:
    """Mail is refused for now; the next record tries a new segment."""
    async with _journal(tmp_path) as journal:
        await journal.emit([opened(1)])
        _swap_file(journal, os.open("/dev/full", os.O_WRONLY))
        with pytest.raises(OSError, match="No space") as raised:
            await journal.emit([opened(2)])
        await journal.emit([opened(3)])

    assert raised.value.errno == errno.ENOSPC
    assert _read(tmp_path) == [opened(1), opened(3)]


async def test_a_hit_that_cannot_be_written_is_counted_and_no_error(tmp_path: Path) -> None:
    """A redirect is worth more than its record."""
    before = _dropped()
    async with _journal(tmp_path) as journal:
        _swap_file(journal, os.open("/dev/full", os.O_WRONLY))
        assert await journal.emit_within(opened(1)) is Kept.DROPPED
        assert await journal.emit_within(opened(2)) is Kept.DURABLE

    assert _dropped() == before + 1
    assert _read(tmp_path) == [opened(2)]


async def test_records_before_a_failed_write_are_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that fails says nothing of what was written before it and still waits for its flush."""
    with _slow_flush(monkeypatch) as go_on:
        async with _journal(tmp_path) as journal:
            segment = journal._current
            assert segment is not None
            first = asyncio.create_task(journal.emit([opened(1)]))
            await _until(lambda: segment.size_bytes > 300)
            real = os.dup(segment._descriptor)
            _swap_file(journal, os.open("/dev/full", os.O_WRONLY))
            with pytest.raises(OSError, match="No space"):
                await journal.emit([opened(2)])
            os.dup2(real, segment._descriptor)
            os.close(real)
            go_on.set()
            await first

    assert _read(tmp_path) == [opened(1)]


async def test_a_failed_flush_is_never_tried_again(tmp_path: Path) -> None:
    """It would report a success for data that is gone: the segment is left, and a new one begun."""
    reading, writing = os.pipe()  # can be written, cannot be flushed
    async with _journal(tmp_path) as journal:
        _swap_file(journal, writing)
        with pytest.raises(OSError, match="Invalid argument"):
            await journal.emit([opened(1)])
        await journal.emit([opened(2)])
    os.close(reading)

    assert len(_segments(tmp_path)) == 2
    assert _read(tmp_path) == [opened(2)]


async def test_a_folder_that_is_gone_wrong_is_an_oserror_and_heals(tmp_path: Path) -> None:
    """No segment can be created: every record says so, and no thread dies of it."""
    async with _journal(tmp_path) as journal:
        _swap_file(journal, os.open("/dev/full", os.O_WRONLY))
        (tmp_path / "00").rename(tmp_path / "aside")
        (tmp_path / "00").touch()
        for _ in range(3):
            with pytest.raises(OSError, match=r"."):
                await journal.emit([opened(1)])
        (tmp_path / "00").unlink()
        await journal.emit([opened(2)])

    assert _read(tmp_path) == [opened(2)]


async def test_a_fault_of_ours_is_an_oserror_too(tmp_path: Path) -> None:
    """A thread that died of it would leave every later caller waiting."""

    def no_chance(size: int) -> bytes:
        raise RuntimeError(size)

    async with _journal(tmp_path) as journal:
        _swap_file(journal, os.open("/dev/full", os.O_WRONLY))
        entropy, journal._entropy = journal._entropy, no_chance
        for _ in range(2):  # the full disk, then the fault in creating the next segment
            with pytest.raises(OSError, match=r"No space|RuntimeError"):
                await journal.emit([opened(1)])
        journal._entropy = entropy
        await journal.emit([opened(2)])

    assert _read(tmp_path) == [opened(2)]


async def test_an_unusable_folder_is_told_at_start(tmp_path: Path) -> None:
    """Not at the first hit."""
    (tmp_path / "00").touch()

    with pytest.raises(OSError, match=r"."):
        await Journal(tmp_path / "00").open()


async def test_a_disk_that_is_full_at_the_start_heals_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relay that does not start delivers nothing, not even what waits and would make room."""

    def full(_descriptor: int, _pieces: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(journal_file, "write_whole", full)
        journal = Journal(tmp_path / "00")
        await journal.open()
        with pytest.raises(OSError, match="No space"):
            await journal.emit([opened(1)])
        assert await journal.emit_within(opened(2)) is Kept.DROPPED
    await journal.emit([opened(3)])
    await journal.close()

    assert _read(tmp_path) == [opened(3)]


async def test_a_hit_waits_for_a_slow_disk_only_so_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written before the answer, so no kill loses it; durable a little later."""
    with _slow_flush(monkeypatch) as go_on:
        async with _journal(tmp_path, hit_wait_s=0.01) as journal:
            assert await journal.emit_within(opened(1)) is Kept.WRITTEN
            assert await journal.emit_within(opened(2)) is Kept.WRITTEN  # while the first flush goes on
            assert _read(tmp_path) == [opened(1), opened(2)]
            go_on.set()
            await journal.emit([opened(3)])

    assert _read(tmp_path) == [opened(1), opened(2), opened(3)]


async def test_mail_waits_for_a_slow_disk_as_long_as_it_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """250 is a promise; only hits are let go."""
    with _slow_flush(monkeypatch) as go_on:
        async with _journal(tmp_path, hit_wait_s=0.001) as journal:
            mail = asyncio.create_task(journal.emit([accepted(1)]))
            assert await journal.emit_within(opened(1)) is Kept.WRITTEN
            assert not mail.done()
            go_on.set()
            await mail


async def test_a_stuck_disk_stops_no_redirect(tmp_path: Path) -> None:
    """Where even `write` waits, the hit is answered, and memory has a limit."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    while True:
        try:
            os.write(writing, bytes(65536))
        except BlockingIOError:
            break
    os.set_blocking(writing, True)  # a full pipe: a write waits until somebody reads
    before = _dropped()
    async with _journal(tmp_path, hit_wait_s=0.01, max_waiting_bytes=600) as journal:
        _swap_file(journal, writing)
        assert await journal.emit_within(opened(1)) is Kept.WAITING
        kept = [await journal.emit_within(opened(number)) for number in range(2, 6)]
        with pytest.raises(OSError, match="keep up") as raised:
            await journal.emit([accepted(1)])
        os.set_blocking(reading, False)
        while journal._waiting_bytes:  # the pipe drains, and cannot be flushed
            with pytest.raises(BlockingIOError):
                while True:
                    os.read(reading, 65536)
            await asyncio.sleep(0)
        assert await journal.emit_within(opened(6)) is Kept.DURABLE
    os.close(reading)

    assert Kept.DROPPED in kept
    assert _dropped() == before + kept.count(Kept.DROPPED)  # what was written in the end was not dropped
    assert raised.value.errno == errno.ENOBUFS
    assert _read(tmp_path) == [opened(6)]


async def test_a_caller_that_leaves_takes_nothing_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cancelled while it waits: the record is written all the same, and others are told."""
    with _slow_flush(monkeypatch) as go_on:
        async with _journal(tmp_path) as journal:
            leaving = asyncio.create_task(journal.emit([opened(1)]))
            staying = asyncio.create_task(journal.emit([opened(2)]))
            await asyncio.sleep(0)
            leaving.cancel()
            go_on.set()
            await staying

    assert leaving.cancelled()
    assert _read(tmp_path) == [opened(1), opened(2)]


async def test_closing_flushes_what_was_handed_over(tmp_path: Path) -> None:
    """SIGTERM loses nothing; afterwards there is no journal."""
    async with _journal(tmp_path) as journal:
        waiting = [asyncio.create_task(journal.emit([opened(number)])) for number in range(50)]
        await asyncio.sleep(0)
        await journal.close()
        await asyncio.gather(*waiting)
        await journal.close()
        before = _dropped()
        with pytest.raises(OSError, match="closed"):
            await journal.emit([opened(99)])
        assert await journal.emit_within(opened(99)) is Kept.DROPPED

    assert _dropped() == before + 1
    assert _read(tmp_path) == [opened(number) for number in range(50)]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("journal-")]


async def test_a_record_that_no_segment_can_hold_is_refused(tmp_path: Path) -> None:
    """It could be written and never be read."""
    async with _journal(tmp_path) as journal:
        with pytest.raises(ValueError, match="larger"):
            await journal.emit([accepted(1, subject="x" * MAX_PAYLOAD_BYTES)])


async def _until(condition: Any) -> None:  # noqa: ANN401 - a callable that says whether it is so
    while not condition():  # noqa: ASYNC110 - another thread, which tells nobody
        await asyncio.sleep(0.001)
