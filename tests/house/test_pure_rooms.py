"""Pure rooms take everything as arguments: no file, clock, chance, or waiting.

The imports are forbidden in pyproject.toml; here are the names that need no forbidden import.
"""

import ast
from collections.abc import Iterator

import pytest

from tests.house.sources import modules, shown

PURE = ("relay/core", "tracker/core", "tracker/contract")

_CALLS = {"breakpoint", "exec", "eval", "input", "open", "print"}
_METHODS = {
    "now", "today", "utcnow", "urandom", "token_bytes", "uuid1", "uuid4",      # clocks and chance
    "exists", "is_dir", "is_file", "iterdir", "mkdir", "read_bytes", "read_text", "rglob", "stat", "touch", "unlink",
    "write_bytes", "write_text",                                               # files behind a Path
}  # fmt: skip


def _impurities(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id=name)) if name in _CALLS:
                yield node.lineno, name
            case ast.Call(func=ast.Attribute(attr=name)) if name in _METHODS:
                yield node.lineno, name
            case ast.AsyncFunctionDef(body=body) if not all(isinstance(line, ast.Expr) for line in body):
                yield node.lineno, "async def"  # in a Protocol, a docstring and no more, it is only a shape
            case ast.AsyncFor() | ast.AsyncWith() | ast.Await() | ast.Global():
                yield node.lineno, type(node).__name__


def test_pure_rooms_have_no_clock_file_chance_or_waiting() -> None:
    """The same input gives the same output, always: that is what lets a retry be the same mail."""
    found = [f"{shown(path, line)} {what}" for _, path, tree in modules(*PURE) for line, what in _impurities(tree)]

    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "import datetime\ndatetime.datetime.now(datetime.UTC)",
        "open('keys.json')",
        "from pathlib import Path\nPath('x').read_bytes()",
        "async def f():\n    return 1",
        "def f():\n    global n\n    n = 1",
    ],
)
def test_the_test_sees_an_impurity(source: str) -> None:
    """A guard that never barks guards nothing."""
    assert list(_impurities(ast.parse(source)))
