"""`mailwake purge`: what is older than it may be, deleted by hand."""

import json
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from relay.cli.options import config_option, end, json_option, load
from relay.cli.storage import Storage, with_storage

if TYPE_CHECKING:
    from relay.appconfig import Config
    from tracker.store.purge import Purged


class _Duration(click.ParamType[timedelta]):
    """A time, `60d`."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:  # noqa: ANN401 - click's signature
        from tracker.runtime.units import UnfitError, parse_duration

        try:
            return value if isinstance(value, timedelta) else parse_duration(value)
        except UnfitError as error:
            self.fail(str(error), param, ctx)


@click.command()
@click.option(
    "--older-than", type=_Duration(), metavar="TIME", help="Messages accepted longer ago; storage.keep by default."
)
@config_option
@json_option
def purge(*, older_than: timedelta | None, config_path: Path | None, as_json: bool) -> None:
    """Delete what is older than the storage keeps it, in small steps; the service does it by itself every hour."""
    config = load(config_path)
    if not config.storage.path.exists():
        end(f"there is no storage {config.storage.path}")
    purged = with_storage(config, lambda storage: _purge(config, storage, older_than))
    if as_json:
        click.echo(json.dumps(asdict(purged)))
        return
    for table, rows in purged.rows.items():
        click.echo(f"{table}: {rows}")
    for name, events in purged.unpublished.items():
        click.echo(f"{events} events went before the destination {name} had them", err=True)
    if not purged.rows:
        click.echo("There is nothing so old.")


async def _purge(config: "Config", storage: Storage, older_than: timedelta | None) -> "Purged":
    from tracker.store.purge import Keeping, Purge, run

    keeping = Keeping(
        mail=config.storage.keep if older_than is None else older_than,
        statistics=config.storage.keep_statistics,
        collect_for=config.tracking.collect_for,
        tombstones=config.storage.keep + config.journal.keep,
    )
    return await run(storage, Purge(keeping, config.destinations, datetime.now(UTC)))
