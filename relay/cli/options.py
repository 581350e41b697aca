"""What several commands share: the option that names the configuration, and the exit codes."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn, TypeVar

import click

if TYPE_CHECKING:
    from relay.appconfig import Config

EXIT_NO: Final = 1
EXIT_UNUSABLE: Final = 2

F = TypeVar("F", bound=Callable[..., object])


def config_option(command: F) -> F:
    """Add `--config FILE`."""
    return click.option(
        "--config",
        "config_path",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="The configuration file. Else MAILWAKE_CONFIG, ./config.toml, /etc/mailwake/config.toml.",
    )(command)


def json_option(command: F) -> F:
    """Add `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def load(config_path: Path | None) -> "Config":
    """Load the configuration that a command was given."""
    from relay import appconfig

    return appconfig.load(config_path, os.environ)


def end(why: str, code: int = EXIT_NO) -> NoReturn:
    """Say why nothing came of a command, and end it."""
    click.echo(f"mailwake: {why}", err=True)
    raise SystemExit(code)


def printable(text: str) -> str:
    """Keep the escape sequences of hostile text off the terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)
