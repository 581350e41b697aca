"""What is durable: the names of folders, too."""

import os
import stat
from pathlib import Path

import pytest

from tracker.runtime.durable import make_folder


def test_the_name_of_every_folder_that_is_made_is_flushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is safe in a folder whose own name is lost with the power is lost with it."""
    flushed: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: flushed.append(os.fstat(descriptor).st_ino))
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there")
    made = tmp_path / "link" / "a" / "b"

    make_folder(made)
    make_folder(made)

    assert flushed == [(tmp_path / "there").stat().st_ino, made.parent.stat().st_ino]
    assert stat.S_IMODE(made.stat().st_mode) == stat.S_IMODE(made.parent.stat().st_mode) == 0o700
