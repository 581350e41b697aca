"""`mailwake blocks`: links that are stopped by command, in every process that answers them, as the program runs."""

import json
import re
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from relay.cli.main import main
from tests.acceptance.service import wait_until
from tests.integration.serving import LIMIT_S, Server, configure, mailwake, send, serving
from tracker.core.hit import PIXEL

MESSAGE = (
    b"From: news@mail.shop.example\r\nTo: ana@client.example\r\nContent-Type: text/html; charset=utf-8\r\n\r\n"
    b'<html><body><a href="https://good@EVIL.example.:8443/lamp">x</a>'
    b'<a href="https://www.evil.example/lamp">Lamp</a></body></html>\r\n'
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Two workers, so that a block that one of them does not know shows."""
    with serving(configure(tmp_path_factory.mktemp("served")), "--workers", "2") as running:
        yield running
        assert running.stop() == 0


@pytest.fixture(scope="module")
def mail(server: Server) -> tuple[str, str, str]:
    """The id of a message, the path of its link and that of its pixel."""
    message = send(server.address("relay"), MESSAGE)
    folder = server.config.parent / "var/mail/new"
    wait_until(lambda: list(folder.glob(f"{message}-*")), bool, LIMIT_S, server.log)
    (copy,) = folder.glob(f"{message}-*")
    raw = copy.read_bytes().replace(b"=\r\n", b"")
    (click,) = re.findall(rb"/l/[A-Za-z0-9_-]+", raw)
    (image,) = re.findall(rb"/i/[A-Za-z0-9_-]+", raw)
    return message, click.decode(), image.decode()


def _ask(server: Server, path: str, method: str = "GET") -> tuple[int, str, bytes]:
    connection = HTTPConnection(*server.address("tracker"), timeout=LIMIT_S)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.headers["Content-Type"], answer.read()
    finally:
        connection.close()


def _until_all_answer(server: Server, path: str, status: int) -> float:
    """Wait until both workers, almost certainly, answer so; return how many seconds it took."""
    began = time.monotonic()
    wait_until(lambda: {_ask(server, path)[0] for _ in range(12)}, {status}.__eq__, LIMIT_S, server.log, every_s=0.05)
    return time.monotonic() - began


def test_what_is_stopped_answers_410_within_two_seconds(server: Server, mail: tuple[str, str, str]) -> None:
    """In both workers, until the last block that it falls under is removed."""
    message, link, pixel = mail
    blocks = [("message", message), ("set", "default"), ("domain", "shop.example"), ("host", "*.evil.example")]
    assert server.run("blocks", "add", *blocks[0]).exit_code == 0
    took_s = [_until_all_answer(server, link, 410)]
    assert _ask(server, pixel)[0] == 200
    for block in blocks[1:]:
        assert server.run("blocks", "add", *block).exit_code == 0
    for block in blocks[:-1]:
        assert server.run("blocks", "remove", *block).exit_code == 0
    assert _ask(server, link)[0] == 410
    assert server.run("blocks", "remove", *blocks[-1]).exit_code == 0
    took_s.append(_until_all_answer(server, link, 302))

    assert min(took_s) < 2.0  # a second between looks; the others may have met a busy machine


def test_a_stopped_link_says_why_and_records_nothing(server: Server) -> None:
    """The operator's own words, the same for HEAD; the pixel stays the pixel."""
    message = send(server.address("relay"), MESSAGE)
    folder = server.config.parent / "var/mail/new"
    wait_until(lambda: list(folder.glob(f"{message}-*")), bool, LIMIT_S, server.log)
    raw = next(folder.glob(f"{message}-*")).read_bytes().replace(b"=\r\n", b"")
    link, pixel = (re.findall(rb"/%c/[A-Za-z0-9_-]+" % letter, raw)[0].decode() for letter in b"li")
    server.run("blocks", "add", "message", message, "--reason", "Häme <b>")
    _until_all_answer(server, link, 410)

    said = "This link was stopped: Häme <b>.\n".encode()
    assert _ask(server, link + "?x=<script>") == (410, "text/plain; charset=utf-8", said)
    assert _ask(server, link, "HEAD") == (410, "text/plain; charset=utf-8", b"")
    assert _ask(server, pixel) == (200, "image/gif", PIXEL)
    server.run("blocks", "remove", "message", message)
    _until_all_answer(server, link, 302)
    wait_until(lambda: server.run("events", "--message", message).output, lambda text: "Click" in text, LIMIT_S)
    assert "Open" not in server.run("events", "--message", message).output


def test_what_was_read_last_stays_when_the_storage_is_gone(tmp_path: Path) -> None:
    """Also when the service has made another one, which is empty; and what comes into that one counts."""
    config = configure(tmp_path)
    with serving(config) as server:
        message = send(server.address("relay"), MESSAGE)
        wait_until(lambda: list((tmp_path / "var/mail/new").glob("*")), bool, LIMIT_S, server.log)
        raw = next((tmp_path / "var/mail/new").glob("*")).read_bytes().replace(b"=\r\n", b"")
        link = re.findall(rb"/l/[A-Za-z0-9_-]+", raw)[0].decode()
        server.run("blocks", "add", "set", "default")
        _until_all_answer(server, link, 410)
        for file in (tmp_path / "var").glob("mailwake.db*"):
            file.unlink()
        assert _ask(server, link)[0] == 410
        again = send(server.address("relay"), MESSAGE)
        wait_until(lambda: server.run("events", "--message", again).output, lambda text: "Send" in text, LIMIT_S)
        assert json.loads(server.run("blocks", "list", "--json").output) == []
        assert server.run("credentials", "add", "news", "--domain", "shop.example", "--generate").exit_code == 0
        wait_until(server.log, lambda text: "logins_changed" in text, LIMIT_S)
        assert _ask(server, link)[0] == 410
        server.run("blocks", "add", "message", again)
        _until_all_answer(server, link, 302)
        assert server.stop() == 0
    assert message != again


def _run(config: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["blocks", *arguments, "--config", str(config)])


def test_blocks_are_listed_changed_and_removed(tmp_path: Path) -> None:
    """Without a running service, too; each is there once, as it is compared."""
    config = configure(tmp_path)
    assert "Nothing is stopped" in _run(config, "list").output
    assert "EVIL" not in _run(config, "add", "host", "EVIL.example.").output
    _run(config, "add", "host", "evil.example", "--reason", "phishing\x1b[2J")
    added = json.loads(_run(config, "add", "domain", "Bücher.example", "--json").output)
    unknown = _run(config, "add", "set", "gone")

    rows = json.loads(_run(config, "list", "--json").output)
    assert [(row["kind"], row["value"], row["reason"]) for row in rows] == [
        ("domain", "xn--bcher-kva.example", ""),
        ("host", "evil.example", "phishing [2J"),
        ("set", "gone", ""),
    ]
    assert added == rows[0]
    assert (unknown.exit_code, "there is no set gone now" in unknown.output) == (0, True)
    assert "\x1b" not in _run(config, "list").output
    assert json.loads(_run(config, "remove", "set", "gone", "--json").output) == {"kind": "set", "value": "gone"}
    assert _run(config, "remove", "set", "gone").exit_code == 1
    assert [row["kind"] for row in json.loads(_run(config, "list", "--json").output)] == ["domain", "host"]


def test_what_cannot_be_stopped_is_said(tmp_path: Path) -> None:
    """Exit code 2, the value and how to write it; nothing is made."""
    config = configure(tmp_path)
    for kind, value, remedy in (
        ("host", "https://evil.example/", 'like "evil.example"'),
        ("host", "evil.example:443", "without port"),
        ("message", "12", "the id of a message"),
        ("domain", "a b", "sub-domains"),
        ("link", "x", "link"),
    ):
        done = _run(config, "add", kind, value)
        assert done.exit_code == 2
        assert remedy in done.output
    assert _run(config, "add", "set", "news", "--reason", "x" * 201).exit_code == 2
    assert not (tmp_path / "var").exists()
    assert mailwake("blocks", "remove", "set", "news", "--config", str(config), cwd=tmp_path).returncode == 1
