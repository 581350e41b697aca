"""What waits in a spool, read from its files: no process is asked, none is disturbed, and it works while none runs.

A file may go, and its rows may change, while it is looked at: each row is read whole, and what is gone is left out.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from msgspec import Struct

from relay.spool import files
from relay.spool.entry import SpoolEntry
from relay.spool.errors import SpoolDamagedError, SpoolVersionError
from relay.spool.layout import Row, State
from tracker.contract.address import Address
from tracker.contract.errors import AddressError, IdError
from tracker.contract.ids import MessageId

STATES: Final = {
    State.WAITING: "waiting",
    State.IN_FLIGHT: "in_flight",
    State.DELIVERED: "delivered",
    State.FAILED: "failed",
    State.DELIVERED_TOLD: "delivered",
    State.FAILED_TOLD: "failed",
    State.HELD: "held",
}
_SLOT: Final = re.compile(r"[0-9]{2}")


class QueuedRecipient(Struct, frozen=True, kw_only=True):
    """A recipient of a message in the spool. `state` is one of `STATES`; times are None where there is none."""

    address: str
    state: str
    attempts: int
    next_attempt_at: datetime | None
    changed_at: datetime | None
    phase: str | None
    reply: str


class QueuedMail(Struct, frozen=True, kw_only=True):
    """A message in the spool. `sender` is empty for the null sender; `report`: it is a delivery report of ours."""

    id: str
    slot: int
    accepted_at: datetime
    size_bytes: int
    sender: str
    upstream: str
    configuration_set: str | None
    report: bool
    recipients: tuple[QueuedRecipient, ...]

    def count(self, state: str) -> int:
        """Return how many recipients are in a state."""
        return sum(recipient.state == state for recipient in self.recipients)

    @property
    def next_attempt_at(self) -> datetime | None:
        """The first of its recipients' next attempts."""
        return min((one.next_attempt_at for one in self.recipients if one.next_attempt_at), default=None)

    @property
    def last(self) -> QueuedRecipient:
        """The unfinished recipient that changed last, or any."""
        open_ones = [one for one in self.recipients if one.state in ("waiting", "in_flight", "held")]
        return max(open_ones or self.recipients, key=lambda one: one.changed_at or self.accepted_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueFilter:
    """Which messages are meant; what is None does not matter. `domain` is the sender's, or one above it."""

    ids: frozenset[str] | None = None
    upstream: str | None = None
    domain: str | None = None
    held: bool = False
    accepted_before: datetime | None = None

    def fits(self, mail: QueuedMail) -> bool:
        """Tell whether a message is meant."""
        return (
            (self.ids is None or mail.id in self.ids)
            and (self.upstream is None or mail.upstream == self.upstream)
            and (self.domain is None or _is_under(mail.sender, self.domain))
            and (not self.held or mail.count("held") > 0)
            and (self.accepted_before is None or mail.accepted_at < self.accepted_before)
        )


def waiting(root: Path, wanted: QueueFilter) -> Iterator[QueuedMail]:
    """Yield the messages of a spool, `var/spool`, slot by slot and oldest first; what cannot be read is left out."""
    for slot in slots_of(root):
        names = wanted.ids if wanted.ids is not None else _names(slot)
        for name in sorted(names):
            mail = _look(slot, name)
            if mail is not None and wanted.fits(mail):
                yield mail


def content(root: Path, mail: QueuedMail) -> bytes:
    """Return the message as it was accepted. SpoolDamagedError, FileNotFoundError: it is damaged, or gone."""
    return files.read_whole(root / f"{mail.slot:02d}" / files.QUEUE / mail.id)[2]


def slots_of(root: Path) -> list[Path]:
    """Return the folders `NN` of a spool."""
    if not root.is_dir():
        return []
    return sorted(path for path in root.iterdir() if _SLOT.fullmatch(path.name) and path.is_dir())


def _names(slot: Path) -> list[str]:
    folder = slot / files.QUEUE
    return [path.name for path in folder.iterdir()] if folder.is_dir() else []


def _look(slot: Path, name: str) -> QueuedMail | None:
    try:
        header, stored = files.load_envelope(slot / files.QUEUE / name, MessageId.parse(name))
    except (IdError, SpoolDamagedError, SpoolVersionError, FileNotFoundError):
        return None
    entry = stored.entry
    recipients = (_recipient(to, row, entry) for to, row in zip(entry.recipients, stored.rows, strict=True))
    return QueuedMail(
        id=name,
        slot=int(slot.name),
        accepted_at=entry.accepted.facts.accepted_at,
        size_bytes=header.message_bytes,
        sender=entry.reverse_path,
        upstream=entry.upstream,
        configuration_set=entry.accepted.facts.configuration_set,
        report=entry.report,
        recipients=tuple(recipients),
    )


def _recipient(address: str, row: Row, entry: SpoolEntry) -> QueuedRecipient:
    next_ms = row.next_ms if row.attempts else 0
    next_at = entry.accepted.facts.accepted_at if not next_ms else _time(next_ms)
    return QueuedRecipient(
        address=address,
        state=STATES[row.state],
        attempts=row.attempts,
        next_attempt_at=next_at if row.state is State.WAITING else None,
        changed_at=_time(row.changed_ms) if row.changed_ms else None,
        phase=row.phase.value if row.phase else None,
        reply=str(row.reply or row.text),
    )


def _time(unix_ms: int) -> datetime:
    """Times of rows come from a file: one that is no time is the epoch."""
    try:
        return datetime.fromtimestamp(unix_ms / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(0, UTC)


def _is_under(sender: str, domain: str) -> bool:
    try:
        own = Address.parse(sender).domain
    except AddressError:
        return False
    return own == domain or own.endswith("." + domain)
