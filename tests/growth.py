"""How work grows with its input, by processor time: no time counts, only the ratio of a size to eight times of it.

Owns what makes that ratio steady: the collector of garbage is off (it walks the objects of all tests so far), and a
busy machine gets more tries. Work that is quadratic fails every one of them.
"""

import gc
import time
from collections.abc import Callable

TIMES = 8
_AT_MOST = 30  # linear work takes 8 times the time, quadratic work 64 times
_SLACK_S = 0.02
_TRIES = 5


def cpu_s(work: Callable[[], object]) -> float:
    """Return the processor time that some work takes."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        begun = time.process_time()
        work()
        return time.process_time() - begun
    finally:
        if was_enabled:
            gc.enable()


def is_linear(work: Callable[[int], object], size: int) -> bool:
    """Say whether eight times the size takes far less than the sixty-four times of quadratic work."""
    return any(
        cpu_s(lambda: work(TIMES * size)) < _AT_MOST * cpu_s(lambda: work(size)) + _SLACK_S for _ in range(_TRIES)
    )
