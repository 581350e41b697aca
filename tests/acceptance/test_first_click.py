"""A message in, a tracked copy out, an open and a click recorded: the installed package, real programs on both ends."""

import shutil
import smtplib
import socket
import subprocess
from collections.abc import Callable
from email.message import EmailMessage
from pathlib import Path

import pytest

from tests.acceptance.service import (
    Service,
    body_of,
    by_type,
    fetch,
    links_of,
    parse,
    pixel_of,
    program,
    wait_until,
)

RECIPIENTS = ("ana@client.example", "bo@client.example", "cy@other.example")
HTML_URLS = ("https://shop.example/lamp?id=7&ref=mail&copy=2#top", "https://shop.example/a%2Fb/../c?q=é")
TEXT_URL = "https://shop.example/plain_(1)?k=abc="
ATTACHMENT = bytes(range(256)) * 40

Send = Callable[[str, int, Path], None]


def _message(path: Path) -> Path:
    message = EmailMessage()
    message["From"] = "Shop <news@shop.example>"
    message["To"] = "ana@client.example"
    message["Subject"] = "November list"
    message["Message-ID"] = "<november@shop.example>"
    message["Date"] = "Sun, 22 Nov 2026 10:00:00 +0000"
    message["X-SES-MESSAGE-TAGS"] = "campaign=nov"
    message.set_content(f"See {TEXT_URL}.\n")
    first, second = (url.replace("&", "&amp;") for url in HTML_URLS)
    message.add_alternative(
        f'<html><body><p><a href="{first}" ses:tags="place:top;">Lamp</a> <a href=\'{second}\'>More</a> '
        '<a ses:no-track href="https://shop.example/private">Private</a></p></body></html>\n',
        subtype="html",
    )
    message.add_attachment(ATTACHMENT, maintype="application", subtype="octet-stream", filename="list.bin")
    path.write_bytes(message.as_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))
    return path


def _by_smtplib(host: str, port: int, path: Path) -> None:
    with smtplib.SMTP(host, port) as client:
        client.sendmail("news@shop.example", RECIPIENTS, path.read_bytes(), mail_options=["BODY=8BITMIME"])


def _by_curl(host: str, port: int, path: Path) -> None:
    rcpt = [word for address in RECIPIENTS for word in ("--mail-rcpt", address)]
    subprocess.run(
        [
            "curl",
            "--silent",
            "--fail",
            "--noproxy",
            "*",
            f"smtp://{host}:{port}/client.example",
            "--mail-from",
            "news@shop.example",
            *rcpt,
            "--upload-file",
            str(path),
        ],
        check=True,
        timeout=30,
    )


def _by_swaks(host: str, port: int, path: Path) -> None:
    subprocess.run(
        [
            "swaks",
            "--server",
            f"{host}:{port}",
            "--from",
            "news@shop.example",
            "--to",
            ",".join(RECIPIENTS),
            "--ehlo",
            "client.example",
            "--data",
            f"@{path}",
            "--silent",
            "3",
        ],
        check=True,
        timeout=30,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.timeout(120)
@pytest.mark.parametrize("client", ["smtplib", "curl", "swaks"])
def test_a_message_becomes_three_tracked_copies_and_their_hits_are_told(
    client: str, installed_mailwake: Path, tmp_path: Path, require_tool: Callable[[str], str]
) -> None:
    """From the client's dot to the events of the right recipients, with each of three clients that are not ours."""
    send: Send = {"smtplib": _by_smtplib, "curl": _by_curl, "swaks": _by_swaks}[client]
    if client != "smtplib":
        require_tool(client)
    path = _message(tmp_path / "message.eml")
    with Service(installed_mailwake, tmp_path) as service:
        send(*service.addresses["relay"], path)
        copies = wait_until(service.delivered, lambda found: len(found) == len(RECIPIENTS), 30, service.log)

        by_recipient = {str(parse(raw)["Delivered-To"]): raw for raw in copies}
        assert set(by_recipient) == set(RECIPIENTS)
        _check_copies(service, list(by_recipient.values()))
        _check_hits(service, by_recipient)
        assert service.stop() == 0


@pytest.mark.timeout(120)
def test_a_real_upstream_server_gets_each_copy(
    installed_mailwake: Path, tmp_path: Path, require_tool: Callable[[str], str]
) -> None:
    """The same with Postfix's smtp-sink as the upstream; the sink keeps each transaction in a file."""
    sink = require_tool("smtp-sink")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    dumps = tmp_path / "dumps"
    dumps.mkdir()
    user = ["-u", "root"] if shutil.which("id") and subprocess.check_output(["id", "-u"]).strip() == b"0" else []
    path = _message(tmp_path / "message.eml")
    with (
        program(sink, *user, "-d", str(dumps / "%M."), f"127.0.0.1:{port}", "50", cwd=dumps),
        Service(installed_mailwake, tmp_path, upstream=f"smtp://127.0.0.1:{port}") as service,
    ):
        _by_smtplib(*service.addresses["relay"], path)
        service.wait_for_events(lambda events: len(by_type(events, "Delivery")) == len(RECIPIENTS))

        copies = [_as_sent(found.read_bytes()) for found in dumps.iterdir()]
        assert len(copies) == len(RECIPIENTS)
        _check_copies(service, copies)
        for raw in copies:
            assert fetch(service.local(pixel_of(body_of(raw, "text/html"))))[0] == 200
        events = service.wait_for_events(lambda events: len(by_type(events, "Open")) == len(RECIPIENTS))

        assert {event["mailwake"]["recipient"] for event in by_type(events, "Open")} == set(RECIPIENTS)
        assert service.stop() == 0


def _as_sent(dump: bytes) -> bytes:
    """Take away what smtp-sink writes above a message: `X-Client-Addr:` and the like, then its own Received."""
    lines = dump.split(b"\n")
    first = next(number for number, line in enumerate(lines) if line.lower().startswith(b"x-mailwake-copy:"))
    return b"\n".join(lines[first:])


def _check_copies(service: Service, copies: list[bytes]) -> None:
    """Different copies, identical attachments, every link redirecting to exactly the original URL."""
    seen: set[str] = set()
    for raw in copies:
        message = parse(raw)
        html, text = body_of(raw, "text/html"), body_of(raw, "text/plain")
        (attachment,) = (part for part in message.walk() if part.get_filename() == "list.bin")

        assert attachment.get_payload(decode=True) == ATTACHMENT
        assert "ses:tags" not in html
        assert "ses:no-track" not in html
        assert 'href="https://shop.example/private"' in html
        assert message["X-SES-MESSAGE-TAGS"] is None
        links = links_of(html) + links_of(text)
        expected = [*HTML_URLS, TEXT_URL]
        assert len(links) == len(expected)
        assert text.rstrip().endswith(".")
        for link, url in zip(links, expected, strict=True):
            status, headers, _ = fetch(service.local(link))
            assert status == 302
            assert headers["Location"] == url.replace("é", "%C3%A9")
        seen |= {*links, pixel_of(html)}

    assert len(seen) == len(copies) * (len(HTML_URLS) + 2)


def _check_hits(service: Service, by_recipient: dict[str, bytes]) -> None:
    """One open of Ana, one click of Bo: told of them alone, beside the clicks that checked the links."""
    status, headers, body = fetch(service.local(pixel_of(body_of(by_recipient["ana@client.example"], "text/html"))))
    assert (status, headers["Content-Type"], len(body)) == (200, "image/gif", 43)
    click = links_of(body_of(by_recipient["bo@client.example"], "text/html"))[0]
    fetch(service.local(click), user_agent="Bo's own browser")

    events = service.wait_for_events(
        lambda events: (
            by_type(events, "Open")
            and any(event["click"]["userAgent"] == "Bo's own browser" for event in by_type(events, "Click"))
        )
    )

    for name in ("Send", "Delivery"):
        assert sorted(event["mailwake"]["recipient"] for event in by_type(events, name)) == sorted(RECIPIENTS)
    (opened,) = by_type(events, "Open")
    assert opened["mail"]["destination"] == ["ana@client.example"]
    assert opened["mailwake"]["first"] is True
    (clicked,) = (e for e in by_type(events, "Click") if e["click"]["userAgent"] == "Bo's own browser")
    assert clicked["mail"]["destination"] == ["bo@client.example"]
    assert clicked["click"]["link"] == HTML_URLS[0]
    assert clicked["click"]["linkTags"] == {"place": ["top"]}
    assert clicked["mailwake"]["linkText"] == "Lamp"
    assert clicked["mail"]["tags"]["campaign"] == ["nov"]
    assert clicked["mail"]["commonHeaders"]["subject"] == "November list"
    assert len({event["mailwake"]["eventId"] for event in events}) == len(events)
