"""The locks: complete, hashed, and free of any registry's address."""

import re
import tomllib
from pathlib import Path

import pytest

from tests.machine import ROOT

_LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
_PIN = re.compile(r"^([a-z0-9-]+)==(\S+)", re.MULTILINE)


def _pins(text: str) -> dict[str, str]:
    return {name.lower(): version for name, version in _PIN.findall(text)}


@pytest.mark.parametrize("path", _LOCKS, ids=lambda path: path.name)
def test_a_lock_pins_every_package_with_its_hashes(path: Path) -> None:
    """What is installed is what was tested, or nothing is: a registry that serves something else is refused."""
    text = path.read_text(encoding="utf-8")
    blocks = re.split(r"\n(?=\S)", text.strip())

    assert [block.split()[0] for block in blocks if not _PIN.match(block) or "--hash=sha256:" not in block] == []


@pytest.mark.parametrize("path", _LOCKS, ids=lambda path: path.name)
def test_a_lock_names_no_place(path: Path) -> None:
    """Whoever installs chooses the registry: no address, no option, no path is in a lock."""
    text = path.read_text(encoding="utf-8")

    assert re.findall(r"^.*(?:://|^-|@ |file:).*$", text, re.MULTILINE) == []


def test_the_locks_hold_every_dependency_of_the_package() -> None:
    """`make lock` was run after a dependency was added."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    names = {re.split(r"[^a-z0-9-]", text.lower())[0] for text in wanted}
    held = {name for path in _LOCKS for name in _pins(path.read_text(encoding="utf-8"))}

    assert names - held == set()


def test_the_locks_agree_with_each_other() -> None:
    """They are installed into one environment: a package has one version in all of them."""
    seen: dict[str, set[str]] = {}
    for path in _LOCKS:
        forked = (
            path.name == "runtime.txt" and "soupsieve"
        )  # one version for Python 3.11.0 to 3.11.4, one for later ones
        for name, version in _PIN.findall(path.read_text(encoding="utf-8")):
            if name != forked:
                seen.setdefault(name, set()).add(version)

    assert {name: versions for name, versions in seen.items() if len(versions) > 1} == {}
