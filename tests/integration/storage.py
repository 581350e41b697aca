"""A storage with its journal in a folder, and the plain recount that its counters are compared with."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.unit.happenings import after
from tracker.contract.consent import Persons
from tracker.contract.events import JournalRecord
from tracker.journal.reader import JournalReader
from tracker.journal.writer import Journal
from tracker.store.bodies import Bodies
from tracker.store.database import Store, reading
from tracker.store.ingest import Ingester
from tracker.store.schema import dead_letter, event

HOSTNAME = "relay1.shop.example"
PERSONS = Persons(b"the key of these tests")


@dataclass
class Node:
    """A folder with a journal of one slot and a storage; `now` is its clock."""

    folder: Path
    journal: Journal
    store: Store
    now: datetime = field(default_factory=lambda: after(3600))
    commits: int = 0

    @property
    def database(self) -> Path:
        return self.folder / "mailwake.db"

    def ingester(self, destinations: Collection[str] = (), on_commit: Callable[[], None] | None = None) -> Ingester:
        """Make an ingester as a fresh process would."""

        def count() -> None:
            self.commits += 1
            if on_commit is not None:
                on_commit()

        return Ingester(
            reader=JournalReader(self.folder / "journal", slot_is_free=lambda slot: False),
            store=self.store,
            clock=lambda: self.now,
            hostname=HOSTNAME,
            keep=timedelta(days=1),
            destinations=destinations,
            on_commit=count,
            persons=PERSONS,
            poll_s=0.02,
            gather_s=0,
            retry_after_s=(0.02,),
        )

    async def take_in(self, *journal_records: JournalRecord, ingester: Ingester | None = None) -> None:
        """Journal the records and take in all there is."""
        await self.journal.emit(journal_records)
        await drain(ingester or self.ingester())

    async def take_in_pieces(self, order: Sequence[JournalRecord], cuts: Sequence[int], pause_s: float) -> None:
        """Take in records piece by piece, with a pause after each, and at last what waited for its message."""
        ingester = self.ingester()
        for cut in [*cuts, len(order)]:
            await self.take_in(*order[:cut], ingester=ingester)
            order = order[cut:]
            self.now += timedelta(seconds=pause_s)
        self.now += timedelta(seconds=61)
        await drain(ingester)

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Ask the file itself, past our own code."""
        with closing(sqlite3.connect(self.database)) as connection:
            return connection.execute(query, values).fetchall()

    def bodies(self) -> list[dict[str, Any]]:
        """The log's records, in its order."""
        return [json.loads(body) for body in self.records()]

    def records(self) -> list[str]:
        """The same as they are told, each one line of JSON."""
        with reading(self.database) as connection:
            rows = connection.execute(sa.text("SELECT message, body FROM event ORDER BY seq"))
            return Bodies(connection).all([(message, body) for message, body in rows])


async def give_up(node: Node, destination: str = "crm") -> None:
    """Have each event of the log as a dead letter of a destination, and no event in the log any more."""

    def work(connection: sa.Connection) -> None:
        rows = connection.execute(sa.select(event).order_by(event.c.seq)).mappings().all()
        bodies = Bodies(connection)
        letters = [
            {name: row[name] for name in ("seq", "event_id", "type", "message", "suffix")}
            | {"body": bodies.whole(row["message"], row["body"]), "destination": destination}
            | {"at_ms": int(node.now.timestamp() * 1000), "reason": "400", "attempts": 1}
            for row in rows
        ]
        connection.execute(dead_letter.insert(), letters)
        connection.execute(event.delete())

    await node.store.write(work)


@asynccontextmanager
async def node(folder: Path) -> AsyncIterator[Node]:
    """Open a journal and a storage in the folder."""
    journal = Journal(folder / "journal" / "00")
    await journal.open()
    store = Store(folder / "mailwake.db")
    try:
        yield Node(folder, journal, store)
    finally:
        await journal.close()
        await store.close()


async def drain(ingester: Ingester) -> None:
    """Take in until there is nothing more."""
    while await ingester.advance():
        pass


@asynccontextmanager
async def running(work: Coroutine[object, object, None]) -> AsyncIterator[None]:
    """Run what ends only when it is cancelled, for the length of a block."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition; the test's own time limit is the limit."""
    while not condition():  # noqa: ASYNC110 - what is waited for tells nobody
        await asyncio.sleep(0.005)


def recount(node: Node) -> dict[tuple[str, str], Sequence[int]]:
    """Count the log by the plainest code: delivered, bounced, delays, opens, human opens, clicks, human clicks."""
    counts: dict[tuple[str, str], list[int]] = {key: [0] * 7 for key in node.rows("SELECT message, suffix FROM copy")}
    for message, suffix, kind, agent in node.rows("SELECT message, suffix, type, agent_class FROM event"):
        row = counts.get((message, suffix))
        if row is None:
            continue
        human = agent == "human"
        row[0] |= kind == "delivery"
        row[1] |= kind == "bounce"
        row[2] += kind == "delivery_delay"
        row[3] += kind == "open"
        row[4] += kind == "open" and human
        row[5] += kind == "click"
        row[6] += kind == "click" and human
    return {key: tuple(row) for key, row in counts.items()}


def counted(node: Node) -> dict[tuple[str, str], Sequence[int]]:
    """Read the counters, in the same shape."""
    rows = node.rows(
        "SELECT message, suffix, delivered_ms IS NOT NULL, bounced_ms IS NOT NULL, delays, opens, human_opens, clicks,"
        " human_clicks FROM copy"
    )
    return {(message, suffix): tuple(numbers) for message, suffix, *numbers in rows}


def recount_links(node: Node) -> dict[tuple[Any, ...], tuple[int, int]]:
    """Count the clicks on each link of each known copy, from the log."""
    rows = node.rows(
        "SELECT e.message, e.suffix, e.link_index, count(*), sum(e.agent_class = 'human') FROM event e"
        " JOIN copy c ON (c.message, c.suffix) = (e.message, e.suffix)"
        " WHERE e.type = 'click' GROUP BY 1, 2, 3"
    )
    return {tuple(key): (clicks, human) for *key, clicks, human in rows}


def counted_links(node: Node) -> dict[tuple[Any, ...], tuple[int, int]]:
    """Read the counters of the links, in the same shape."""
    rows = node.rows("SELECT message, suffix, link_index, clicks, human_clicks FROM copy_link")
    return {tuple(key): (clicks, human) for *key, clicks, human in rows}
