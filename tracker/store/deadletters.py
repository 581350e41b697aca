"""What destinations did not take, until it is sent again or erased; and how far behind each destination is.

Each function runs inside a transaction of `Store.read` or `Store.write`.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from datetime import datetime

import sqlalchemy as sa

from tracker.store.publishing import DestinationState, LogEntry, state_of, write_state
from tracker.store.schema import dead_letter, destination_cursor, destination_state, event
from tracker.store.times import from_ms, to_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """An event that a destination did not take; `replay` is true while it is to be sent again."""

    id: int
    entry: LogEntry
    at: datetime
    reason: str
    attempts: int
    replay: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a destination stands.

    `behind` counts the log's events that it has not looked at, `oldest` is when the first of them happened.
    `state` is None where it was never fed, `replaying` how many of its dead letters are to be sent again.
    """

    state: DestinationState | None = None
    behind: int = 0
    oldest: datetime | None = None
    dead_letters: int = 0
    replaying: int = 0


def to_replay(connection: sa.Connection, destination: str, limit: int) -> list[DeadLetter]:
    """Return the dead letters that are to be sent again, oldest first."""
    mine = (dead_letter.c.destination == destination) & dead_letter.c.replay_ms.is_not(None)
    rows = connection.execute(sa.select(dead_letter).where(mine).order_by(dead_letter.c.id).limit(limit))
    return [_letter(row) for row in rows.mappings()]


def letters(connection: sa.Connection, destination: str, limit: int) -> list[DeadLetter]:
    """Return a destination's dead letters, the last ones first."""
    mine = sa.select(dead_letter).where(dead_letter.c.destination == destination)
    rows = connection.execute(mine.order_by(dead_letter.c.id.desc()).limit(limit))
    return [_letter(row) for row in rows.mappings()]


def settle(
    connection: sa.Connection, destination: str, letter: DeadLetter, state: DestinationState, refused: str | None
) -> None:
    """Write down what came of sending a dead letter again: it goes where `refused` is None, else it stays, and why."""
    write_state(connection, destination, state)
    here = dead_letter.c.id == letter.id
    if refused is None:
        connection.execute(dead_letter.delete().where(here))
        return
    again = {"reason": refused, "attempts": letter.attempts + 1, "replay_ms": None}
    connection.execute(dead_letter.update().where(here).values(**again))


def ask_again(
    connection: sa.Connection,
    destination: str,
    *,
    at: datetime,
    ids: Collection[int] | None = None,
    since: datetime | None = None,
) -> int:
    """Have dead letters sent again by whoever feeds the destination: these, or those given up since then, or all.

    Returns how many they are.
    """
    chosen = dead_letter.c.destination == destination
    if ids is not None:
        chosen &= dead_letter.c.id.in_(ids)
    if since is not None:
        chosen &= dead_letter.c.at_ms >= to_ms(since)
    return connection.execute(dead_letter.update().where(chosen).values(replay_ms=to_ms(at))).rowcount


def lags(connection: sa.Connection, destinations: Iterable[str]) -> dict[str, Standing]:
    """Return how far behind each of the destinations is, and no more of where it stands: it is asked each second."""
    end = connection.execute(sa.select(sa.func.max(event.c.seq))).scalar() or 0
    cursors = {row.destination: row.seq for row in connection.execute(sa.select(destination_cursor))}
    found = {}
    for name in destinations:
        seq = cursors.get(name, end)
        oldest = _oldest(connection, seq) if seq < end else None
        found[name] = Standing(behind=max(end - seq, 0), oldest=oldest)
    return found


def standings(connection: sa.Connection, destinations: Iterable[str]) -> dict[str, Standing]:
    """Return where each of the destinations stands."""
    states = {row["destination"]: state_of(row) for row in connection.execute(sa.select(destination_state)).mappings()}
    count = sa.select(dead_letter.c.destination, sa.func.count(), sa.func.count(dead_letter.c.replay_ms))
    counted = connection.execute(count.group_by(dead_letter.c.destination))
    dead = {name: {"dead_letters": of_all, "replaying": marked} for name, of_all, marked in counted}
    return {
        name: replace(standing, state=states.get(name), **dead.get(name, {}))
        for name, standing in lags(connection, destinations).items()
    }


def _oldest(connection: sa.Connection, after: int) -> datetime | None:
    query = sa.select(event.c.at_ms).where(event.c.seq > after).order_by(event.c.seq).limit(1)
    at_ms = connection.execute(query).scalar()
    return None if at_ms is None else from_ms(at_ms)


def _letter(row: sa.RowMapping) -> DeadLetter:
    return DeadLetter(
        id=row["id"],
        entry=LogEntry(
            seq=row["seq"],
            event_id=row["event_id"],
            type=row["type"],
            configuration_set=None,
            agent_class=None,
            body=row["body"],
        ),
        at=from_ms(row["at_ms"]),
        reason=row["reason"],
        attempts=row["attempts"],
        replay=row["replay_ms"] is not None,
    )
