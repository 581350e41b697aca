"""A folder as the upstream: one Maildir for all mail, each copy a file in `new/`.

`Return-Path:` and `Delivered-To:` are prepended (RFC 5321 §4.4: final delivery); the recipient is in the latter. All
else are the bytes as they were sent, CRLF line ends included: most Maildirs have LF, but a mailbox that is there to be
looked at must show what left. The file's name is the copy's id, so a copy that is delivered twice is one file. The
folder is named by the configuration alone; no part of a path comes from mail.

Limits: a copy that a mail program has moved to `cur/` before it came a second time is there twice.
"""

import asyncio
import os
from pathlib import Path
from typing import Final

from relay.core import headers
from relay.core.attempt import Accepted, Attempt, Deferred, Phase, Transaction, UpstreamReply
from relay.core.reply import sanitize
from tracker.contract.ids import CopyId
from tracker.runtime.durable import flush_folder, make_folder

_MODE: Final = 0o600


class Maildir:
    """A final upstream on this machine's disk."""

    def __init__(self, directory: Path) -> None:
        """Take the Maildir's folder; it is made with the first delivery."""
        self._directory = directory

    async def send(self, transaction: Transaction) -> list[Attempt]:
        """Write one file for each recipient; a disk that does not take them is a condition of the upstream."""
        return await asyncio.to_thread(self._deliver, transaction)

    async def close(self) -> None:
        """Nothing is kept open."""

    def _deliver(self, transaction: Transaction) -> list[Attempt]:
        attempts: list[Attempt] = []
        for recipient, copy in zip(transaction.recipients, transaction.copies, strict=True):
            try:
                self._write(transaction, recipient, copy)
            except OSError as error:
                detail = f"the mailbox cannot be written: {sanitize(error.strerror or type(error).__name__)}"
                attempts.append(Deferred(reply=None, phase=Phase.DATA, of_upstream=True, detail=detail))
            else:
                attempts.append(Accepted(reply=UpstreamReply(250, f"2.0.0 Ok: delivered as {copy}")))
        return attempts

    def _write(self, transaction: Transaction, recipient: str, copy: CopyId) -> None:
        for name in ("tmp", "new", "cur"):
            make_folder(self._directory / name)
        temporary, new = (self._directory / name / str(copy) for name in ("tmp", "new"))
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, _MODE)
        with os.fdopen(descriptor, "wb") as file:
            file.write(headers.make_field("Return-Path", f"<{transaction.reverse_path}>"))
            file.write(headers.make_field("Delivered-To", recipient))
            file.writelines(transaction.data)
            file.flush()
            os.fsync(descriptor)
        temporary.rename(new)
        flush_folder(new.parent)
