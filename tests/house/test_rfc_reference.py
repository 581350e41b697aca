"""`docs/reference/rfc.md` covers what the code cites, and what it claims is shown by files that exist."""

import re
from collections.abc import Iterator
from functools import cache

import pytest

from tests.house.sources import modules, shown
from tests.machine import ROOT

_HEADING = re.compile(r"^## RFC ([0-9]+): ")
_ROW = re.compile(r"^\| (all|§[0-9.]+) \| (\w+) \| ([^|]+) \| ([^|]*) \|$")
_OTHER = re.compile(r"^\| RFC ([0-9]+) \| ")
_LINK = re.compile(r"\[[^\]]+\]\(([^)]+)\)")
# "RFC 5321 §4.2.1 (the first digit decides), §4.5.4.1": what stands between two sections is a comma, a word, a remark.
_CITED = re.compile(r"RFC ([0-9]{3,5})((?:(?:[\s,]|and|to|\([^()]*\))*§[0-9]+(?:\.[0-9]+)*)*)")
_SECTION = re.compile(r"§([0-9]+(?:\.[0-9]+)*)")


@cache
def _page() -> tuple[dict[str, dict[str, tuple[str, str]]], frozenset[str]]:
    """Read the page: rows by RFC and section, and the RFCs that it only names."""
    rows: dict[str, dict[str, tuple[str, str]]] = {}
    others = set()
    number = ""
    for line in (ROOT / "docs" / "reference" / "rfc.md").read_text(encoding="utf-8").splitlines():
        if (heading := _HEADING.match(line)) is not None:
            number = heading[1]
            rows[number] = {}
        elif (row := _ROW.match(line)) is not None:
            assert row[1] not in rows[number], f"RFC {number} {row[1]} has two rows"
            rows[number][row[1].removeprefix("§")] = (row[2], row[4])
        elif (other := _OTHER.match(line)) is not None:
            others.add(other[1])
    return rows, frozenset(others)


def test_every_rfc_that_the_code_cites_is_on_the_page() -> None:
    """Whoever asks what is kept of an RFC finds it by its number."""
    rows, others = _page()

    missing = {f"RFC {number} ({where})" for number, _, where in _citations() if number not in {*rows, *others}}

    assert missing == set()


def test_every_section_that_the_code_cites_has_a_row() -> None:
    """A row of §4.5.3 covers §4.5.3.1: the code claims nothing that the page does not judge."""
    rows, others = _page()

    missing = {
        f"RFC {number} §{section} ({where})"
        for number, section, where in _citations()
        if section and number not in others and not _is_covered(section, rows.get(number, {}))
    }

    assert missing == set()


@pytest.mark.parametrize("number", sorted(_page()[0]))
def test_what_is_done_is_shown(number: str) -> None:
    """A "yes" names the code and a test, a "partial" at least one of them, a "no" neither."""
    rows = _page()[0][number]

    assert rows
    for section, (done, where) in rows.items():
        links = _LINK.findall(where)
        match done:
            case "yes":
                assert any("/tests/" in link for link in links), f"§{section}: no test"
                assert any("/tests/" not in link for link in links), f"§{section}: no code"
            case "partial":
                assert links, f"§{section}: nothing shows it"
            case "no":
                assert not links, f"§{section}: shown, but not done"
            case _:
                pytest.fail(f"§{section}: {done}")


def _is_covered(section: str, rows: dict[str, tuple[str, str]]) -> bool:
    """A row of the section, of one above it, or of one below it."""
    return "all" in rows or any(f"{section}.".startswith(f"{row}.") or row.startswith(f"{section}.") for row in rows)


def _citations() -> Iterator[tuple[str, str, str]]:
    """Walk `("5321", "4.5.2", "relay/smtp/data.py:8")`; the section is empty where none is named."""
    for _, path, _ in modules("relay", "tracker"):
        text = path.read_text(encoding="utf-8")
        flat = re.sub(r"\n[ ]*(?:# ?)?", lambda found: " " * len(found.group()), text)
        for found in _CITED.finditer(flat):
            where = shown(path, text.count("\n", 0, found.start()) + 1)
            yield from ((found[1], section, where) for section in _SECTION.findall(found[2]) or [""])
