"""`mailwake keys`: the keys that seal links, shown without their secrets, and one more made."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from relay.cli.options import EXIT_UNUSABLE, config_option, end, json_option, load

if TYPE_CHECKING:
    from tracker.contract.token import TokenKey, TokenKeys


@click.group()
def keys() -> None:
    """Show the keys that seal links, and add one.

    Links of every key in the file work for ever: a key is never taken out.
    """


@keys.command("list")
@config_option
@json_option
def list_(*, config_path: Path | None, as_json: bool) -> None:
    """List the keys: id, from when on it mints, and whether it does now. Secrets are never shown."""
    from tracker.runtime import secrets

    tokens = secrets.load(load(config_path).keys.file).tokens
    rows = [_row(key, tokens, datetime.now(UTC)) for key in tokens.keys]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    from relay.cli.queueprint import print_rows

    print_rows(("id", "mint from", "mints now"), [[str(row["id"]), row["mint_from"], _word(row)] for row in rows])


@keys.command()
@config_option
@json_option
@click.option("--at", "at", metavar="TIME", help="Mint from this time on, as 2026-12-01T00:00:00Z. Else in 10 minutes.")
def rotate(*, config_path: Path | None, as_json: bool, at: str | None) -> None:
    """Add a key. It mints in 10 minutes: until then, copy the file to the other nodes. No restart is needed."""
    from tracker.runtime import secrets

    path = load(config_path).keys.file
    now = datetime.now(UTC)
    key = secrets.rotate(path, now=now, entropy=os.urandom, mint_from=None if at is None else _moment(at))
    if as_json:
        click.echo(json.dumps(_row(key, secrets.load(path).tokens, now), indent=2))
        return
    click.echo(
        f"Key {key.key_id} mints from {key.mint_from.isoformat()} on. Copy {path} to every other node before then."
    )


def _row(key: "TokenKey", tokens: "TokenKeys", now: datetime) -> dict[str, Any]:
    return {
        "id": key.key_id,
        "mint_from": key.mint_from.astimezone(UTC).isoformat(),
        "mints": tokens.minting(now) == key.key_id,
    }


def _word(row: dict[str, Any]) -> str:
    return "yes" if row["mints"] else "no"


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        end(f"--at: {text!r} is no time with a zone; write it like 2026-12-01T00:00:00Z", EXIT_UNUSABLE)
    return moment.astimezone(UTC).replace(microsecond=0)
