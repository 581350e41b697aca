"""The spool file: its layout is a promise to every later version."""

import re
import struct
import textwrap
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.attempt import Phase
from relay.spool import layout
from relay.spool.entry import SpoolEntry
from relay.spool.errors import SpoolDamagedError, SpoolVersionError
from relay.spool.layout import Row, State

DOCUMENT = Path(__file__).parents[2] / "docs" / "reference" / "spool.md"

rows = st.builds(
    Row,
    state=st.sampled_from(State),
    phase=st.none() | st.sampled_from(Phase),
    attempts=st.integers(0, 0xFFFF),
    delays_told=st.integers(0, 0xF),
    upstream=st.integers(0, 0xF),
    expired=st.booleans(),
    upstream_reports=st.booleans(),
    unreported=st.booleans(),
    announced=st.booleans(),
    crashes=st.integers(0, 15),
    code=st.integers(0, 599),
    next_ms=st.integers(0, 2**48),
    changed_ms=st.integers(0, 2**48),
    text=st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=layout.MAX_TEXT_BYTES),
)


def _pack(envelope: bytes = b"{}", message: bytes = b"hello\r\n", count: int = 2) -> bytes:
    return b"".join(layout.pack(envelope, message, count)[1])


@given(row=rows)
def test_a_row_reads_back_as_it_was(row: Row) -> None:
    """256 bytes, whatever is in them."""
    raw = layout.pack_row(row)

    assert len(raw) == layout.ROW_BYTES
    assert layout.unpack_row(raw) == row


@given(row=rows, at=st.integers(0, layout.ROW_BYTES - 1), flip=st.integers(1, 255))
def test_a_damaged_row_counts_as_waiting(row: Row, at: int, flip: int) -> None:
    """A torn row is at worst a duplicate, never a loss."""
    raw = bytearray(layout.pack_row(row))
    raw[at] ^= flip

    assert layout.unpack_row(bytes(raw)) == Row()


@given(envelope=st.binary(max_size=2000), message=st.binary(max_size=2000), count=st.integers(1, 20))
def test_a_file_reads_back_and_its_rows_are_aligned(envelope: bytes, message: bytes, count: int) -> None:
    """Each row lies inside one sector of 512 bytes."""
    header, pieces = layout.pack(envelope, message, count)
    raw = b"".join(pieces)

    assert layout.unpack(raw) == (header, envelope, message, (Row(),) * count)
    assert len(raw) == header.file_bytes
    assert header.table_at % 512 == 0
    assert all(header.row_at(i) // 512 == (header.row_at(i) + layout.ROW_BYTES - 1) // 512 for i in range(count))


@given(at=st.integers(min_value=0), flip=st.integers(1, 255))
def test_any_changed_byte_above_the_table_is_noticed(at: int, flip: int) -> None:
    """Header, envelope, message and END are under checksums; only the padding is free."""
    header, pieces = layout.pack(b'{"a":1}', b"hello\r\n", 1)
    raw = bytearray(b"".join(pieces))
    raw[at % (header.end + 8)] ^= flip

    with pytest.raises(SpoolDamagedError):
        layout.unpack(bytes(raw))


@given(raw=st.binary(max_size=200), cut=st.integers(0, 1600))
def test_foreign_and_cut_files_are_damage_and_nothing_else(raw: bytes, cut: int) -> None:
    """Empty, foreign or truncated: one error, never another one."""
    with pytest.raises(SpoolDamagedError):
        layout.unpack(raw)
    whole = _pack()
    with pytest.raises(SpoolDamagedError):
        layout.unpack(whole[: min(cut, len(whole) - 1)])


def test_a_later_version_is_told_from_damage() -> None:
    """A file of the future is refused by name, not quarantined."""
    raw = bytearray(_pack())
    struct.pack_into(">H", raw, 8, layout.VERSION + 1)
    with pytest.raises(SpoolDamagedError):
        layout.unpack_header(bytes(raw))

    struct.pack_into(">I", raw, 32, zlib.crc32(raw[:32]))
    with pytest.raises(SpoolVersionError, match="version 2"):
        layout.unpack_header(bytes(raw))


def test_the_documented_vector() -> None:
    """docs/reference/spool.md shows a whole file in hexadecimal; what we write is exactly that."""
    text = DOCUMENT.read_text("utf-8")
    dump = re.search(r"```hex\n(.*?)```", text, re.DOTALL)
    assert dump is not None
    documented = bytearray()
    for line in dump.group(1).splitlines():
        offset, _, octets = line.partition("  ")
        documented.extend(bytes(int(offset, 16) - len(documented)))
        documented.extend(bytes.fromhex(octets.partition("|")[0]))

    header, pieces = layout.pack(b'{"n":1}', b"Subject: x\r\n\r\nhi\r\n", 1)
    raw = bytearray(b"".join(pieces))
    raw[header.table_at :] = layout.pack_row(vector_row())

    assert bytes(raw) == bytes(documented)


def test_the_document_has_the_specification_of_the_code() -> None:
    """The module's docstring is the specification; the document repeats it to the letter."""
    specification = str(layout.__doc__)
    specification = specification[specification.index("    offset") : specification.index("All above the table")]

    assert textwrap.dedent(specification).rstrip() in DOCUMENT.read_text("utf-8")


def vector_row() -> Row:
    """The row of the documented file."""
    return Row(
        state=State.DELIVERED,
        phase=Phase.FINAL_DOT,
        attempts=2,
        delays_told=1,
        code=250,
        next_ms=1_772_366_460_000,
        changed_ms=1_772_366_461_500,
        text="2.0.0 Ok: queued as 4F1",
    )


def test_the_document_names_every_member_of_the_envelope() -> None:
    """A file outlives a version: whoever reads it by the document must know what may be there."""
    text = DOCUMENT.read_text("utf-8")

    assert [name for name in SpoolEntry.__struct_fields__ if f"`{name}`" not in text] == []
