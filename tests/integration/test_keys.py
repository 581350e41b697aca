"""`mailwake keys`, and what a service does while its keys file changes: the program as it runs."""

import base64
import json
import os
import re
import shutil
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from relay import appconfig
from relay.app import load_secrets
from relay.cli.main import main
from tests.acceptance.service import wait_until
from tests.integration.serving import CONFIG, LIMIT_S, Server, configure, send, serving
from tests.unit.tokens import link
from tracker.contract import urls
from tracker.contract.errors import KeysError
from tracker.contract.token import Purpose
from tracker.runtime import secrets

MESSAGE = (
    b"From: news@shop.example\r\nTo: ana@client.example\r\nContent-Type: text/html; charset=utf-8\r\n\r\n"
    b'<html><body><a href="https://shop.example/lamp">Lamp</a></body></html>\r\n'
)


def _links(folder: Path) -> list[str]:
    """Return the paths of the links of all mail that was delivered, in the order of acceptance."""
    copies = sorted((folder / "var/mail/new").glob("*"))
    found = (re.search(rb"/l/[A-Za-z0-9_=\r\n-]+(?=\")", copy.read_bytes().replace(b"=\r\n", b"")) for copy in copies)
    return [match[0].decode() for match in found if match is not None]


def _key_of(path: str) -> int:
    return int.from_bytes(base64.urlsafe_b64decode(path[3:11])[1:3], "big")


def _put(path: Path, raw: bytes) -> None:
    """Replace the file as a whole."""
    draft = path.with_name("draft")
    draft.write_bytes(raw)
    draft.chmod(0o600)
    draft.rename(path)


def _mint_now(path: Path) -> None:
    """Let the last key mint at once: write the file as `rotate` does, with another time."""
    kept = json.loads(path.read_text())
    kept["keys"][-1]["mint_from"] = datetime.now(UTC).isoformat()
    _put(path, json.dumps(kept).encode())


def _status(server: Server, path: str) -> set[int]:
    """Ask as many times as it takes to have met every worker, almost certainly."""
    return {server.get("tracker", path)[0] for _ in range(12)}


def _metric(server: Server) -> str:
    found = re.search(r"^mailwake_keys_file_refused\S* (\S+)$", server.get("metrics", "/metrics")[2], re.MULTILINE)
    return found[1] if found else ""


def _logged(server: Server, event: str, count: int) -> float:
    """Wait for lines of the log; return how many seconds it took."""
    began = time.monotonic()
    wait_until(lambda: server.log().count(f'"{event}"'), count.__eq__, LIMIT_S, server.log)
    return time.monotonic() - began


def test_every_worker_has_a_new_key_within_a_second_and_keeps_the_old_ones(tmp_path: Path) -> None:
    """Rotated, minted by, taken away and put back, while links of both keys redirect all the time."""
    config = configure(tmp_path)
    file = tmp_path / "var/keys.json"
    with serving(config, "--workers", "2") as server:
        send(server.address("relay"), MESSAGE)
        wait_until(lambda: len(_links(tmp_path)), (1).__eq__, LIMIT_S, server.log)

        done = server.run("keys", "rotate", "--json")
        took_s = _logged(server, "keys_changed", 2)
        assert (json.loads(done.output)["id"], json.loads(done.output)["mints"]) == (2, False)
        keys = secrets.load(file).tokens
        theirs = urls.make("", Purpose.CLICK, keys.seal(link(sample=True), 2))
        assert _status(server, theirs) == {302}
        send(server.address("relay"), MESSAGE)
        wait_until(lambda: len(_links(tmp_path)), (2).__eq__, LIMIT_S, server.log)

        _mint_now(file)
        _logged(server, "keys_changed", 4)
        send(server.address("relay"), MESSAGE)
        wait_until(lambda: len(_links(tmp_path)), (3).__eq__, LIMIT_S, server.log)
        links = _links(tmp_path)
        assert [_key_of(path) for path in links] == [1, 1, 2]

        newest = file.read_bytes()
        for count, harmed in enumerate((None, newest[:100]), start=1):
            if harmed is None:
                file.unlink()
            else:
                _put(file, harmed)
            _logged(server, "keys_refused", 2 * count)
            assert [_status(server, path) for path in (*links, theirs)] == [{302}] * 4
            assert _metric(server) == "1.0"
            _put(file, newest)
            _logged(server, "keys_accepted", 2 * count)
            assert _metric(server) == "0.0"
        assert secrets.load(file).tokens.keys[1].secret.hex() not in server.log()
        assert server.stop() == 0

    assert took_s < 2.0  # half a second between looks; the rest is for a busy machine


def test_a_relay_a_tracker_and_a_console_each_see_the_keys(tmp_path: Path) -> None:
    """Whatever a process serves."""
    config = configure(tmp_path)
    with serving(config, "--only", "tracker") as tracker:
        own = {"MAILWAKE__TRACKER__LISTEN": f"127.0.0.1:{tracker.address('tracker')[1]}"}
        with serving(config, "--only", "relay", environ=own), serving(config, "--only", "console") as console:
            assert console.run("keys", "rotate").exit_code == 0
            _logged(console, "keys_changed", 3)


def _run(config: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["keys", *arguments, "--config", str(config)])


def test_the_list_shows_which_key_mints_and_no_secret(tmp_path: Path) -> None:
    """For people and for programs; without a running service, too."""
    config = configure(tmp_path)
    gone = _run(config, "list")
    assert (gone.exit_code, "keys.file" in gone.output) == (2, True)

    load_secrets(appconfig.load(config, {}), may_create=True)
    assert "Key 2 mints from" in _run(config, "rotate").output
    rows = json.loads(_run(config, "list", "--json").output)
    table = _run(config, "list").output
    kept = json.loads((tmp_path / "var/keys.json").read_text())
    at = (datetime.now(UTC) + timedelta(days=3)).replace(microsecond=0).isoformat()
    later = _run(config, "rotate", "--at", at, "--json")
    refused = [_run(config, "rotate", "--at", text) for text in ("soon", "2026-12-01", "2020-01-01T00:00:00Z")]

    assert [(row["id"], row["mints"]) for row in rows] == [(1, True), (2, False)]
    assert [row["mint_from"] for row in rows][1] in table
    assert json.loads(later.output) == {"id": 3, "mint_from": at, "mints": False}
    assert [one.exit_code for one in refused] == [2, 2, 2]
    assert all(kept["keys"][number]["secret"] not in table + json.dumps(rows) for number in range(2))


def test_a_lost_keys_file_is_an_error_where_anything_was_kept(tmp_path: Path) -> None:
    """Spool, journal or storage: any of the three alone may belong to links that are in mail, and a new key to none."""
    config = configure(tmp_path)
    with serving(config) as server:
        send(server.address("relay"), MESSAGE)
        wait_until((tmp_path / "var/mailwake.db").exists, bool, LIMIT_S, server.log)
        server.stop()
    (tmp_path / "var").rename(tmp_path / "all")
    for left in ("spool", "journal", "mailwake.db"):
        (tmp_path / "var").mkdir(mode=0o700)
        (tmp_path / "all" / left).rename(tmp_path / "var" / left)
        with pytest.raises(KeysError, match="put it back from a backup"):
            load_secrets(appconfig.load(config, {}), may_create=True)
        assert [kept.name for kept in (tmp_path / "var").iterdir()] == [left]
        shutil.move(tmp_path / "var", tmp_path / f"without-{left}")


def test_mail_that_waits_is_not_lost_with_an_older_keys_file(tmp_path: Path) -> None:
    """It waits and says for which key; with the newest file back it leaves, with the links of its acceptance."""
    config = configure(tmp_path, CONFIG.replace("maildir:var/mail", "smtp://127.0.0.1:1"))
    file = tmp_path / "var/keys.json"
    load_secrets(appconfig.load(config, {}), may_create=True)
    older = file.read_bytes()
    secrets.rotate(file, now=datetime.now(UTC), entropy=os.urandom)
    _mint_now(file)
    newest = file.read_bytes()
    with serving(config) as server:
        message = send(server.address("relay"), MESSAGE)
        server.stop()
    _put(file, older)

    with serving(configure(tmp_path)) as server:
        wait_until(
            lambda: server.run("queue", "show", message).output,
            lambda shown: "there is no key 2 in the keys file" in shown,
            LIMIT_S,
            server.log,
        )
        assert not _links(tmp_path)
        _put(file, newest)
        _logged(server, "keys_changed", 1)
        assert server.run("queue", "flush", message).exit_code == 0
        wait_until(lambda: [_key_of(path) for path in _links(tmp_path)], [2].__eq__, LIMIT_S, server.log)
        assert server.get("tracker", _links(tmp_path)[0])[0] == 302
        assert server.stop() == 0
