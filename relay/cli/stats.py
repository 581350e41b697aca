"""`mailwake stats`: what became of mail, counted."""

import json
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, get_args

import click

from relay.cli.options import EXIT_NO, config_option, json_option, load, printable
from relay.cli.since import Ago

if TYPE_CHECKING:
    from tracker.core.statistics import LinkStatistics, Statistics

Grouping = Literal["day", "hour", "set", "domain", "link"]
Rows = list[dict[str, object]]

_HEADINGS: Final = {  # of the table; the other fields are for programs
    "sent": "sent",
    "delivered": "delivered",
    "bounced": "bounced",
    "opens": "opens",
    "unique_opens": "copies opened",
    "human_unique_opens": "by humans",
    "open_rate": "open rate",
    "clicks": "clicks",
    "unique_clicks": "copies clicked",
    "human_unique_clicks": "by humans",
    "click_rate": "click rate",
}


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
        rows: Rows
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
        _print(rows)
    if not rows:
        raise SystemExit(EXIT_NO)


def _row(by: str, name: str, counts: "Statistics") -> dict[str, object]:
    return {
        by: name,
        "sent": counts.sent,
        "delivered": counts.delivered,
        "bounced": counts.bounced,
        "opens": counts.opens,
        "human_opens": counts.human_opens,
        "unique_opens": counts.unique_opens,
        "human_unique_opens": counts.human_unique_opens,
        "open_rate": counts.open_rate,
        "clicks": counts.clicks,
        "human_clicks": counts.human_clicks,
        "unique_clicks": counts.unique_clicks,
        "human_unique_clicks": counts.human_unique_clicks,
        "click_rate": counts.click_rate,
    }


def _link_row(name: str, counts: "LinkStatistics") -> dict[str, object]:
    return {
        "link": name,
        "clicks": counts.clicks,
        "human_clicks": counts.human_clicks,
        "unique_clicks": counts.unique_clicks,
        "human_unique_clicks": counts.human_unique_clicks,
    }


def _print(rows: Rows) -> None:
    """Print a table on a terminal, and plain lines with tabs and all fields in a pipe."""
    import sys

    if not sys.stdout.isatty():
        for line in [list(rows[0]), *([_cell(value) for value in row.values()] for row in rows)]:
            click.echo("\t".join(line))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    name, *fields = [key for index, key in enumerate(rows[0]) if index == 0 or key in _HEADINGS]
    table = Table()
    table.add_column(name, overflow="fold")
    for field in fields:
        table.add_column(_HEADINGS[field], justify="right")
    for row in rows:
        table.add_row(Text(_name(row[name])), *(Text(_cell(row[field], thousands=",")) for field in fields))
    Console().print(table)


def _name(value: object) -> str:
    return printable(str(value)) or "(none)"


def _cell(value: object, thousands: str = "") -> str:
    match value:
        case None:
            return "-"
        case float():
            return f"{value:.1%}"
        case int():
            return f"{value:{thousands}}"
        case _:
            return printable(str(value))
