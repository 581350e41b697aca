"""How many events a second go from the journal into the storage, with all that statistics need?

A journal as the real writer leaves it, and the real ingester, all of it on one core: records read and checked, joined
with their message, judged, written with their indexes, counted in every roll-up, each batch durable
(`synchronous=FULL`) before the cursor moves. Each round begins with an empty storage.

The mail: 11 header fields, 8 links, 3 tags, six sets, eight sender domains. Of 100 copies all are delivered, 60 are
opened and 18 clicked, by some thousand user agents, mixed with later mail. Measured for two kinds of mail: `several`
messages have one to ten recipients each; of `single` ones, one of sixty goes to 20
recipients and the others to one. The second costs more for each event: each has a message of its own, nearly.

`mb_per_s` is what is stored of the records. `loop_ms` is what a million turns of an empty loop took between the rounds:
where it lies far apart, others had the processor, too.

    python -m bench.ingest [ROUNDS] [COPIES] [DIRECTORY]
"""

import asyncio
import gc
import os
import random
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Literal

from bench._measure import summary, write
from tracker.contract.events import (
    Accepted,
    Click,
    CopyFacts,
    Delivery,
    HeaderField,
    Hit,
    JournalRecord,
    MessageFacts,
    Open,
    TrackedLink,
)
from tracker.contract.ids import CopyId, EventId, MessageId
from tracker.journal.reader import JournalReader
from tracker.journal.writer import Journal
from tracker.store.database import Store
from tracker.store.ingest import Ingester

START = datetime(2026, 11, 3, 8, 0, tzinfo=UTC)
SETS = ("news", "promo", "orders", "alerts", "welcome", None)
Mix = Literal["several", "single"]
_COPIES_OF_A_MESSAGE: Final = {"several": 5.5, "single": 79 / 60}
_GROUP = 40  # records that one `emit` makes durable together
_LATE = 3000  # so many records lie between a copy's delivery and its last hit, at most


def main() -> None:
    """Measure, and write bench/results/ingest.json."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    copies = int(sys.argv[2]) if len(sys.argv) > 2 else 40_000
    folder = Path(tempfile.mkdtemp(prefix="mailwake-bench-", dir=sys.argv[3] if len(sys.argv) > 3 else None))
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    try:
        write("ingest", asyncio.run(_measure_all(rounds, copies, folder)), ["msgspec", "sqlalchemy"])
    finally:
        shutil.rmtree(folder)


async def _measure_all(rounds: int, copies: int, folder: Path) -> dict[str, object]:
    several = await _measure(rounds, copies, "several", folder / "several")
    single = await _measure(rounds, copies, "single", folder / "single")
    return {"sqlite": sqlite3.sqlite_version, "several": several, "single": single}


async def _measure(rounds: int, copies: int, mix: Mix, folder: Path) -> dict[str, object]:
    messages = int(copies / _COPIES_OF_A_MESSAGE[mix])
    records = list(make_records(messages, random.Random(5), mix))
    gc.collect()
    gc.freeze()  # the process that ingests does not hold what it has written to the journal
    journal = Journal(folder / "journal" / "00")
    await journal.open()
    for start in range(0, len(records), _GROUP):
        await journal.emit(records[start : start + _GROUP])
    await journal.close()
    taken = [await _round(folder, number) for number in range(rounds)]
    return {
        "load": f"{len(records)} records of {messages} messages; {rounds} rounds, one core",
        "figures": {name: summary([one[name] for one in taken], 1) for name in taken[0]},
        "events_per_s": summary([one["events_per_s"] for one in taken], 0)["median"],
    }


async def _round(folder: Path, number: int) -> dict[str, float]:
    path = folder / str(number) / "mailwake.db"
    store = Store(path)
    await store.read(lambda _: None)  # the tables are made before the clock starts
    ingester = Ingester(
        reader=JournalReader(folder / "journal", slot_is_free=lambda _: True),
        store=store,
        clock=lambda: datetime.now(UTC),
        hostname="relay1.shop.example",
        keep=timedelta(days=1),
    )
    before_s, before_cpu_s = time.perf_counter(), time.process_time()
    while await ingester.advance():
        pass
    took_s, cpu_s = time.perf_counter() - before_s, time.process_time() - before_cpu_s
    await store.close()
    with closing(sqlite3.connect(path)) as connection:
        events, size = connection.execute("SELECT count(*), sum(length(body)) FROM event").fetchone()
        (aside,) = connection.execute("SELECT count(*) FROM aside").fetchone()
    if aside:
        sys.exit(f"{aside} records were put aside")
    file_bytes = path.stat().st_size
    shutil.rmtree(path.parent)
    return {
        "events": events,
        "events_per_s": events / took_s,
        "cpu_us_per_event": cpu_s / events * 1e6,
        "loop_ms": _loop_ms(),
        "mb_per_s": size / took_s / 1e6,
        "file_bytes_per_event": file_bytes / events,
    }


def _loop_ms() -> float:
    start_s = time.perf_counter()
    for _ in range(1_000_000):
        pass
    return (time.perf_counter() - start_s) * 1000


def make_records(messages: int, chance: random.Random, mix: Mix = "single") -> Iterator[JournalRecord]:
    """Give the records in the order of a journal: what comes later to a message is mixed with later messages."""
    sizes = random.Random(messages)
    agents = [_agent(chance) for _ in range(3000)]
    waiting: list[tuple[int, int, JournalRecord]] = []  # when it is due, counted in records
    place = 0
    for number in range(messages):
        at = START + timedelta(milliseconds=300 * number)
        recipients = sizes.randrange(1, 11) if mix == "several" else 20 if number % 60 == 0 else 1
        accepted = _accepted(number, at, recipients, chance)
        due: list[tuple[int, JournalRecord]] = [(0, accepted)]
        for copy in accepted.copies:
            due += [(chance.randrange(3, 40), _delivery(copy.copy, at + timedelta(seconds=2)))]
            hits = int(chance.random() < 0.6) + int(chance.random() < 0.18) * 2
            for kind in ("open",) * (hits & 1) + ("click",) * (hits >> 1):
                later = at + timedelta(seconds=chance.randrange(90, 7200))
                hit = _hit(later, chance.choice(agents), chance)
                due.append((chance.randrange(40, _LATE), _happened(kind, copy.copy, hit, accepted.facts, chance)))
        waiting += [(place + after, id(record), record) for after, record in due]
        place += len(due)
        if number % 50 == 49 or number == messages - 1:
            waiting.sort(key=lambda one: one[0])
            end = place if number < messages - 1 else sys.maxsize
            ready = [one for one in waiting if one[0] <= end]
            waiting = waiting[len(ready) :]
            yield from (record for *_, record in ready)


def _accepted(number: int, at: datetime, recipients: int, chance: random.Random) -> Accepted:
    message = MessageId.make(unix_ms=int(at.timestamp() * 1000), entropy=chance.randbytes(10))
    domain = f"shop{number % 8}.example"
    subject = f"Your November list, number {number}: lamps, chairs and tables"
    to = tuple(f"reader{number}.{index}@client.example" for index in range(recipients))
    header = {
        "From": f"Shop <news@{domain}>",
        "To": to[0] if recipients == 1 else f"Readers <readers@{domain}>",
        "Subject": subject,
        "Date": "Tue, 3 Nov 2026 08:15:00 +0000",
        "Message-ID": f"<{chance.randbytes(12).hex()}@{domain}>",
        "MIME-Version": "1.0",
        "Content-Type": 'multipart/alternative; boundary="=_b1d4f0a2c3e84d55"',
        "List-Unsubscribe": f"<https://{domain}/unsubscribe?u={chance.randbytes(16).hex()}>, <mailto:stop@{domain}>",
        "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
        "Feedback-ID": f"nov:{number % 40}:newsletter:{domain}",
        "X-Mailer": "Shop campaigns 4.12",
    }
    facts = MessageFacts(
        message=message,
        accepted_at=at,
        source=f"bounce@{domain}",
        source_address="198.51.100.7",
        caller="newsletter",
        from_domain=domain,
        configuration_set=SETS[number % len(SETS)],
        upstream="default",
        headers=tuple(HeaderField(name=name, value=value) for name, value in header.items()),
        from_header=(header["From"],),
        to_header=(header["To"],),
        date_header=header["Date"],
        message_id_header=header["Message-ID"],
        subject=subject,
        tags=(("campaign", f"c{number % 40}"), ("kind", "promo"), ("wave", str(number % 400))),
        links=tuple(
            TrackedLink(
                index=index,
                part="html",
                section="1.2",
                url=f"https://{domain}/p/{(number + index) % 300}?utm_source=mail&place={index}",
                text=f"Look at number {index}",
                tags=(("place", str(index)),),
            )
            for index in range(8)
        ),
        size_bytes=48_000,
    )
    copies = tuple(
        CopyFacts(copy=CopyId(message, chance.randbytes(6)), recipient=one, opens=True, clicks=True) for one in to
    )
    return Accepted(facts=facts, copies=copies)


def _delivery(copy: CopyId, at: datetime) -> Delivery:
    return Delivery(
        event=EventId.of_outcome(copy, "delivery"),
        copy=copy,
        at=at,
        upstream="default",
        reply=f"250 2.0.0 Ok: queued as {copy.suffix.hex()}",
        final=False,
        upstream_message_id=copy.suffix.hex(),
    )


def _happened(kind: str, copy: CopyId, hit: Hit, facts: MessageFacts, chance: random.Random) -> Open | Click:
    event = EventId(chance.randbytes(16))
    if kind == "open":
        return Open(event=event, copy=copy, hit=hit)
    link = chance.choice(facts.links)
    return Click(event=event, copy=copy, hit=hit, link_index=link.index, part="html", url=link.url)


def _hit(at: datetime, agent: str, chance: random.Random) -> Hit:
    signals = chance.choice([(), (), (), ("ua_image_proxy:gmail",), ("ua_privacy_proxy:apple",), ("http_1_0",)])
    country = chance.choice(("DE", "FR", "US", "GB", "PL", ""))
    return Hit(at=at, address=f"198.51.{chance.randrange(256)}.0", user_agent=agent, signals=signals, country=country)


def _agent(chance: random.Random) -> str:
    system = chance.choice(
        ("Windows NT 10.0; Win64; x64", "Macintosh; Intel Mac OS X 10_15_7", "Linux; Android 14; Pixel 8", "X11; Linux")
    )
    version = f"{chance.randrange(90, 141)}.0.{chance.randrange(7000)}.{chance.randrange(200)}"
    return f"Mozilla/5.0 ({system}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{version} Safari/537.36"


if __name__ == "__main__":
    main()
