"""What was stopped by command: written by the command, and seen by every process that answers links (`watched.py`)."""

from pathlib import Path
from typing import Final

import sqlalchemy as sa

from tracker.core.blocks import Block, BlockKind, Blocks
from tracker.store.schema import block
from tracker.store.times import from_ms, to_ms
from tracker.store.watched import Watched, has_changed

SUBJECT: Final = "block"
_KINDS: Final = frozenset(BlockKind)


def read_all(connection: sa.Connection) -> tuple[Block, ...]:
    """Return every block, by kind and value; a row of no kind that there is, written by hand, is left out."""
    rows = connection.execute(sa.select(block).order_by(block.c.kind, block.c.value)).mappings()
    return tuple(
        Block(
            kind=BlockKind(row["kind"]),
            value=row["value"],
            reason=row["reason"],
            added_at=from_ms(row["added_ms"]),
        )
        for row in rows
        if row["kind"] in _KINDS
    )


def put(connection: sa.Connection, one: Block) -> None:
    """Write a block, in place of one of the same kind and value."""
    connection.execute(block.delete().where(block.c.kind == one.kind, block.c.value == one.value))
    values = {"kind": one.kind.value, "value": one.value, "reason": one.reason, "added_ms": to_ms(one.added_at)}
    connection.execute(block.insert(), values)
    has_changed(connection, SUBJECT)


def remove(connection: sa.Connection, kind: BlockKind, value: str) -> bool:
    """Remove a block; False: there was none."""
    found = connection.execute(block.delete().where(block.c.kind == kind, block.c.value == value)).rowcount > 0
    if found:
        has_changed(connection, SUBJECT)
    return found


def watched(path: Path) -> Watched[Blocks]:
    """Return what is stopped, for a process to look at."""
    return Watched(path, SUBJECT, lambda connection: Blocks.of(read_all(connection)), nothing=Blocks({}))
