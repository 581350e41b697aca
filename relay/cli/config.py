"""`mailwake config`: what is in force and where it came from; the schema of the file."""

import json
from pathlib import Path
from typing import Any

import click

from relay.cli.options import config_option, load


@click.group()
def config() -> None:
    """Show the configuration, or what it may hold."""


@config.command()
@config_option
@click.option("--origin", is_flag=True, help="Say where each value came from: default, file, a variable.")
def show(*, config_path: Path | None, origin: bool) -> None:
    """Print what is in force as TOML, defaults included, secrets masked."""
    from tracker.runtime.configfile import key_path
    from tracker.runtime.configtypes import key_values

    loaded = load(config_path)
    for parts, section in loaded.entries():
        click.echo(f"[{key_path(parts)}]")
        for key, value in key_values(section).items():
            came_from = loaded.source.origins.get(key_path((*parts, key)), "default")
            line = f"# {key}: not set" if value is None else f"{key} = {_toml(value)}"
            click.echo(f"{line:<60} # {came_from}" if origin else line)
        click.echo()


@config.command()
def schema() -> None:
    """Print the JSON Schema of the file."""
    from relay.configdraft import TABLES

    properties: dict[str, dict[str, Any]] = {}
    for kind in TABLES:
        one = kind.model.model_json_schema()
        outer, _, inner = kind.name.partition(".")
        if inner:
            properties[outer].setdefault("properties", {})[inner] = one
            continue
        properties[kind.name] = {"type": "object", "additionalProperties": one} if kind.named else one
    document = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Mailwake configuration",
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
    }
    click.echo(json.dumps(document, indent=2))


def _toml(value: object) -> str:
    """Write a value of JSON as TOML does; they are spelled alike but for tables."""
    match value:
        case dict():
            return f"{{ {', '.join(f'{json.dumps(key)} = {_toml(one)}' for key, one in value.items())} }}"
        case list():
            return f"[{', '.join(map(_toml, value))}]"
        case _:
            return json.dumps(value, ensure_ascii=False)
