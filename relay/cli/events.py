"""`mailwake events`: what happened, one by one."""

import json
import os
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from relay.cli.following import readable
from relay.cli.options import EXIT_NO, config_option, json_option, load
from relay.cli.since import Ago


class _Types(click.ParamType[frozenset[str]]):
    """Names of events, `open,click`, also as records spell them: `DeliveryDelay`."""

    name = "types"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> frozenset[str]:  # noqa: ANN401 - click's signature
        from tracker.contract.events import EventType

        known = {kind.value.replace("_", ""): kind.value for kind in EventType}
        names = [name.strip() for name in value.split(",") if name.strip()]
        folded = {name: known.get(name.lower().replace("_", "")) for name in names}
        unknown = [name for name, kind in folded.items() if kind is None]
        if unknown:
            self.fail(f"{', '.join(unknown)}: choose from {', '.join(EventType)}", param, ctx)
        return frozenset(filter(None, folded.values()))


@click.command()
@config_option
@click.option("--follow", is_flag=True, help="Go on with those that come from now on.")
@click.option("--type", "types", type=_Types(), default="", metavar="TYPES", help="Only these, as open,click.")
@click.option("--message", metavar="ID", help="Only of this message, by the id of its 250 reply.")
@click.option("--recipient", metavar="ADDR", help="Only of this recipient.")
@click.option("--since", type=Ago(), metavar="TIME", help="Only of the last 1h, 7d, ...")
@json_option
def events(
    *,
    config_path: Path | None,
    follow: bool,
    types: frozenset[str],
    message: str | None,
    recipient: str | None,
    since: datetime | None,
    as_json: bool,
) -> None:
    """List events, oldest first; with --follow and --since also those that were before. Exit code 1: there are none."""
    from tracker.store import reports
    from tracker.store.database import StorageUnavailableError

    path = load(config_path).storage.path
    wanted = reports.EventFilter(types=types, message=message, recipient=recipient, since=since)
    count = 0
    try:
        for line in reports.follow(path, wanted) if follow else reports.events(path, wanted):
            click.echo(line if as_json else readable(json.loads(line)))
            count += 1
    except KeyboardInterrupt:
        return
    except BrokenPipeError:  # who reads has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the interpreter complains at its end
        return
    except StorageUnavailableError as error:
        click.echo(f"mailwake: {error}", err=True)
        raise SystemExit(EXIT_NO) from error
    if not count:
        raise SystemExit(EXIT_NO)
