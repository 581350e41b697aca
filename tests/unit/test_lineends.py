"""Line ends are settled once: nothing but CRLF leaves the room."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core import lineends
from relay.core.lineends import LineEndFault, has_line_over, settle

_LOOK_ALIKES = [
    b"\n.\n",
    b"\n.\r\n",
    b"\r\n.\n",
    b"\r.\r",
    b"\r.\r\n",
    b"\r\n.\r",
    b"\r\r\n.\r\r\n",
    b"\n\r\n.\r\n\r",
    b"\r\n\r.\r\n",
    b"\r\n.\r\r\n",
]


def test_a_message_without_fault_is_returned_as_it_is() -> None:
    """The common case costs three counts and no copy."""
    raw = b"Subject: x\r\n\r\nbody\r\n"
    assert settle(raw) is raw
    assert settle(raw, "reject") is raw


def test_a_bare_lf_becomes_crlf_and_a_bare_cr_a_space() -> None:
    """`bare_line_ends = "normalize"`."""
    assert settle(b"a\nb\rc\r\nd\r\r\ne\n\r") == b"a\r\nb c\r\nd \r\ne\r\n "


@pytest.mark.parametrize("sequence", _LOOK_ALIKES)
def test_every_look_alike_of_the_end_of_data_is_settled_or_refused(sequence: bytes) -> None:
    """After settling, a peer that reads bare CR or LF as a line end sees the lines that we see."""
    raw = b"Subject: x\r\n\r\nfirst" + sequence + b"MAIL FROM:<a@b.example>\r\n"
    settled = settle(raw)
    assert isinstance(settled, bytes)
    assert settled.split(b"\r\n") == re.split(rb"\r\n|\r|\n", settled)
    assert settle(raw, "reject") is LineEndFault.BARE_LINE_END


@pytest.mark.parametrize("mode", ["normalize", "reject"])
def test_nul_is_refused_in_either_mode(mode: str) -> None:
    """NUL is 550, for C programs end the text there."""
    assert settle(b"a\0b\r\n", "normalize" if mode == "normalize" else "reject") is LineEndFault.NUL


@given(st.text("a\r\n", max_size=24).map(str.encode), st.integers(1, 9))
def test_faults_are_found_wherever_strides_end(raw: bytes, stride: int) -> None:
    """A large message is looked at in strides: a pair that one of them cuts in two is a pair."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lineends, "_STRIDE_BYTES", stride)
        fault = settle(raw, "reject")

    assert (fault is LineEndFault.BARE_LINE_END) == (set(b"\r\n") & set(raw.replace(b"\r\n", b"")) != set())


@given(st.text("a\0", max_size=24).map(str.encode), st.integers(1, 9))
def test_a_nul_is_found_wherever_strides_end(raw: bytes, stride: int) -> None:
    """In the first octet of a stride and in the last."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lineends, "_STRIDE_BYTES", stride)

        assert (settle(raw) is LineEndFault.NUL) == (b"\0" in raw)


@pytest.mark.parametrize("octets", [1, 2, 5])
@given(raw=st.text("a\r\n", max_size=24).map(str.encode))
def test_a_long_line_is_found_wherever_it_stands(octets: int, raw: bytes) -> None:
    """The leaps from line end to line end see what splitting sees."""
    assert has_line_over(raw, octets) == any(len(line) > octets for line in raw.split(b"\r\n"))


@given(st.text("ab\r\n. ").map(str.encode))
def test_settled_is_settled(raw: bytes) -> None:
    """No bare CR or LF is left, and settling again changes nothing."""
    settled = settle(raw)
    assert isinstance(settled, bytes)
    assert b"\r" not in settled.replace(b"\r\n", b"")
    assert b"\n" not in settled.replace(b"\r\n", b"")
    assert settle(settled, "reject") is settled
