"""What a spool still has of one recipient: mail that waits, and finished mail whose file nobody has removed yet.

A running process removes a file as soon as all its recipients are finished, so that finished mail lies only where a
process was killed in between, until the next start.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from relay.spool import files, inspection
from relay.spool.errors import SpoolDamagedError
from relay.spool.inspection import QueuedMail, QueueFilter
from tracker.contract.ids import MessageId
from tracker.runtime import slots


def of_recipient(root: Path, is_person: Callable[[str], bool]) -> Iterator[QueuedMail]:
    """Yield the messages of a spool, `var/spool`, that a recipient is one of. OSError: it cannot be read."""
    for mail in inspection.waiting(root, QueueFilter()):
        if any(is_person(recipient.address) for recipient in mail.recipients):
            yield mail


def remove_finished(root: Path, mails: Iterable[QueuedMail]) -> set[str]:
    """Remove the files of those that are finished, in slots that no process owns; return their ids. OSError."""
    removed: set[str] = set()
    with slots.hold_off_starts(root):
        for mail in mails:
            slot = root / f"{mail.slot:02d}"
            lock = slots.lock(slot / slots.LOCK)
            if lock is None:
                continue
            try:
                if _is_finished(path := slot / files.QUEUE / mail.id, mail.id):
                    path.unlink()
                    removed.add(mail.id)
            finally:
                os.close(lock)
    return removed


def _is_finished(path: Path, message: str) -> bool:
    """Say whether no recipient of a file waits any more, and all is told."""
    try:
        _, stored = files.load_envelope(path, MessageId.parse(message))
    except (SpoolDamagedError, FileNotFoundError):
        return False
    return all(row.state.is_finished for row in stored.rows)


def quarantined(root: Path) -> int:
    """Return how many files lie in the quarantine: nobody can tell whose mail they are."""
    folders = (slot / files.QUARANTINE for slot in inspection.slots_of(root))
    return sum(1 for folder in folders if folder.is_dir() for _ in folder.iterdir())
