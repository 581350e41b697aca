"""A maildir: what it says it has is on the disk."""

import errno
import os
from pathlib import Path

import pytest

from relay.core.attempt import Accepted, Deferred, Transaction
from relay.smtp.maildir import Maildir
from tests.unit.spooling import MESSAGE, make_entry

ENTRY = make_entry(1)
COPY = ENTRY.accepted.copies[0].copy
SENT = Transaction(reverse_path="", recipients=ENTRY.recipients, copies=(COPY,), data=(MESSAGE,))


async def test_a_delivery_is_on_the_disk_before_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its 250 is the end of the promise: the file is flushed under a name that no reader looks at, then its folder."""
    seen: list[tuple[int, bool]] = []

    def fsync(descriptor: int) -> None:
        seen.append((os.fstat(descriptor).st_ino, (tmp_path / "new" / str(COPY)).exists()))

    for name in ("tmp", "new", "cur"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(os, "fsync", fsync)
    (attempt,) = await Maildir(tmp_path).send(SENT)

    assert isinstance(attempt, Accepted)
    assert seen == [
        ((tmp_path / "new" / str(COPY)).stat().st_ino, False),
        ((tmp_path / "new").stat().st_ino, True),
    ]


@pytest.mark.parametrize("failing", ["fsync", "rename"])
async def test_a_disk_that_does_not_take_it_is_a_condition_of_the_upstream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    """It is tried again, under the same name."""

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(*((os, "fsync", fail) if failing == "fsync" else (Path, "rename", fail)))
        (attempt,) = await Maildir(tmp_path).send(SENT)
    (again,) = await Maildir(tmp_path).send(SENT)

    assert isinstance(attempt, Deferred)
    assert attempt.of_upstream
    assert isinstance(again, Accepted)
    assert [path.name for path in (tmp_path / "new").iterdir()] == [str(COPY)]
    assert not list((tmp_path / "tmp").iterdir())
