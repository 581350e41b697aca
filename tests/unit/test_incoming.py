"""A message while it is read: small ones in memory, large ones in files, and nothing left behind."""

import asyncio
import threading
from io import FileIO
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core import reply as replies
from relay.smtp import incoming as incomings
from relay.smtp.incoming import Incoming
from relay.smtp.memory import MessageMemory


class _Disk:
    """Gives files and remembers them; `is_full`: it gives none."""

    def __init__(self) -> None:
        self.files: list[BinaryIO] = []
        self.is_full = False

    def scratch(self) -> BinaryIO:
        if self.is_full:
            raise OSError(28, "No space left on device")
        file: BinaryIO = TemporaryFile(buffering=0)  # noqa: SIM115 - whoever asked closes it
        self.files.append(file)
        return file


def _memory(disk: _Disk, hold_bytes: int = 1 << 24) -> MessageMemory:
    return MessageMemory(hold_bytes=hold_bytes, load_bytes=1 << 24, scratch=disk.scratch, is_short=lambda: False)


@given(pieces=st.lists(st.binary(max_size=40), max_size=20), hold_bytes=st.sampled_from([0, 30, 1 << 20]))
def test_what_was_added_is_loaded_wherever_it_was_kept(pieces: list[bytes], hold_bytes: int) -> None:
    """In memory, in a file, or begun in one and ended in the other: the same bytes, and all is let go of."""

    async def scenario() -> tuple[bytes, bool]:
        memory = _memory(disk, hold_bytes)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(incomings, "IN_MEMORY_BYTES", 100)
            patch.setattr(incomings, "_WRITE_BYTES", 50)
            incoming = Incoming(memory, max_bytes=10_000)
            for piece in pieces:
                await incoming.add(piece)
            await incoming.finish()
            message = await incoming.load()
            incoming.close()
        return message, memory.try_hold(hold_bytes)

    disk = _Disk()
    message, is_all_free = asyncio.run(scenario())

    assert message == b"".join(pieces)
    assert is_all_free
    assert all(file.closed for file in disk.files)


async def test_a_large_message_holds_a_file_and_no_memory() -> None:
    """A client that sends slowly behind its first MiB costs a descriptor."""
    disk = _Disk()
    memory = _memory(disk, 3 << 20)
    incoming = Incoming(memory, max_bytes=1 << 25)
    for _ in range(32):
        await incoming.add(b"x" * (1 << 16))
    await incoming.finish()

    assert incoming.is_in_file
    assert memory.try_hold(3 << 20)
    incoming.close()


async def test_a_message_that_is_too_big_is_counted_and_not_kept() -> None:
    """Its end must be found, for the session goes on behind it."""
    disk = _Disk()
    incoming = Incoming(_memory(disk, 0), max_bytes=10)
    for _ in range(4):
        await incoming.add(b"12345")
    await incoming.finish()

    assert (incoming.refusal, incoming.size_bytes) == (replies.MESSAGE_TOO_BIG, 20)
    assert [file.closed for file in disk.files] == [True]


async def test_a_disk_that_takes_no_more_refuses_the_message() -> None:
    """452 4.3.1, and what came is let go of."""
    disk = _Disk()
    disk.is_full = True
    incoming = Incoming(_memory(disk, 0), max_bytes=100)
    await incoming.add(b"12345")
    await incoming.add(b"12345")
    await incoming.finish()

    assert incoming.refusal is replies.SPOOL_FULL


async def test_a_file_stays_open_as_long_as_a_thread_writes_to_it() -> None:
    """A client leaves in the middle of a write: the number of a closed file would soon be another connection's."""
    began, may_end = threading.Event(), threading.Event()

    class Slow(FileIO):
        def fileno(self) -> int:
            began.set()
            may_end.wait(5)
            return super().fileno()

    file = Slow(Path("/dev/null"), "wb")
    memory = MessageMemory(hold_bytes=0, load_bytes=0, scratch=lambda: file, is_short=lambda: False)
    incoming = Incoming(memory, max_bytes=100)
    adding = asyncio.ensure_future(incoming.add(b"12345"))
    await asyncio.to_thread(began.wait, 5)
    adding.cancel()
    await asyncio.wait([adding])
    incoming.close()
    was_closed = file.closed
    may_end.set()
    async with asyncio.timeout(5):
        while not file.closed:  # noqa: ASYNC110 - the callback of a thread has no event
            await asyncio.sleep(0)

    assert not was_closed
