"""The ids: one spelling each, order by time, outcomes that always get the same id."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.contract.errors import IdError
from tracker.contract.ids import CopyId, EventId, MessageId

_raw_message = st.binary(min_size=16, max_size=16)
_suffix = st.binary(min_size=6, max_size=6)


@given(_raw_message)
def test_a_message_id_is_read_as_it_is_written(raw: bytes) -> None:
    """Parse is the inverse of str."""
    assert MessageId.parse(str(MessageId(raw))) == MessageId(raw)


@given(_raw_message, _suffix)
def test_a_copy_id_is_read_as_it_is_written(raw: bytes, suffix: bytes) -> None:
    """Parse is the inverse of str."""
    copy = CopyId(MessageId(raw), suffix)

    assert CopyId.parse(str(copy)) == copy
    assert copy.raw == raw + suffix


@given(st.integers(min_value=0, max_value=2**48 - 1), st.integers(min_value=0, max_value=2**48 - 1))
def test_message_ids_sort_by_time(one_ms: int, other_ms: int) -> None:
    """The text order of ids is the order of their milliseconds, whatever the random bits."""
    early, late = sorted((one_ms, other_ms))
    first = MessageId.make(unix_ms=early, entropy=b"\0" * 10)
    second = MessageId.make(unix_ms=late, entropy=b"\xff" * 10)

    assert str(first) < str(second)


@pytest.mark.parametrize(
    "text",
    ["", "0" * 25, "0" * 27, "0" * 25 + "U", "0" * 25 + "u", "0" * 25 + "i", "8" + "0" * 25, "z" * 26, "0" * 25 + "é"],
)
def test_another_spelling_is_no_message_id(text: str) -> None:
    """One spelling each: no upper case, no look-alikes, nothing over 128 bits."""
    with pytest.raises(IdError):
        MessageId.parse(text)


@pytest.mark.parametrize(
    "tail", ["", "-", "-0011", "-00112233445566", "-AABBCCDDEEFF", "-00 11 22 33", "-zz1122334455"]
)
def test_another_spelling_is_no_copy_id(tail: str) -> None:
    """One spelling each."""
    with pytest.raises(IdError):
        CopyId.parse("0" * 26 + tail)


def test_the_id_of_an_outcome_is_pinned() -> None:
    """A release that computed it otherwise would count every event that it emits again twice."""
    copy = CopyId(MessageId(bytes(range(16))), bytes(range(6)))

    assert str(EventId.of_outcome(copy, "delivery")) == "0vm184j6f9e5mpyjk3e6chdfwj"
    assert str(EventId.of_outcome(copy, "bounce")) != str(EventId.of_outcome(copy, "delivery"))


@given(st.binary(min_size=26, max_size=26))
def test_an_event_id_of_random_characters_is_one(entropy: bytes) -> None:
    """Its text parses, and its 16 bytes give the text again."""
    one = EventId.drawn(entropy)

    assert EventId.parse(str(one)) == one
    assert str(EventId(one.raw)) == str(one)


def test_every_character_of_a_random_event_id_is_as_likely() -> None:
    """Of the 256 values of a byte each character has 8, and each of the first ones 32."""
    drawn = Counter(str(EventId.drawn(bytes([value]) * 26))[-1] for value in range(256))
    first = Counter(str(EventId.drawn(bytes([value]) * 26))[0] for value in range(256))

    assert (len(drawn), set(drawn.values())) == (32, {8})
    assert (len(first), set(first.values())) == (8, {32})


@given(st.binary(min_size=22, max_size=22))
def test_a_copy_id_is_the_same_whatever_it_was_made_of(raw: bytes) -> None:
    """Of its bytes, of its parts, or of its text."""
    made = [CopyId.of(raw), CopyId(MessageId(raw[:16]), raw[16:]), CopyId.parse(str(CopyId.of(raw)))]

    for one in made:
        assert (one, one.raw, one.text, one.message, one.suffix) == (
            made[0],
            raw,
            made[0].text,
            MessageId(raw[:16]),
            raw[16:],
        )
