"""The reference names all there is, and nothing that is not: skip reasons, log events, metrics.

Each is found in the code by syntax, so nothing has to be listed twice and neither side can rot. In the documents the
names are the first column of a table: a row begins with the name in backquotes.
"""

import ast
import re
from collections.abc import Iterator

import pytest

from relay.cli.codes import sentences
from relay.core.reasons import SkipReason
from tests.house.sources import imports, modules, shown
from tests.machine import ROOT

_ROW = re.compile(r"^\| *`([^`]+)` *\|", re.MULTILINE)
_CELL_END = re.compile(r"(?<!\\)\|")
_LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}
_LOGGERS = re.compile(r"(?:^|[._])log(?:ger)?$", re.IGNORECASE)
_METRICS = re.compile(r"(?:Counter|Gauge|Histogram|Summary|Info)(?:MetricFamily)?")


def test_every_skip_reason_is_explained() -> None:
    """An operator finds every code of `mailwake explain` in `docs/reference/why-not-tracked.md`."""
    assert _documented("why-not-tracked.md") == {reason.value for reason in SkipReason}


@pytest.mark.parametrize("reason", SkipReason)
def test_a_skip_reason_has_its_sentence_a_cause_and_a_remedy(reason: SkipReason) -> None:
    """Whoever looks a code up finds the sentence of `mailwake explain`, where it comes from and what to do."""
    page = (ROOT / "docs" / "reference" / "why-not-tracked.md").read_text(encoding="utf-8")
    (row,) = [line for line in page.splitlines() if line.startswith(f"| `{reason.value}` |")]
    _, _, *cells, _ = (cell.strip().replace("\\|", "|") for cell in _CELL_END.split(row))

    assert len(cells) == 3
    assert cells[0] == sentences()[reason.value]
    assert all(re.search(r"\w.*[.)]$", cell) for cell in cells)


def test_every_skip_reason_is_given_somewhere() -> None:
    """A reason that nothing gives promises a check that is not made."""
    given = {
        node.attr
        for name, _, tree in modules("relay")
        if name != "relay.core.reasons"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "SkipReason"
    }

    assert {reason.name for reason in SkipReason} - given == set()


def test_every_log_event_is_documented() -> None:
    """An operator finds every line of the log in `docs/reference/logs.md`."""
    assert _documented("logs.md") == {name for name, _ in _log_events()}


def test_log_events_are_snake_case() -> None:
    """A name is one word to search for: `copy_accepted`, never a sentence, never put together at run time."""
    wrong = [f"{where} {name}" for name, where in _log_events() if not re.fullmatch(r"[a-z0-9]+(?:_[a-z0-9]+)+", name)]

    assert wrong == []


def test_every_metric_is_documented() -> None:
    """An operator finds every metric in `docs/reference/metrics.md`."""
    assert _documented("metrics.md") == {name for name, _ in _metrics()}


def test_metrics_say_their_product_and_unit() -> None:
    """Prometheus' conventions: a prefix, base units, `_total` for what only grows."""
    wrong = [
        f"{where} {name}"
        for name, where in _metrics()
        if not re.fullmatch(r"mailwake_[a-z0-9_]+", name) or re.search(r"_(?:ms|millis|kb|mb|minutes)(?:_|$)", name)
    ]

    assert wrong == []


def _documented(page: str) -> set[str]:
    path = ROOT / "docs" / "reference" / page
    if not path.is_file():
        pytest.fail(f"docs/reference/{page} is missing")
    return set(_ROW.findall(path.read_text(encoding="utf-8")))


def _log_events() -> Iterator[tuple[str, str]]:
    """Walk the calls `log.info("name", …)`, with where each is; a name that is no literal is shown as its source."""
    for _, path, tree in modules("relay", "tracker"):
        for node in ast.walk(tree):
            match node:
                case ast.Call(func=ast.Attribute(value=owner, attr=level), args=[event, *_]) if level in _LEVELS:
                    if _LOGGERS.search(ast.unparse(owner).removesuffix("()").partition(".bind(")[0]):
                        yield from ((name, shown(path, node.lineno)) for name in _texts(event))


def _metrics() -> Iterator[tuple[str, str]]:
    """Walk the metrics that are made: `Counter("mailwake_hits", …)`, which is exported as `mailwake_hits_total`."""
    for _, path, tree in modules("relay", "tracker"):
        if not any(name.startswith("prometheus_client") for name, _ in imports(tree)):
            continue  # a Counter of the standard library counts other things
        for node in ast.walk(tree):
            match node:
                case ast.Call(func=kind, args=[first, *_]) if _METRICS.fullmatch(ast.unparse(kind).rpartition(".")[2]):
                    grows = "Counter" in ast.unparse(kind)
                    for name in _texts(first):
                        yield name.removesuffix("_total") + "_total" * grows, shown(path, node.lineno)


def _texts(node: ast.expr) -> Iterator[str]:
    match node:
        case ast.Constant(value=str(text)):
            yield text
        case ast.IfExp(body=one, orelse=other):
            yield from _texts(one)
            yield from _texts(other)
        case _:
            yield ast.unparse(node)
