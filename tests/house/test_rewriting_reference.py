"""`docs/reference/rewriting.md` is honest: each golden case is on it, and each row shows what is really there.

A row is `| Case | What happens | Shown by |`. The third column links golden folders, decisions and files of tests; a
test is named as `tests/unit/test_golden.py::test_there_are_cases`, or by the text of the link to its file.
"""

import ast
import re
from pathlib import Path

import pytest

from tests.machine import ROOT

_PAGE = ROOT / "docs" / "reference" / "rewriting.md"
_GOLDEN = ROOT / "tests" / "unit" / "golden"
_CELL_BORDER = re.compile(r"(?<!\\)\|")
_LINK = re.compile(r"\[`([^`\]]+)`\]\(([^)\s]+)\)")
_TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
_TEST_LINK = re.compile(r"\[`([^`\]]+)`\]\(\.\./\.\./tests/([\w/]+\.py)\)")
_DECISION = re.compile(r"\]\(\.\./decisions/[\w.-]+\.md\)")


def test_every_golden_case_is_on_the_page() -> None:
    """Whoever asks what happens to his mail finds every case that we thought of."""
    cases = {str(path.parent.relative_to(_GOLDEN)) for path in _GOLDEN.glob("*/*/case.toml")}

    assert cases - {name for row in _rows() for name in _goldens(row)} == set()


def test_every_golden_link_leads_to_the_case_that_it_names() -> None:
    """A link whose text says one case leads to no other, and to no folder that is empty."""
    wrong = [
        f"{name} -> {target}"
        for row in _rows()
        for name, target in _LINK.findall(row[2])
        if "/golden/" in target and _case_at(target) != name
    ]

    assert wrong == []


def test_every_test_that_is_named_exists() -> None:
    """A test that was renamed takes its row along."""
    named = {test for row in _rows() for test in _tests(row)}

    assert [f"{path}::{name}" for path, name in sorted(named) if name not in _functions(path)] == []


def test_every_row_is_shown_by_something() -> None:
    """A row without a golden case, a test or a decision is a promise that nothing keeps."""
    unshown = [row[0] for row in _rows() if not (_goldens(row) or _tests(row) or _DECISION.search(row[2]))]

    assert unshown == []


def _rows() -> list[list[str]]:
    """Return the cells of each row of the tables, heads left out; fail where there are too few to be the page."""
    if not _PAGE.is_file():
        pytest.fail(f"{_PAGE.relative_to(ROOT)} is missing")
    rows = [
        [cell.strip() for cell in _CELL_BORDER.split(line.strip())[1:-1]]
        for line in _PAGE.read_text(encoding="utf-8").splitlines()
        if line.startswith("|")
    ]
    assert [row for row in rows if len(row) != 3] == []
    rows = [row for row in rows if row[0] != "Case" and not set(row[0]) <= set("-: ")]
    assert len(rows) > 50
    return rows


def _goldens(row: list[str]) -> list[str]:
    return [name for name, target in _LINK.findall(row[2]) if _case_at(target) == name]


def _tests(row: list[str]) -> list[tuple[str, str]]:
    """Return the tests that a row names, with their files; a whole file has its own name."""
    linked = [(f"tests/{path}", name) for name, path in _TEST_LINK.findall(row[2])]
    return [*_TEST.findall(row[2]), *linked]


def _case_at(target: str) -> str | None:
    """Return the golden case that a link of the page leads to, `"mime/amp"`."""
    folder = (_PAGE.parent / target).resolve()
    is_case = folder.is_relative_to(_GOLDEN) and (folder / "case.toml").is_file()
    return str(folder.relative_to(_GOLDEN)) if is_case else None


def _functions(path: str) -> set[str]:
    """Return the functions of a file of tests, and the name of the file."""
    if not (ROOT / path).is_file():
        return set()
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    return {*names, Path(path).name}
