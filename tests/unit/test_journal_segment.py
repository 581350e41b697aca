"""The layout of a segment: names that sort by age, frames that a flipped bit breaks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.segments import CREATED_MS, name
from tracker.contract.errors import RecordError
from tracker.journal.segment import (
    FRAME_BYTES,
    HEADER_BYTES,
    MAX_PAYLOAD_BYTES,
    Fault,
    Framer,
    SegmentName,
    check_header,
    header,
    names_in,
    next_name,
)

_payload = st.binary(min_size=1, max_size=400)


@given(st.integers(0, 10**16 - 1), st.binary(min_size=8, max_size=8))
def test_a_name_that_was_printed_is_parsed(sequence: int, random: bytes) -> None:
    """One spelling each."""
    made = SegmentName(sequence=sequence, random=random)

    assert SegmentName.parse(str(made)) == made


@pytest.mark.parametrize("text", ["", "lock", "x.mwj", f"{name()}~", f".{name()}", str(name()).upper(), "1-00.mwj"])
def test_another_file_is_no_segment(text: str) -> None:
    """A slot's lock, an editor's backup: none of ours."""
    assert names_in([text, str(name())]) == [name()]


@given(st.lists(st.integers(0, 10**15), min_size=1), st.binary(min_size=8, max_size=8))
def test_names_sort_by_age_whatever_the_clock_does(clock_ms: list[int], random: bytes) -> None:
    """A cursor compares names, so a clock that goes back must not put a new segment behind it."""
    names: list[SegmentName] = []
    for unix_ms in clock_ms:
        names.append(next_name(names[-1] if names else None, unix_ms=unix_ms, entropy=random))

    assert [str(made) for made in names] == sorted({str(made) for made in names})


@given(_payload)
def test_what_was_framed_is_unframed(payload: bytes) -> None:
    """At any place in a chunk."""
    framer = Framer(name())
    raw = b"before" + framer.frame(payload) + b"after"

    assert framer.unframe(raw, 6) == (payload, 6 + FRAME_BYTES + len(payload))


@given(_payload, st.data())
def test_a_flipped_bit_is_a_fault(payload: bytes, data: st.DataObject) -> None:
    """The checksum covers length and payload: no record is read that was not written."""
    framer = Framer(name())
    raw = bytearray(framer.frame(payload))
    bit = data.draw(st.integers(0, len(raw) * 8 - 1))
    raw[bit // 8] ^= 1 << bit % 8

    assert isinstance(framer.unframe(bytes(raw), 0), Fault)


@given(_payload, st.data())
def test_a_cut_record_is_cut_off(payload: bytes, data: st.DataObject) -> None:
    """What a killed writer leaves."""
    framer = Framer(name())
    raw = framer.frame(payload)

    assert framer.unframe(raw[: data.draw(st.integers(0, len(raw) - 1))], 0) is Fault.CUT_OFF


def test_zeros_are_no_record() -> None:
    """A crash may leave a tail of zeros where the file had grown and its data had not."""
    assert Framer(name()).unframe(bytes(4096), 0) is Fault.LENGTH


def test_a_record_of_another_segment_is_none_of_this() -> None:
    """Blocks of a deleted file may show through."""
    assert Framer(name(1)).unframe(Framer(name(2)).frame(b"old"), 0) is Fault.CHECKSUM


def test_an_impossible_length_is_a_fault() -> None:
    """Nobody waits for 4 GiB that will never come."""
    raw = (MAX_PAYLOAD_BYTES + 1).to_bytes(4, "big") + bytes(100)

    assert Framer(name()).unframe(raw, 0) is Fault.LENGTH


@given(st.data())
def test_a_header_with_a_flipped_bit_is_a_fault(data: st.DataObject) -> None:
    """Its own checksum covers it; so a later version is told from damage."""
    raw = bytearray(header(name(), unix_ms=CREATED_MS))
    assert check_header(bytes(raw), name()) is None
    bit = data.draw(st.integers(0, HEADER_BYTES * 8 - 1))
    raw[bit // 8] ^= 1 << bit % 8

    assert check_header(bytes(raw), name()) is Fault.HEADER


def test_a_header_belongs_to_its_name() -> None:
    """A renamed segment would be read in the wrong order."""
    assert check_header(header(name(1), unix_ms=CREATED_MS), name(2)) is Fault.HEADER
    assert check_header(header(name(), unix_ms=CREATED_MS)[:-1], name()) is Fault.CUT_OFF


def test_a_later_version_is_not_taken_for_damage() -> None:
    """A release that was put back must not throw away what the newer one wrote."""
    import zlib

    fields = b"MWJL" + (2).to_bytes(2, "big") + name().random + CREATED_MS.to_bytes(8, "big")

    with pytest.raises(RecordError, match="version 2"):
        check_header(fields + zlib.crc32(fields).to_bytes(4, "big"), name())
