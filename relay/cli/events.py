"""`mailwake events` and `mailwake stats`: what happened, one by one and counted."""

import json
import os
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import click

from relay.cli.following import readable
from relay.cli.options import EXIT_NO, config_option, json_option, load, printable
from relay.cli.since import Ago

if TYPE_CHECKING:
    from tracker.core.statistics import LinkStatistics, Statistics

Grouping = Literal["day", "hour", "set", "domain", "link"]


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


@click.command()
@config_option
@click.option("--by", type=click.Choice(get_args(Grouping)), default="day", help="What a row stands for.")
@click.option("--since", type=Ago(), metavar="TIME", help="Only mail accepted in the last 7d, ...")
@json_option
def stats(*, config_path: Path | None, by: Grouping, since: datetime | None, as_json: bool) -> None:
    """Count what became of mail. Exit code 1: there was none."""
    from tracker.store import reports
    from tracker.store.database import StorageUnavailableError

    path = load(config_path).storage.path
    try:
        rows: list[dict[str, object]]
        if by == "link":
            rows = [_link_row(name, counts) for name, counts in reports.link_statistics(path, since=since)]
        else:
            rows = [_row(by, name, counts) for name, counts in reports.statistics(path, by, since=since)]
    except StorageUnavailableError as error:
        click.echo(f"mailwake: {error}", err=True)
        raise SystemExit(EXIT_NO) from error
    if as_json:
        click.echo(json.dumps(rows))
    elif rows:
        _print_table(rows)
    if not rows:
        raise SystemExit(EXIT_NO)


def _row(by: str, name: str, counts: "Statistics") -> dict[str, object]:
    return {
        by: name,
        "sent": counts.sent,
        "delivered": counts.delivered,
        "bounced": counts.bounced,
        "opens": counts.opens,
        "unique_opens": counts.unique_opens,
        "human_unique_opens": counts.human_unique_opens,
        "clicks": counts.clicks,
        "unique_clicks": counts.unique_clicks,
        "human_unique_clicks": counts.human_unique_clicks,
        "open_rate": counts.open_rate,
        "click_rate": counts.click_rate,
    }


def _link_row(name: str, counts: "LinkStatistics") -> dict[str, object]:
    return {
        "link": name,
        "clicks": counts.clicks,
        "unique_clicks": counts.unique_clicks,
        "human_unique_clicks": counts.human_unique_clicks,
    }


def _print_table(rows: list[dict[str, object]]) -> None:
    """Print a table on a terminal, and plain lines with tabs in a pipe."""
    import sys

    cells = [[_cell(value) for value in row.values()] for row in rows]
    if not sys.stdout.isatty():
        for line in [list(rows[0]), *cells]:
            click.echo("\t".join(line))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for index, key in enumerate(rows[0]):
        table.add_column(key.replace("_", " "), justify="left" if index == 0 else "right")
    for line in cells:
        table.add_row(*(Text(cell) for cell in line))
    Console().print(table)


def _cell(value: object) -> str:
    match value:
        case None:
            return "-"
        case float():
            return f"{value:.1%}"
        case _:
            return printable(str(value))
