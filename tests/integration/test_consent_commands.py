"""`mailwake consent`, `export` and `forget` beside a running service, and without one."""

import asyncio
import json
import re
import smtplib
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner, Result

from relay.cli import storage
from relay.cli.main import main
from relay.spool.files import Spool
from relay.spool.layout import Row, State
from tests.integration.serving import CONFIG, LIMIT_S, Server, configure, serving
from tests.integration.storage import node
from tests.unit.happenings import accepted, copy_id
from tests.unit.spooling import make_entry

ANA, BO = "ana@client.example", "bo@home.example"
MESSAGE = (
    b"From: Shop <news@shop.example>\r\nTo: Ana B <ana@client.example>, Bo <bo@home.example>\r\nSubject: list\r\n"
    b"MIME-Version: 1.0\r\nContent-Type: text/html; charset=utf-8\r\n\r\n"
    b'<html><body><a href="https://shop.example/lamp">Lamp</a></body></html>\r\n'
)


def run(config: Path, *arguments: str, typed: str = "") -> Result:
    """Run a command of a client, in this process."""
    return CliRunner().invoke(main, [*arguments, "--config", str(config)], input=typed)


def told(config: Path, *arguments: str, typed: str = "") -> dict[str, Any]:
    """Run a command that must succeed, and return what it says in JSON."""
    done = run(config, *arguments, "--json", typed=typed)
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def wait(until: Callable[[], bool]) -> float:
    """Wait for a condition and return how many seconds it took."""
    began_s = time.monotonic()
    while not until():
        assert time.monotonic() < began_s + LIMIT_S
        time.sleep(0.02)
    return time.monotonic() - began_s


def send(server: Server, *recipients: str, message: bytes = MESSAGE) -> str:
    """Send a message and return its id."""
    with smtplib.SMTP(*server.address("relay"), timeout=LIMIT_S) as client:
        client.ehlo("client.example")
        client.mail("news@shop.example")
        for recipient in recipients:
            client.rcpt(recipient)
        code, text = client.data(message)
    assert code == 250, text
    return text.decode().rpartition(" ")[2]


def delivered(folder: Path, recipient: str, count: int = 1) -> str:
    """Wait for the recipient's mail and return the last one, its soft line breaks undone."""
    found: list[str] = []

    def is_there() -> bool:
        found[:] = [
            text
            for path in sorted((folder / "var/mail/new").glob("*"), key=lambda path: path.stat().st_mtime_ns)
            if f"Delivered-To: {recipient}" in (text := path.read_text())
        ]
        return len(found) >= count

    wait(is_there)
    return found[-1].replace("=\n", "").replace("=3D", "=")


def link_in(mail: str) -> str:
    """Return the path of the tracked link of a delivered mail."""
    match = re.search(r'href="(http://127[^"]+/l/[^"]+)"', mail)
    assert match is not None, mail
    return urlsplit(match[1]).path


def events(server: Server, *options: str) -> list[dict[str, Any]]:
    """Return the records that the storage has."""
    return [json.loads(line) for line in server.run("events", "--json", *options).stdout.splitlines()]


def hits(server: Server, outcome: str) -> float:
    """Return the count of hits with an outcome."""
    _, _, text = server.get("metrics", "/metrics")
    match = re.search(rf'mailwake_hits_total{{outcome="{outcome}"}} ([0-9.]+)', text)
    return float(match[1]) if match else 0.0


def test_a_denial_stops_recording_of_mail_that_was_sent(tmp_path: Path) -> None:
    """Its link redirects as before, in whatever spelling it was denied; an allowance lifts it."""
    config = configure(tmp_path)
    with serving(config) as server:
        send(server, ANA, BO)
        ana, bo = link_in(delivered(tmp_path, ANA)), link_in(delivered(tmp_path, BO))
        assert server.get("tracker", ana)[0] == 302
        wait(lambda: len(events(server, "--type", "click")) == 1)

        denied = told(config, "consent", "deny", "Ana@Client.Example", "--source", "a letter")
        assert denied["silenced"] == 1
        took_s = [wait(lambda: '["silenced"]' in server.log() and "consent_changed" in server.log())]
        status, headers, _ = server.get("tracker", ana)
        assert (status, headers["Location"]) == (302, "https://shop.example/lamp")
        server.get("tracker", bo)
        wait(lambda: len(events(server, "--type", "click")) == 2)
        assert [event["mailwake"]["recipient"] for event in events(server, "--type", "click")] == [ANA, BO]
        assert hits(server, "denied") == 1

        send(server, ANA)
        later = delivered(tmp_path, ANA, 2)
        assert "/l/" not in later
        assert "/i/" not in later
        wait(lambda: len(events(server, "--type", "send", "--recipient", ANA)) == 2)
        *_, skipped = events(server, "--type", "send", "--recipient", ANA)
        assert skipped["mailwake"]["skipped"] == [{"reason": "consent_denied", "count": 1}]

        told(config, "consent", "allow", ANA)
        took_s.append(wait(lambda: server.log().count('["silenced"]') == 2))
        server.get("tracker", ana)
        wait(lambda: len(events(server, "--type", "click")) == 3)
    assert min(took_s) < 2.0  # a second between looks; one of them may have met a busy machine


def test_a_set_may_require_consent(tmp_path: Path) -> None:
    """Only who allowed it is tracked, and the Send of the others says why not."""
    config = configure(
        tmp_path, CONFIG.replace("[configuration_set.default]\n", '[configuration_set.default]\nconsent = "require"\n')
    )
    assert run(config, "consent", "show", ANA).exit_code == 1
    told(config, "consent", "allow", ANA)
    with serving(config) as server:
        send(server, ANA, BO)
        assert "/l/" in delivered(tmp_path, ANA)
        assert "/l/" not in delivered(tmp_path, BO)
        wait(lambda: len(events(server, "--type", "send")) == 2)
        skipped = {
            event["mailwake"]["recipient"]: event["mailwake"].get("skipped")
            for event in events(server, "--type", "send")
        }
        assert skipped == {ANA: None, BO: [{"reason": "no_consent", "count": 1}]}

        (tmp_path / "mail.eml").write_bytes(MESSAGE)
        assert "/l/" in run(config, "rewrite", str(tmp_path / "mail.eml"), "--to", ANA).output
        assert "/l/" not in run(config, "rewrite", str(tmp_path / "mail.eml"), "--to", BO).output


def test_decisions_are_brought_in_and_handed_out_without_addresses(tmp_path: Path) -> None:
    """What was exported can be imported; an older line does not replace a later decision."""
    config = configure(tmp_path)
    lines = f"{ANA},deny,2026-11-03T08:15:00Z,a letter\n{BO},allow\n"
    assert told(config, "consent", "import", typed=lines) == {"lines": 2, "entered": 2, "silenced": 0}
    exported = run(config, "consent", "export").output
    assert exported.splitlines()[0] == "person,decision,at,source"
    assert "@" not in exported
    assert "deny,2026-11-03T08:15:00.000Z,a letter" in exported
    assert ANA.encode() not in (tmp_path / "var/mailwake.db").read_bytes()

    again = run(config, "consent", "export", "--json").output
    assert told(config, "consent", "import", typed=again)["entered"] == 2
    older = f'{{"address": "{ANA}", "decision": "allow", "at": "2026-11-02T00:00:00Z"}}\n'
    assert told(config, "consent", "import", typed=older)["entered"] == 0
    shown = told(config, "consent", "show", '"ANA"@client.example')
    assert (shown["decision"], shown["source"]) == ("deny", "a letter")


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("ana@client.example,perhaps", "neither allow nor deny"),
        ("ana,deny", "hexadecimal"),
        ("abcd,deny", "neither an address nor a hash"),
        ("ana@client.example,deny,2026-11-03", "no zone"),
        ("a b@client.example,deny", "no @"),
        ("{", "line 2"),
    ],
)
def test_an_import_with_a_bad_line_is_refused_whole(tmp_path: Path, line: str, why: str) -> None:
    """And says which line it is, without repeating what may be an address."""
    config = configure(tmp_path)
    done = run(config, "consent", "import", typed=f"{BO},deny\n{line}\n")

    assert done.exit_code == 2
    assert "line 2: " in done.output
    assert why in done.output
    assert "client.example" not in done.output
    assert run(config, "consent", "show", BO).exit_code == 1


def test_an_import_silences_copies_that_are_there(tmp_path: Path) -> None:
    """Of many people by one look at all of them; of whoever allows it by a later line, no."""
    config = configure(tmp_path)
    told(config, "consent", "allow", "cy@client.example")  # makes the keys and the storage

    async def fill() -> None:
        async with node(tmp_path / "var") as here:
            await here.take_in(
                accepted(1, recipients=(ANA, BO, "cy@client.example"), at=datetime.now(UTC)),
                accepted(2, recipients=(ANA,), at=datetime.now(UTC) - timedelta(days=90)),
                accepted(3, recipients=(ANA,), at=datetime.now(UTC), opens=False, clicks=False),
            )

    asyncio.run(fill())
    lines = f"{ANA},deny\n{BO},deny,2026-11-01T00:00:00Z\n{BO},allow,2026-11-02T00:00:00Z\n"
    assert told(config, "consent", "import", typed=lines) == {"lines": 3, "entered": 3, "silenced": 1}
    with closing(sqlite3.connect(tmp_path / "var/mailwake.db")) as storage:
        assert storage.execute("SELECT suffix FROM silenced").fetchall() == [(copy_id(1).suffix.hex(),)]


def test_a_storage_that_stays_locked_is_a_clear_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is told that a denial is stored when it is not."""
    monkeypatch.setattr(storage, "PATIENCE_S", 0.1)
    config = configure(tmp_path)
    told(config, "consent", "allow", BO)
    with closing(sqlite3.connect(tmp_path / "var/mailwake.db", isolation_level=None)) as locker:
        locker.execute("BEGIN EXCLUSIVE")
        done = run(config, "consent", "deny", ANA)
        locker.execute("ROLLBACK")

    assert done.exit_code == 1
    assert "cannot be used now: database is locked" in done.stderr
    assert run(config, "consent", "show", ANA).exit_code == 1


def _files(folder: Path) -> dict[str, bytes]:
    """Return every file that may hold an address, but for the mail itself and the journal."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not {"mail", "journal"} & set(path.relative_to(folder).parts) and path.name != "keys.json"
    }


def test_a_forgotten_address_is_in_no_file(tmp_path: Path) -> None:
    """Beside the service and alone: neither in the storage and its log, nor in a destination's lines.

    A storage that is lost and filled again from the journal has no more of them, once they are forgotten anew.
    """
    config = configure(tmp_path)
    with serving(config) as server:
        send(server, ANA, BO)
        send(server, "Ana@client.example", message=MESSAGE.replace(b", Bo <bo@home.example>", b""))
        ana, bo = link_in(delivered(tmp_path, ANA)), link_in(delivered(tmp_path, BO))
        server.get("tracker", ana)
        delivered(tmp_path, "Ana@client.example")
        wait(lambda: sum(path.read_text().count("\n") for path in (tmp_path / "var/events").glob("*.jsonl")) == 7)
        wait(lambda: not [*(tmp_path / "var/spool/00/q").iterdir()])
        assert [name for name, raw in _files(tmp_path).items() if b"ana@client" in raw.lower()]
        exported = told(config, "export", ANA)
        assert len(exported["messages"]) == 2
        assert len(exported["events"]) == 5

        outcome = told(config, "forget", "ANA@client.example")
        assert outcome["erased"] == {
            "messages": 1,
            "copies": 2,
            "events": 5,
            "dead_letters": 0,
            "records_put_aside": 0,
            "records_kept_without_the_address": 1
            + 2,  # the message, which has Bo's header, and Bo's events in the file
            "jsonl_lines": 5,
            "spool_files": 0,
        }
        beside = [name for name, raw in _files(tmp_path).items() if b"ana@client" in raw.lower() or b"Ana B" in raw]
        assert beside == []  # of a storage that is open, with its log
        left = "\n".join(outcome["left"])
        assert "journal" in left
        assert str(tmp_path / "var/mail") in left
        assert "-wal" not in left
        wait(lambda: '["silenced"]' in server.log())
        assert server.get("tracker", ana)[0] == 302
        assert hits(server, "denied") == 1
        server.get("tracker", bo)
        wait(lambda: len(events(server, "--type", "click")) == 1)
        assert server.stop() == 0

    kept = _files(tmp_path)
    assert [name for name, raw in kept.items() if b"ana@client" in raw.lower() or b"Ana B" in raw] == []
    lines = b"".join(raw for name, raw in kept.items() if name.endswith("jsonl")).splitlines()
    records = [json.loads(line) for line in lines]
    assert {record["mailwake"]["recipient"] for record in records} == {BO}
    assert records[0]["mail"]["commonHeaders"]["to"] == ["[forgotten]", "Bo <bo@home.example>"]
    assert {"name": "To", "value": "[forgotten], Bo <bo@home.example>"} in records[0]["mail"]["headers"]
    again = told(config, "export", ANA)
    assert again["forgottenAt"] is not None
    assert (again["messages"], again["events"], again["consent"]) == ([], [], None)

    assert told(config, "forget", BO)["erased"]["copies"] == 1
    assert [name for name, raw in _files(tmp_path).items() if b"bo@home" in raw.lower()] == []

    for path in (tmp_path / "var").glob("mailwake.db*"):
        path.unlink()
    told(config, "forget", ANA)
    with serving(config) as server:
        wait(lambda: len(events(server)) == 3)
        assert {event["mailwake"]["recipient"] for event in events(server)} == {BO}
        assert "ana@client" not in json.dumps(events(server)).lower()


def test_mail_that_waits_is_named_and_finished_mail_goes(tmp_path: Path) -> None:
    """Forgetting is no order to the spool: the mail was promised. A file that a crash left behind is not."""
    config = configure(tmp_path)
    told(config, "consent", "allow", BO)  # makes the keys
    waiting, finished, other = make_entry(1, ANA, BO), make_entry(2, ANA), make_entry(3, BO)

    async def put() -> None:
        spool = Spool(tmp_path / "var/spool/00")
        spool.open()
        for entry in (waiting, finished, other):
            await spool.put(entry, b"To: ana@client.example\r\n\r\nhello\r\n")
        await spool.mark(finished.id, {0: Row(state=State.DELIVERED_TOLD)}, durable=False)
        spool.close()

    asyncio.run(put())
    exported = json.loads(run(config, "export", ANA, "--json").stdout)
    assert [mail["id"] for mail in exported["spool"]] == [str(waiting.id), str(finished.id)]
    assert [one["address"] for mail in exported["spool"] for one in mail["recipients"]] == [ANA, ANA]

    outcome = told(config, "forget", ANA)
    assert outcome["erased"]["spool_files"] == 1
    assert [text for text in outcome["left"] if str(waiting.id) in text]
    assert {path.name for path in (tmp_path / "var/spool/00/q").iterdir()} == {str(waiting.id), str(other.id)}
