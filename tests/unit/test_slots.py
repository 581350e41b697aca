"""Slots: owned by a lock, free when their owner is gone, adopted with what is in them."""

import os
import stat
import threading
from pathlib import Path

import pytest

from tracker.runtime import slots
from tracker.runtime.configfile import ConfigError


def test_a_process_claims_the_lowest_number_that_is_free_everywhere(tmp_path: Path) -> None:
    """Spool, journal and control socket of a process bear one number."""
    roots = {"spool.directory": tmp_path / "spool", "journal.directory": tmp_path / "journal"}
    for key, root in roots.items():
        slots.prepare_root(root, key)
    journal_only = slots.claim({"journal.directory": roots["journal.directory"]})

    both = slots.claim(roots)

    assert {slot.number for slot in both.values()} == {1}
    for slot in (*both.values(), *journal_only.values()):
        slot.close()
    again = slots.claim(roots)
    assert {slot.number for slot in again.values()} == {0}
    for slot in again.values():
        slot.close()


def test_a_free_slot_with_content_is_adopted(tmp_path: Path) -> None:
    """Mail of a process that is gone is delivered by whoever starts next; that of a living one is left alone."""
    for number, name in ((0, "q/mail"), (1, "q/mail"), (2, "quarantine/mail"), (3, "lock")):
        path = tmp_path / f"{number:02d}" / name
        path.parent.mkdir(parents=True)
        path.touch()
    living = slots.claim({"spool.directory": tmp_path})["spool.directory"]

    adopted = slots.adopt("spool.directory", tmp_path, "q")

    assert [slot.number for slot in adopted] == [1]
    for slot in (living, *adopted):
        slot.close()


def test_a_slot_that_a_command_works_on_is_not_passed_over(tmp_path: Path) -> None:
    """Mail in it would wait for the start after the next; so a process that starts waits for the command."""
    (tmp_path / "00/q").mkdir(parents=True)
    (tmp_path / "00/q/mail").touch()
    claimed: list[slots.Slot] = []

    def start() -> None:
        claimed.extend(slots.claim({"spool.directory": tmp_path}).values())

    with slots.hold_off_starts(tmp_path):
        lock = slots.lock(tmp_path / "00/lock")
        assert lock is not None
        starting = threading.Thread(target=start)
        starting.start()
        starting.join(0.1)
        assert claimed == []
        os.close(lock)
    starting.join(10)

    assert [slot.number for slot in claimed] == [0]
    claimed[0].close()


def test_a_command_that_hangs_holds_no_start_off_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have been stopped by hand: mail that comes in now is worth more than what lies in its slot."""
    monkeypatch.setattr(slots, "WAIT_S", 0.05)
    with slots.hold_off_starts(tmp_path):
        claimed = slots.claim({"spool.directory": tmp_path})["spool.directory"]
        adopted = slots.adopt("spool.directory", tmp_path, "q")

    assert claimed.number == 0
    assert adopted == []
    claimed.close()


def test_folders_with_mail_are_closed_to_others(tmp_path: Path) -> None:
    """A new folder is 0700; one that others can enter is refused with the command that mends it."""
    slots.prepare_root(tmp_path / "new", "spool.directory")
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700

    (tmp_path / "new").chmod(0o755)
    with pytest.raises(ConfigError, match="chmod 700"):
        slots.prepare_root(tmp_path / "new", "spool.directory")


def test_a_folder_that_cannot_be_made_is_one_clear_error(tmp_path: Path) -> None:
    """A file stands in the way, as it may after a wrong copy."""
    (tmp_path / "file").touch()

    with pytest.raises(ConfigError, match=r"spool\.directory: .*cannot be used"):
        slots.prepare_root(tmp_path / "file/spool", "spool.directory")


def test_a_lock_alone_is_no_content(tmp_path: Path) -> None:
    """Only what was kept counts when it is decided whether new keys may be made."""
    assert slots.is_unused([tmp_path / "missing", tmp_path])
    (tmp_path / "00").mkdir()
    (tmp_path / "00/lock").touch()
    assert slots.is_unused([tmp_path])
    (tmp_path / "00/segment").touch()
    assert not slots.is_unused([tmp_path])
