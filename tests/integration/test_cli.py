"""The commands: what they print, what they leave behind, and their exit codes."""

import json
import os
import re
import signal
import subprocess
import tempfile
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from relay.cli.main import main
from tests.certificates import make_certificate
from tests.integration.serving import COMMAND, CONFIG, LIMIT_S, Server, configure, mailwake, serving

MESSAGE = """\
From: News <news@shop.example>
To: ana@client.example
Subject: Offers
Content-Type: text/html; charset=utf-8

<html><body><a href="https://shop.example/a?b=1&amp;c=2">A</a> <a href="mailto:x@shop.example">mail</a></body></html>
"""


def _run(*arguments: str, **environ: str) -> Result:
    return CliRunner().invoke(main, list(arguments), env=environ)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all commands that ask one."""
    with serving(configure(tmp_path_factory.mktemp("served"))) as running:
        yield running
        assert running.stop() == 0


@pytest.fixture
def message(tmp_path: Path) -> Path:
    """A message with the line ends of this system, as files have them."""
    path = tmp_path / "message.eml"
    path.write_text(MESSAGE)
    return path


def _sent(server: Server) -> str:
    done = server.run("send", "--from", "news@shop.example", "--to", "ana@client.example", "--to", "bo@client.example")
    assert done.exit_code == 0, done.output
    return done.output.split()[-1]


def _events(server: Server, message: str, count: int) -> list[dict[str, Any]]:
    deadline = time.monotonic() + LIMIT_S
    while True:
        lines = server.run("events", "--json", "--message", message).output.splitlines()
        if len(lines) >= count:
            return [json.loads(line) for line in lines]
        assert time.monotonic() < deadline, lines


def _delivered(server: Server, message: str) -> bytes:
    """Return the copy of one recipient, whichever."""
    return next((server.config.parent / "var/mail/new").glob(f"{message}-*")).read_bytes()


def test_a_sample_is_sent_opened_clicked_and_counted(server: Server) -> None:
    """`send` finds the relay by its control socket, `events` and `stats` read beside the running process."""
    message = _sent(server)
    _events(server, message, 4)
    base = re.escape(f"http://{server.listening['tracker'][0]}".encode())
    urls = set(re.findall(base + rb"/[il]/[A-Za-z0-9_=\r\n-]+(?=\")", _delivered(server, message)))
    assert len(urls) == 3
    for url in urls:
        path = url.decode().replace("=\r\n", "").partition(server.listening["tracker"][0])[2]
        assert server.get("tracker", path)[0] in {200, 302}

    types = [event["eventType"] for event in _events(server, message, 7)]
    assert sorted(types) == ["Click", "Click", "Delivery", "Delivery", "Open", "Send", "Send"]
    assert server.run("events", "--message", message, "--type", "bounce").exit_code == 1
    assert server.run("events", "--recipient", "bo@client.example", "--message", message).output.count("Send") == 1
    (row,) = json.loads(server.run("stats", "--json").output)
    assert row["sent"] >= 2
    assert "https://example.com/catalogue" in server.run("stats", "--by", "link").output


def test_decode_says_what_a_link_stands_for(server: Server) -> None:
    """Kind, message, copy and destination; what is none of ours has exit code 1."""
    message = _sent(server)
    _events(server, message, 4)
    raw = _delivered(server, message).replace(b"=\r\n", b"")
    found = re.search(rb"http://[0-9.:]+/l/[A-Za-z0-9_-]+", raw)
    assert found is not None

    done = server.run("decode", found[0].decode() + "?utm_source=x")

    assert "click" in done.output
    assert message in done.output
    assert "https://example.com/welcome?from=mailwake" in done.output
    assert "set       default\nsender    shop.example\n" in done.output
    assert server.run("decode", "https://trace.shop.example/l/AAAA").exit_code == 1
    assert server.run("decode", "https://trace.shop.example/").exit_code == 1


def test_rewrite_prints_a_copy_whose_links_are_never_recorded(server: Server, message: Path) -> None:
    """The sample is what a recipient would get; whoever clicks in it is redirected, and nothing is counted."""
    done = server.run("rewrite", str(message), "--to", "ana@client.example")

    found = re.search(rf"http://{server.listening['tracker'][0]}(/l/[A-Za-z0-9_-]+)", done.output.replace("=\n", ""))
    assert found is not None
    assert "X-Mailwake-Copy: " in done.output
    assert "sample" in server.run("decode", found[0]).output
    status, headers, _ = server.get("tracker", found[1])
    assert (status, headers["Location"]) == (302, "https://shop.example/a?b=1&c=2")
    copy = re.search(r"X-Mailwake-Copy: (\S+)-", done.output)
    assert copy is not None
    assert server.run("events", "--message", copy[1]).exit_code == 1


def test_check_looks_at_a_running_server(server: Server) -> None:
    """Links lead to it, its ports are its own, and a sample arrives."""
    done = server.run("check", "--json", "--send-to", "ana@client.example")

    findings = {finding["what"]: finding for finding in map(json.loads, done.output.splitlines())}
    assert [finding for finding in findings.values() if finding["outcome"] == "failed"] == []
    assert done.exit_code == 0
    assert findings["tracker.public_url"]["outcome"] == "ok"
    assert "Delivery" in findings["send"]["detail"]


def test_check_finds_an_upstream_that_is_the_relay_itself(server: Server) -> None:
    """Mail would go round in circles."""
    text = server.config.read_text().replace("maildir:var/mail", f"smtp://{server.listening['relay'][0]}")
    config = server.config.with_name("circle.toml")
    config.write_text(text)

    done = _run("check", "--config", str(config))

    assert done.exit_code == 1
    assert "FAILED  upstream.default: ehlo: the upstream is this relay itself" in done.output


def test_check_says_everything_that_is_wrong(tmp_path: Path) -> None:
    """Each finding has a remedy; exit code 1."""
    config = configure(tmp_path)
    text = config.read_text().replace("maildir:var/mail", "smtp://127.0.0.1:1").replace('["archive"]', "[]")
    config.write_text(text)
    (tmp_path / "var/spool").mkdir(parents=True)
    (tmp_path / "var/spool").chmod(0o755)
    (tmp_path / "var/keys.json").touch(mode=0o644)

    done = _run("check", "--config", str(config))

    assert done.exit_code == 1, done.output
    assert "chmod 700" in done.output
    assert "chmod 600" in done.output
    assert "FAILED  upstream.default" in done.output
    assert "FAILED  event_destination.archive" in done.output
    assert "skipped tracker.public_url" in done.output


def test_check_reads_the_certificate_and_says_who_may_send(tmp_path: Path) -> None:
    """What `serve` would refuse, and what nobody sees until clients do."""
    certificate, key = make_certificate(tmp_path, days_left=3)
    tls = f'[relay.tls]\ncertificate = "{certificate}"\nkey = "{key}"\n'
    config = configure(tmp_path, CONFIG.replace('allow_networks = ["127.0.0.0/8"]', "") + tls)

    done = _run("check", "--config", str(config))
    assert done.exit_code == 1
    assert "FAILED  relay.allow_networks: is empty, and there is no login" in done.output
    assert "FAILED  relay.tls.certificate" in done.output
    key.chmod(0o644)
    assert f"chmod 600 {key}" in _run("check", "--config", str(config)).output

    certificate, key = make_certificate(tmp_path, "other")
    config = configure(tmp_path, CONFIG + f'[relay.tls]\ncertificate = "{certificate}"\nkey = "{key}"\n')
    done = _run("check", "--config", str(config))
    assert "ok      relay.allow_networks: 127.0.0.0/8 without a login; logins: 0" in done.output
    assert "ok      relay.tls.certificate" in done.output


def test_check_reports_a_broken_file(tmp_path: Path) -> None:
    """A wrong configuration is a failed check, each problem a finding."""
    config = configure(tmp_path, "[relay]\nlisten = ['x']\n")

    done = _run("check", "--json", "--config", str(config))

    assert done.exit_code == 1
    assert {json.loads(line)["what"] for line in done.output.splitlines()} >= {"relay.listen", "upstream.default"}


def test_init_makes_a_set_up_that_serves(tmp_path: Path) -> None:
    """The files are private, nothing is written over, and the configuration is without an error."""
    folder = tmp_path / "new"

    assert _run("init", str(folder)).exit_code == 0

    for name in ("config.toml", "var/keys.json"):
        assert (folder / name).stat().st_mode & 0o777 == 0o600
    assert _run("config", "show", "--config", str(folder / "config.toml")).exit_code == 0
    with serving(
        folder / "config.toml",
        environ={
            **{f"MAILWAKE__{part}__LISTEN": "127.0.0.1:0" for part in ("RELAY", "TRACKER", "CONSOLE", "METRICS")},
            "MAILWAKE__SPOOL__MIN_FREE": "1MiB",
        },
    ) as server:
        assert server.stop() == 0
    again = _run("init", str(folder))
    assert again.exit_code == 2
    assert "there already" in again.output


def test_config_show_masks_secrets_and_tells_origins(tmp_path: Path) -> None:
    """What is printed is TOML again; a password never is in it."""
    config = configure(tmp_path)
    login = '[upstream.far]\nurl = "smtp://127.0.0.1:2526"\nusername = "u"\npassword = "env:SECRET"\n'
    hook = (
        '[event_destination.hook]\ntype = "webhook"\nurl = "https://events.shop.example/in?key=hunter2"\n'
        'secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"\n'
    )
    config.write_text(config.read_text() + login + hook)

    done = _run("config", "show", "--origin", "--config", str(config), SECRET="s3cret", MAILWAKE__LOG__LEVEL="error")

    assert done.exit_code == 0, done.output
    assert not {secret for secret in ("s3cret", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "hunter2") if secret in done.output}
    shown = tomllib.loads(done.output)
    assert shown["log"]["level"] == "error"
    assert shown["spool"]["retry_for"] == "5d"
    origins = dict(re.findall(r"^(\w+) = .*# (\S+)$", done.output, re.MULTILINE))
    assert origins["password"] == "env:SECRET"
    assert origins["level"] == "MAILWAKE__LOG__LEVEL"
    assert origins["retry_for"] == "default"
    assert origins["min_free"] == "file"


def test_config_schema_knows_every_table() -> None:
    """Editors complete and check the file by it."""
    schema = json.loads(_run("config", "schema").output)

    assert schema["properties"]["relay"]["properties"]["max_message"]["examples"] == ["25MiB"]
    assert "url" in schema["properties"]["upstream"]["additionalProperties"]["properties"]


def test_a_command_without_a_configuration_says_where_it_looked(tmp_path: Path) -> None:
    """Exit code 2 and what to do."""
    done = mailwake("events", cwd=tmp_path)

    assert done.returncode == 2
    assert "mailwake init" in done.stderr


def test_send_without_a_relay_has_exit_code_1(tmp_path: Path) -> None:
    """The relay's port is free, so nobody takes the message."""
    done = _run("send", "--from", "a@shop.example", "--to", "b@client.example", "--config", str(configure(tmp_path)))

    assert done.exit_code == 1
    assert "no relay is running" in done.output
    wrong = _run("send", "--from", "a@@b", "--to", "b@client.example")
    assert wrong.exit_code == 2


def test_events_and_stats_without_a_storage_have_exit_code_1(tmp_path: Path) -> None:
    """There is nothing yet; that is an answer, no crash."""
    config = str(configure(tmp_path))

    assert _run("events", "--config", config).exit_code == 1
    assert _run("stats", "--config", config).exit_code == 1
    assert _run("events", "--type", "opened", "--config", config).exit_code == 2
    assert _run("events", "--since", "yesterday", "--config", config).exit_code == 2


@pytest.fixture
def short_path() -> Iterator[Path]:
    """Give a folder whose name leaves room for that of a socket in it, which has 100 bytes."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def test_demo_shows_the_first_click_and_cleans_up(short_path: Path) -> None:
    """Everything in a temporary folder, gone at the end."""
    process = subprocess.Popen(
        [*COMMAND, "demo"],
        cwd=short_path,
        env={**os.environ, "TMPDIR": str(short_path), "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    output = ""
    with process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                output += line
                if "Ctrl-C stops" in line:
                    break
            process.send_signal(signal.SIGINT)
            assert process.wait(LIMIT_S) == 0
        finally:
            process.kill()
    for event in ("Send", "Delivery", "Open", "Click"):
        assert event in output
    assert "302 Found, to https://example.com/welcome?from=mailwake" in output
    assert list(short_path.iterdir()) == []
