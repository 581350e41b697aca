"""A journal whose process is killed: every record that it answered for is read back."""

import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.machine import ROOT
from tracker.contract.events import Open
from tracker.contract.records import decode
from tracker.journal.reader import Damaged, JournalReader, Position
from tracker.journal.segment import Fault, names_in


def _run_until(directory: Path, first: int, records: int) -> list[int]:
    """Let the program write some records, kill it in the middle of its work, return what it answered for."""
    command = [sys.executable, "-m", "tests.integration.journal_program", str(directory), str(first)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        answered = [int(process.stdout.readline()) for _ in range(records)]
        process.kill()
        answered += [int(line) for line in process.stdout.read().splitlines(keepends=True) if line.endswith(b"\n")]
    return answered


@pytest.mark.timeout(300)
def test_no_acknowledged_record_is_lost_by_kill_9(
    tmp_path: Path, count_of: Callable[[int, int], int], record_soak: Callable[..., None]
) -> None:
    """Kills at any moment, restarts in the same slot, one reader behind them all: all there, once, nothing damaged."""
    source = random.Random(20261103)
    kills = count_of(4, 100)
    answered: list[int] = []
    for number in range(kills):
        answered += _run_until(tmp_path / "00", number * 1_000_000, source.randint(1, 400))
    read: list[int] = []
    faults: list[Damaged] = []
    reader, after = JournalReader(tmp_path, slot_is_free=lambda slot: True), dict[str, Position]()
    while batches := reader.read(after):
        for batch in batches:
            after[batch.slot] = batch.after
            faults += [entry for entry in batch.entries if isinstance(entry, Damaged)]
            for entry in batch.entries:
                if isinstance(entry, bytes):
                    record = decode(entry)
                    assert isinstance(record, Open)
                    read.append(int.from_bytes(record.event.raw, "big"))
    segments = len(names_in(path.name for path in (tmp_path / "00").iterdir()))
    record_soak("journal-kills", {"kills": kills, "answered": len(answered), "read": len(read), "segments": segments})

    assert set(answered) <= set(read)
    assert len(read) == len(set(read))
    assert segments >= kills
    assert {fault.fault for fault in faults} <= {Fault.CUT_OFF}
