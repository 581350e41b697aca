"""`mailwake serve`: run the relay, the tracking host and the console, until a signal."""

import gc
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

import click

from relay.cli.options import config_option, load

if TYPE_CHECKING:
    from relay.appconfig import Config
    from tracker.runtime.control import Status

PARTS: Final = ("relay", "tracker", "console")
MAX_WORKERS: Final = 64  # the slots of a spool are a hundred, and some must be left for a start beside a drain
_SCHEMES: Final = {"relay": "smtp://{}", "metrics": "http://{}/metrics"}


@click.command()
@config_option
@click.option("--only", "parts", multiple=True, type=click.Choice(PARTS), help="Run only this part; repeatable.")
@click.option(
    "--workers",
    type=click.IntRange(1, MAX_WORKERS),
    metavar="N",
    help="Run N processes, and replace those that die; about one for each processor.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON once everything listens.")
@click.option("--force", is_flag=True, help="Send what lies in the spool even if it is an older copy, from a backup.")
def serve(*, config_path: Path | None, parts: tuple[str, ...], workers: int | None, as_json: bool, force: bool) -> None:
    """Run relay, tracking host and console.

    SIGTERM or Ctrl-C finishes what is on its way and ends it; a second signal ends it at once. SIGHUP has the
    configuration read again. Sockets of systemd (LISTEN_FDS) are used where they fit.
    """
    gc.disable()  # a start makes much and drops nothing: looking for garbage is a sixth of it. On again once it serves
    config = load(config_path)  # before the rest is loaded: a wrong file is said at once
    if force:
        _accept_spools(config)
    chosen = parts or PARTS
    ready = _as_json if as_json else _as_text(config.source.path)
    if workers is None:
        from relay import app

        raise SystemExit(app.run(config, chosen, ready))
    _serve_with(config, chosen, workers, ready)


def _serve_with(config: "Config", parts: tuple[str, ...], workers: int, ready: "Callable[[Status], None]") -> NoReturn:
    from tracker.runtime import sharedmetrics

    try:
        metrics = sharedmetrics.prepare(config.run_directory)  # before anything is loaded that counts
    except OSError as error:
        from tracker.runtime.configfile import ConfigError, Problem

        wrong = f"{config.run_directory} cannot be used: {error.strerror}"
        problem = Problem(key="spool.directory", wrong=wrong, remedy="let this user write in its parent folder")
        raise ConfigError(None, [problem]) from error
    from relay import node

    with sharedmetrics.removed(metrics):
        code = node.run(config, parts, workers, ready)
    raise SystemExit(code)


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
        f"  {part:<9} {address if '://' in address else _SCHEMES.get(part, 'http://{}').format(address)}"
        for part, bound in status.listening.items()
        for address in bound
    ]


def _as_json(status: "Status") -> None:
    import msgspec

    click.echo(msgspec.json.encode(status).decode())


def _as_text(config_path: Path) -> "Callable[[Status], None]":
    def ready(status: "Status") -> None:
        processes = f" in {len(status.workers)} workers" if status.workers else ""
        click.echo(f"Mailwake {status.version} is running{processes}; Ctrl-C finishes what is on its way and stops.\n")
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
