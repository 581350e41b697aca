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

[event_destination.events]
type = "jsonl"
path = "var/events"
"""


@click.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
def init(directory: Path) -> None:
    """Make config.toml and fresh secrets in DIRECTORY.

    They are readable to you alone, and nothing is ever written over.
    """
    from tracker.runtime import secrets
    from tracker.runtime.configfile import ConfigError, Problem

    path = directory / "config.toml"
    keys = directory / "var" / "keys.json"
    if keys.exists():
        problem = Problem(key=str(keys), wrong="is there already", remedy="choose another folder")
        raise ConfigError(None, [problem])
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        problem = Problem(key=str(path), wrong=f"cannot be made: {error.strerror}", remedy="choose another folder")
        raise ConfigError(None, [problem]) from error
    with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123 - a descriptor, not a path
        file.write(_CONFIG)
    secrets.create(keys, now=datetime.now(UTC), entropy=os.urandom)
    click.echo(f"{path}\n{keys}\n\nNext:\n  mailwake check --config {path}\n  mailwake serve --config {path}")
