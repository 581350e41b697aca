"""`mailwake rewrite`, `decode` and `send`: one message, by hand."""

import smtplib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from relay.cli.options import EXIT_NO, config_option, load
from relay.cli.sample import AddressType, consented, prepare_file, sample_mint, settings_in_force

if TYPE_CHECKING:
    from relay.appconfig import Config
    from tracker.contract.address import Address

_SEND_TIMEOUT_S: Final = 60
_FILE: Final = click.Path(path_type=Path, exists=True, dir_okay=False, readable=True)


@click.command()
@config_option
@click.argument("file", type=_FILE)
@click.option("--to", "recipient", type=AddressType(), required=True, metavar="ADDR", help="Whose copy.")
@click.option("--set", "set_name", metavar="NAME", help="The configuration set, whatever the message says.")
def rewrite(config_path: Path | None, file: Path, recipient: "Address", set_name: str | None) -> None:
    """Print FILE as a recipient would get it. Nothing is sent; its links redirect, and are never recorded."""
    from relay.core.copies import copy_of
    from tracker.runtime import secrets

    config = load(config_path)
    secrets.load(config.keys.file)  # under another key its links would lead nowhere
    sample = prepare_file(config, file, recipient=recipient, set_name=set_name)
    prepared = sample.prepared
    if prepared.plan is None:
        sys.stdout.buffer.write(prepared.message)
        return
    plan = consented(config, prepared, recipient)
    for piece in copy_of(plan, sample_mint(config, settings_in_force(config), sample)):
        sys.stdout.buffer.write(piece)


@click.command()
@config_option
@click.argument("url")
def decode(config_path: Path | None, url: str) -> None:
    """Say what a tracking URL of ours stands for. Exit code 1: it is none."""
    from urllib.parse import urlsplit

    from tracker.contract import urls
    from tracker.contract.errors import TokenError
    from tracker.runtime import secrets

    keys = secrets.load(load(config_path).keys.file).tokens
    try:
        found = urls.split(urlsplit(url).path)
        if found is None:
            raise TokenError("its path is neither /i/TOKEN nor /l/TOKEN")
        payload = keys.read(found[1], found[0])
    except (TokenError, ValueError) as error:
        click.echo(f"mailwake: this is no tracking URL of ours: {error}", err=True)
        raise SystemExit(EXIT_NO) from error
    lines = {
        "kind": "open" if payload.link is None else "click",
        "message": str(payload.copy.message),
        "copy": str(payload.copy),
        "accepted": f"{payload.day.isoformat()} (UTC day)",
    }
    if payload.configuration_set:
        lines["set"] = payload.configuration_set
    if payload.from_domain:
        lines["sender"] = payload.from_domain
    if payload.link is not None:
        lines |= {
            "link": f"{payload.link.index} ({payload.link.part.name.lower()} part)",
            "url": payload.link.url,
        }
    if payload.sample:
        lines["sample"] = "redirects, is never recorded"
    if payload.redact:
        lines["redact"] = "its query is not in events"
    for name, value in lines.items():
        click.echo(f"{name:<10}{value}")


@click.command()
@config_option
@click.option("--from", "sender", type=AddressType(), required=True, metavar="ADDR", help="The sender.")
@click.option(
    "--to", "recipients", type=AddressType(), required=True, multiple=True, metavar="ADDR", help="Repeatable."
)
@click.argument("file", type=_FILE, required=False)
def send(config_path: Path | None, sender: "Address", recipients: "tuple[Address, ...]", file: Path | None) -> None:
    """Send FILE, or a sample message, through the running relay. Exit code 1: it was not taken."""
    from relay.cli.samplemail import sample

    config = load(config_path)
    host, port = relay_address(config)
    raw = sample(sender, recipients) if file is None else _with_crlf(file.read_bytes())
    try:
        reply = submit(host, port, sender, recipients, raw)
    except (OSError, smtplib.SMTPException) as error:
        click.echo(f"mailwake: {host}:{port} did not take the message: {_reason(error)}", err=True)
        raise SystemExit(EXIT_NO) from error
    click.echo(reply)


def relay_address(config: "Config") -> tuple[str, int]:
    """Return where the running relay listens: by its control socket, else by the file. Exit code 1: that has port 0."""
    from relay.config.listening import SMTPS
    from tracker.runtime import control
    from tracker.runtime.units import ListenAddress

    bound = (text for status in control.running(config.run_directory) for text in status.listening.get("relay", []))
    found = [ListenAddress.parse(text) for text in bound if not text.startswith(SMTPS)]
    found += [address for address in config.relay.listen if not address.scheme]
    if not found:
        click.echo("mailwake: the relay listens with TLS at once only; send with a mail program", err=True)
        raise SystemExit(EXIT_NO)
    address = found[0]
    if not address.port:
        click.echo("mailwake: no relay is running; start one with `mailwake serve`", err=True)
        raise SystemExit(EXIT_NO)
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host), address.port  # noqa: S104 - read, not bound


def submit(host: str, port: int, sender: "Address", recipients: "tuple[Address, ...]", raw: bytes) -> str:
    """Send one message and return the relay's last reply. SMTPException or OSError: it was not taken."""
    is_ascii = all(address.is_ascii for address in (sender, *recipients))
    options = ["SMTPUTF8", "BODY=8BITMIME"] if not is_ascii else ["BODY=8BITMIME"]
    with smtplib.SMTP(host, port, local_hostname="localhost", timeout=_SEND_TIMEOUT_S) as client:
        client.ehlo()
        for code, text in (
            client.mail(str(sender), options),
            *(client.rcpt(str(recipient)) for recipient in recipients),
        ):
            if code not in (250, 251):
                raise smtplib.SMTPResponseException(code, text)
        code, text = client.data(raw)
        if code != 250:
            raise smtplib.SMTPResponseException(code, text)
    return f"{code} {text.decode('ascii', 'replace')}"


def _with_crlf(raw: bytes) -> bytes:
    """Give a file of this system the line ends of mail; one that has them is left as it is."""
    return raw if b"\r\n" in raw else raw.replace(b"\n", b"\r\n")


def _reason(error: Exception) -> str:
    if isinstance(error, smtplib.SMTPResponseException):
        text = error.smtp_error
        return f"{error.smtp_code} {text.decode('ascii', 'replace') if isinstance(text, bytes) else text}"
    return str(error)
