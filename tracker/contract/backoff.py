"""When to try again: a schedule and entropy in, a delay out."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

JITTER: Final = 0.2  # ± 20 %: copies that failed together do not come back together


def delay(schedule: Sequence[timedelta], attempt: int, entropy: float) -> timedelta:
    """Return how long to wait after failed attempt number `attempt` (from 1), `entropy` being uniform in [0, 1).

    Attempts beyond the schedule repeat its last step.
    """
    step = schedule[min(attempt, len(schedule)) - 1]
    return step * (1 - JITTER + 2 * JITTER * entropy)
