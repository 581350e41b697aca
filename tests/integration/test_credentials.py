"""Logins of the file and of `mailwake credentials`, certificates, and what SIGHUP changes: the program as it runs."""

import asyncio
import contextlib
import json
import re
import signal
import smtplib
import sqlite3
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from relay.cli.main import main
from relay.smtp.passwords import Passwords, hash_password
from tests.certificates import make_certificate
from tests.integration.serving import CONFIG, LIMIT_S, Server, configure, mailwake, serving
from tracker.store.credentials import watched

LOGINS_ONLY = CONFIG.replace('allow_networks = ["127.0.0.0/8"]', "")
MESSAGE = b"From: ana@shop.example\r\nTo: bo@home.example\r\n\r\nhello\r\n"


def _credentials(config: Path, *arguments: str, password: str | bytes = "") -> Result:
    typed = password.encode() if isinstance(password, str) else password
    return CliRunner().invoke(main, ["credentials", *arguments, "--config", str(config)], input=typed + b"\n")


def _login(server: Server, name: str, password: str) -> int:
    host, port = server.address("relay")
    with smtplib.SMTP(host, port, timeout=LIMIT_S) as client:
        try:
            return client.login(name, password)[0]
        except smtplib.SMTPAuthenticationError as error:
            return error.smtp_code
        except smtplib.SMTPNotSupportedError:
            return 502


def _wait(until: Callable[[], bool]) -> float:
    """Wait and return how many seconds it took."""
    began = time.monotonic()
    while not until():
        assert time.monotonic() - began < LIMIT_S
        time.sleep(0.05)
    return time.monotonic() - began


def test_a_relay_that_nobody_can_use_is_refused(tmp_path: Path) -> None:
    """No network and no login: an empty list must never come to mean everybody."""
    config = configure(tmp_path, LOGINS_ONLY)

    done = mailwake("serve", "--config", str(config), cwd=tmp_path)
    assert done.returncode == 2
    assert "relay.allow_networks: is empty, and there is no login" in done.stderr
    assert "mailwake credentials add" in done.stderr
    _credentials(config, "add", "news", "--domain", "shop.example", password="secret")
    with serving(config) as server:
        assert _login(server, "news", "secret") == 235


def test_a_login_made_by_command_is_in_force_within_two_seconds(tmp_path: Path) -> None:
    """Without a restart; and so is its change, and its end. While the storage is locked, what was read stays."""
    config = configure(tmp_path)
    with serving(config) as server:
        assert _login(server, "news", "secret") == 502
        assert _credentials(config, "add", "news", "--domain", "shop.example", password="secret").exit_code == 0
        took_s = [_wait(lambda: server.log().count("logins_changed") == 1)]
        assert _login(server, "news", "secret") == 235
        with contextlib.closing(sqlite3.connect(tmp_path / "var/mailwake.db")) as locker:
            locker.execute("BEGIN EXCLUSIVE")
            assert _login(server, "news", "secret") == 235
            locker.rollback()
        assert _credentials(config, "update", "news", "--password", password="other").exit_code == 0
        took_s.append(_wait(lambda: server.log().count("logins_changed") == 2))
        assert _login(server, "news", "other") == 235
        assert _login(server, "news", "secret") == 535
        assert _credentials(config, "remove", "news").exit_code == 0
        took_s.append(_wait(lambda: server.log().count("logins_changed") == 3))
        assert _login(server, "news", "other") == 502
        assert "secret" not in server.log()

    assert min(took_s) < 2.0  # a second between looks; the others may have met a busy machine


def test_a_message_of_a_login_says_so(tmp_path: Path) -> None:
    """Its Received and its events name what a reader needs; another domain's message is refused at the dot."""
    config = configure(tmp_path, LOGINS_ONLY)
    _credentials(config, "add", "news", "--domain", "shop.example", password="secret")
    with serving(config) as server:
        with smtplib.SMTP(*server.address("relay"), timeout=LIMIT_S) as client:
            client.login("news", "secret")
            client.sendmail("ana@shop.example", ["bo@home.example"], MESSAGE)
            with pytest.raises(smtplib.SMTPDataError) as refused:
                client.sendmail("ana@shop.example", ["bo@home.example"], MESSAGE.replace(b"@shop", b"@bank"))
        _wait(lambda: any((tmp_path / "var/mail/new").glob("*")))
        (delivered,) = (tmp_path / "var/mail/new").iterdir()
        assert re.search(rb"with ESMTPA\b", delivered.read_bytes())

        _wait(lambda: "Reject" in server.run("events", "--recipient", "bo@home.example").output)
        (reject,) = server.run("events", "--type", "reject", "--json").output.splitlines()
        event = json.loads(reject)
        _wait(lambda: any('"Reject"' in path.read_text() for path in (tmp_path / "var/events").glob("*.jsonl")))

    assert event["reject"]["reason"] == "550 5.7.1 This login may not send from the domain of an address in From"
    assert event["mail"]["destination"] == ["bo@home.example"]
    assert event["mail"]["tags"]["ses:caller-identity"] == ["news"]
    assert event["mail"]["tags"]["ses:configuration-set"] == ["default"]
    assert refused.value.smtp_code == 550
    assert "5.7.1 This login may not send" in str(refused.value.smtp_error)


def test_what_the_file_declares_is_locked_there(tmp_path: Path) -> None:
    """The command says where to change it, and a stored login of that name is not reached."""
    declared = f"""
[credential.news]
password_hash = "{hash_password(b"secret")}"
sender_domains = ["shop.example"]
"""
    config = configure(tmp_path)
    _credentials(config, "add", "news", "--domain", "bank.example", password="other")
    configure(tmp_path, CONFIG + declared)

    for command in (["add", "--domain", "x.example"], ["update", "--domain", "x.example"], ["remove"]):
        done = _credentials(config, command[0], "news", *command[1:], password="x")
        assert done.exit_code == 1
        assert "credential.news is set in config.toml" in done.output
    shown = json.loads(_credentials(config, "show", "news", "--json").output)
    assert shown == {
        "name": "news",
        "sender_domains": ["shop.example"],
        "configuration_sets": ["*"],
        "origin": "set in config.toml",
    }
    assert _credentials(config, "list").output.splitlines() == [
        "name\tsender domains\tconfiguration sets\torigin",
        "news\tshop.example\t*\tset in config.toml",
    ]


def test_a_generated_password_is_printed_once_and_the_table_can_be_pasted(tmp_path: Path) -> None:
    """`--print` stores nothing; its table is one that the file takes."""
    config = configure(tmp_path)
    done = _credentials(config, "add", "news", "--domain", "Shop.Example", "--generate", "--print")
    password = re.search(r"password: (\S+)", done.stderr)
    assert password is not None
    assert "There is no login" in _credentials(config, "list").output

    configure(tmp_path, CONFIG + done.stdout)
    with serving(config) as server:
        assert _login(server, "news", password[1]) == 235


def test_a_password_is_octets(tmp_path: Path) -> None:
    """A client compares nothing and sends what it was given: in Latin-1, too, and whatever the locale here is."""
    config = configure(tmp_path)

    assert _credentials(config, "add", "old", "--domain", "shop.example", password=b"s\xebcret").exit_code == 0
    fits = Passwords(time.monotonic).fits
    stored = watched(tmp_path / "var/mailwake.db")
    stored.look()
    assert asyncio.run(fits((stored.found or {})["old"].password_hash, b"s\xebcret"))


def test_what_is_wrong_is_said_before_a_password_is_asked_for(tmp_path: Path) -> None:
    """Nobody types it twice for nothing; what was written to standard input is not the reason that is given."""
    config = configure(tmp_path)
    _credentials(config, "add", "news", "--domain", "shop.example", password="x")

    assert "no name" in _credentials(config, "add", "a b", "--domain", "shop.example").output
    assert "no domain" in _credentials(config, "update", "news", "--password", "--domain", "a b").output


@pytest.mark.parametrize(
    ("arguments", "password", "code"),
    [
        (["add", "news"], "secret", 2),
        (["add", "news", "--domain", "not a domain"], "secret", 2),
        (["add", "no name", "--domain", "shop.example"], "secret", 2),
        (["add", "news", "--domain", "shop.example", "--set", "none"], "secret", 2),
        (["add", "news", "--domain", "shop.example"], "", 2),
        (["add", "news", "--domain", "shop.example"], "x" * 1025, 2),
        (["add", "news", "--domain", "shop.example"], "\u00e9" * 513, 2),
        (["add", "news", "--domain", "shop.example"], "a\0b", 2),
        (["update", "news", "--domain", "shop.example"], "", 1),
        (["remove", "news"], "", 1),
        (["show", "news"], "", 1),
    ],
)
def test_a_command_that_cannot_be_done_says_why(tmp_path: Path, arguments: list[str], password: str, code: int) -> None:
    """And stores nothing."""
    config = configure(tmp_path)
    done = _credentials(config, *arguments, password=password)

    assert done.exit_code == code
    assert done.output.startswith("mailwake: ")
    assert "There is no login" in _credentials(config, "list").output


def test_sighup_takes_up_certificates_and_logins_and_refuses_a_broken_pair(tmp_path: Path) -> None:
    """A connection that is open goes on; a pair that does not belong together changes nothing."""
    first, second = make_certificate(tmp_path, "first"), make_certificate(tmp_path, "second")
    tls = f'[relay.tls]\ncertificate = "{first[0]}"\nkey = "{first[1]}"\n'
    text = CONFIG.replace('"127.0.0.1:0"', '"127.0.0.1:0", "smtps://127.0.0.1:0"', 1) + tls
    config = configure(tmp_path, text)

    with serving(config) as server:
        port = int(server.listening["relay"][1].removeprefix("smtps://").rpartition(":")[2])

        def open_with(certificate: Path) -> smtplib.SMTP_SSL:
            context = ssl.create_default_context(cafile=certificate)
            return smtplib.SMTP_SSL("127.0.0.1", port, timeout=LIMIT_S, context=context)

        with open_with(first[0]) as old:
            old.noop()
            configure(tmp_path, text.replace(str(first[0]), str(second[0])))
            server.process.send_signal(signal.SIGHUP)
            _wait(lambda: "reload_refused" in server.log())
            open_with(first[0]).quit()

            login = f'[credential.n]\npassword_hash = "{hash_password(b"p")}"\nsender_domains = ["shop.example"]\n'
            configure(
                tmp_path, text.replace(str(first[0]), str(second[0])).replace(str(first[1]), str(second[1])) + login
            )
            server.process.send_signal(signal.SIGHUP)
            _wait(lambda: "configuration_reloaded" in server.log())
            with open_with(second[0]) as new:
                assert new.login("n", "p")[0] == 235
            with pytest.raises(ssl.SSLCertVerificationError):
                open_with(first[0])
            assert old.noop()[0] == 250

            configure(tmp_path, (config.read_text()).replace('allow_networks = ["127.0.0.0/8"]', ""))
            server.process.send_signal(signal.SIGHUP)
            _wait(lambda: server.log().count("configuration_reloaded") == 2)
            with open_with(second[0]) as stranger:
                stranger.ehlo()
                assert stranger.mail("ana@shop.example")[0] == 530

        assert "is not the key of" in server.log()
        assert server.stop() == 0


def test_a_certificate_that_cannot_be_used_stops_the_start(tmp_path: Path) -> None:
    """One that has ended does not: a service that is down helps nobody; it is said in the log."""
    certificate, key = make_certificate(tmp_path, "old", days_left=-1)
    config = configure(tmp_path, CONFIG + f'[relay.tls]\ncertificate = "{certificate}"\nkey = "{key}"\n')
    with serving(config) as server:
        assert "certificate_expires" in server.log()
    key.chmod(0o644)

    done = mailwake("serve", "--config", str(config), cwd=tmp_path)
    assert done.returncode == 2
    assert "relay.tls.key" in done.stderr
    assert f"chmod 600 {key}" in done.stderr
