"""The reference of the configuration file and of the command line names all there is, and nothing that is not."""

import json
import re
from collections.abc import Iterator

import click
import pytest
from pydantic import TypeAdapter

from relay import reloading
from relay.cli.main import main
from relay.configdraft import TABLES
from tests.machine import ROOT
from tracker.runtime.configtypes import Kind, Section

_REFERENCE = ROOT / "docs" / "reference"
_ROW = re.compile(r"^\| `([a-z_-]+)` \| (.*?) \|", re.MULTILINE)
_JSON = re.compile(r"`(.*)`")


def _sections(page: str) -> dict[str, str]:
    """Give the text below each heading of a page."""
    _, *parts = re.split(r"^## (.+)$", (_REFERENCE / page).read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def _heading(kind: Kind[Section]) -> str:
    return f"[{kind.name}.NAME]" if kind.named else f"[{kind.name}]"


def _commands(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from _commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def test_every_table_is_described() -> None:
    """The headings are the tables that the loader knows."""
    assert set(_sections("configuration.md")) == {_heading(kind) for kind in TABLES}


@pytest.mark.parametrize("kind", TABLES, ids=lambda kind: kind.name)
def test_every_key_is_described_with_its_default(kind: Kind[Section]) -> None:
    """Whoever reads the page knows what an absent key means; a default that is prose has none in the code."""
    rows = dict(_ROW.findall(_sections("configuration.md")[_heading(kind)]))
    assert set(rows) == set(kind.model.model_fields)
    for name, shown in rows.items():
        field = kind.model.model_fields[name]
        default = None if field.is_required() else field.get_default()
        written = _JSON.fullmatch(shown)
        if default is None:
            assert written is None, name
        else:
            assert written is not None, name
            adapter: TypeAdapter[object] = TypeAdapter(field.rebuild_annotation())
            assert adapter.validate_python(json.loads(written[1])) == adapter.validate_python(default), name


def test_every_command_and_option_is_described() -> None:
    """The headings are the commands, the rows their options but `--config`, which the page's head explains."""
    described = {
        re.sub(r"(?: \[?[A-Z]+\]?)+$", "", heading): set(re.findall(r"^\| `(--[a-z0-9-]+)` \|", text, re.MULTILINE))
        for heading, text in _sections("cli.md").items()
    }
    there = {
        path: {option for parameter in command.params for option in parameter.opts if option.startswith("--")}
        for path, command in _commands(main, "mailwake")
    }

    assert described == {path: options - {"--config"} for path, options in there.items()}


def test_what_a_reload_takes_up_is_described() -> None:
    """The page's head names every key that is in force without a restart, and no other."""
    head = (_REFERENCE / "configuration.md").read_text(encoding="utf-8").partition("\n## ")[0]
    named = set(re.findall(r"`((?:relay|spool|tracker)\.[a-z_]+)`", head))
    keys = {f"{kind.name}.{name}" for kind in TABLES if not kind.named for name in kind.model.model_fields}
    live = {key for key in keys if reloading.is_live(key)}
    assert named == {key for key in live if not key.startswith(("relay.tls.", "tracker.tls.", "tracking."))}
    tables = {kind.name for kind in TABLES if all(reloading.is_live(f"{kind.name}.{name}") for name in _fields(kind))}
    assert set(re.findall(r"`\[([a-z_.]+?)(?:\.NAME)?\]`", head)) == tables | {"tracking"}
    assert {key for key in keys - live if key.startswith("tracking.")} == {"tracking.verify_sample"}


def _fields(kind: Kind[Section]) -> Iterator[str]:
    yield from kind.model.model_fields
