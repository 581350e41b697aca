"""The files of the project, and its modules as syntax trees, for the tests of this folder."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.machine import ROOT

_NOT_OURS = {"build", "dist", "node_modules", "results", "var"}
_BYTES = {".bin", ".eml", ".gif", ".ico", ".mmdb", ".png", ".pyc", ".woff2"}


def project_files() -> Iterator[Path]:
    """Walk what is kept under version control: not environments, caches, results and what a run makes."""
    pending = [ROOT]
    while pending:
        for path in sorted(pending.pop().iterdir()):
            if path.is_dir():
                is_hidden = path.name.startswith((".", "__")) and path.name != ".ci"
                if not is_hidden and path.name not in _NOT_OURS and not path.name.endswith(".egg-info"):
                    pending.append(path)
            elif not path.name.startswith(".coverage"):
                yield path


def text_files() -> Iterator[tuple[Path, str]]:
    """Walk the text among them; golden mail is bytes."""
    for path in project_files():
        if path.suffix not in _BYTES and "golden" not in path.parts:
            yield path, path.read_text(encoding="utf-8")


@cache
def modules(*packages: str) -> tuple[tuple[str, Path, ast.Module], ...]:
    """Parse every module below some folders: `modules("relay/core")` has `("relay.core.html", path, tree)` and more."""
    found = []
    for package in packages:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found.append((name, path, ast.parse(path.read_text(encoding="utf-8"), filename=str(path))))
    return tuple(found)


def imports(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Walk every module that a tree imports, also inside a function, with the line: `("tracker.contract.ids", 12)`.

    A name imported from a package counts as a module of it, since it may be one: `from relay import witness`.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute"
            assert node.module is not None
            for alias in node.names:
                yield f"{node.module}.{alias.name}", node.lineno


def shown(path: Path, line: int) -> str:
    """Say where something is: `"relay/core/html.py:12"`."""
    return f"{path.relative_to(ROOT)}:{line}"
