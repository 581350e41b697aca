"""The result of a run as a page and as JSON."""

import json
import os
import platform
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, assert_never

from tests.interop.outcome import Cell, Failed, NotOffered, Outcome, Passed, Peer
from tests.machine import ROOT

_PAGE: Final = ROOT / "docs" / "reference" / "interop.md"
_JSON: Final = ROOT / "bench" / "results" / "interop.json"
_BEGIN: Final = "<!-- made by `make interop`: begin -->"
_END: Final = "<!-- made by `make interop`: end -->"


@dataclass(slots=True)
class Result:
    """Who took part on one side, and what came of each cell."""

    peers: list[Peer] = field(default_factory=list)
    cells: list[Cell] = field(default_factory=list)

    def add(self, found: Peer | Cell) -> None:
        """Keep what a run has found."""
        if isinstance(found, Peer):
            self.peers.append(found)
        else:
            self.cells.append(found)


def line(found: Peer | Cell) -> str:
    """Return what is printed while it runs."""
    if isinstance(found, Peer):
        return f"{found.name} {found.version}" if not found.absent else f"{found.name}: left out, {found.absent}"
    word, why = _words(found.outcome)
    return f"    {found.item:24} {word:12} {why}"


def write(clients: Result, servers: Result) -> None:
    """Write the page between its markers, and the JSON."""
    now = datetime.now(UTC)
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs"
    head, _, rest = _PAGE.read_text(encoding="utf-8").partition(_BEGIN)
    tail = rest.partition(_END)[2]
    made = [
        f"Run on {now:%Y-%m-%d} with Python {platform.python_version()}.",
        "",
        "### Clients before Mailwake",
        "",
        *_table(clients),
        "### Servers behind Mailwake",
        "",
        *_table(servers),
    ]
    _PAGE.write_text(head + _BEGIN + "\n" + "\n".join(made) + _END + tail, encoding="utf-8")
    whole = {
        "command": "make interop",
        "taken_at": now.isoformat(timespec="seconds"),
        "machine": machine,
        "python": platform.python_version(),
        "clients": _as_json(clients),
        "servers": _as_json(servers),
    }
    _JSON.write_text(json.dumps(whole, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _as_json(result: Result) -> list[dict[str, object]]:
    """Return each peer with its cells."""
    return [
        {
            "name": peer.name,
            **({"absent": peer.absent} if peer.absent else {"version": peer.version}),
            "cells": {
                cell.item: dict(zip(("outcome", "why"), _words(cell.outcome), strict=True))
                for cell in result.cells
                if cell.peer == peer.name
            },
        }
        for peer in result.peers
    ]


def _table(result: Result) -> list[str]:
    """Return a table with a column a peer and a row a thing asked, then the reasons of what is not simply yes."""
    here = [peer for peer in result.peers if not peer.absent]
    lines = [f"Left out: {peer.name} ({peer.absent})." for peer in result.peers if peer.absent]
    if not here:
        return [*lines, ""]
    names = [peer.name for peer in here]
    items = list(dict.fromkeys(cell.item for cell in result.cells))
    found = {(cell.peer, cell.item): cell.outcome for cell in result.cells}
    notes: dict[str, int] = {}
    lines += ["| | " + " | ".join(f"{peer.name} {peer.version}" for peer in here) + " |"]
    lines += ["| --- |" + " --- |" * len(here)]
    for item in items:
        row = []
        for name in names:
            word, why = _words(found[name, item])
            if not isinstance(found[name, item], Passed):
                word += f" [{notes.setdefault(why, len(notes) + 1)}]"
            row.append(word)
        lines.append(f"| {item} | " + " | ".join(row) + " |")
    lines += ["", *(f"{number}. {why}" for why, number in notes.items())]
    return [*lines, ""] if notes else lines


def _words(outcome: Outcome) -> tuple[str, str]:
    match outcome:
        case Passed(asserted):
            return "yes", asserted
        case NotOffered(why):
            return "not offered", why
        case Failed(what):
            return "FAILED", what
        case _:
            assert_never(outcome)
