"""Tells the operator when much mail is not rewritten because it arrives signed: mostly a program that still signs.

Owns how much is much. One such message is nobody's fault, and its events have the reason.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog
from prometheus_client import Counter

from relay.core.reasons import SkipReason
from tracker.contract.events import MessageFacts

WINDOW_S: Final = 3600.0
"""The messages of a set are counted anew after an hour, and it is said once in each."""
LEAST: Final = 20
"""Fewer signed messages in a window are never much: a new set-up is tried with a handful."""
SHARE: Final = 0.5

SKIPPED: Final = Counter("mailwake_messages_skipped_signed_total", "Messages not rewritten for a signature on them.")
_LOG: Final = structlog.get_logger()


@dataclass(slots=True)
class _Window:
    since_s: float
    messages: int = 0
    skipped: int = 0
    is_said: bool = False


class SignedMail:
    """Counts what is accepted, by configuration set. `monotonic_s` is a clock that never jumps."""

    def __init__(self, monotonic_s: Callable[[], float]) -> None:
        """Begin with nothing counted."""
        self._monotonic_s = monotonic_s
        self._windows: dict[str, _Window] = {}

    def saw(self, facts: MessageFacts) -> None:
        """Count a message that was accepted."""
        if facts.configuration_set is None:
            return
        now_s = self._monotonic_s()
        window = self._windows.get(facts.configuration_set)
        if window is None or now_s - window.since_s >= WINDOW_S:
            self._windows[facts.configuration_set] = window = _Window(now_s)
        window.messages += 1
        if any(skipped.reason == SkipReason.DKIM_SIGNED.value for skipped in facts.skipped):
            SKIPPED.inc()
            window.skipped += 1
        if not window.is_said and window.skipped >= LEAST and window.skipped >= SHARE * window.messages:
            window.is_said = True
            _LOG.warning(
                "signed_mail_skipped",
                configuration_set=facts.configuration_set,
                skipped=window.skipped,
                messages=window.messages,
            )
