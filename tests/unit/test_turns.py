"""Turns of threads are short while one computes, and only then."""

import sys

import pytest

from tracker.runtime import turns


def test_turns_are_long_again_when_the_last_block_ends() -> None:
    """Blocks overlap: several large messages are prepared at a time. An exception ends one like its end."""
    before_s = sys.getswitchinterval()
    with turns.short():
        with pytest.raises(ZeroDivisionError), turns.short():
            raise ZeroDivisionError
        assert sys.getswitchinterval() < before_s

    assert sys.getswitchinterval() == pytest.approx(before_s)
