"""Whether the spool of a slot is the one that was used here last, or an older copy of it, from a backup or a clone.

Owns the file `instance` of a slot and its twin in the journal's folder, `journal/spool-NN.instance`: an id, drawn when
the spool is new, and a count that only goes up. Does not own the slot's lock; who has that may use the stamp.

Theory:
    An older copy holds mail that was sent since, and would send it again. It is behind its twin, which nobody puts back
    together with the spool alone. So mail whose count is behind the twin's, whose id is another, or that has no stamp
    where a twin is, is refused; a spool without mail has nothing to send and never is.
    The count goes up at each start and stop, and within a minute after an outcome: at starts alone, a copy of a running
    spool would be as good as the spool when it is put back.
    The spool's own file is on the disk before the twin is written. A crash between the two leaves the spool ahead, and
    nothing but an older copy is ever behind. Where the spool's file cannot be written (a full disk), the twin is not
    either: both stay as they are, mail goes on, and the log says so.

Limits: not seen are a copy that was put back after a kill, of what was written in the last minute before it; spool and
journal put back together; and a copy of the machine that runs beside it.
"""

import math
import os
import threading
import time
from pathlib import Path
from typing import Final

import msgspec
import structlog

from relay.spool.errors import SpoolRestoredError, SpoolVersionError
from tracker.runtime import slots
from tracker.runtime.durable import replace_file

VERSION: Final = 1
NAME: Final = "instance"
QUEUE: Final = "q"

_LOG: Final = structlog.get_logger()
_EVERY_S: Final = 60.0
_ID_BYTES: Final = 16


class _Written(msgspec.Struct, frozen=True, kw_only=True):
    version: int
    id: str
    count: int


class Stamp:
    """That of one slot: `check` before anything is changed, then `advance`; again after outcomes and at the end."""

    def __init__(self, slot: Path, twin: Path) -> None:
        """Take the slot's folder and the path of the twin; nothing is read yet."""
        self._slot = slot
        self._own = slot / NAME
        self._twin = twin
        self._id = ""
        self._count = 0
        self._turn = threading.Lock()
        self._advanced_at_s = -math.inf

    def check(self, messages: int) -> None:
        """Read both files, for a spool with so many messages. OSError: they cannot be read.

        SpoolRestoredError: it is an older copy, or another relay's, and may not be sent. SpoolVersionError.
        """
        own, twin = self._take()
        if not messages:
            return
        if twin is None:
            if own is not None:
                _LOG.warning("spool_twin_missing", path=str(self._twin), messages=messages)
            return
        if own is None:
            raise self._refusal(messages, f"its file {NAME!r} is missing")
        if own.id != twin.id:
            raise self._refusal(messages, "it is the spool of another relay")
        if own.count < twin.count:
            raise self._refusal(messages, f"its count is {own.count}, and was {twin.count} already")

    def accept(self) -> None:
        """Take the spool for the one that was used last, whatever the twin says. OSError: it cannot be written."""
        self._take()
        self._write()

    def advance(self) -> None:
        """Raise the count, after `check`: from now on every copy that was made before is an older one."""
        with self._turn:
            self._advanced_at_s = time.monotonic()
            try:
                self._write()
            except OSError as error:
                _LOG.warning("spool_stamp_not_written", path=error.filename or str(self._own), error=error.strerror)

    def wait_s(self) -> float:
        """Return how long it is until an outcome that was written now may raise the count."""
        return max(0.0, self._advanced_at_s + _EVERY_S - time.monotonic())

    def _take(self) -> tuple[_Written | None, _Written | None]:
        own, twin = _read(self._own), _read(self._twin)
        known = [written for written in (twin, own) if written is not None]
        self._id = known[0].id if known else os.urandom(_ID_BYTES).hex()
        self._count = max((written.count for written in known), default=0)
        return own, twin

    def _write(self) -> None:
        written = _Written(version=VERSION, id=self._id, count=self._count + 1)
        raw = msgspec.json.encode(written) + b"\n"
        replace_file(self._own, raw)
        self._count = written.count
        replace_file(self._twin, raw)

    def _refusal(self, messages: int, why: str) -> SpoolRestoredError:
        return SpoolRestoredError(
            f"{self._slot} holds {messages} message(s) and is not the spool that was used here last: {why}. "
            "It may be from a backup; what was sent since would be sent again"
        )


def twin_of(journal: Path, number: int) -> Path:
    """Return where the twin of a slot lies."""
    return journal / f"spool-{number:02d}.{NAME}"


def accept_all(spool: Path, journal: Path) -> list[tuple[Path, int]]:
    """Take every slot that no process owns for the one that was used last; return those that would be refused.

    Each with the number of its messages. OSError: not all of them could be.
    """
    accepted = []
    for number in range(slots.MAX_SLOTS):
        slot = slots.slot_directory(spool, number)
        messages = len(list((slot / QUEUE).iterdir())) if (slot / QUEUE).is_dir() else 0
        descriptor = slots.lock(slot / slots.LOCK) if messages else None
        if descriptor is None:
            continue
        try:
            stamp = Stamp(slot, twin_of(journal, number))
            try:
                stamp.check(messages)
            except SpoolRestoredError:
                stamp.accept()
                accepted.append((slot, messages))
        finally:
            os.close(descriptor)
    return accepted


def _read(path: Path) -> _Written | None:
    """Read a file; None where it is missing or damaged."""
    try:
        written = msgspec.json.decode(path.read_bytes(), type=_Written)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None
    if written.version != VERSION:
        raise SpoolVersionError(f"{path} is of version {written.version}, and this release reads {VERSION}")
    return written
