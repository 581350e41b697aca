"""`mailwake blocks`: stop the redirects of a message, a configuration set, a sender domain or a destination host."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from relay.cli import storage
from relay.cli.options import EXIT_UNUSABLE, config_option, end, json_option, load

if TYPE_CHECKING:
    from tracker.core.blocks import Block, BlockKind

_KINDS: Final = ("message", "set", "domain", "host")
_FORMS: Final = {
    "message": "the id of a message, as in the reply to it and in `mailwake events`",
    "set": "the name of a configuration set",
    "domain": 'a domain, like "shop.example"; it stands for its sub-domains too',
    "host": 'a host without port and path, like "evil.example", or "*.evil.example" for all below it',
}

kind_argument = click.argument("kind", type=click.Choice(_KINDS))
value_argument = click.argument("value")


@click.group()
def blocks() -> None:
    """Stop redirects: of a message, a set, a sender domain or a destination host.

    Their links answer 410 within two seconds, in every process and with no restart, also in mail that was sent long
    ago. KIND is message, set, domain or host.
    """


@blocks.command("list")
@config_option
@json_option
def list_(*, config_path: Path | None, as_json: bool) -> None:
    """List what is stopped, since when and why."""
    from tracker.store.blocks import read_all

    rows = [_row(one) for one in storage.read(load(config_path), read_all) or ()]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    elif rows:
        from relay.cli.queueprint import print_objects

        print_objects(rows)
    else:
        click.echo("Nothing is stopped. Stop a destination with `mailwake blocks add host evil.example`.")


@blocks.command()
@config_option
@json_option
@kind_argument
@value_argument
@click.option("--reason", default="", metavar="TEXT", help="What whoever follows a link is told; a fixed phrase else.")
def add(*, config_path: Path | None, as_json: bool, kind: str, value: str, reason: str) -> None:
    """Stop the redirects of VALUE; where they are stopped already, change the reason."""
    from tracker.core.blocks import MAX_REASON_CHARACTERS, Block, printable_reason
    from tracker.store import blocks as store

    config = load(config_path)
    if len(reason) > MAX_REASON_CHARACTERS:
        end(f"a reason has at most {MAX_REASON_CHARACTERS} characters", EXIT_UNUSABLE)
    of_kind, normal = _parse(kind, value)
    one = Block(kind=of_kind, value=normal, reason=printable_reason(reason), added_at=datetime.now(UTC))
    storage.write(config, lambda connection: store.put(connection, one))
    if kind == "set" and normal not in config.sets:
        click.echo(f"mailwake: there is no set {normal} now; links of mail that it had are stopped", err=True)
    if as_json:
        click.echo(json.dumps(_row(one), indent=2))
    else:
        click.echo(f"Links of the {kind} {normal} are stopped.")


@blocks.command()
@config_option
@json_option
@kind_argument
@value_argument
def remove(*, config_path: Path | None, as_json: bool, kind: str, value: str) -> None:
    """Let the redirects of VALUE go on. Exit code 1: they were not stopped."""
    from tracker.store import blocks as store

    config = load(config_path)
    of_kind, normal = _parse(kind, value)
    is_there = any((one.kind, one.value) == (of_kind, normal) for one in storage.read(config, store.read_all) or ())
    if not is_there or not storage.write(config, lambda connection: store.remove(connection, of_kind, normal)):
        end(f"the {kind} {normal} is not stopped")
    if as_json:
        click.echo(json.dumps({"kind": kind, "value": normal}, indent=2))
    else:
        click.echo(f"Links of the {kind} {normal} redirect again.")


def _parse(kind: str, value: str) -> "tuple[BlockKind, str]":
    from tracker.core.blocks import BlockKind, normal_value

    of_kind = BlockKind(kind)
    normal = normal_value(of_kind, value)
    if normal is None:
        end(f"{value!r} is no {kind}: write {_FORMS[kind]}", EXIT_UNUSABLE)
    return of_kind, normal


def _row(one: "Block") -> dict[str, Any]:
    return {
        "kind": one.kind.value,
        "value": one.value,
        "since": one.added_at.isoformat(timespec="seconds"),
        "reason": one.reason,
    }
