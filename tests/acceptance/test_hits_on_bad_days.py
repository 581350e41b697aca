"""Storage or journal are unusable for a while: every link works all the time, and it is known what was lost."""

import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

import pytest

from tests.acceptance.disks import Filler, small_disk
from tests.acceptance.kills import pause
from tests.acceptance.readers import Readers, first_mail, seen
from tests.acceptance.service import Service, wait_until
from tests.conftest import IS_SOAK

P99_LIMIT_MS = 100.0
SETTINGS = {"TRACKER__MAX_HITS": "1000000/m"}  # few links take all the hits here

Count = Callable[[int, int], int]
Record = Callable[[str, Mapping[str, object]], None]


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_a_storage_that_is_locked_then_removed_then_restored_costs_no_event(
    installed_mailwake: Path, tmp_path: Path, count_of: Count, record_soak: Record
) -> None:
    """By other programs, while hits come; what came meanwhile is taken in from the journal."""
    locked_s, removed_s, per_s = count_of(2, 20), count_of(1, 10), count_of(100, 200)
    storage, backup = tmp_path / "var" / "mailwake.db", tmp_path / "backup.db"
    with Service(installed_mailwake, tmp_path, settings=SETTINGS) as service:
        urls = first_mail(service)
        service.wait_for_events(lambda events: len(events) >= 2 and not service.spooled())
        with closing(sqlite3.connect(storage)) as source, closing(sqlite3.connect(backup)) as copy:
            source.backup(copy)
        hits = per_s * (locked_s + removed_s + 2)
        with Readers(service, urls, hits, per_s) as readers:
            with closing(sqlite3.connect(storage, isolation_level=None)) as other:
                other.execute("BEGIN EXCLUSIVE")
                pause(locked_s)
                other.execute("ROLLBACK")
            wait_until(readers.answered, (per_s * locked_s).__le__, 60, service.log_end)
            for name in ("mailwake.db", "mailwake.db-wal", "mailwake.db-shm"):
                (storage.parent / name).unlink(missing_ok=True)
            pause(removed_s)
            for name in ("mailwake.db-wal", "mailwake.db-shm"):
                (storage.parent / name).unlink(missing_ok=True)
            backup.chmod(0o600)
            backup.replace(storage)
        asked = {f"reader {number}" for number in range(hits)}
        events = service.wait_for_events(lambda events: asked <= set(seen(events)), 120)
        dropped = service.metric("mailwake_events_dropped_total")
        assert service.stop() == 0

    readers_seen = seen(events)
    figures = {
        "locked_s": locked_s,
        "removed_s": removed_s,
        "hits": hits,
        "per_s": per_s,
        "wrong_answers": len(readers.wrong()),
        "p50_ms": readers.percentile_ms(50),
        "p99_ms": readers.percentile_ms(99),
        "slowest_ms": readers.percentile_ms(100),
        "missing": len(asked - set(readers_seen)),
        "counted_twice": len(readers_seen) - len(set(readers_seen)),
        "dropped": dropped,
    }
    record_soak("storage-removed", figures)
    print(figures)
    assert readers.wrong() == []
    assert readers.answered() == hits
    assert len(readers_seen) == len(set(readers_seen)) == hits
    assert dropped == 0
    if IS_SOAK:
        assert readers.percentile_ms(99) < P99_LIMIT_MS


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_on_a_full_disk_every_link_works_and_what_is_lost_is_counted(
    installed_mailwake: Path, tmp_path: Path, count_of: Count, record_soak: Record
) -> None:
    """The journal's disk, filled by somebody else, twice; the count is exact, the alarm is one, and it heals."""
    hits, per_s = count_of(600, 10_000), count_of(200, 400)
    with (
        small_disk(tmp_path / "var" / "journal", "size=8m") as disk,
        Service(installed_mailwake, tmp_path, settings=SETTINGS) as service,
    ):
        urls = first_mail(service)
        filler = Filler(disk)
        with Readers(service, urls, hits, per_s) as readers:
            for part in (1, 3):
                wait_until(readers.answered, (hits * part // 5).__le__, 60, service.log_end, every_s=0.02)
                filler.fill()
                wait_until(readers.answered, (hits * (part + 1) // 5).__le__, 60, service.log_end, every_s=0.02)
                filler.leave()
        asked = {f"reader {number}" for number in range(hits)}
        last = [answer.reader for answer in sorted(readers.answers, key=lambda answer: answer.at_s)[-10:]]
        service.wait_for_events(lambda events: set(last) <= set(seen(events)), 60)
        dropped = service.metric("mailwake_events_dropped_total")
        assert service.stop() == 0
        events = service.events()

    readers_seen = seen(events)
    log = service.log()
    figures = {
        "hits": hits,
        "per_s": per_s,
        "events": len(readers_seen),
        "dropped": dropped,
        "wrong_answers": len(readers.wrong()),
        "alarms": log.count('"event": "journal_write_failed"'),
        "p50_ms": readers.percentile_ms(50),
        "p99_ms": readers.percentile_ms(99),
    }
    record_soak("journal-full", figures)
    print(figures)
    assert readers.wrong() == []
    assert readers.answered() == hits
    assert set(readers_seen) <= asked
    assert len(readers_seen) == len(set(readers_seen))
    assert 0 < dropped == hits - len(readers_seen)
    assert log.count('"event": "journal_write_failed"') == log.count('"event": "journal_writes_again"') == 2
    if IS_SOAK:
        assert readers.percentile_ms(99) < P99_LIMIT_MS
