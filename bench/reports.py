"""How long do a dashboard's questions take, of 100,000 events and of ten million?

A storage of the version before roll-ups is filled with made-up mail of thirty days: six configuration sets, twenty
sender domains, 40 campaigns, two links a message out of 2,000, hits from 60 countries, with all four verdicts. Records
are a few hundred bytes, since no question but the last three reads any. It is then opened as it would be after an
upgrade, so the roll-ups are those that the migration makes of the rows, and tests hold those to be the ones that ingest
keeps (only which device a hit came from is spread evenly here: old hits have none). Each question is asked seven times,
by a connection of its own each.

`times_longer` is the median of the largest storage over that of the smallest.

    python -m bench.reports [EVENTS...]
"""

import asyncio
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from bench._measure import write
from tracker.store import dashboard, database, reports
from tracker.store.database import Store, reading
from tracker.store.times import to_ms

DAYS = 30
END = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)
ASKED = 7
_EVENTS_A_MESSAGE = 2.78
_BYTES_AN_EVENT = 2000  # on disk, with what a migration needs beside it, generously
_DEVICES = ("desktop", "mobile", "tablet", "other")


def main() -> None:
    """Measure, and write bench/results/reports.json."""
    sizes = [int(size) for size in sys.argv[1:]] or [100_000, 10_000_000]
    found = {}
    for size in sizes:
        folder = Path(tempfile.mkdtemp(prefix="mailwake-bench-"))
        try:
            needed_bytes = size * _BYTES_AN_EVENT
            if shutil.disk_usage(folder).free < 2 * needed_bytes:
                sys.exit(f"{folder}: {needed_bytes / 1e9:.0f} GB are needed, and as much again shall stay free")
            found[size] = asyncio.run(_measure(folder / "mailwake.db", size))
        finally:
            shutil.rmtree(folder)
    least, most = found[min(sizes)]["median_ms"], found[max(sizes)]["median_ms"]
    result = {
        "sqlite": sqlite3.sqlite_version,
        "storages": {str(size): figures for size, figures in found.items()},
        "times_longer": {name: round(most[name] / least[name], 1) for name in most},
        "slowest_ms": max(most.values()),
    }
    write("reports", result, ["sqlalchemy"])


async def _measure(path: Path, size: int) -> dict[str, Mapping[str, float]]:
    start_s = time.perf_counter()
    events = _fill(path, size)
    filled_s = time.perf_counter()
    store = Store(path)
    await store.read(lambda _: None)
    await store.close()
    migrated_s = time.perf_counter()
    message = _spread_devices(path)
    questions = _questions(message)
    medians = {name: _ask(path, question) for name, question in questions.items()}
    return {
        "median_ms": medians,
        "storage": {
            "events": events,
            "bytes": path.stat().st_size,  # noqa: ASYNC240 - nothing else runs
            "fill_s": round(filled_s - start_s, 1),
            "migration_s": round(migrated_s - filled_s, 1),
        },
    }


def _questions(message: str) -> dict[str, Callable[[Path, sa.Connection], object]]:
    def ask(function: Callable[..., object], *values: object, **options: object) -> Callable[..., object]:
        return lambda _path, connection: function(connection, *values, **options)

    day, week, month = (END - timedelta(days=days) for days in (1, 7, DAYS))
    return {
        "events of 24 h by hour and verdict": ask(dashboard.events, "hour", since=day),
        "events of 7 d by day and verdict": ask(dashboard.events, "day", since=week),
        "events of 7 d by set and verdict": ask(dashboard.events, "set", since=week),
        "mail of 24 h by hour": ask(dashboard.mail, "hour", since=day),
        "mail of 7 d by hour": ask(dashboard.mail, "hour", since=week),
        "mail of 7 d by day": ask(dashboard.mail, "day", since=week),
        "mail of 30 d by day": ask(dashboard.mail, "day", since=month),
        "mail of 30 d by set": ask(dashboard.mail, "set", since=month),
        "mail of 30 d by domain": ask(dashboard.mail, "domain", since=month),
        "mail of all time by day": ask(dashboard.mail, "day"),
        "top tags of 7 d": ask(dashboard.tags, since=week),
        "values of a tag of 30 d": ask(dashboard.tags, since=month, tag="campaign"),
        "devices of 7 d": ask(dashboard.traits, "device", since=week),
        "countries of 30 d": ask(dashboard.traits, "country", since=month, kind="open"),
        "top 50 links of 7 d": ask(dashboard.links, since=week, limit=50),
        "all links of 30 d": ask(dashboard.links, since=month),
        "latest 50 messages with counts": ask(dashboard.latest_messages),
        "50 messages of a week ago with counts": ask(dashboard.latest_messages, before=week),
        "one message": ask(dashboard.message_statistics, message),
        "links of a message": ask(dashboard.message_links, message),
        "recipients of a message": ask(dashboard.recipients, message),
        "events of a message": ask(dashboard.message_events, message),
        "first 200 events": lambda path, _connection: list(islice(reports.events(path, reports.EventFilter()), 200)),
        "200 events since a day ago": lambda path, _connection: list(
            islice(reports.events(path, reports.EventFilter(since=day)), 200)
        ),
    }


def _ask(path: Path, question: Callable[[Path, sa.Connection], object]) -> float:
    taken_ms = []
    for _ in range(ASKED):
        with reading(path) as connection:
            start_s = time.perf_counter()
            answer = question(path, connection)
            taken_ms.append((time.perf_counter() - start_s) * 1000)
        if not answer:
            sys.exit("a question has no answer")
    return round(statistics.median(taken_ms), 2)


def _fill(path: Path, size: int) -> int:
    """Make a storage of version 0003 with about so many events; return how many."""
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(Path(database.__file__).with_name("migrations")))
        command.upgrade(config, "0003")
    engine.dispose()
    messages = round(size / _EVENTS_A_MESSAGE)
    step_ms = DAYS * 86_400_000 / messages
    start_ms = to_ms(END) - DAYS * 86_400_000
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for pragma in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -400000", "temp_store = FILE"):
            connection.execute(f"PRAGMA {pragma}")
        indexes = connection.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql <> ''"
        ).fetchall()
        for name, _sql in indexes:
            connection.execute(f"DROP INDEX {name}")
        connection.execute("BEGIN")
        for first in range(0, messages, 50_000):
            last = min(first + 50_000, messages)
            for statement in _STATEMENTS:
                values = {"first": first, "last": last, "start": start_ms, "step": step_ms}
                used = {name: value for name, value in values.items() if f":{name}" in statement}
                connection.execute(statement, used)
        for _name, sql in indexes:
            connection.execute(sql)
        connection.execute("COMMIT")
        (events,) = connection.execute("SELECT count(*) FROM event").fetchone()
    return int(events)


def _spread_devices(path: Path) -> str:
    """Give the hits devices; return a message with clicks."""
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT * FROM roll_up_hit WHERE trait = 'device'").fetchall()
        connection.execute("DELETE FROM roll_up_hit WHERE trait = 'device'")
        spread = [
            (day, trait, device, *rest, count // 4) for day, trait, _, *rest, count in rows for device in _DEVICES
        ]
        connection.executemany("INSERT INTO roll_up_hit VALUES (?, ?, ?, ?, ?, ?, ?)", spread)
        connection.commit()
        (message,) = connection.execute("SELECT message FROM copy WHERE clicks > 1 LIMIT 1").fetchone()
    return str(message)


# A number's multiples of large primes stand for chance: the same in each run.
_NUMBERS = "WITH RECURSIVE n(n) AS (SELECT :first UNION ALL SELECT n + 1 FROM n WHERE n + 1 < :last)"
_ID = "printf('01k%023d', n)"
_AT = "CAST(:start + n * :step AS INTEGER)"
_SET = "'set' || (n % 6)"
_DOMAIN = "'shop' || (n * 7919 % 20) || '.example'"
_IS_OPENED = "(n * 104729 % 100 < 60)"
_IS_CLICKED = "(n * 104729 % 100 < 20)"
_CLASS = """CASE n * 1299709 % 10 WHEN 0 THEN 'machine' WHEN 1 THEN 'privacy_proxy' WHEN 2 THEN 'probable'
    ELSE 'human' END"""
_IS_HUMAN = "(n * 1299709 % 10 > 2)"
_HIT = """CAST('{"at":"2026-11-03T08:00:00Z","address":"198.51.100.0","user_agent":"Mozilla/5.0 (X11; Linux x86_64)",'
    || '"country":"C' || (n * 15485863 % 60) || '","count":1}' AS BLOB)"""
_HIT_DELAY = "(60000 + n * 15485863 % 7200000)"


def _event(kind: str, at: str, where: str, *, agent: str = "NULL", link: str = "NULL", hit: str = "NULL") -> str:
    number = f"printf('{kind[:2]}%024d', n)"
    body = f"""'{{"eventType":"{kind}","mail":{{"messageId":"' || {_ID} || '","subject":"{"x" * 240}"}}}}'"""
    return f"""{_NUMBERS} INSERT INTO event (event_id, type, at_ms, message, suffix, configuration_set, from_domain,
    first, agent_class, link_index, hit, body) SELECT {number}, '{kind}', {at}, {_ID}, '000000000001',
    {_SET}, {_DOMAIN}, 1, {agent}, {link}, {hit}, {body} FROM n WHERE {where}"""


_STATEMENTS = (
    f"""{_NUMBERS} INSERT INTO message SELECT {_ID}, {_AT}, {_SET}, {_DOMAIN}, 1, CAST(
    '{{"kind":"accepted","facts":{{"message":"' || {_ID} || '","tags":[["campaign","c' || (n * 31 % 40) || '"],
    ["kind","k' || (n % 3) || '"]]}},"copies":[]}}' AS BLOB) FROM n""",
    f"""{_NUMBERS} INSERT INTO copy SELECT {_ID}, '000000000001', 'r' || n || '@client.example', 1, 1,
    CASE WHEN n % 50 THEN {_AT} + 2000 END, CASE WHEN n % 50 = 0 THEN {_AT} + 2000 END, 0, {_IS_OPENED},
    {_IS_OPENED} AND {_IS_HUMAN}, 2 * {_IS_CLICKED}, 2 * ({_IS_CLICKED} AND {_IS_HUMAN}) FROM n""",
    *(
        f"""{_NUMBERS} INSERT INTO link SELECT {_ID}, {index}, 'https://shop.example/p/' || ((n * 3 + {index}) % 2000)
        FROM n"""
        for index in (0, 1)
    ),
    f"""{_NUMBERS} INSERT INTO copy_link SELECT {_ID}, '000000000001', 0, 2, 2 * {_IS_HUMAN} FROM n
    WHERE {_IS_CLICKED}""",
    _event("send", _AT, "true"),
    _event("delivery", f"{_AT} + 2000", "n % 50"),
    _event("bounce", f"{_AT} + 2000", "n % 50 = 0"),
    _event("open", f"{_AT} + {_HIT_DELAY}", _IS_OPENED, agent=_CLASS, hit=_HIT),
    _event("click", f"{_AT} + {_HIT_DELAY} + 5000", _IS_CLICKED, agent=_CLASS, link="0", hit=_HIT),
)


if __name__ == "__main__":
    main()
