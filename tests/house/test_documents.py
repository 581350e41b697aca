"""What the documents promise of themselves: links lead somewhere, decisions have their parts, the glossary defines."""

import re
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.house.sources import shown, text_files
from tests.machine import ROOT

_LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)\s#]+)(?:#[^)\s]*)?\)")
_DECISION_PARTS = ("## Context", "## Options", "## Choice", "## Reopens when")
_DECISIONS = sorted((ROOT / "docs" / "decisions").glob("*.md"))
_ENTRY = re.compile(r"^\*\*([^*]+)\*\*", re.MULTILINE)


def test_every_relative_link_leads_to_a_file() -> None:
    """A reader who follows a link arrives."""
    dead = [
        f"{shown(path, text.count(chr(10), 0, match.start()) + 1)} {match[1]}"
        for path, text in text_files()
        if path.suffix == ".md"
        for match in _LINK.finditer(text)
        if not (path.parent / unquote(match[1])).exists()
    ]

    assert dead == []


@pytest.mark.parametrize("path", _DECISIONS, ids=lambda path: path.stem[:4])
def test_a_decision_has_its_four_parts(path: Path) -> None:
    """Context, options, choice, and the sign that would reopen it: `docs/decisions/0001`."""
    text = path.read_text(encoding="utf-8")

    assert [part for part in _DECISION_PARTS if f"\n{part}\n" not in text] == []


def test_decisions_are_numbered_without_gaps() -> None:
    """A number is never used twice and never goes away."""
    assert [int(path.name[:4]) for path in _DECISIONS] == list(range(1, len(_DECISIONS) + 1))


def test_the_glossary_defines_each_noun_once_in_order() -> None:
    """A reader finds a noun by the alphabet, with one meaning."""
    nouns = [noun.lower() for noun in _ENTRY.findall((ROOT / "docs" / "glossary.md").read_text(encoding="utf-8"))]

    assert len(nouns) > 20
    assert [pair for pair in pairwise(nouns) if pair[0] >= pair[1]] == []


def test_every_event_type_is_in_the_glossary() -> None:
    """What a record may say is a noun of ours."""
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")

    missing = [
        name
        for name in ("Send", "Delivery", "DeliveryDelay", "Bounce", "Reject", "Open", "Click")
        if f"**{name}**" not in text
    ]
    assert missing == []
