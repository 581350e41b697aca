"""`mailwake serve`: run the relay, the tracking host and the console, until a signal."""

import os
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from relay.cli.options import config_option, load

if TYPE_CHECKING:
    from relay.appconfig import Config
    from tracker.runtime.control import Status

PARTS: Final = ("relay", "tracker", "console")
_SCHEMES: Final = {"relay": "smtp://{}", "metrics": "http://{}/metrics"}


@click.command()
@config_option
@click.option("--only", "parts", multiple=True, type=click.Choice(PARTS), help="Run only this part; repeatable.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON once everything listens.")
@click.option("--force", is_flag=True, help="Send what lies in the spool even if it is an older copy, from a backup.")
def serve(*, config_path: Path | None, parts: tuple[str, ...], as_json: bool, force: bool) -> None:
    """Run relay, tracking host and console.

    SIGTERM or Ctrl-C finishes what is on its way and ends it; a second signal ends it at once.
    """
    config = load(config_path)  # before the rest is loaded: a wrong file is said at once
    if force:
        _accept_spools(config)
    from relay import app

    chosen = parts or PARTS
    ready = _as_json if as_json else _as_text(config.source.path)
    raise SystemExit(app.run(config, chosen, ready))


def _accept_spools(config: "Config") -> None:
    """Let the relay start with a spool that it would refuse, this once."""
    from relay.spool import stamp
    from relay.spool.errors import SpoolError

    with suppress(OSError, SpoolError):  # the start says what is wrong with a folder or a file
        for slot, messages in stamp.accept_all(config.spool.directory, config.journal.directory):
            click.echo(f"mailwake: {slot} is used as it is, with {messages} message(s)", err=True)


def addresses(status: "Status") -> list[str]:
    """Write where each part listens, a line each, as URLs."""
    return [
        f"  {part:<9} {_SCHEMES.get(part, 'http://{}').format(address)}"
        for part, bound in status.listening.items()
        for address in bound
    ]


def _as_json(status: "Status") -> None:
    import msgspec

    click.echo(msgspec.json.encode(status).decode())


def _as_text(config_path: Path) -> "Callable[[Status], None]":
    def ready(status: "Status") -> None:
        click.echo(f"Mailwake {status.version} is running; Ctrl-C finishes what is on its way and stops.\n")
        click.echo("\n".join(addresses(status)))
        if "relay" in status.listening:
            command = f"{_program()} send --config {_shown(config_path)}"
            click.echo(f"\nSend a first message:\n  {command} --from news@shop.example --to ana@client.example\n")

    return ready


def _program() -> str:
    """Return how this program was called, so that the line can be pasted into the same shell."""
    name = Path(sys.argv[0]).name
    found = shutil.which(name)
    return name if found is not None and Path(found).resolve() == Path(sys.argv[0]).resolve() else sys.argv[0]


def _shown(path: Path) -> str:
    """Write a path as one would type it here."""
    import shlex

    relative = os.path.relpath(path)
    return shlex.quote(relative if not relative.startswith("..") else str(path))
