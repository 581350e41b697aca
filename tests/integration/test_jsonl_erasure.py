"""One person's lines taken out of the files of a destination."""

import asyncio
import fcntl
import json
import os
import threading
from pathlib import Path
from queue import SimpleQueue

import pytest

from tests.integration.nats_server import entries
from tests.unit.happenings import after, copy_id
from tracker.core.redaction import Redaction
from tracker.publish.erasure import erase
from tracker.publish.jsonl import JsonlWriter, locked
from tracker.publish.outcome import Delivered

ANA = Redaction("ana@client.example")


def _line(recipient: str | None, number: int, to: str = "bo@home.example") -> str:
    own = {"copyId": str(copy_id(number)), **({} if recipient is None else {"recipient": recipient})}
    return json.dumps({"mail": {"commonHeaders": {"to": [to]}}, "mailwake": own})


def test_lines_go_or_lose_the_address(tmp_path: Path) -> None:
    """By copy where the line names nobody, by recipient, and a line of no known shape by the address in it."""
    sns = json.dumps({"Message": _line("Ana@client.example", 3)})
    lines = [
        _line("ana@client.example", 1),
        _line(None, 2),
        sns,
        json.dumps({"email": "ana@client.example"}),
        _line("bo@home.example", 4, "Ana <ana@client.example>"),
        _line("bo@home.example", 5),
    ]
    path = tmp_path / "2026-11-03.jsonl"
    path.write_text("".join(line + "\n" for line in lines) + '{"mailwake": {"copyId": "' + str(copy_id(6)))
    erased = erase(tmp_path, ANA, {str(copy_id(2))})

    assert (erased.gone, erased.redacted) == (4, 1)
    kept = path.read_text().splitlines()
    assert json.loads(kept[0]) == json.loads(_line("bo@home.example", 4, "[forgotten]"))
    assert kept[1] == lines[5]
    assert kept[2].endswith(str(copy_id(6)))
    assert path.stat().st_mode & 0o777 == 0o600
    assert {entry.name for entry in tmp_path.iterdir()} == {path.name, ".lock"}


def test_a_file_without_the_person_is_not_touched(tmp_path: Path) -> None:
    """Neither its bytes nor its inode; other files in the folder are nobody's."""
    path, other = tmp_path / "2026-11-03.jsonl", tmp_path / "notes.txt"
    path.write_text(_line("bo@client.example", 1) + "\n")
    other.write_text("ana@client.example")
    before = path.stat()

    assert erase(tmp_path, ANA, set()).gone == 0
    assert path.stat() == before
    assert other.read_text() == "ana@client.example"
    assert erase(tmp_path / "none", ANA, set()).gone == 0


def test_nothing_that_is_written_meanwhile_is_lost(tmp_path: Path) -> None:
    """Who holds the lock of the folder, as its writer does for each write, is waited for."""
    path = tmp_path / "2026-11-03.jsonl"
    path.write_text(_line("ana@client.example", 1) + "\n")
    erasing = threading.Thread(target=erase, args=(tmp_path, ANA, set()))
    with locked(tmp_path):
        erasing.start()
        with path.open("a") as file:
            file.write(_line("bo@home.example", 2) + "\n")
        assert path.read_text().count("\n") == 2
    erasing.join()

    assert path.read_text() == _line("bo@home.example", 2) + "\n"


async def test_the_writer_waits_while_somebody_rewrites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else its line would be in a file that is about to be replaced."""
    asked: SimpleQueue[tuple[int, int]] = SimpleQueue()
    real = fcntl.flock

    def flock(descriptor: int, operation: int) -> None:
        asked.put((os.fstat(descriptor).st_ino, operation))
        real(descriptor, operation)

    writer = JsonlWriter(tmp_path, None)
    with locked(tmp_path):
        monkeypatch.setattr(fcntl, "flock", flock)
        writing = asyncio.create_task(writer.write(entries(1), after(0)))
        wanted = (tmp_path / ".lock").stat().st_ino, fcntl.LOCK_EX
        assert await asyncio.to_thread(asked.get, timeout=20) == wanted
        assert list(tmp_path.glob("*.jsonl")) == []
    assert await writing == Delivered()
    await writer.close()

    assert [path.read_text() for path in tmp_path.glob("*.jsonl")] == ['{"n":1}\n']


def test_what_a_killed_run_left_is_removed(tmp_path: Path) -> None:
    """A draft is a copy of the lines of everybody else."""
    draft = tmp_path / ".2026-11-03.jsonl.draft"
    draft.write_text(_line("bo@home.example", 2))
    erase(tmp_path, ANA, set())

    assert not draft.exists()
