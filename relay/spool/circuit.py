"""When an upstream that cannot be used is probed. Pure: the time, in seconds of any one clock, is handed in.

Closed, everything goes. The first condition of the upstream opens it; from then on one attempt at a time is let
through as a probe, after 5, 10, 20, 40 and then every 60 seconds. Attempts that began before it opened and fail late
say nothing new. Any answer about a copy, a refusal included, closes it.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from tracker.contract import backoff

PROBES: Final = tuple(timedelta(seconds=seconds) for seconds in (5, 10, 20, 40, 60))


@dataclass(slots=True)
class Circuit:
    """The state for one upstream. `failures` in a row; 0 is closed."""

    failures: int = 0
    probe_at_s: float = 0.0
    probing: bool = False

    @property
    def is_open(self) -> bool:
        """True while only probes are let through."""
        return self.failures > 0

    def wait_s(self, now_s: float) -> float | None:
        """Return how long until an attempt may begin: 0 for at once, None while a probe is out."""
        if not self.is_open:
            return 0.0
        return None if self.probing else max(0.0, self.probe_at_s - now_s)

    def hasten(self, now_s: float) -> None:
        """Let the next probe go at once: an operator has mended something."""
        self.probe_at_s = min(self.probe_at_s, now_s)

    def begin(self) -> bool:
        """Note that an attempt begins, after `wait_s` gave 0; True where it is a probe."""
        self.probing = self.is_open
        return self.probing

    def succeeded(self) -> None:
        """Close: the upstream answered about a copy."""
        self.failures = 0

    def failed(self, now_s: float, *, probe: bool, entropy: float) -> None:
        """Note a condition of the upstream, `entropy` being uniform in [0, 1)."""
        if self.is_open and not probe:
            return
        self.failures += 1
        self.probe_at_s = now_s + backoff.delay(PROBES, self.failures, entropy).total_seconds()

    def ended(self, *, probe: bool) -> None:
        """Note that an attempt is over, whether it told anything (`succeeded`, `failed`) or was cut."""
        if probe:
            self.probing = False
