"""`mailwake demo`: everything in a temporary folder, with one message that is sent, opened and clicked."""

import re
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from relay.cli.following import PATIENCE_S, events_of, readable, wait_for
from relay.cli.serve import PARTS, addresses

if TYPE_CHECKING:
    from relay.appconfig import Config
    from tracker.runtime.control import Status

_CONFIG: Final = """\
[relay]
listen         = ["127.0.0.1:0"]
allow_networks = ["127.0.0.0/8"]
[upstream.default]
url   = "maildir:mail"
final = true
[spool]
directory = "spool"
min_free  = "100MiB"
[journal]
directory = "journal"
[tracker]
listen = ["127.0.0.1:0"]
[console]
listen = ["127.0.0.1:0"]
[metrics]
listen = "127.0.0.1:0"
[storage]
url = "sqlite:mailwake.db"
[keys]
file = "keys.json"
[configuration_set.default]
[log]
level = "warning"
"""
_URL: Final = re.compile(r'(?:href|src)="(http://[^"]+/[il]/[^"]+)"')


@click.command()
def demo() -> None:
    """Show one message on its way to the first click.

    Everything runs in a temporary folder, until Ctrl-C.
    """
    from relay import app, appconfig

    with tempfile.TemporaryDirectory(prefix="mailwake-demo-") as folder:
        path = Path(folder) / "config.toml"
        path.write_text(_CONFIG, encoding="utf-8")
        config = appconfig.load(path, {})

        def ready(status: "Status") -> None:
            click.echo(f"Mailwake {status.version} is running in {folder}\n")
            click.echo("\n".join(addresses(status)) + "\n")
            threading.Thread(target=_try_to_tell, args=(config, status), name="demo", daemon=True).start()

        raise SystemExit(app.run(config, PARTS, ready))


def _try_to_tell(config: "Config", status: "Status") -> None:
    import smtplib

    try:
        _tell(config, status)
    except (OSError, smtplib.SMTPException) as error:
        click.echo(f"   this did not work: {error}; see the log above", err=True)


def _tell(config: "Config", status: "Status") -> None:
    """Send a message and follow it; runs beside the server, as a client of it."""
    from relay.cli.mail import submit
    from relay.cli.samplemail import sample
    from tracker.contract.address import Address
    from tracker.runtime.units import ListenAddress

    sender, recipient = Address.parse("news@shop.example"), Address.parse("ana@client.example")
    address = ListenAddress.parse(status.listening["relay"][0])
    click.echo(f"1. A message from {sender} to {recipient}:")
    reply = submit(address.host, address.port, sender, (recipient,), sample(sender, (recipient,)))
    message = reply.rpartition(" ")[2]
    click.echo(f"   {reply}")

    new = Path(config.upstreams["default"].url.maildir or "") / "new"
    file = wait_for(lambda: next(iter(new.glob("*")), None))
    if file is None:
        click.echo("   it was not delivered; see the log above")
        return
    click.echo(f"2. It is delivered, as {file}")
    for number, what, url in _tracked(file):
        click.echo(f"{number}. {what} {url[:60]}...\n   {_fetch(url)}")
    click.echo("5. What is recorded:")
    for event in wait_for(lambda: events_of(config.storage.path, message, frozenset({"Click"}))) or []:
        click.echo(f"   {readable(event)}")
    click.echo(f"\nThe mail is in {new}; Ctrl-C stops and removes all of it.")


def _tracked(file: Path) -> "list[tuple[int, str, str]]":
    """Find the pixel and the first link in the delivered HTML."""
    from email import policy
    from email.parser import BytesParser

    message = BytesParser(policy=policy.default).parsebytes(file.read_bytes())
    body = message.get_body(("html",))
    urls = _URL.findall(body.get_content()) if body is not None else []
    pixel = next((url for url in urls if "/i/" in url), None)
    link = next((url for url in urls if "/l/" in url), None)
    steps = [(3, "The recipient's mail program fetches the pixel", pixel), (4, "The recipient follows a link", link)]
    return [(number, what, url) for number, what, url in steps if url is not None]


def _fetch(url: str) -> str:
    """Fetch without following a redirect, as a browser would ask."""
    from http.client import HTTPConnection
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    connection = HTTPConnection(parts.hostname or "", parts.port, timeout=PATIENCE_S)
    try:
        headers = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"}
        headers |= {"Accept": "text/html,image/*", "Accept-Language": "en"}
        connection.request("GET", parts.path, headers=headers)
        response = connection.getresponse()
        location = response.getheader("Location")
        return f"{response.status} {response.reason}" + (f", to {location}" if location else "")
    finally:
        connection.close()
