"""What holds for every file: it is short, it has one idea, it is finished, and it speaks of no machine."""

import ast
import re
import sys
from pathlib import Path

import pytest

from tests.house.sources import modules, project_files, shown, text_files
from tests.machine import ROOT

MAX_LINES = 400
ALL = ("relay", "tracker", "tests", "bench", "fuzz")

# Written in two pieces, or this file would be the first to be found.
_UNFINISHED = re.compile(r"\b(?:" + "|".join(["TO" + "DO", "FIX" + "ME", "XX" + "X"]) + r")\b")
_REGISTRIES = re.compile("|".join(["py" + r"pi\.org", "pythonho" + r"sted\.org", "registry" + r"\.npmjs"]))
_HOMES = re.compile(r"(?<![\w.*~/-])/(?:home|Users|root|opt)/\w")


def test_no_file_is_longer_than_400_lines() -> None:
    """A file has one idea; one that grows past 400 lines has two."""
    long = {
        str(path.relative_to(ROOT)): count
        for path in project_files()
        if path.suffix == ".py" and (count := len(path.read_text(encoding="utf-8").splitlines())) > MAX_LINES
    }

    assert long == {}


def test_no_file_is_a_drawer() -> None:
    """Files are named after what they own: a drawer takes everything and explains nothing."""
    drawers = {"common", "helper", "helpers", "misc", "shared", "util", "utils"}

    assert [str(path) for path in project_files() if path.stem in drawers] == []


def test_a_package_file_only_states_the_rule_of_its_package() -> None:
    """`__init__.py` has a docstring and at most re-exports: nothing runs because a package is imported."""
    wrong = []
    for _, path, tree in modules(*ALL):
        if path.name != "__init__.py":
            continue
        if ast.get_docstring(tree) is None:
            wrong.append(f"{path}: no docstring")
        wrong += [
            shown(path, node.lineno)
            for node in tree.body[1:]
            if not isinstance(node, ast.Import | ast.ImportFrom)
            and not (isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in {"__all__", "__version__"})
        ]

    assert wrong == []


@pytest.mark.parametrize(
    "pattern", [_UNFINISHED, _REGISTRIES, _HOMES], ids=["unfinished", "a registry's host", "a path of one machine"]
)
def test_no_text_has(pattern: re.Pattern[str]) -> None:
    """Nothing is left unfinished in the text, and nothing depends on where it was written."""
    found = [
        shown(path, text.count("\n", 0, match.start()) + 1)
        for path, text in text_files()
        for match in pattern.finditer(text)
    ]

    assert found == []


def test_no_text_names_the_folder_that_it_lies_in() -> None:
    """The same for this very machine: the folder of the repository, of Python, of the user."""
    here = [str(folder) + "/" for folder in (ROOT, Path(sys.prefix), Path.home()) if len(folder.parts) > 1]

    assert [str(path) for path, text in text_files() if any(folder in text for folder in here)] == []
