"""Reading the journal: all that is whole and nothing that is not, from a cursor, while it is written."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.segments import image, name, write
from tracker.contract.errors import RecordError
from tracker.journal.reader import Damaged, JournalReader, Position
from tracker.journal.segment import FRAME_BYTES, HEADER_BYTES, Fault, Framer

_payloads = st.lists(st.binary(min_size=1, max_size=200), max_size=20)
_Entry = bytes | Damaged


@contextmanager
def _root() -> Iterator[Path]:
    with TemporaryDirectory() as folder:
        yield Path(folder) / "journal"


def _read_all(
    root: Path, *, is_free: bool = False, cursor: Mapping[str, Position] | None = None, max_records: int = 7
) -> tuple[list[_Entry], dict[str, Position]]:
    """Read on until there is nothing new, as ingest does."""
    reader = JournalReader(root, slot_is_free=lambda slot: is_free)
    entries: list[_Entry] = []
    after = dict(cursor or {})
    while batches := reader.read(after, max_records=max_records):
        for batch in batches:
            assert after.get(batch.slot) != batch.after, "a reader that stands still would be asked for ever"
            assert sum(isinstance(entry, bytes) for entry in batch.entries) <= max_records
            entries += batch.entries
            after[batch.slot] = batch.after
    return entries, after


@given(st.lists(_payloads, max_size=5), st.integers(1, 9))
def test_every_record_is_read_once_in_order(segments: list[list[bytes]], max_records: int) -> None:
    """Across segments, whatever the batches are."""
    with _root() as root:
        for number, payloads in enumerate(segments):
            write(root, image(payloads, number), number)
        entries, _ = _read_all(root, max_records=max_records)

    assert entries == [payload for payloads in segments for payload in payloads]


@given(st.lists(st.binary(min_size=1, max_size=200), min_size=1, max_size=12), st.data(), st.booleans())
def test_what_stands_before_damage_is_read_and_nothing_behind(
    payloads: list[bytes], data: st.DataObject, is_last: bool
) -> None:
    """The law of segments, for every cut and every flipped bit; the next segment is read in full."""
    raw = image(payloads)
    start = data.draw(st.integers(0, len(raw) - 1))
    if data.draw(st.booleans()):
        damaged = raw[:start]
    else:
        damaged = raw[:start] + bytes([raw[start] ^ 1 << data.draw(st.integers(0, 7))]) + raw[start + 1 :]
    whole = _whole_before(payloads, start)

    with _root() as root:
        write(root, damaged)
        if not is_last:
            write(root, image([b"next"], 1), 1)
        entries, after = _read_all(root, is_free=is_last)

    assert [entry for entry in entries if isinstance(entry, bytes)] == whole + ([] if is_last else [b"next"])
    faults = [entry for entry in entries if isinstance(entry, Damaged)]
    assert len(faults) <= 1
    assert bool(faults) == (damaged not in {image(whole), b""})
    assert after["00"].segment == str(name(0 if is_last else 1))


def _whole_before(payloads: list[bytes], damage: int) -> list[bytes]:
    """Give the payloads whose records end at or before a byte."""
    whole, end = [], HEADER_BYTES
    for payload in payloads:
        end += FRAME_BYTES + len(payload)
        if end > damage:
            break
        whole.append(payload)
    return whole if damage >= HEADER_BYTES else []


def test_the_tail_of_a_live_segment_is_waited_for(tmp_path: Path) -> None:
    """Half a record is not damage while its writer lives."""
    raw = image([b"one", b"two"])
    path = write(tmp_path, raw[:-1])
    entries, after = _read_all(tmp_path)
    assert entries == [b"one"]

    with path.open("ab") as file:
        file.write(raw[-1:])

    assert _read_all(tmp_path, cursor=after)[0] == [b"two"]


def test_a_torn_tail_is_told_once_when_the_lock_is_free(tmp_path: Path) -> None:
    """After a kill the end is final; a poll must not tell it again and again."""
    write(tmp_path, image([b"one"]) + b"\0\0\0")
    entries, after = _read_all(tmp_path, is_free=True)

    place = Position(segment=str(name()), offset=len(image([b"one"])))
    assert entries == [b"one", Damaged(slot="00", position=place, fault=Fault.CUT_OFF, lost_bytes=3)]
    assert _read_all(tmp_path, is_free=True, cursor=after) == ([], after)


@pytest.mark.parametrize("size", [0, 1, HEADER_BYTES - 1])
def test_a_segment_that_never_began_is_passed_by(tmp_path: Path, size: int) -> None:
    """A kill between creating a file and writing its header."""
    write(tmp_path, image([])[:size])
    write(tmp_path, image([b"x"], 1), 1)

    entries, after = _read_all(tmp_path)

    assert [entry for entry in entries if isinstance(entry, bytes)] == [b"x"]
    assert after["00"].segment == str(name(1))


def test_an_empty_segment_of_a_free_slot_ends_the_reading(tmp_path: Path) -> None:
    """Nothing to tell, and nothing to loop over."""
    write(tmp_path, b"")

    assert _read_all(tmp_path, is_free=True)[0] == []


def test_a_record_larger_than_a_chunk_is_read(tmp_path: Path) -> None:
    """The facts of a message with many recipients take megabytes."""
    payloads = [b"a" * 1_000_000, b"b" * 3_000_000, b"c", b"d" * 1_048_576]
    write(tmp_path, image(payloads))

    assert _read_all(tmp_path)[0] == payloads


def test_slots_have_cursors_of_their_own(tmp_path: Path) -> None:
    """Each process of a node writes its own."""
    write(tmp_path, image([b"a"]), slot="00")
    write(tmp_path, image([b"b"]), slot="01")
    (tmp_path / "ingest.lock").touch()
    (tmp_path / "00" / "lock").touch()
    entries, after = _read_all(tmp_path)

    assert sorted(entry for entry in entries if isinstance(entry, bytes)) == [b"a", b"b"]
    assert set(after) == {"00", "01"}


def test_a_cursor_whose_segment_is_gone_goes_on_with_the_next(tmp_path: Path) -> None:
    """An older storage was put back, and the journal has been pruned since."""
    write(tmp_path, image([b"x"], 5), 5)

    assert _read_all(tmp_path, cursor={"00": Position(segment=str(name(2)), offset=99)})[0] == [b"x"]


def test_a_cursor_behind_the_end_waits(tmp_path: Path) -> None:
    """A writer that could not write took bytes back."""
    path = write(tmp_path, image([b"one"]))
    cursor = {"00": Position(segment=str(name()), offset=path.stat().st_size + 50)}

    assert _read_all(tmp_path, cursor=cursor) == ([], cursor)


def test_there_is_nothing_to_read_before_the_first_start(tmp_path: Path) -> None:
    """No folder, no records, no error."""
    assert _read_all(tmp_path / "none") == ([], {})


def test_a_journal_of_a_later_version_is_refused(tmp_path: Path) -> None:
    """Neither skipped nor thrown away."""
    import zlib

    fields = b"MWJL\x00\x02" + image([])[6:22]
    write(tmp_path, fields + zlib.crc32(fields).to_bytes(4, "big"))

    with pytest.raises(RecordError):
        _read_all(tmp_path)


def test_only_old_segments_behind_the_cursor_are_pruned(tmp_path: Path) -> None:
    """Neither what the storage lacks, nor what is younger than `keep`, nor the cursor's own."""
    paths = [write(tmp_path, image([b"x"], number), number) for number in range(4)]
    for path, day in zip(paths, (1, 5, 1, 1), strict=True):
        stamp = datetime(2026, 11, day, tzinfo=UTC).timestamp()
        os.utime(path, (stamp, stamp))
    reader = JournalReader(tmp_path, slot_is_free=lambda slot: True)

    deleted = reader.prune({"00": Position(segment=str(name(2)), offset=0)}, before=datetime(2026, 11, 3, tzinfo=UTC))

    assert deleted == 1
    assert [path.exists() for path in paths] == [False, True, True, True]
    assert reader.prune({}, before=datetime(2027, 1, 1, tzinfo=UTC)) == 0


def test_the_end_is_judged_before_the_records_are_read(tmp_path: Path) -> None:
    """A writer that rotates between the two looks loses nothing: what it wrote last is read at the next look."""
    path = write(tmp_path, image([b"one"]))

    def rotate(_: str) -> bool:
        if not (tmp_path / "00" / str(name(1))).exists():
            with path.open("ab") as file:
                file.write(Framer(name()).frame(b"two")[:-1])
            write(tmp_path, image([b"three"], 1), 1)
        else:
            path.write_bytes(image([b"one", b"two"]))
        return False

    reader = JournalReader(tmp_path, slot_is_free=rotate)
    (first,) = reader.read({})
    (second,) = reader.read({"00": first.after})

    assert first.entries == (b"one",)
    assert second.entries == (b"two", b"three")
