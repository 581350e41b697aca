"""A copy's row while a batch is applied: who it is for, and its counters.

The counters are the roll-up of the log's events of that copy; `count` is the one place where an event changes them.
"""

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Self, assert_never

import sqlalchemy as sa

from tracker.contract.events import CopyFacts, EventType
from tracker.contract.ids import CopyId, MessageId
from tracker.core.statistics import is_human
from tracker.store.schema import copy

_COUNTERS: Final = ("delivered_ms", "bounced_ms", "delays", "opens", "human_opens", "clicks", "human_clicks")
_UPDATE: Final = (
    copy.update()
    .where(copy.c.message == sa.bindparam("key_message"), copy.c.suffix == sa.bindparam("key_suffix"))
    .values({name: sa.bindparam(name) for name in _COUNTERS})
)

# Pairs as one JSON parameter: SQLite answers `(message, suffix) IN (VALUES …)` by reading the whole table.
WANTED: Final = sa.func.json_each(sa.bindparam("wanted")).table_valued("value", name="wanted")


@dataclass(slots=True, kw_only=True)
class CopyRow:
    """One recipient's copy; `is_new` until it is written, `is_changed` when a counter has moved."""

    facts: CopyFacts
    delivered_ms: int | None = None
    bounced_ms: int | None = None
    delays: int = 0
    opens: int = 0
    human_opens: int = 0
    clicks: int = 0
    human_clicks: int = 0
    is_new: bool = False
    is_changed: bool = False

    @classmethod
    def of(cls, row: sa.RowMapping) -> Self:
        """Make it of a row of the table."""
        facts = CopyFacts(
            copy=copy_id(row["message"], row["suffix"]),
            recipient=row["recipient"],
            opens=row["tracks_opens"],
            clicks=row["tracks_clicks"],
        )
        return cls(facts=facts, **{name: row[name] for name in _COUNTERS})

    def has_had(self, kind: EventType) -> bool:
        """Say whether an event of that type has been counted."""
        match kind:
            case EventType.SEND:
                return not self.is_new
            case EventType.DELIVERY:
                return self.delivered_ms is not None
            case EventType.BOUNCE:
                return self.bounced_ms is not None
            case EventType.DELIVERY_DELAY:
                return self.delays > 0
            case EventType.OPEN:
                return self.opens > 0
            case EventType.CLICK:
                return self.clicks > 0
            case EventType.REJECT:  # of a message that was not accepted: it has no rows of copies
                return False
            case _:
                assert_never(kind)

    def count(self, kind: EventType, at_ms: int, agent_class: str | None) -> None:
        """Count an event; what comes out does not depend on the order in which events come."""
        human = int(is_human(agent_class))
        match kind:
            case EventType.SEND | EventType.REJECT:
                return
            case EventType.DELIVERY:
                self.delivered_ms = at_ms if self.delivered_ms is None else min(self.delivered_ms, at_ms)
            case EventType.BOUNCE:
                self.bounced_ms = at_ms if self.bounced_ms is None else min(self.bounced_ms, at_ms)
            case EventType.DELIVERY_DELAY:
                self.delays += 1
            case EventType.OPEN:
                self.opens += 1
                self.human_opens += human
            case EventType.CLICK:
                self.clicks += 1
                self.human_clicks += human
            case _:
                assert_never(kind)
        self.is_changed = True

    def counters(self) -> dict[str, int | None]:
        """Return the counters by the names of their columns."""
        return {name: getattr(self, name) for name in _COUNTERS}


def is_wanted(table: sa.Table) -> sa.ColumnElement[bool]:
    """Join a table of copies with the copies that `wanted` passes to a statement that selects from `WANTED`."""
    message, suffix = (sa.func.json_extract(WANTED.c.value, f"$[{place}]") for place in (0, 1))
    return (table.c.message == message) & (table.c.suffix == suffix)


def wanted(ids: Iterable[CopyId]) -> dict[str, str]:
    """Return the statement's parameter: the keys as one JSON text."""
    return {"wanted": json.dumps([key(one) for one in ids])}


_LOAD: Final = sa.select(copy).join_from(WANTED, copy, is_wanted(copy))


def load(connection: sa.Connection, ids: Iterable[CopyId]) -> dict[CopyId, CopyRow]:
    """Read the rows of those copies that are known."""
    found = [CopyRow.of(row) for row in connection.execute(_LOAD, wanted(ids)).mappings()]
    return {row.facts.copy: row for row in found}


def write(connection: sa.Connection, rows: Collection[CopyRow]) -> None:
    """Insert the new ones and update the changed ones."""
    new = [row for row in rows if row.is_new]
    changed = [row for row in rows if row.is_changed and not row.is_new]
    if new:
        connection.execute(copy.insert(), [_columns(row) for row in new])
    if changed:
        connection.execute(_UPDATE, [_keys(row) | row.counters() for row in changed])


@lru_cache(maxsize=4096)
def key(one: CopyId) -> tuple[str, str]:
    """Return how the tables name a copy: its message's id and its own suffix in hexadecimal."""
    return str(one.message), one.suffix.hex()


def copy_id(message: str, suffix: str) -> CopyId:
    """Return the id that `key` was made of."""
    return CopyId(MessageId.parse(message), bytes.fromhex(suffix))


def _keys(row: CopyRow) -> dict[str, Any]:
    message, suffix = key(row.facts.copy)
    return {"key_message": message, "key_suffix": suffix}


def _columns(row: CopyRow) -> dict[str, Any]:
    message, suffix = key(row.facts.copy)
    facts = row.facts
    return {
        "message": message,
        "suffix": suffix,
        "recipient": facts.recipient,
        "tracks_opens": facts.opens,
        "tracks_clicks": facts.clicks,
        **row.counters(),
    }
