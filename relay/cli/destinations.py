"""`mailwake destinations`: how each event destination fares, a try of one, dead letters sent again.

Destinations stand in the file. What is written here lies in the storage, and whoever publishes there sees it within a
second: the command hands no dead letter over itself, so that a destination has one writer.
"""

import asyncio
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from relay.cli import storage
from relay.cli.options import EXIT_NO, EXIT_UNUSABLE, config_option, end, json_option, load, printable
from relay.cli.since import Ago

if TYPE_CHECKING:
    from relay.appconfig import Config
    from tracker.contract.settings import EventDestination
    from tracker.store.deadletters import DeadLetter, Standing

_LETTERS_SHOWN: Final = 50


@click.group()
def destinations() -> None:
    """Show event destinations, try one, and send again what one did not take.

    Destinations stand in the configuration file, and are added, changed and removed there.
    """


@destinations.command("list")
@config_option
@json_option
def list_(*, config_path: Path | None, as_json: bool) -> None:
    """List every destination: where it is, whether it takes events and why not, how far behind it is."""
    config = load(config_path)
    found = _standings(config)
    rows = [_row(config, one, found[name]) for name, one in sorted(_declared(config).items())]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    elif rows:
        from relay.cli.queueprint import print_rows

        columns = ("name", "type", "where", "state", "why", "behind", "lag", "dead letters")
        print_rows(columns, [_cells(row) for row in rows])
    else:
        click.echo("There is no destination. Write [event_destination.NAME], and name it in a configuration set.")


@destinations.command()
@config_option
@json_option
@click.argument("name")
def show(*, config_path: Path | None, as_json: bool, name: str) -> None:
    """Show one destination and its last dead letters."""
    from tracker.store import deadletters

    config = load(config_path)
    one = _find(config, name)
    row = _row(config, one, _standings(config)[name])
    dead = storage.read(config, lambda connection: deadletters.letters(connection, name, _LETTERS_SHOWN)) or []
    if as_json:
        click.echo(json.dumps({**row, "last_dead_letters": [_letter(letter) for letter in dead]}, indent=2))
        return
    for key, value in row.items():
        text = ", ".join(value) if isinstance(value, list) else "-" if value is None else str(value)
        click.echo(f"{key} = {printable(text)}")
    if dead:
        from relay.cli.queueprint import print_objects

        click.echo()
        print_objects([_letter(letter) for letter in dead])


@destinations.command()
@config_option
@json_option
@click.argument("name")
def test(*, config_path: Path | None, as_json: bool, name: str) -> None:
    """Hand a sample event to a destination, and say what came of it. Exit code 1: it did not take it.

    The event is a Delivery, tagged mailwake:test, of a message that never was; its filters are not asked.
    """
    from tracker.publish.outcome import Delivered

    config = load(config_path)
    one = _find(config, name)
    event_id, outcome = asyncio.run(_try(one))
    reason = None if isinstance(outcome, Delivered) else outcome.reason
    if as_json:
        click.echo(json.dumps({"name": name, "event_id": event_id, "taken": reason is None, "why": reason}))
    elif reason is None:
        click.echo(f"{name} took the event {event_id}.", err=one.type == "stdout")
    else:
        click.echo(f"mailwake: {name} did not take the event {event_id}: {printable(reason)}", err=True)
    if reason is not None:
        raise SystemExit(EXIT_NO)


@destinations.command()
@config_option
@json_option
@click.argument("name")
@click.option("--id", "ids", type=int, multiple=True, metavar="ID", help="Only this dead letter; repeatable.")
@click.option("--since", type=Ago(), metavar="TIME", help="Only those given up in the last 1h, 7d, ...")
@click.option("--all", "every", is_flag=True, help="Every dead letter. One of --id, --since and this must be there.")
def replay(
    *,
    config_path: Path | None,
    as_json: bool,
    name: str,
    ids: tuple[int, ...],
    since: datetime | None,
    every: bool,
) -> None:
    """Have the service send dead letters again, oldest first. Exit code 1: there are none.

    Each is tried once; one that is not taken stays, with the new reason.
    """
    from tracker.store import deadletters

    config = load(config_path)
    _find(config, name)
    if bool(ids) + (since is not None) + every != 1:
        end("say which: one of --id, --since and --all", EXIT_UNUSABLE)
    at = datetime.now(UTC)
    count = _write(
        config,
        lambda connection: deadletters.ask_again(connection, name, at=at, ids=ids or None, since=since),
    )
    if as_json:
        click.echo(json.dumps({"name": name, "dead_letters": count}))
    elif count:
        click.echo(f"Dead letters of {name} that are sent again{_once_it_runs(config)}: {count}")
    if not count:
        if not as_json:
            click.echo(f"mailwake: {name} has no such dead letter", err=True)
        raise SystemExit(EXIT_NO)


@destinations.command()
@config_option
@click.argument("name")
def enable(*, config_path: Path | None, name: str) -> None:
    """Have a destination tried at once, also one that answered 410. Exit code 1: it has nothing to wait for."""
    from tracker.store import publishing

    config = load(config_path)
    _find(config, name)
    if not _write(config, lambda connection: publishing.enable(connection, name)):
        end(f"{name} takes events, or has not been tried yet")
    click.echo(f"{name} is tried at once{_once_it_runs(config)}.")


# --- reading and writing ----------------------------------------------------------------------------------------------


def _declared(config: "Config") -> "dict[str, EventDestination]":
    return dict(config.settings().destinations)


def _find(config: "Config", name: str) -> "EventDestination":
    found = _declared(config).get(name)
    if found is None:
        end(f"there is no event destination {name!r}")
    return found


def _standings(config: "Config") -> "dict[str, Standing]":
    from tracker.store.deadletters import Standing, standings

    names = tuple(config.destinations)
    found = storage.read(config, lambda connection: standings(connection, names))
    return found if found is not None else dict.fromkeys(names, Standing())


def _write(config: "Config", work: Callable[[Any], int]) -> int:
    """Do it in one transaction; 0 where there is no storage, which is not made for that."""
    return storage.write(config, work) if config.storage.path.exists() else 0


async def _try(one: "EventDestination") -> tuple[str, Any]:
    from tracker.publish.probe import sample
    from tracker.publish.publisher import make_writer

    now = datetime.now(UTC)
    entry = sample(one, now, os.urandom)
    writer = make_writer(one)
    try:
        return entry.event_id, await writer.write([entry], now)
    finally:
        await writer.close()


def _once_it_runs(config: "Config") -> str:
    from tracker.runtime import control

    publishes = any("tracker" in status.listening for status in control.running(config.run_directory))
    return "" if publishes else ", once the service runs"


# --- showing ----------------------------------------------------------------------------------------------------------


def _row(config: "Config", one: "EventDestination", standing: "Standing") -> dict[str, Any]:
    from tracker.publish.probe import target_of

    state, why = _state(config, one, standing)
    known = standing.state
    oldest = standing.oldest
    lag_s = None if oldest is None else max(int((datetime.now(UTC) - oldest).total_seconds()), 0)
    return {
        "name": one.name,
        "type": one.type,
        "where": target_of(one),
        "format": one.format,
        "sets": list(one.sets),
        "events": sorted(one.events),
        "state": state,
        "why": why,
        "since": _time(known.disabled_at or known.since) if known is not None else None,
        "attempts": known.attempts if known is not None else 0,
        "next_try": _time(known.next_try) if known is not None else None,
        "last_success": _time(known.last_success) if known is not None else None,
        "behind": standing.behind,
        "lag_seconds": lag_s or 0,
        "dead_letters": standing.dead_letters,
        "replaying": standing.replaying,
        "origin": f"set in {config.source.path.name}",
    }


def _state(config: "Config", one: "EventDestination", standing: "Standing") -> tuple[str, str | None]:
    """Return a word for how it fares, and why: ok, new, failing, disabled or unused."""
    known = standing.state
    if not any(one.name in section.destinations for section in config.sets.values()):
        return "unused", "no configuration set sends it events"
    if known is None:
        return "new", "it has not been tried yet"
    if known.disabled_at is not None:
        return "disabled", f"{known.last_error}; `mailwake destinations enable {one.name}`"
    if known.since is not None:
        return "failing", known.last_error
    return "ok", None


def _cells(row: dict[str, Any]) -> list[str]:
    why = row["why"] or "-"
    if row["since"] is not None:
        why = f"since {row['since']}: {why}"
    cells = [row["name"], row["type"], row["where"], row["state"], why]
    return [*cells, str(row["behind"]), f"{row['lag_seconds']}s", str(row["dead_letters"])]


def _letter(letter: "DeadLetter") -> dict[str, Any]:
    return {
        "id": letter.id,
        "at": _time(letter.at),
        "type": letter.entry.type,
        "event_id": letter.entry.event_id,
        "attempts": letter.attempts,
        "replay": letter.replay,
        "reason": letter.reason,
    }


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="seconds")
