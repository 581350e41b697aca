"""The size that a journal may have: mail stops first, hits at the end, links never; and it goes on by itself."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from tests.unit.happenings import accepted, opened
from tracker.journal.group import Kept
from tracker.journal.reader import JournalReader, Position
from tracker.journal.space import LOOK_EVERY_S, Space, used_bytes
from tracker.journal.writer import Journal

MAX_BYTES = 20_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _names(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "00").iterdir())


def _dropped() -> float:
    return REGISTRY.get_sample_value("mailwake_events_dropped_total") or 0


async def test_mail_stops_first_and_hits_at_the_end(tmp_path: Path) -> None:
    """The last twentieth is for hits, and not a byte is written beyond the size."""
    before = _dropped()
    journal = Journal(tmp_path / "00", max_bytes=MAX_BYTES, segment_bytes=4000)
    await journal.open()
    with pytest.raises(OSError, match=r"journal\.max_size"):
        for number in range(1000):
            await journal.emit([opened(number)])
    mail_bytes = used_bytes(tmp_path)
    kept = [await journal.emit_within(opened(number)) for number in range(1000, 1100)]
    with pytest.raises(OSError, match=r"journal\.max_size"):
        await journal.emit([accepted(1)])
    await journal.close()

    assert MAX_BYTES * 0.9 < mail_bytes <= MAX_BYTES * 0.95
    assert kept[0] is Kept.DURABLE
    assert kept[-1] is Kept.DROPPED
    assert _dropped() == before + kept.count(Kept.DROPPED)
    assert MAX_BYTES * 0.95 < used_bytes(tmp_path) <= MAX_BYTES


async def test_a_journal_goes_on_when_segments_are_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody restarts anything: who is refused has the folder looked at again. It is said as long as it lasts."""
    monkeypatch.setattr("tracker.journal.space.LOOK_EVERY_S", 0.0)
    monkeypatch.setattr("tracker.journal.writer.LOOK_EVERY_S", 0.0)
    journal = Journal(tmp_path / "00", max_bytes=MAX_BYTES, segment_bytes=4000)
    await journal.open()
    said = [journal.trouble]
    while await journal.emit_within(opened(1)) is not Kept.DROPPED:
        pass
    said.append(journal.trouble)
    for path in sorted((tmp_path / "00").glob("*.mwj"))[:-1]:
        path.unlink()
    async with asyncio.timeout(20):
        while await journal.emit_within(opened(2)) is Kept.DROPPED:  # noqa: ASYNC110 - a thread looks at the folder
            await asyncio.sleep(0)
        await journal.emit([accepted(3)])
    said.append(journal.trouble)
    await journal.close()

    assert said == [None, "the journal is full", None]
    assert LOOK_EVERY_S > 0
    assert used_bytes(tmp_path) < MAX_BYTES


async def test_a_full_journal_is_not_said_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is sent nothing for it would never be refused, and never find out that there is room."""
    journal = Journal(tmp_path / "00", max_bytes=MAX_BYTES)
    await journal.open()
    while await journal.emit_within(opened(1)) is not Kept.DROPPED:
        pass
    said = [journal.trouble]
    monkeypatch.setattr("tracker.journal.writer.FAILING_S", 0.0)
    said.append(journal.trouble)
    await journal.close()

    assert said == ["the journal is full", None]


def test_the_segments_of_all_processes_count(tmp_path: Path) -> None:
    """And other files do not."""
    for slot, size_bytes in (("00", 100), ("01", 200)):
        (tmp_path / slot).mkdir()
        (tmp_path / slot / f"000179369370210{slot[1]}-0000000000000007.mwj").write_bytes(bytes(size_bytes))
        (tmp_path / slot / "lock").write_bytes(bytes(1000))
    (tmp_path / "ingester.lock").touch()
    space = Space(tmp_path, 1000)
    space.look()

    assert used_bytes(tmp_path) == 300
    assert not space.is_full(700, for_hits=True)
    assert space.is_full(700, for_hits=False)
    assert space.is_full(701, for_hits=True)
    assert used_bytes(tmp_path / "nothing") == 0


def test_above_half_of_the_size_what_was_taken_in_goes_early(tmp_path: Path) -> None:
    """The oldest first, down to a half; what is not taken in yet, and the cursor's own segment, stay."""
    names = [f"000179369370210{number}-0000000000000007.mwj" for number in range(6)]
    (tmp_path / "00").mkdir()
    for name in names:
        (tmp_path / "00" / name).write_bytes(bytes(100))
    cursor = {"00": Position(segment=names[4], offset=0)}
    reader = JournalReader(tmp_path, slot_is_free=lambda _: False, max_bytes=800)

    assert reader.prune(cursor, before=EPOCH) == 2
    assert _names(tmp_path) == names[2:]
    assert JournalReader(tmp_path, slot_is_free=lambda _: False).prune(cursor, before=EPOCH) == 0
    assert JournalReader(tmp_path, slot_is_free=lambda _: False, max_bytes=10).prune(cursor, before=EPOCH) == 2
    assert _names(tmp_path) == names[4:]
