"""Labels come from closed sets, and the reference says of each metric what it is."""

import ast
import re
from collections.abc import Iterator

from tests.house.sources import imports, modules
from tests.machine import ROOT

_ROW = re.compile(r"^\| `(mailwake_[a-z0-9_]+)` \| (\w+) \| ([^|]+) \|", re.MULTILINE)
_KINDS = {"Counter": "counter", "Gauge": "gauge", "Histogram": "histogram"}

# What may be a label: names of the configuration, and words of ours. Never what a client, a recipient or an upstream
# chooses: each value is a time series for ever, and may be a person's.
_CLOSED = {
    "action", "code", "destination", "fault", "host", "outcome", "reason", "result", "server_name", "set", "table",
    "type", "upstream", "why",
}  # fmt: skip


def test_every_label_is_of_a_closed_set() -> None:
    """A new one is added here, with a look at who chooses its values."""
    assert {label for _, _, labels in _metrics() for label in labels} - _CLOSED == set()


def test_the_reference_has_each_metrics_kind_and_labels() -> None:
    """An alert is written from the page."""
    page = (ROOT / "docs" / "reference" / "metrics.md").read_text(encoding="utf-8")
    described = {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in _ROW.findall(page)}
    there = {name: (kind, set(labels)) for name, kind, labels in _metrics()}

    assert {name: one for name, one in described.items() if there.get(name) != one} == {}


def _metrics() -> Iterator[tuple[str, str, list[str]]]:
    for _, _, tree in modules("relay", "tracker"):
        if not any(name.startswith("prometheus_client") for name, _ in imports(tree)):
            continue
        for node in ast.walk(tree):
            match node:
                case ast.Call(func=ast.Name(id=kind), args=[ast.Constant(value=str(name)), _, *rest]) if kind in _KINDS:
                    shown = name.removesuffix("_total") + "_total" * (kind == "Counter")
                    yield shown, _KINDS[kind], _labels(tree, rest[0]) if rest else []


def _labels(tree: ast.Module, node: ast.expr) -> list[str]:
    """Read the names of labels, which may be a constant of the module."""
    if isinstance(node, ast.Name):
        node = next(
            one.value
            for one in tree.body
            if isinstance(one, ast.AnnAssign) and one.value is not None and ast.unparse(one.target) == node.id
        )
    return list(ast.literal_eval(node))
