"""How fast an upstream is sent to. Pure: the time, in seconds of any one clock, is handed in.

Owns the rate: the configured one, and the lower one after throttling replies. Does not know replies (`relay/core/
providers.py`) nor copies (`lane.py`).

Theory:
    A token bucket whose burst is a tenth of a second's worth, so that mail flows evenly. A throttling reply halves the
    rate; without a configured rate, that at which mail was going out. Accepted mail raises it again, an eighth of the
    rate before the cut at a time, until it is what it was. From there on nobody tells us what the upstream takes: the
    steps begin at a twentieth, and each is a twentieth larger than the one before as long as few replies say "slower".
    For what was measured may have been a quiet hour, and a thousand messages must not wait for a rate of two a second
    to grow evenly. Copies in flight when the rate is cut meet the same trouble, so one second passes
    before the next cut. And where most mail is still taken, the rate must have recovered before it is cut again: an
    upstream that refuses a few at random is slowed down a little, not brought to a stop. One that refuses all is asked
    ever more slowly, down to once in a minute, as one that is down is probed.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Final

SLOWEST_PER_S: Final = 1 / 60
"""The longest probe of a circuit, too: one a minute."""
BURST_S: Final = 0.1
_CUT_EVERY_S: Final = 1.0
_SETTLED_S: Final = 5.0  # a rate that was regained is kept that long before it is cut again
_MOSTLY: Final = 0.25  # the share of throttling replies above which the rate is cut again at once
_SHORTEST_S: Final = 0.25  # what begins at once on all connections is no rate yet
_REMEMBERED: Final = 1024
_STEP_EVERY_S: Final = 0.25
_STEP: Final = 1 / 8
_STEP_BEYOND: Final = 1 / 20
_LARGEST_STEP: Final = 1 / 2
_FEW: Final = 0.1  # the share of throttling replies up to which the steps grow
_FORGOTTEN_S: Final = 60.0
_STEP_BELOW_PER_S: Final = 1.0  # below one a second the rate doubles: an eighth of next to nothing is nothing


@dataclass(slots=True, kw_only=True)
class Rate:
    """The pace of one upstream. `max_per_s` is None where none is configured; so is `per_s` where nothing slows."""

    max_per_s: float | None = None
    per_s: float | None = field(init=False)
    _tokens: float = 1.0
    _filled_at_s: float = 0.0
    _before_cut: float = 0.0
    _cut_at_s: float = float("-inf")
    _stepped_at_s: float = float("-inf")
    _steps_beyond: int = 0
    _replies: int = 0
    _throttled: int = 0
    _sent: deque[float] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))

    def __post_init__(self) -> None:
        """Begin at the configured rate."""
        self.per_s = self.max_per_s

    @property
    def is_cut(self) -> bool:
        """True while throttling replies hold the rate below what is configured."""
        return self.per_s is not None and (self.max_per_s is None or self.per_s < self.max_per_s)

    def wait_s(self, now_s: float) -> float:
        """Return how long until the next transaction may begin: 0 for at once."""
        if self.per_s is None:
            return 0.0
        self._fill(now_s, self.per_s)
        # A rounding error must not make a wait of a nanosecond, again and again.
        return 0.0 if self._tokens >= 1.0 - 1e-9 else (1.0 - self._tokens) / self.per_s

    def take(self, now_s: float) -> None:
        """Note that a transaction begins, after `wait_s` gave 0."""
        self._sent.append(now_s)
        if self.per_s is not None:
            self._tokens = max(0.0, self._tokens - 1.0)

    def throttled(self, now_s: float) -> bool:
        """Note a reply that said "slower"; True where the rate was cut for it."""
        self._replies += 1
        self._throttled += 1
        since_s = now_s - self._cut_at_s
        is_most = self._throttled > self._replies * _MOSTLY
        has_recovered = self.per_s is None or (since_s >= _SETTLED_S and self.per_s >= self._before_cut)
        if since_s < _CUT_EVERY_S or not (is_most or has_recovered):
            return False
        if self.max_per_s is not None and self.per_s is not None:
            self._before_cut = self.per_s
        else:  # a rate that has grown beyond all that was sent says nothing
            self._before_cut = min(self._measured(now_s), self.per_s or float("inf"))
        self.per_s = max(self._before_cut / 2, SLOWEST_PER_S)
        self._tokens, self._filled_at_s = 0.0, now_s
        self._cut_at_s = self._stepped_at_s = now_s
        self._replies = self._throttled = self._steps_beyond = 0
        return True

    def answered(self, now_s: float) -> bool:
        """Note any other reply about mail; True where the rate is now back at what is configured."""
        self._replies += 1
        if self.per_s is None or not self.is_cut or now_s - self._stepped_at_s < _STEP_EVERY_S:
            return False
        self._stepped_at_s = now_s
        self._fill(now_s, self.per_s)
        self.per_s += max(self._step(self.per_s), min(self.per_s, _STEP_BELOW_PER_S))
        if self.max_per_s is not None:
            self.per_s = min(self.per_s, self.max_per_s)
        elif now_s - self._cut_at_s >= _FORGOTTEN_S:
            self.per_s = None
        return not self.is_cut

    def _step(self, per_s: float) -> float:
        """Return by how much the rate is raised now."""
        if per_s < self._before_cut:
            return self._before_cut * _STEP
        has_few = self._throttled <= self._replies * _FEW
        self._steps_beyond = self._steps_beyond + 1 if has_few else 1
        return per_s * min(self._steps_beyond * _STEP_BEYOND, _LARGEST_STEP)

    def _fill(self, now_s: float, per_s: float) -> None:
        burst = max(1.0, per_s * BURST_S)
        self._tokens = min(burst, self._tokens + max(0.0, now_s - self._filled_at_s) * per_s)
        self._filled_at_s = now_s

    def _measured(self, now_s: float) -> float:
        """Return at which rate mail went out in the last second; at least one."""
        recent = [at for at in self._sent if at > now_s - 1.0]
        span_s = max(now_s - recent[0], _SHORTEST_S) if recent else 1.0
        return max(len(recent) / span_s, 1.0)
