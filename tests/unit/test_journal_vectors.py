"""`docs/reference/journal.md`: a segment and a record of each kind that every later release reads."""

import json
import re
import zlib
from datetime import UTC, timedelta, timezone
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.machine import ROOT
from tests.unit.happenings import accepted, bounce, clicked, delay, delivery, opened
from tests.unit.segments import CREATED_MS
from tracker.contract.errors import RecordError
from tracker.contract.events import Click, Hit, JournalRecord, Open, Probe
from tracker.contract.ids import CopyId, EventId
from tracker.contract.records import decode, encode, encode_hit
from tracker.journal.reader import JournalReader
from tracker.journal.segment import Framer, SegmentName, header

_PAGE = (ROOT / "docs" / "reference" / "journal.md").read_text(encoding="utf-8")
_RECORDS: list[dict[str, Any]] = [json.loads(text) for text in re.findall(r"```json\n(.*?)```", _PAGE, re.DOTALL)]
_SEGMENT = bytes.fromhex(_PAGE.partition("```hex\n")[2].partition("```")[0])
_NAME = re.findall(r"\d{16}-[0-9a-f]{16}\.mwj", _PAGE)[0]
_PAYLOADS = [b'{"kind":"one"}', b'{"kind":"two"}']


def test_the_segment_is_read(tmp_path: Path) -> None:
    """If this fails, journals that are on disk can no longer be read: the code is wrong, never the vector."""
    (tmp_path / "00").mkdir()
    (tmp_path / "00" / _NAME).write_bytes(_SEGMENT)
    (batch,) = JournalReader(tmp_path, slot_is_free=lambda slot: True).read({})

    assert list(batch.entries) == _PAYLOADS


def test_the_segment_is_written_the_same() -> None:
    """By our code."""
    name = SegmentName.parse(_NAME)
    assert name is not None
    framer = Framer(name)

    assert header(name, unix_ms=CREATED_MS) + b"".join(map(framer.frame, _PAYLOADS)) == _SEGMENT


def test_the_segment_is_written_by_the_text_alone() -> None:
    """Nothing of our code: the page says all that one needs."""
    random = bytes.fromhex(_NAME[17:33])
    head = b"MWJL" + (1).to_bytes(2, "big") + random + CREATED_MS.to_bytes(8, "big")
    raw = head + zlib.crc32(head).to_bytes(4, "big")
    for payload in _PAYLOADS:
        length = len(payload).to_bytes(4, "big")
        raw += length + zlib.crc32(random + length + payload).to_bytes(4, "big") + payload

    assert raw == _SEGMENT


def test_every_kind_has_a_vector() -> None:
    """What is not on the page is not promised."""
    kinds = [record.__struct_config__.tag for record in get_args(JournalRecord)]

    assert [vector["kind"] for vector in _RECORDS] == kinds


@pytest.mark.parametrize("vector", _RECORDS, ids=lambda vector: str(vector["kind"]))
def test_a_record_is_read_and_written_the_same(vector: dict[str, Any]) -> None:
    """Every member, `kind` first."""
    raw = json.dumps(vector, ensure_ascii=False, separators=(",", ":")).encode()

    assert encode(decode(raw)) == raw
    assert raw.startswith(b'{"kind":')


@pytest.mark.parametrize("vector", _RECORDS, ids=lambda vector: str(vector["kind"]))
def test_a_member_of_a_later_version_is_ignored(vector: dict[str, Any]) -> None:
    """A release that was put back goes on."""
    assert decode(json.dumps({**vector, "later": [1]}).encode()) == decode(json.dumps(vector).encode())


@pytest.mark.parametrize("record", [accepted(), delivery(), delay(), bounce(), opened(1), clicked(2)])
def test_what_was_encoded_is_decoded(record: JournalRecord) -> None:
    """Each kind, as the parts of the product make it."""
    assert decode(encode(record)) == record
    assert b"\n" not in encode(record)


@given(
    st.binary(max_size=200)
    | st.text().map(str.encode)
    | st.recursive(st.none(), st.lists).map(json.dumps).map(str.encode)
)
def test_anything_else_is_a_record_error(raw: bytes) -> None:
    """One error for whatever cannot be read; ingest puts it aside."""
    with pytest.raises(RecordError):
        decode(raw)


@pytest.mark.parametrize("vector", _RECORDS, ids=lambda vector: str(vector["kind"]))
def test_a_record_without_a_member_or_with_another_kind_is_refused(vector: dict[str, Any]) -> None:
    """Neither guessed nor filled in."""
    for change in ({"kind": "later"}, {"kind": None}):
        with pytest.raises(RecordError):
            decode(json.dumps({**vector, **change}).encode())
    for name in ("copy", "facts"):
        if name in vector:
            with pytest.raises(RecordError):
                decode(json.dumps({key: value for key, value in vector.items() if key != name}).encode())


_TEXTS = st.text(max_size=20)
_MOMENTS = st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=2))]))
_HITS = st.builds(
    Hit,
    at=_MOMENTS,
    address=_TEXTS,
    user_agent=_TEXTS,
    signals=st.lists(_TEXTS, max_size=3).map(tuple),
    country=_TEXTS,
    count=st.integers(1, 9),
    rules=_TEXTS,
)


@given(_HITS, st.integers(0, 65535), _TEXTS, st.none() | st.integers(0, 65535))
def test_a_hit_is_encoded_as_every_other_record_is(hit: Hit, index: int, text: str, probed: int | None) -> None:
    """What is put together of parts that were encoded before is the same to the byte."""
    event, copy = EventId.drawn(bytes(range(26))), CopyId.of(bytes(range(22)))
    for record in (
        Open(event=event, copy=copy, hit=hit),
        Click(event=event, copy=copy, hit=hit, link_index=index, part=text, url=text),
        Probe(event=event, copy=copy, hit=hit, link_index=probed),
    ):
        assert encode_hit(record) == encode(record)
        assert decode(encode_hit(record)) == record
