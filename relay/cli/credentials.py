"""`mailwake credentials`: the SMTP logins, those of the file shown, those of the storage made, changed and removed."""

import json
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from relay.cli import storage
from relay.cli.options import EXIT_UNUSABLE, config_option, end, json_option, load

if TYPE_CHECKING:
    from relay.appconfig import Config
    from tracker.contract.credentials import Credential

_MAX_PASSWORD_BYTES: Final = 1024

domain_option = click.option(
    "--domain", "domains", multiple=True, metavar="DOMAIN", help="A domain that it may send from; repeatable."
)
set_option = click.option(
    "--set", "sets", multiple=True, metavar="NAME", help="A configuration set that its mail may name; repeatable."
)
generate_option = click.option("--generate", is_flag=True, help="Make a password and print it, once.")


@click.group()
def credentials() -> None:
    """Show, make and remove SMTP logins.

    What is made here is in force within two seconds, with no restart. What stands in the file is changed there.
    """


@credentials.command("list")
@config_option
@json_option
def list_(*, config_path: Path | None, as_json: bool) -> None:
    """List every login, where it comes from and what it may send."""
    config = load(config_path)
    rows = [_row(config, one) for _, one in sorted(_all(config).items())]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    elif rows:
        from relay.cli.queueprint import print_objects

        print_objects(rows)
    else:
        click.echo("There is no login. Make one with `mailwake credentials add NAME --domain DOMAIN`.")


@credentials.command()
@config_option
@json_option
@click.argument("name")
def show(*, config_path: Path | None, as_json: bool, name: str) -> None:
    """Show one login, but for its password."""
    config = load(config_path)
    one = _all(config).get(name)
    if one is None:
        end(f"there is no login {name!r}")
    row = _row(config, one)
    if as_json:
        click.echo(json.dumps(row, indent=2))
        return
    for key, value in row.items():
        click.echo(f"{key} = {value if isinstance(value, str) else ', '.join(value)}")


@credentials.command()
@config_option
@click.argument("name")
@domain_option
@set_option
@generate_option
@click.option("--print", "only_print", is_flag=True, help="Print the table for config.toml, and store nothing.")
def add(
    *,
    config_path: Path | None,
    name: str,
    domains: tuple[str, ...],
    sets: tuple[str, ...],
    generate: bool,
    only_print: bool,
) -> None:
    """Make a login. Its password is read from standard input, or asked for twice."""
    config = load(config_path)
    _check_free(config, name)
    if not only_print and name in _stored(config):
        end(f"there is a login {name!r} already; change it with `mailwake credentials update`")
    if not domains:
        end("say with --domain what it may send from", EXIT_UNUSABLE)
    one = _make(config, name, None, domains, sets or ("*",))  # what is wrong is said before a password is asked for
    one = replace(one, password_hash=_new_hash(generate=generate))
    if not only_print:
        _write(config, one)
        click.echo(f"The login {name} is stored.")
        return
    click.echo(f"[credential.{name}]\npassword_hash = {json.dumps(one.password_hash)}")
    click.echo(f"sender_domains = {json.dumps(one.permission.sender_domains)}")
    click.echo(f"configuration_sets = {json.dumps(one.permission.configuration_sets)}")


@credentials.command()
@config_option
@click.argument("name")
@domain_option
@set_option
@click.option("--password", is_flag=True, help="Read a new password from standard input, or ask for it twice.")
@generate_option
def update(
    *,
    config_path: Path | None,
    name: str,
    domains: tuple[str, ...],
    sets: tuple[str, ...],
    password: bool,
    generate: bool,
) -> None:
    """Change what a login may send, or its password; what is not named stays."""
    config = load(config_path)
    _check_free(config, name)
    old = _stored(config).get(name)
    if old is None:
        end(f"there is no login {name!r}")
    if not (domains or sets or password or generate):
        end("say what to change: --domain, --set, --password or --generate", EXIT_UNUSABLE)
    kept = old.permission
    one = _make(config, name, old.password_hash, domains or kept.sender_domains, sets or kept.configuration_sets)
    if password or generate:
        one = replace(one, password_hash=_new_hash(generate=generate))
    _write(config, one)
    click.echo(f"The login {name} is changed.")


@credentials.command()
@config_option
@click.argument("name")
def remove(*, config_path: Path | None, name: str) -> None:
    """Remove a login: nobody comes in with it, and sessions that did send nothing more."""
    from tracker.store import credentials as store

    config = load(config_path)
    _check_free(config, name)
    if name not in _stored(config) or not storage.write(config, lambda connection: store.remove(connection, name)):
        end(f"there is no login {name!r}")
    click.echo(f"The login {name} is removed.")


def _all(config: "Config") -> "dict[str, Credential]":
    from relay.roomoptions import credential_book

    return _stored(config) | dict(credential_book(config).declared)


def _stored(config: "Config") -> "dict[str, Credential]":
    from tracker.store.credentials import read_all

    return storage.read(config, read_all) or {}


def _row(config: "Config", one: "Credential") -> dict[str, Any]:
    return {
        "name": one.name,
        "sender_domains": list(one.permission.sender_domains),
        "configuration_sets": list(one.permission.configuration_sets),
        "origin": f"set in {config.source.path.name}" if one.name in config.credentials else "stored",
    }


def _check_free(config: "Config", name: str) -> None:
    if name in config.credentials:
        end(f"credential.{name} is set in {config.source.path.name}: change it there, and run `mailwake reload`")


def _make(
    config: "Config", name: str, password_hash: str | None, domains: tuple[str, ...], sets: tuple[str, ...]
) -> "Credential":
    """Make a login by the rules of the file's tables; exit code 2: it breaks one. None: no password fits it yet."""
    import re

    from relay.config.credential import read_section
    from relay.smtp import passwords
    from tracker.contract.credentials import EVERY_SET, Credential, Permission
    from tracker.runtime.configtypes import NAME_PATTERN
    from tracker.runtime.units import UnfitError

    if not re.fullmatch(NAME_PATTERN, name):
        end(f"{name!r} is no name: use 1 to 64 letters, digits, _ and -", EXIT_UNUSABLE)
    try:
        section = read_section(password_hash or passwords.no_password_fits(), domains, sets)
    except UnfitError as error:
        end(str(error), EXIT_UNUSABLE)
    for missing in set(section.configuration_sets) - {EVERY_SET, *config.sets}:
        end(f"there is no configuration set {missing!r}", EXIT_UNUSABLE)
    permission = Permission(sender_domains=section.sender_domains, configuration_sets=section.configuration_sets)
    return Credential(name=name, password_hash=section.password_hash.get_secret_value(), permission=permission)


def _new_hash(*, generate: bool) -> str:
    from relay.smtp import passwords

    if generate:
        made = passwords.generate()
        click.echo(f"password: {made}", err=True)
        password = made.encode()
    elif sys.stdin.isatty():
        typed = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
        password = typed.encode("utf-8", "surrogateescape")
    else:  # as octets: what clients send is compared octet by octet, whatever the locale makes of them
        password = sys.stdin.buffer.readline(_MAX_PASSWORD_BYTES + 2).rstrip(b"\r\n")
    if not password or b"\0" in password or len(password) > _MAX_PASSWORD_BYTES:
        end(f"a password has 1 to {_MAX_PASSWORD_BYTES} octets, none of them NUL", EXIT_UNUSABLE)
    return passwords.hash_password(password)


def _write(config: "Config", one: "Credential") -> None:
    from tracker.store import credentials as store

    storage.write(config, lambda connection: store.put(connection, one, datetime.now(UTC)))
