"""`config.example.toml` is the reference of the configuration file: it loads, and has every key with its default."""

import re
import tomllib
from typing import Any

import pytest
from pydantic import TypeAdapter

from relay import appconfig
from relay.configdraft import TABLES
from tests.machine import ROOT
from tracker.runtime.configtypes import BASE, Kind, Section

EXAMPLE = ROOT / "config.example.toml"

# A key or table that is commented out: `# max_links = 250`. Prose has no ` = ` behind one lower-case word.
_COMMENTED = re.compile(r"^#[ ]?(?=[a-z_]+[ ]+=[ ]|\[[a-z_]+[\].])", re.MULTILINE)


def _tables(text: str, kind: Kind[Section]) -> list[dict[str, Any]]:
    """Give the tables of a kind that a text has; `[upstream.NAME]` may have several."""
    found: dict[str, Any] = tomllib.loads(text)
    for part in kind.name.split("."):
        found = found.get(part, {})
    tables = list(found.values()) if kind.named else [found]
    return [{key: value for key, value in table.items() if key not in kind.inner} for table in tables]


def test_the_example_loads() -> None:
    """It is what `make run` runs with."""
    config = appconfig.load(EXAMPLE, {})

    assert config.source.path == EXAMPLE


@pytest.mark.parametrize("kind", TABLES, ids=lambda kind: kind.name)
def test_the_example_has_every_key(kind: Kind[Section]) -> None:
    """A key that is not in the example is not found by whoever needs it; one that stays there misleads."""
    shown = {key for table in _tables(_COMMENTED.sub("", EXAMPLE.read_text(encoding="utf-8")), kind) for key in table}

    assert shown == set(kind.model.model_fields)


@pytest.mark.parametrize("kind", TABLES, ids=lambda kind: kind.name)
def test_keys_that_are_commented_out_show_the_defaults(kind: Kind[Section]) -> None:
    """Who removes the `#` changes nothing; a key without a default shows an example."""
    text = EXAMPLE.read_text(encoding="utf-8")
    in_force = {key for table in _tables(text, kind) for key in table}
    wrong = {}
    for table in _tables(_COMMENTED.sub("", text), kind):
        for key in table.keys() - in_force:
            field = kind.model.model_fields[key]
            if field.is_required() or field.get_default(call_default_factory=True, validated_data={}) is None:
                continue
            adapter: TypeAdapter[Any] = TypeAdapter(field.rebuild_annotation())
            context = {BASE: ROOT}
            default = adapter.validate_python(
                field.get_default(call_default_factory=True, validated_data={}), context=context
            )
            if adapter.validate_python(table[key], context=context) != default:
                wrong[key] = table[key]

    assert wrong == {}
