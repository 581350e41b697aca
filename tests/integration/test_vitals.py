"""What an operator's monitoring sees: /metrics in every kind of process, /healthz and /readyz in every state."""

import re
import resource
import smtplib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from tests.integration.serving import CONFIG, LIMIT_S, Server, configure, send, serving
from tests.integration.storage import node
from tests.machine import ROOT
from tests.unit.happenings import accepted, opened
from tests.unit.tokens import link
from tracker.contract import urls
from tracker.runtime import secrets
from tracker.store import backlog
from tracker.store.backlog import BacklogWatch

_ROW = re.compile(r"^\| `(mailwake_[a-z_]+)` \| (\w+) \| – \|", re.MULTILINE)


def _ready(server: Server, part: str) -> tuple[int, str]:
    status, _, text = server.get(part, "/readyz")
    return status, text.strip()


def _until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def _path_of_link(server: Server) -> str:
    keys = secrets.load(server.config.parent / "var/keys.json").tokens
    payload = link("https://shop.example/", day=datetime.now(UTC).date())
    return urls.make("", payload.purpose, keys.seal(payload, keys.minting(datetime.now(UTC))))


def _metric(server: Server, name: str) -> float:
    found = re.search(rf"^{name}(?:{{[^}}]*}})? (\S+)$", server.get("metrics", "/metrics")[2], re.MULTILINE)
    assert found is not None, name
    return float(found[1])


def test_a_process_says_how_it_is_from_start_to_end(tmp_path: Path) -> None:
    """Ready; a journal that cannot be written, which stops no redirect; ready again; stopping, and not dead yet."""
    with serving(configure(tmp_path)) as server:
        assert _ready(server, "metrics") == _ready(server, "tracker") == (200, "ready")
        shown = server.get("metrics", "/metrics")[2]
        page = (ROOT / "docs" / "reference" / "metrics.md").read_text(encoding="utf-8")
        names = {name for name, _ in _ROW.findall(page)} - {"mailwake_workers_died_total"}
        assert len(names) > 20
        assert {name for name in names if f"\n{name} " not in shown} == set()
        send(server.address("relay"), b"Subject: x\r\n\r\nx\r\n")
        delivered = 'mailwake_delivery_seconds_count{upstream="default"} 1.0'
        _until(lambda: delivered in server.get("metrics", "/metrics")[2])

        path = _path_of_link(server)
        unlimited = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (0, unlimited[1]))
        assert server.get("tracker", path)[0] == 302
        _until(lambda: _ready(server, "metrics") == (503, "the journal cannot be written"))
        assert _ready(server, "tracker") == (200, "ready")
        assert _metric(server, "mailwake_events_dropped_total") >= 1
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, unlimited)
        assert server.get("tracker", path)[0] == 302
        _until(lambda: _ready(server, "metrics") == (200, "ready"))

        with suppress(smtplib.SMTPException), _half_a_message(server.address("relay")):
            server.process.terminate()
            _until(lambda: _ready(server, "metrics") == (503, "stopping"))
            assert server.get("metrics", "/healthz")[0] == 200
        assert server.process.wait(LIMIT_S) == 0


@contextmanager
def _half_a_message(address: tuple[str, int]) -> Iterator[None]:
    """Hold a session that a drain waits for."""
    with smtplib.SMTP(*address, local_hostname="client.example", timeout=LIMIT_S) as client:
        client.ehlo()
        client.mail("news@shop.example")
        client.rcpt("ana@client.example")
        client.docmd("DATA")
        client.send("Subject: half\r\n")
        yield
        client.send("\r\nx\r\n.\r\n")
        client.getreply()


def test_a_full_spool_is_for_senders_alone(tmp_path: Path) -> None:
    """Mail goes elsewhere; links are answered here as before."""
    config = configure(tmp_path, CONFIG.replace('min_free = "1MiB"', 'min_free = "4096TiB"'))
    with serving(config) as server:
        assert _ready(server, "metrics") == (503, "the spool is full")
        assert _ready(server, "tracker") == (200, "ready")
        assert server.get("metrics", "/healthz")[0] == server.get("tracker", "/healthz")[0] == 200
        assert _metric(server, "mailwake_spool_closed") == 1


@pytest.mark.parametrize("options", [("--only", "tracker"), ("--only", "console"), ("--workers", "2")])
def test_every_kind_of_process_has_metrics(tmp_path: Path, options: tuple[str, ...]) -> None:
    """Not only those that take mail."""
    with serving(configure(tmp_path), *options) as server:
        assert server.get("metrics", "/healthz")[0] == 200
        assert _ready(server, "metrics") == (200, "ready")
        assert _metric(server, "mailwake_processes") == (2 if "--workers" in options else 1)


async def test_the_backlog_of_the_journals_is_told(tmp_path: Path) -> None:
    """In bytes and seconds; also while the storage cannot be asked, and none once it has all."""

    def told() -> tuple[float, float]:
        return tuple(REGISTRY.get_sample_value(one) or 0 for one in _GAUGES)  # type: ignore[return-value]

    async with node(tmp_path) as here:
        watch = BacklogWatch(here.store, tmp_path / "journal", lambda: here.now)
        await here.take_in(accepted())
        await watch.look()
        assert told() == (0, 0)

        await here.journal.emit([opened(1)])
        await watch.look()
        first, _ = told()
        assert first > 0
        here.now += timedelta(seconds=30)
        await here.journal.emit([opened(2)])
        await watch.look()
        assert told()[0] > first
        assert told()[1] == 30

        here.database.rename(tmp_path / "away")
        here.database.mkdir()
        here.now += timedelta(seconds=30)
        await watch.look()
        assert told()[1] == 60
        here.database.rmdir()
        (tmp_path / "away").rename(here.database)

        await here.take_in()
        await watch.look()
        assert told() == (0, 0)


async def test_an_event_whose_message_stays_unknown_is_counted(tmp_path: Path) -> None:
    """It has no recipient, which somebody will ask about; one that merely waits is not counted."""

    def alone() -> float:
        return REGISTRY.get_sample_value("mailwake_ingest_alone_total") or 0

    before = alone()
    async with node(tmp_path) as here:
        await here.take_in(opened(1))
        assert alone() == before
        here.now += timedelta(seconds=61)
        await here.take_in()
        await here.take_in(accepted(), opened(2))

    assert alone() == before + 1


async def test_while_the_storage_keeps_up_the_lag_stays_small(tmp_path: Path) -> None:
    """There is always something new behind it; what counts is how long that has waited."""
    async with node(tmp_path) as here:
        watch = BacklogWatch(here.store, tmp_path / "journal", lambda: here.now)
        for number in range(1, 20):
            await here.take_in(opened(number))
            await here.journal.emit([opened(100 + number)])
            await watch.look()
            assert (REGISTRY.get_sample_value(_GAUGES[0]) or 0) > 0
            assert (REGISTRY.get_sample_value(_GAUGES[1]) or 0) <= 2
            here.now += timedelta(seconds=2)


async def test_a_long_outage_costs_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks are forgotten evenly; the age of the oldest is kept."""
    monkeypatch.setattr(backlog, "_MAX_LOOKS", 10)
    async with node(tmp_path) as here:
        await here.take_in(accepted())
        watch = BacklogWatch(here.store, tmp_path / "journal", lambda: here.now)
        await watch.look()
        for number in range(100):
            await here.journal.emit([opened(number + 1)])
            here.now += timedelta(seconds=2)
            await watch.look()
        assert len(watch._looks) <= 10
        assert REGISTRY.get_sample_value(_GAUGES[1]) == 200


_GAUGES = ("mailwake_journal_backlog_bytes", "mailwake_ingest_lag_seconds")
