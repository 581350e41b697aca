"""The spool's files: what is safe, when, and what happens to what cannot be read."""

import asyncio
import errno
import os
import signal
import subprocess
import sys
import threading
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relay.core.linkrules import LinkRules
from relay.core.plan import RewriteOptions
from relay.spool import entry as entries
from relay.spool import foldersync, layout
from relay.spool.errors import SpoolDamagedError, SpoolVersionError
from relay.spool.files import Spool, Stored
from relay.spool.layout import Row, State
from relay.spool.space import SpaceGate, SpoolOptions
from tests.unit.spooling import MESSAGE, make_entry

DELIVERED = Row(state=State.DELIVERED, attempts=1, code=250, changed_ms=5, text="2.0.0 Ok")


@pytest.fixture
async def spool(tmp_path: Path) -> AsyncIterator[Spool]:
    """An empty spool, opened."""
    spool = Spool(tmp_path / "00")
    spool.open()
    yield spool
    spool.close()


async def _reopened(spool: Spool) -> list[Stored]:
    """What a process finds that starts after this one has died."""
    other = Spool(spool.directory)
    other.open()
    found = [stored async for batch in other.scan() for stored in batch]
    other.close()
    return found


def _rewritten(number: int) -> entries.SpoolEntry:
    rules = LinkRules(own_hosts=frozenset({"trace.shop.example"}), skip_hosts=("*.bank.example",))
    options = RewriteOptions(open_tracking=True, html_links=True, text_links=False, max_links=250, rules=rules)
    plain = make_entry(number, "ana@a.example", "jörg@b.example")
    return entries.SpoolEntry(
        accepted=plain.accepted,
        reverse_path=plain.reverse_path,
        recipients=plain.recipients,
        upstream=plain.upstream,
        rewrite=options,
        base_url="https://trace.shop.example",
        key_id=3,
        smtputf8=True,
    )


async def test_what_was_put_is_found_by_the_next_process(spool: Spool) -> None:
    """From here on 250 may be said; envelope, options and bytes are as they were."""
    entry = _rewritten(1)
    await spool.put(entry, MESSAGE)

    found = await _reopened(spool)

    assert [stored.entry for stored in found] == [entry]
    assert found[0].rows == (Row(), Row())
    assert (await spool.read(entry.id)).message == MESSAGE


async def test_what_was_being_written_is_thrown_away_at_start(spool: Spool) -> None:
    """Nobody was told 250, the client sends again; two would be a duplicate."""
    (spool.directory / "tmp" / "01k3d5q9y8zv4c6m2r7t1w0x5b").write_bytes(b"half")

    assert await _reopened(spool) == []
    assert list((spool.directory / "tmp").iterdir()) == []


async def test_a_folder_in_tmp_does_not_stop_the_start(spool: Spool) -> None:
    """It is not ours: it waits for a human."""
    (spool.directory / "tmp" / "folder" / "inner").mkdir(parents=True)

    assert await _reopened(spool) == []
    assert list((spool.directory / "tmp").iterdir()) == []
    assert len(list((spool.directory / "quarantine").iterdir())) == 1


async def test_marks_survive_and_touch_no_other_row(spool: Spool) -> None:
    """Of three recipients one is delivered; the others go on."""
    entry = make_entry(1, "a@x.example", "b@x.example", "c@x.example")
    await spool.put(entry, MESSAGE)
    await spool.mark(entry.id, {1: DELIVERED}, durable=True)

    found = await _reopened(spool)

    assert found[0].rows == (Row(), DELIVERED, Row())


async def test_files_come_back_oldest_first_and_a_removed_one_does_not(spool: Spool) -> None:
    """Ids sort by time."""
    for number in (3, 1, 2):
        await spool.put(make_entry(number), MESSAGE)
    await spool.remove(make_entry(2).id)

    assert [stored.entry.id for stored in await _reopened(spool)] == [make_entry(1).id, make_entry(3).id]


async def test_a_second_put_of_the_same_message_changes_nothing(spool: Spool) -> None:
    """A delivery report is made again after a crash; its rows must not be reset."""
    entry = make_entry(1, report=True)
    await spool.put(entry, MESSAGE)
    await spool.mark(entry.id, {0: DELIVERED}, durable=False)
    await spool.put(entry, MESSAGE)

    assert (await _reopened(spool))[0].rows == (DELIVERED,)


async def test_damaged_empty_and_foreign_files_go_to_the_quarantine(spool: Spool) -> None:
    """The service starts, the files wait for a human, sound mail is not concerned."""
    good, cut = make_entry(1), make_entry(2)
    await spool.put(good, MESSAGE)
    await spool.put(cut, MESSAGE)
    queue = spool.directory / "q"
    whole = (queue / str(cut.id)).read_bytes()
    (queue / str(cut.id)).write_bytes(whole[:-1])
    (queue / str(make_entry(3).id)).write_bytes(b"")
    (queue / str(make_entry(4).id)).write_bytes(b"\x7fELF" + bytes(600))
    (queue / "notes.txt").write_bytes(b"x")
    (queue / str(make_entry(5).id)).write_bytes((queue / str(good.id)).read_bytes())  # the name of another message
    (queue / "folder").mkdir()
    (queue / str(make_entry(6).id)).symlink_to(queue / str(good.id))  # a name in q/ must not lead out of it
    os.mkfifo(queue / str(make_entry(7).id))  # would block whoever opens it
    with (queue / str(make_entry(8).id)).open("wb") as huge:
        huge.truncate(1 << 40)

    found = await _reopened(spool)

    assert [stored.entry for stored in found] == [good]
    assert sorted(path.name for path in queue.iterdir()) == [str(good.id)]
    assert len(list((spool.directory / "quarantine").iterdir())) == 9


async def test_a_message_that_rots_is_noticed_before_it_is_sent(spool: Spool) -> None:
    """The message's own checksum is looked at when it is read, not at start."""
    entry = make_entry(1)
    await spool.put(entry, MESSAGE)
    path = spool.directory / "q" / str(entry.id)
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b"A line.", b"A lime."))

    with pytest.raises(SpoolDamagedError):
        await spool.read(entry.id)


async def test_a_file_that_was_exchanged_is_noticed_before_it_is_sent(spool: Spool) -> None:
    """Sound in itself, but not what was accepted: its rows would be written into another's bytes."""
    entry = make_entry(1)
    await spool.put(entry, MESSAGE)
    path = spool.directory / "q" / str(entry.id)
    path.write_bytes(b"".join(layout.pack(entries.encode(entry), MESSAGE + b"more\r\n", 1)[1]))

    with pytest.raises(SpoolDamagedError, match="not the file that was accepted"):
        await spool.read(entry.id)


async def test_a_file_of_a_later_version_stops_the_start_and_is_left_alone(spool: Spool, tmp_path: Path) -> None:
    """An old release must not throw away what a new one accepted."""
    entry = make_entry(1)
    path = spool.directory / "q" / str(entry.id)
    raw = bytearray(b"".join(layout.pack(entries.encode(entry), MESSAGE, 1)[1]))
    raw[8:10] = (9).to_bytes(2, "big")
    raw[32:36] = zlib.crc32(bytes(raw[:32])).to_bytes(4, "big")
    path.write_bytes(raw)
    (spool.directory / "q" / "foreign").write_bytes(b"")

    other = Spool(spool.directory)
    with pytest.raises(SpoolVersionError, match="version 9"):
        other.open()
    other.close()

    assert path.read_bytes() == bytes(raw)
    assert (spool.directory / "q" / "foreign").exists()


@pytest.mark.parametrize("failing", ["fsync", "rename", "folder"])
async def test_an_error_of_the_disk_leaves_nothing_and_syncs_no_descriptor_twice(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    """The client hears 451; an fsync that failed may lie when it is asked again."""
    real_fsync, synced = os.fsync, []

    def fsync(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        synced.append(path)
        is_folder = path.is_dir()
        if failing == ("folder" if is_folder else "fsync"):
            raise OSError(errno.EIO, "disk on fire")
        real_fsync(descriptor)

    def rename(self: Path, target: Path) -> Path:
        raise OSError(errno.ENOSPC, "no space")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fsync)
        if failing == "rename":
            patched.setattr(Path, "rename", rename)
        with pytest.raises(OSError, match=r"disk on fire|no space"):
            await spool.put(make_entry(1), MESSAGE)

    assert len(synced) == (2 if failing == "folder" else 1)
    assert list((spool.directory / "tmp").iterdir()) == []
    assert list((spool.directory / "q").iterdir()) == []
    assert spool.usage_bytes == 0
    await spool.put(make_entry(1), MESSAGE)
    assert len(await _reopened(spool)) == 1


async def test_concurrent_puts_share_the_folders_fsync_but_each_waits_for_one_that_began_after_its_rename(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first sync runs while the others rename; they all share the second, and there is no third."""
    started, go_on, count = threading.Event(), threading.Event(), 0

    def sync(folder: Path) -> None:
        nonlocal count
        count += 1
        started.set()
        go_on.wait(10)

    monkeypatch.setattr(foldersync, "flush_folder", sync)
    first = asyncio.create_task(spool.put(make_entry(1), MESSAGE))
    await asyncio.to_thread(started.wait, 10)
    others = [asyncio.create_task(spool.put(make_entry(number), MESSAGE)) for number in range(2, 7)]
    while len(spool._headers) < 6:  # noqa: ASYNC110 - renames happen in threads
        await asyncio.sleep(0)
    go_on.set()
    await asyncio.gather(first, *others)

    assert count == 2


async def test_the_gate_closes_at_high_water_and_opens_at_80_percent_of_it(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """452 4.3.1, without flapping; and the same for free space."""
    for number in range(10):
        await spool.put(make_entry(number), MESSAGE)
    size = spool.usage_bytes // 10
    free = 10 << 30
    monkeypatch.setattr(spool, "free_bytes", lambda: free)
    gate = SpaceGate([spool], SpoolOptions(high_water_bytes=10 * size, min_free_bytes=1 << 30))

    assert not gate.admits()
    for number in range(2):
        await spool.remove(make_entry(number).id)
    assert not gate.admits()
    await spool.remove(make_entry(2).id)
    assert gate.admits()
    free = (1 << 30) - 1
    assert not gate.admits()
    free = 1 << 30
    assert not gate.admits()
    free = (10 << 30) // 8
    assert gate.admits()


async def test_the_gate_wants_room_for_one_and_a_half_of_the_largest_message(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Postfix's rule; `min_free` may be set lower than that is good for."""
    monkeypatch.setattr(spool, "free_bytes", lambda: 149)

    assert not SpaceGate([spool], SpoolOptions(min_free_bytes=0, max_message_bytes=100)).admits()


async def test_the_gate_closes_while_hardly_another_file_can_be_made(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk without inodes has bytes enough, and takes no message."""
    files = 100
    monkeypatch.setattr(spool, "free_files", lambda: files)
    gate = SpaceGate([spool], SpoolOptions(min_free_bytes=0, max_message_bytes=1))

    assert gate.admits()
    files = 99
    assert not gate.admits()
    files = 124
    assert not gate.admits()
    files = 125
    assert gate.admits()


async def test_a_file_system_that_counts_no_files_takes_any(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Btrfs and the like make inodes as they need them, and say that they have 0 of 0."""
    status = list(os.statvfs(spool.directory))
    status[5:8] = [0, 0, 0]
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result(status))

    assert SpaceGate([spool], SpoolOptions(min_free_bytes=0, max_message_bytes=1)).admits()


_CHILD = """
import asyncio, sys
from pathlib import Path
from relay.spool.files import Spool
from tests.unit.spooling import MESSAGE, make_entry

async def client(spool, number):
    while True:
        await spool.put(entry := make_entry(number), MESSAGE)
        print(entry.id, flush=True)
        number += 8

async def main():
    spool = Spool(Path(sys.argv[1]))
    spool.open()
    await asyncio.gather(*(client(spool, number) for number in range(8)))

asyncio.run(main())
"""


async def test_everything_that_was_answered_survives_sigkill(tmp_path: Path) -> None:
    """Eight clients put as fast as they can; the process is killed in mid-flight; every id it printed is there."""
    directory = tmp_path / "00"
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(directory)], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    )
    assert child.stdout is not None
    answered = [await asyncio.to_thread(child.stdout.readline) for _ in range(50)]
    child.send_signal(signal.SIGKILL)
    answered += child.stdout.readlines()
    child.wait()
    child.stdout.close()
    ids = {line.strip() for line in answered if line.endswith("\n")}

    spool = Spool(directory)
    spool.open()
    found = [stored async for batch in spool.scan() for stored in batch]
    messages = [await spool.read(stored.entry.id) for stored in found]
    spool.close()

    assert ids <= {str(stored.entry.id) for stored in found}
    assert len(ids) >= 50
    assert {message.message for message in messages} == {MESSAGE}
    assert not list((directory / "quarantine").iterdir())
