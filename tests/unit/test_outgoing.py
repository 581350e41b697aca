"""The fields that an upstream wants, put on a copy."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from relay.core import headers
from relay.core.outgoing import OutgoingFields, with_fields

FIELDS = (("X-Set", "bounces"), ("X-Other", "1"))
_NAMES = st.sampled_from([b"Subject", b"X-Set", b"x-other", b"To", b"X-Settled"])
_HEADERS = st.lists(st.tuples(_NAMES, st.sampled_from([b"a", b"b\r\n c", b""])), min_size=1, max_size=6)


def _mail(fields: list[tuple[bytes, bytes]]) -> bytes:
    return b"".join(name + b": " + value + b"\r\n" for name, value in fields) + b"\r\nX-Set: in the body\r\n"


@given(_HEADERS, st.lists(st.integers(0, 200), max_size=6))
def test_they_replace_those_of_their_names_and_nothing_else(fields: list[tuple[bytes, bytes]], cuts: list[int]) -> None:
    """However the copy is sliced; the other fields keep their bytes and order, and so does the body."""
    raw = _mail(fields)
    at = sorted({min(cut, len(raw)) for cut in (0, *cuts, len(raw))})
    chunks = [memoryview(raw)[start:end] for start, end in pairwise(at)]
    made = b"".join(with_fields(chunks, FIELDS))
    kept = [field for field in fields if field[0].lower() not in (b"x-set", b"x-other")]

    assert made == b"X-Set: bounces\r\nX-Other: 1\r\n" + _mail(kept)


def test_without_fields_nothing_changes() -> None:
    """Not even a slice is made."""
    chunks = [b"a: b\r\n", b"\r\nx"]

    assert with_fields(chunks, ()) == chunks


def test_a_message_without_a_header_gets_one() -> None:
    """Its text must not become fields."""
    assert b"".join(with_fields([b"just text\r\n"], (("X-Set", "a"),))) == b"X-Set: a\r\n\r\njust text\r\n"


def test_lines_before_the_header_stay_there() -> None:
    """An mbox line is no field, and none may stand before it."""
    made = b"".join(with_fields([b"From x@y.example Mon\r\nTo: a\r\n\r\nx"], (("X-Set", "a"),)))

    assert made == b"From x@y.example Mon\r\nX-Set: a\r\nTo: a\r\n\r\nx"


def test_a_header_beyond_the_limits_still_gets_the_fields() -> None:
    """What is read of it is 128 KB; its body is not taken for more."""
    raw = b"X-Long: " + b"x" * headers.MAX_BYTES + b"\r\nX-Set: old\r\n\r\nbody\r\n"

    assert b"".join(with_fields([raw], (("X-Set", "new"),))) == b"X-Set: new\r\n" + raw


def test_what_the_operator_sets_wins() -> None:
    """Over the provider's field of the same name; mail without a set gets the operator's alone."""
    fields = OutgoingFields(always=(("x-smtpapi", "{}"),), with_set=(("X-SMTPAPI", "off"), ("X-B", "no")))

    assert fields.of(has_set=True) == (("x-smtpapi", "{}"), ("X-B", "no"))
    assert fields.of(has_set=False) == (("x-smtpapi", "{}"),)
