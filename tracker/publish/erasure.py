"""One person's lines taken out of the files of a `jsonl` destination, while its writer may be appending.

Files that have nothing of the person are only read. A line of one of the person's copies goes; a line of another
recipient, whose header names the person, stays without the address. A file is written anew beside the old one and takes
its place whole, while the writer waits for the lock of the folder; a kill leaves the one or the other.

Limits: who has the old file open, as a program that follows it, sees it end.
"""

import os
import re
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tracker.core.redaction import Redaction
from tracker.publish.jsonl import locked
from tracker.runtime.durable import flush_folder

_DRAFT: Final = ".draft"
_COPY: Final = re.compile(rb'copyId\\*"\s*:\s*\\*"([0-9a-z]{26}-[0-9a-f]{12})')
_RECIPIENT: Final = re.compile(rb'"recipient\\*"\s*:\s*\\*"((?:[^"\\]|\\[^"])*)')


@dataclass(slots=True, kw_only=True)
class ErasedLines:
    """How many lines went, and how many stay without the address."""

    gone: int = 0
    redacted: int = 0


def erase(directory: Path, redaction: Redaction, copies: Container[str], *, changed_since_s: float = 0) -> ErasedLines:
    """Take a person out of the files of a folder that changed since then. OSError: one cannot be read or written.

    `copies` are the ids of the person's copies, `"01k…-9f86d081884c"`.
    """
    erased = ErasedLines()
    if not directory.is_dir():
        return erased
    with locked(directory):
        for draft in directory.glob(f".*{_DRAFT}"):  # of one that was killed
            draft.unlink()
    for path in sorted(directory.glob("*.jsonl")):
        if path.stat().st_mtime < changed_since_s or not _is_in(path, redaction, copies):
            continue
        with locked(directory):
            _rewrite(path, redaction, copies, erased)
    return erased


def _is_in(path: Path, redaction: Redaction, copies: Container[str]) -> bool:
    with path.open("rb") as file:
        return any(_without(line, redaction, copies) != line for line in file)


def _rewrite(path: Path, redaction: Redaction, copies: Container[str], erased: ErasedLines) -> None:
    draft = path.with_name(f".{path.name}{_DRAFT}")
    try:
        with path.open("rb") as old, open(draft, "wb", opener=_private) as new:
            for line in old:
                kept = _without(line, redaction, copies)
                erased.gone += not kept
                erased.redacted += bool(kept) and kept != line
                new.write(kept)
            new.flush()
            os.fsync(new.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    flush_folder(path.parent)


def _without(line: bytes, redaction: Redaction, copies: Container[str]) -> bytes:
    """Return the line as it may stay; empty where it may not."""
    copy = _COPY.search(line)
    if copy is not None and copy.group(1).decode() in copies:
        return b""
    if not redaction.may_be_in(line):
        return line
    recipient = _RECIPIENT.search(line)
    if recipient is not None and redaction.is_in(recipient.group(1).decode("utf-8", "replace")):
        return b""
    if copy is None and redaction.is_in(line.decode("utf-8", "replace")):
        return b""  # of a shape that does not tell whose it is
    body, end = (line[:-1], b"\n") if line.endswith(b"\n") else (line, b"")
    try:
        return redaction.of_json(body) + end
    except ValueError:  # a line that is cut off: the writer takes it away
        return b"" if redaction.is_in(line.decode("utf-8", "replace")) else line


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
