"""How long a thread may keep the interpreter to itself while another one waits for it.

CPython lets a thread go on for 5 ms before it hands over. The loop's thread asks for its turn after every system call,
several times for one reply, so beside a thread that computes replies come tens of milliseconds late. Turns that are
always short cost a third more CPU with ordinary mail (bench/relay.py), where no thread computes for long; so they are
short only while one does.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_LONG_S: Final = sys.getswitchinterval()
_SHORT_S: Final = 0.0005


class _Turns:
    """Counts the blocks under way, because the interpreter has one setting."""

    under_way = 0


@contextmanager
def short() -> Iterator[None]:
    """Keep turns short for the length of a block, in which a thread computes. For the loop's thread alone."""
    _Turns.under_way += 1
    sys.setswitchinterval(_SHORT_S)
    try:
        yield
    finally:
        _Turns.under_way -= 1
        if not _Turns.under_way:
            sys.setswitchinterval(_LONG_S)
