"""Whether the spool takes more mail: asked at MAIL, answered 452 4.3.1 where it does not (RFC 5321 §4.2.3).

The spool is that of all processes of the node, each of which says what its own slots hold.
It closes at `high_water_bytes`, or when less than `min_free_bytes` or 1.5 times the largest message is free (Postfix's
rule: a message is in flight while the next is asked about), or when the file system takes hardly another file. It opens
again at 80 % of it, so that it does not flap.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from relay.spool import metrics
from relay.spool.files import Spool
from tracker.runtime.seat import Column, Counts

_LOG: Final = structlog.get_logger()
_RESUME: Final = 0.8
_MESSAGES_IN_FLIGHT: Final = 1.5
_MIN_FREE_FILES: Final = 100  # one for each message in flight, and the journal and the storage make files, too


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolOptions:
    """Limits of the spool, all slots together."""

    high_water_bytes: int = 5 << 30
    min_free_bytes: int = 1 << 30
    max_message_bytes: int = 25 << 20


class SpaceGate:
    """Remembers whether it is closed. The first of the spools is the one that new mail goes to."""

    def __init__(self, spools: Sequence[Spool], options: SpoolOptions, counts: Counts | None = None) -> None:
        """Take the spools of the process: the list may grow when a slot is adopted. `options` may be replaced."""
        self.options = options
        self._spools = spools
        self._counts = counts or Counts()
        self._open = True

    def publish(self) -> int:
        """Tell the other processes what the slots of this one hold; return what all slots hold, in bytes."""
        self._counts.put(Column.SPOOL_BYTES, sum(spool.usage_bytes for spool in self._spools))
        return self._counts.total(Column.SPOOL_BYTES)

    def admits(self) -> bool:
        """True where a message may come in. A file system that cannot be asked admits nothing."""
        options, factor = self.options, 1.0 if self._open else _RESUME
        min_free_bytes = max(options.min_free_bytes, int(options.max_message_bytes * _MESSAGES_IN_FLIGHT))
        usage = self.publish()
        try:
            free_bytes, free_files = self._spools[0].free_bytes(), self._spools[0].free_files()
        except OSError:
            free_bytes = free_files = 0
        has_room = free_bytes >= min_free_bytes / factor and free_files >= _MIN_FREE_FILES / factor
        admits = usage < options.high_water_bytes * factor and has_room
        if admits and not self._open:
            _LOG.info("spool_opened", usage_bytes=usage, free_bytes=free_bytes, free_files=free_files)
        elif self._open and not admits:
            _LOG.error("spool_closed", usage_bytes=usage, free_bytes=free_bytes, free_files=free_files)
        self._open = admits
        metrics.CLOSED.set(not admits)
        return admits
