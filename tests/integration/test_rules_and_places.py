"""`tracker.rules` and `tracker.geoip` in a process that serves: read at the start, taken up on reload."""

import json
import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from relay.cli.main import main
from tests.acceptance.service import wait_until
from tests.integration.serving import CONFIG, LIMIT_S, Server, configure, send, serving
from tests.mmdb import database
from tests.unit.hits import RULES
from tests.unit.visits import CHROME
from tracker.app import Tracker, TrackerOptions, now
from tracker.contract.settings import Settings
from tracker.runtime import secrets
from tracker.runtime.keysfile import KeysFile
from tracker.runtime.places import Places

_MESSAGE = b"From: news@shop.example\r\nTo: ana@client.example\r\nSubject: Hi\r\n\r\nSee https://shop.example/a?b=1\r\n"
_RULES = 'version = 1\n[user_agent.ua_scanner]\nacme = ["acme-check"]\n'
_COUNTRY = {"country": {"iso_code": "DE"}}


def _configure(folder: Path) -> Path:
    """Write a configuration, a rule file, and a database of countries."""
    (folder / "rules.toml").write_text(_RULES)
    (folder / "country.mmdb").write_bytes(database({"203.0.113.0/24": _COUNTRY}))
    keys = 'rules = "rules.toml"\ngeoip = "country.mmdb"\ntrusted_proxies = ["127.0.0.0/8"]'
    return configure(folder, CONFIG.replace("[tracker]", f"[tracker]\n{keys}"))


def _link(server: Server, folder: Path) -> str:
    """Send a message and return the path of its link."""
    send(server.address("relay"), _MESSAGE)
    delivered = wait_until(lambda: list((folder / "var/mail/new").glob("*")), bool, LIMIT_S, server.log)
    (path,) = re.findall(r"http://127\.0\.0\.1:\d+(/l/[A-Za-z0-9_-]+)", delivered[0].read_text())
    return str(path)


def _click(server: Server, path: str, user_agent: str, address: str) -> dict[str, Any]:
    """Follow a link from an address, and return what its event says under `mailwake`."""
    headers = CHROME | {"User-Agent": user_agent, "X-Forwarded-For": address}
    events = server.config.parent / "var/events"
    before = len(_clicks(events))
    assert server.get("tracker", path, **headers)[0] == 302
    return wait_until(lambda: _clicks(events), lambda found: len(found) > before, LIMIT_S, server.log)[-1]


def _clicks(folder: Path) -> list[dict[str, Any]]:
    """Read what the event destination got; commands would refuse a configuration that is broken meanwhile."""
    lines = [line for path in folder.glob("*.jsonl") for line in path.read_text().splitlines(keepends=True)]
    records = [json.loads(line) for line in lines if line.endswith("\n")]
    return [record["mailwake"] for record in records if record["eventType"] == "Click"]


def test_rules_and_places_are_taken_up_by_a_reload(tmp_path: Path) -> None:
    """What is broken is refused and the old one stays; the answer is the same throughout."""
    with serving(_configure(tmp_path)) as server:
        path = _link(server, tmp_path)
        one = _click(server, path, "Mozilla/5.0 acme-check/1", "203.0.113.5")
        assert one["agent"]["reasons"][0] == "ua_scanner:acme"
        assert one["geo"] == {"country": "DE"}

        (tmp_path / "rules.toml").write_text(_RULES.replace("acme-check", "ACME"))
        (tmp_path / "country.mmdb").write_bytes(b"")
        refused = server.run("reload")
        assert refused.exit_code == 2
        assert "rules.toml: user_agent.ua_scanner.acme 'ACME': is not in lower case" in refused.output
        assert "country.mmdb is no database" in refused.output
        two = _click(server, path, "Mozilla/5.0 acme-check/1", "203.0.113.6")
        assert two["agent"]["reasons"][0] == "ua_scanner:acme"
        assert two["geo"] == {"country": "DE"}

        (tmp_path / "rules.toml").write_text(_RULES.replace("acme-check", "other-check"))
        (tmp_path / "country.mmdb").write_bytes(database({"203.0.113.0/24": {"country": {"iso_code": "AT"}}}))
        done = server.run("reload")
        assert done.output == "The configuration is in force.\n"
        three = _click(server, path, "Mozilla/5.0 acme-check/1", "203.0.113.7")
        assert "ua_scanner:acme" not in three["agent"]["reasons"]
        assert three["geo"] == {"country": "AT"}
        assert server.stop() == 0


@pytest.mark.parametrize(
    "name, wrong, said",
    [
        ("rules.toml", b"version = 1\n[user_agent.ua_nobody]\n", ("there is no such signal", "choose from ua_crawler")),
        ("country.mmdb", b"no database", ("is no database of places, or a damaged one", "name a country")),
        (
            "country.mmdb",
            database({"192.0.2.0/24": {"domain": "x"}}),
            ("knows neither countries nor numbers", "name a country"),
        ),
    ],
)
def test_check_names_what_is_wrong_with_a_file(tmp_path: Path, name: str, wrong: bytes, said: tuple[str, str]) -> None:
    """The key, the file, the entry, and what to do."""
    config = _configure(tmp_path)
    (tmp_path / name).write_bytes(wrong)
    done = CliRunner().invoke(main, ["check", "--config", str(config)])

    text = " ".join(done.output.split())
    assert done.exit_code == 1
    assert f"tracker.{'rules' if name == 'rules.toml' else 'geoip'}" in text
    assert f"{tmp_path / name}" in text
    assert all(part in text for part in said)


@pytest.mark.parametrize("base_url", ["https://trace.shop.example", "http://127.0.0.1:8080"])
def test_what_browsers_send_by_https_is_missed_there_alone(tmp_path: Path, base_url: str) -> None:
    """`Sec-Fetch-…` goes to https: only; whether a link is, is known from where links point."""
    options = TrackerOptions(
        journal_root=tmp_path,
        journal_slot=tmp_path / "00",
        journal_keep=timedelta(days=1),
        storage=tmp_path / "mailwake.db",
        hostname="relay.example.com",
        record_address="truncated",
        trusted_proxies=(),
        rules=RULES,
        places=Places(),
        max_hits=1000,
        max_connections=4096,
        journal_max_bytes=1 << 30,
        keep=timedelta(days=60),
        keep_statistics=timedelta(days=1825),
    )
    keys = secrets.create(tmp_path / "keys.json", now=now(), entropy=os.urandom)
    tracker = Tracker(options, Settings(base_url=base_url), KeysFile(tmp_path / "keys.json", keys))

    assert tracker._hit_settings.is_https == base_url.startswith("https:")
