"""An older copy of a spool is told from the spool that was used last, and nothing else is taken for one."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from relay.spool import stamp as stamps
from relay.spool.errors import SpoolRestoredError, SpoolVersionError
from relay.spool.files import Spool
from relay.spool.layout import Row, State
from relay.spool.stamp import Stamp, accept_all, twin_of
from tests.integration.storage import until
from tests.unit.spooling import MESSAGE, make_entry
from tracker.runtime import durable, slots

HELD = Row(state=State.HELD)


class _KilledError(BaseException):
    """Stands for the end of the process: nothing catches it."""


@dataclass(frozen=True)
class Place:
    """A relay's folders, with one slot."""

    root: Path

    @property
    def slot(self) -> Path:
        return self.root / "spool" / "00"

    @property
    def journal(self) -> Path:
        return self.root / "journal"

    @property
    def files(self) -> tuple[Path, Path]:
        """The file in the slot, and its twin."""
        return self.slot / "instance", twin_of(self.journal, 0)

    @property
    def counts(self) -> tuple[int, int]:
        own, twin = (json.loads(path.read_bytes())["count"] for path in self.files)
        return own, twin

    def opened(self) -> Spool:
        """Start. SpoolRestoredError: it is refused."""
        self.journal.mkdir(parents=True, exist_ok=True)
        spool = Spool(self.slot, stamp=Stamp(self.slot, self.files[1]))
        try:
            spool.open()
        except BaseException:
            Spool(self.slot).close()
            raise
        return spool

    def run(self) -> None:
        """Start and stop."""
        self.opened().close()

    def copied(self, name: str) -> Path:
        """Copy the slot aside."""
        return Path(shutil.copytree(self.slot, self.root / name))

    def put_back(self, copy: Path) -> None:
        """Put a copy in the place of the slot."""
        shutil.rmtree(self.slot)
        shutil.copytree(copy, self.slot)


@pytest.fixture
async def place(tmp_path: Path) -> Place:
    """A slot with one message, that was used and stopped."""
    here = Place(tmp_path)
    spool = here.opened()
    await spool.put(make_entry(), MESSAGE)
    spool.close()
    return here


def test_a_new_spool_gets_a_stamp_and_a_twin(tmp_path: Path) -> None:
    """Both say their version and are for this user alone."""
    here = Place(tmp_path)
    here.run()
    own, twin = here.files

    assert own.read_bytes() == twin.read_bytes()
    assert own.stat().st_mode & 0o777 == twin.stat().st_mode & 0o777 == 0o600
    written = json.loads(own.read_bytes())
    assert (written["version"], len(written["id"])) == (1, 32)
    assert sorted(path.name for path in here.slot.iterdir()) == ["instance", "q", "quarantine", "tmp"]


def test_the_count_goes_up_at_each_start_and_stop(place: Place) -> None:
    """And the id stays."""
    before = json.loads(place.files[0].read_bytes())
    place.run()
    after = json.loads(place.files[0].read_bytes())

    assert (after["id"], after["count"]) == (before["id"], before["count"] + 2)
    assert place.counts == (after["count"], after["count"])


def test_an_older_copy_is_refused_and_left_alone(place: Place) -> None:
    """The operator reads which folder it is, what would happen, and what to do; nothing of it is changed."""
    copy = place.copied("backup")
    (copy / "tmp" / "half").touch()
    place.run()
    place.put_back(copy)
    before = place.counts

    with pytest.raises(SpoolRestoredError, match=r"spool/00 holds 1 message\(s\) .* its count is 2, and was 4 already"):
        place.opened()
    assert place.counts == before
    assert (place.slot / "tmp" / "half").exists()
    assert "--force" in SpoolRestoredError.remedy


def test_a_copy_that_was_made_of_a_running_spool_is_refused_after_its_stop(place: Place) -> None:
    """At starts alone the count would be the same: a backup at night, put back after a day without a restart."""
    spool = place.opened()
    copy = place.copied("backup")
    spool.close()
    place.put_back(copy)

    with pytest.raises(SpoolRestoredError):
        place.opened()


async def test_a_copy_that_was_made_before_an_outcome_is_refused_even_after_a_kill(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outcomes raise the count within a minute; here a minute is short."""
    monkeypatch.setattr(stamps, "_EVERY_S", 0.1)
    spool = place.opened()
    copy = place.copied("backup")
    _ = [batch async for batch in spool.scan()]
    await spool.mark(make_entry().id, {0: HELD}, durable=True)
    await until(lambda: spool._advancing is None)
    spool._threads.shutdown(wait=True)  # killed: it is not closed
    place.put_back(copy)

    with pytest.raises(SpoolRestoredError):
        place.opened()


async def test_outcomes_do_not_raise_the_count_at_once(place: Place) -> None:
    """It costs four flushes, which each outcome shall not pay. A stop does not wait for the minute."""
    spool = place.opened()
    before = place.counts
    _ = [batch async for batch in spool.scan()]
    for _ in range(3):
        await spool.mark(make_entry().id, {0: HELD}, durable=True)
    assert place.counts == before
    spool.close()
    assert place.counts == (before[0] + 1, before[1] + 1)


def test_an_older_copy_without_mail_is_used(place: Place) -> None:
    """It has nothing to send. The count goes on above both."""
    copy = place.copied("backup")
    for path in (copy / "q").iterdir():
        path.unlink()
    for _ in range(3):
        place.run()
    before = place.counts
    place.put_back(copy)
    place.run()

    assert place.counts == (before[0] + 2, before[0] + 2)


def test_mail_of_a_release_without_stamps_is_used(place: Place) -> None:
    """The first start after an upgrade: there is neither file."""
    for path in place.files:
        path.unlink()
    with capture_logs() as logs:
        place.run()

    assert place.counts == (2, 2)
    assert logs == []


@pytest.mark.parametrize("content", [None, b"", b"{", b'{"version":1}', b'{"version":1,"id":"","count":"3"}'])
def test_a_copy_without_a_stamp_is_refused_where_a_twin_is(place: Place, content: bytes | None) -> None:
    """It is from before the upgrade, or it was put together by hand."""
    own = place.files[0]
    own.unlink()
    if content is not None:
        own.write_bytes(content)

    with pytest.raises(SpoolRestoredError, match="its file 'instance' is missing"):
        place.opened()


def test_the_spool_of_another_relay_is_refused(place: Place, tmp_path: Path) -> None:
    """That one may still run and send the same mail."""
    other = Place(tmp_path / "other")
    for _ in range(10):
        other.run()
    shutil.rmtree(place.slot)
    shutil.copytree(other.slot, place.slot)
    (place.slot / "q" / str(make_entry().id)).touch()

    with pytest.raises(SpoolRestoredError, match="it is the spool of another relay"):
        place.opened()


def test_a_spool_that_moves_with_its_journal_is_used(place: Place, tmp_path: Path) -> None:
    """Stopped, copied to another folder or machine, started there; nothing is said."""
    moved = replace(place, root=tmp_path / "moved")
    shutil.copytree(place.root / "spool", moved.root / "spool")
    shutil.copytree(place.journal, moved.journal)
    with capture_logs() as logs:
        moved.run()

    assert logs == []


def test_a_spool_that_moves_alone_is_used_with_a_warning(place: Place) -> None:
    """Whether it is an older copy cannot be told; the twin is made anew."""
    before, _ = place.counts
    place.files[1].unlink()
    with capture_logs() as logs:
        place.run()

    assert [(line["event"], line["log_level"], line["messages"]) for line in logs] == [
        ("spool_twin_missing", "warning", 1)
    ]
    assert place.counts == (before + 2, before + 2)


@given(st.lists(st.integers(0, 5), max_size=8))
def test_a_kill_between_any_two_steps_is_no_older_copy(
    tmp_path_factory: pytest.TempPathFactory, kills: list[int]
) -> None:
    """Starts that are cut off before, between and after the two files, in any order: the next one is not refused."""
    here = Place(tmp_path_factory.mktemp("place"))
    here.run()
    (here.slot / "q" / str(make_entry().id)).touch()
    copy = here.copied("backup")
    for steps in kills:
        with pytest.MonkeyPatch.context() as patch:
            _kill_after(steps, patch)
            try:
                here.run()
            except _KilledError:
                continue
    here.run()
    here.put_back(copy)

    with pytest.raises(SpoolRestoredError):
        here.opened()


def _kill_after(steps: int, patch: pytest.MonkeyPatch) -> None:
    """End the process at one of the renames and flushes of folders that follow."""
    left = steps

    def counted(work: Callable[..., object]) -> Callable[..., object]:
        def step(*arguments: object) -> object:
            nonlocal left
            left -= 1
            if left < 0:
                raise _KilledError
            return work(*arguments)

        return step

    patch.setattr(Path, "rename", counted(Path.rename))
    patch.setattr(durable, "flush_folder", counted(durable.flush_folder))


@pytest.mark.parametrize("fails_at", [0, 1])
def test_a_stamp_that_cannot_be_written_stops_no_mail(
    place: Place, monkeypatch: pytest.MonkeyPatch, fails_at: int
) -> None:
    """A full disk: the relay starts and says so. The twin never gets ahead, so the next start is not refused."""
    real = durable.replace_file

    def failing(path: Path, raw: bytes) -> None:
        if path == place.files[fails_at]:
            raise OSError(28, "No space left on device", str(path))
        real(path, raw)

    monkeypatch.setattr(stamps, "replace_file", failing)
    with capture_logs() as logs:
        place.run()
    monkeypatch.undo()

    assert [line["event"] for line in logs] == ["spool_stamp_not_written"] * 2
    own, twin = place.counts
    assert own >= twin
    place.run()
    assert place.counts[0] == place.counts[1] > own


@pytest.mark.parametrize("which", [0, 1])
def test_a_stamp_of_a_later_version_stops_the_start(place: Place, which: int) -> None:
    """As every other file of the spool that a later release wrote."""
    place.files[which].write_bytes(b'{"version":2,"id":"00","count":1}')

    with pytest.raises(SpoolVersionError, match="is of version 2, and this release reads 1"):
        place.opened()


def test_a_forced_start_is_one_start(place: Place) -> None:
    """The copy is the spool from then on, and the folder that it replaced is the older copy."""
    copy = place.copied("backup")
    place.run()
    newer = place.copied("newer")
    place.put_back(copy)

    assert accept_all(place.slot.parent, place.journal) == [(place.slot, 1)]
    assert accept_all(place.slot.parent, place.journal) == []
    place.run()
    place.put_back(newer)
    with pytest.raises(SpoolRestoredError):
        place.opened()


def test_force_leaves_alone_what_another_process_owns(place: Place) -> None:
    """It may just be writing its stamp."""
    copy = place.copied("backup")
    place.run()
    place.put_back(copy)
    descriptor = slots.lock(place.slot / slots.LOCK)
    assert descriptor is not None
    try:
        assert accept_all(place.slot.parent, place.journal) == []
    finally:
        slots.Slot(number=0, directory=place.slot, descriptor=descriptor).close()

    with pytest.raises(SpoolRestoredError):
        place.opened()


def test_force_makes_nothing_where_there_is_no_spool(tmp_path: Path) -> None:
    """A very first start may be forced, too."""
    assert accept_all(tmp_path / "spool", tmp_path / "journal") == []
    assert list(tmp_path.iterdir()) == []
