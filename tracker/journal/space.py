"""How much of its limit the journal takes: the bytes of all segments of a node, whoever wrote them.

Owns who is refused when: the last twentieth is for hits alone. Mail loses nothing by that, its outcomes wait in the
spool and are told again; a hit that is refused is gone.

Limits: what other processes write is seen a second later.
"""

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from tracker.journal.segment import SegmentName

RESERVE: Final = 0.05  # of the limit
LOOK_EVERY_S: Final = 1.0  # 5 GiB are 320 segments, and asking for their sizes takes a millisecond


class Space:
    """The room of a journal. `look` and `add` are for the thread that writes; anybody may ask."""

    def __init__(self, root: Path, max_bytes: int) -> None:
        """`root` is the folder of all slots' folders."""
        self._root = root
        self._max_bytes = max_bytes
        self._used_bytes = 0
        self._looked_at_s = -LOOK_EVERY_S

    def is_full(self, more_bytes: int, *, for_hits: bool) -> bool:
        """Say whether so much more would pass what records of this kind may take."""
        limit_bytes = self._max_bytes if for_hits else self._max_bytes * (1 - RESERVE)
        return self._used_bytes + more_bytes > limit_bytes

    def add(self, written_bytes: int) -> None:
        """Count what was written here, which nobody needs to look for."""
        self._used_bytes += written_bytes

    def look(self) -> None:
        """Measure the folder, unless that was done a moment ago."""
        now_s = time.monotonic()
        if now_s < self._looked_at_s + LOOK_EVERY_S:
            return
        self._looked_at_s = now_s
        self._used_bytes = used_bytes(self._root)


def used_bytes(root: Path) -> int:
    """Return the bytes of all segments below a folder; what goes meanwhile, and what cannot be read, has none."""
    total = 0
    with suppress(OSError), os.scandir(root) as slots:
        for slot in slots:
            with suppress(OSError), os.scandir(slot.path) as files:
                for file in files:
                    if SegmentName.parse(file.name) is not None:
                        with suppress(OSError):
                            total += file.stat().st_size
    return total
