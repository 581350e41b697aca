"""Writes what became of copies to their rows, however long it takes.

A disk that forgets deliveries would deliver everything again and again: so an outcome that cannot be written is kept
and written again, and whoever starts attempts asks `are_failing` first.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

import structlog

from relay.spool.layout import Row
from relay.spool.queued import QueuedMessage

_LOG: Final = structlog.get_logger()
_FIRST_PAUSE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 60.0


class Marks:
    """Those of one process."""

    def __init__(self, on_mended: Callable[[], None]) -> None:
        """Take who is told that rows can be written again."""
        self._on_mended = on_mended
        self._failing = 0

    @property
    def are_failing(self) -> bool:
        """True while an outcome waits for the disk: nothing new may be started."""
        return self._failing > 0

    async def persist(self, message: QueuedMessage, rows: Mapping[int, Row]) -> None:
        """Write rows, those of a certain outcome and those that are held to the very disk."""
        durable = any(row.state.is_certain for row in rows.values())
        pause_s = _FIRST_PAUSE_S
        failing = 0
        try:
            while True:
                try:
                    await message.spool.mark(message.id, rows, durable=durable)
                    return
                except FileNotFoundError:
                    _LOG.error("spool_file_vanished", message_ref=str(message.id))
                    return
                except OSError as error:
                    _LOG.error("outcome_not_written", message_ref=str(message.id), error=error.strerror)
                self._failing += not failing
                failing = 1
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
        finally:
            self._failing -= failing
            if failing:
                self._on_mended()
