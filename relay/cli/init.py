"""`mailwake init DIR`: a configuration to begin with, and fresh secrets."""

import os
from datetime import UTC, datetime
from pathlib import Path

import click

_CONFIG = """\
# Mailwake. Every key, its default and its meaning: docs/reference/configuration.md, or `mailwake config schema`.

[relay]
listen         = ["127.0.0.1:2525"]
allow_networks = ["127.0.0.0/8", "::1/128"]    # who may send without a login

[upstream.default]                             # where mail goes from here
url   = "maildir:var/mail"                     # a mailbox on this machine, for a first try
final = true                                   # what it takes is delivered
# url      = "smtp+starttls://smtp.example.com:587"
# username = "apikey"
# password = "env:UPSTREAM_PASSWORD"

[tracker]                                      # where links point
listen     = ["127.0.0.1:8080"]
public_url = "http://127.0.0.1:8080"           # for mail that leaves this machine: the https: address of this host

[configuration_set.default]
destinations = ["events"]
@DKIM@

[event_destination.events]
type = "jsonl"
path = "var/events"
"""
_DKIM_HERE = "@DKIM@\n"
_DKIM = """\
dkim = "{name}"

[dkim.{name}]                                    # signs the mail of the sets that name it
domain   = "{domain}"
selector = "{selector}"
key      = "file:{file}"
"""
_DKIM_TABLE = "main"
_DKIM_FILE = "dkim.pem"


@click.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option("--dkim", "domain", metavar="DOMAIN", help="Also make a DKIM key, which signs mail for DOMAIN.")
@click.option("--selector", default="mw1", show_default=True, help="The key's name in DNS.")
@click.option("--ed25519", is_flag=True, help="A key of Ed25519, which not every receiver reads; else RSA, 2,048 bits.")
def init(directory: Path, *, domain: str | None, selector: str, ed25519: bool) -> None:
    """Make config.toml and fresh secrets in DIRECTORY.

    They are readable to you alone, and nothing is ever written over.
    """
    from tracker.runtime import secrets
    from tracker.runtime.configfile import ConfigError, Problem

    path, keys = directory / "config.toml", directory / "var" / "keys.json"
    table, pem, zone_line = _dkim(domain, selector, ed25519=ed25519) if domain is not None else ("", "", "")
    made = {path: _CONFIG.replace(_DKIM_HERE, table)}
    if pem:
        made[directory / _DKIM_FILE] = pem
    for file in (keys, *made):
        if file.exists():
            problem = Problem(key=str(file), wrong="is there already", remedy="choose another folder")
            raise ConfigError(None, [problem])
    for file, text in made.items():
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            problem = Problem(key=str(file), wrong=f"cannot be made: {error.strerror}", remedy="choose another folder")
            raise ConfigError(None, [problem]) from error
        with open(descriptor, "w", encoding="utf-8") as opened:  # noqa: PTH123 - a descriptor, not a path
            opened.write(text)
    secrets.create(keys, now=datetime.now(UTC), entropy=os.urandom)
    click.echo("\n".join(map(str, (*made, keys))))
    if zone_line:
        click.echo(f"\nPublish in DNS:\n{zone_line}")
    click.echo(f"\nNext:\n  mailwake check --config {path}\n  mailwake serve --config {path}")


def _dkim(domain: str, selector: str, *, ed25519: bool) -> tuple[str, str, str]:
    """Make a key: its lines of the configuration, its PEM, and the line for DNS."""
    from relay import dkimkeys
    from relay.config.dkim import as_domain, as_selector
    from relay.core import dkimrecord
    from tracker.runtime.configfile import ConfigError, Problem
    from tracker.runtime.units import UnfitError

    option = "--dkim"
    try:
        signing = str(as_domain(domain))
        option = "--selector"
        chosen = str(as_selector(selector))
    except UnfitError as error:
        raise ConfigError(None, [Problem(key=option, wrong=error.wrong, remedy=error.remedy)]) from error
    key, pem = dkimkeys.make("ed25519-sha256" if ed25519 else "rsa-sha256")
    table = _DKIM.format(name=_DKIM_TABLE, domain=signing, selector=chosen, file=_DKIM_FILE)
    return table, pem, dkimrecord.zone_line(f"{chosen}._domainkey.{signing}", key.record())
