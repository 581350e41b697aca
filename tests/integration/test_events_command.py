"""`mailwake events`: every filter with every other, followed or not, for people and for programs, and fast."""

import asyncio
import json
import re
import shutil
import sqlite3
import subprocess
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sqlalchemy.dialects import sqlite

from relay.cli.following import readable
from relay.cli.main import main
from tests.integration.serving import COMMAND, CONFIG, LIMIT_S, configure, environment
from tests.integration.storage import Node, node
from tests.unit.happenings import (
    ACCEPTED_AT,
    accepted,
    after,
    bounce,
    clicked,
    delay,
    delivery,
    message_id,
    opened,
)
from tracker.contract.events import Rejected
from tracker.store import reports
from tracker.store.reports import EventFilter, page_query

TWO = ("ana@client.example", "ben@client.example")
CARL = "carl@client.example"


async def _fill(here: Node) -> None:
    """Two messages, all types of events, and one message that was refused."""
    refused = accepted(3, (CARL,))
    await here.take_in(
        accepted(1, TWO),
        accepted(2, TWO),
        delivery(1, 0),
        delay(1, 1),
        bounce(2, 1),
        opened(1),
        opened(2, signals=("ua_scanner:proofpoint",)),
        clicked(3),
        clicked(4, message=2, recipient=1),
        Rejected(facts=refused.facts, copies=refused.copies, reply="550 5.7.1 This login may not send"),
    )


@pytest.mark.parametrize(
    "wanted, types",
    [
        (EventFilter(recipient=CARL), ["Reject"]),
        (EventFilter(recipient=CARL, types=frozenset({"reject"}), message=str(message_id(3))), ["Reject"]),
        (EventFilter(recipient=CARL, types=frozenset({"send"})), []),
        (EventFilter(recipient=TWO[1], message=str(message_id(2))), ["Send", "Bounce", "Click"]),
        (EventFilter(recipient=TWO[1], message=str(message_id(2)), types=frozenset({"click"})), ["Click"]),
        (EventFilter(recipient=TWO[0], types=frozenset({"open"}), since=after(1000)), ["Open", "Open"]),
        (EventFilter(message=str(message_id(2)), since=after(1000)), ["Click"]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("is_followed", [False, True])
async def test_filters_hold_together(
    tmp_path: Path, wanted: EventFilter, types: list[str], *, is_followed: bool
) -> None:
    """Followed or not: what is followed from a time on begins with what there was since."""

    def stop(_seconds: float) -> None:
        raise KeyboardInterrupt

    async with node(tmp_path) as here:
        await _fill(here)
        found: list[str] = []
        if is_followed:
            begun = replace(wanted, since=wanted.since or ACCEPTED_AT - timedelta(days=1))
            with pytest.raises(KeyboardInterrupt):
                found.extend(reports.follow(here.database, begun, wait=stop))
        else:
            found.extend(reports.events(here.database, wanted))

    assert [json.loads(line)["eventType"] for line in found] == types


async def test_a_storage_that_is_made_anew_is_followed_from_its_beginning(tmp_path: Path) -> None:
    """Its numbers begin again, and are not taken for old ones."""
    async with node(tmp_path / "large") as here:
        await _fill(here)
    followed = tmp_path / "mailwake.db"
    shutil.copy(tmp_path / "large" / "mailwake.db", followed)
    waits = iter(range(10))

    def wait(_seconds: float) -> None:
        number = next(waits)
        if number == 1:
            with closing(sqlite3.connect(followed)) as connection:
                connection.execute("DELETE FROM event WHERE seq > 1")
                connection.commit()
        elif number == 3:
            with closing(sqlite3.connect(followed)) as connection:
                connection.execute(
                    "INSERT INTO event (seq, event_id, type, at_ms, message, suffix, body)"
                    " VALUES (2, 'x', 'open', 0, 'm', 's', 'new')"
                )
                connection.commit()

    assert next(reports.follow(followed, EventFilter(), wait=wait)) == "new"


@pytest.mark.parametrize(
    "wanted",
    [
        EventFilter(message=str(message_id(1))),
        EventFilter(recipient=TWO[0]),
        EventFilter(recipient=TWO[0], types=frozenset({"open", "reject"}), since=after(10)),
        EventFilter(),
    ],
)
async def test_no_page_reads_the_log_from_its_beginning(tmp_path: Path, wanted: EventFilter) -> None:
    """SQLite's plan searches by an index or from a place on, and never scans the events."""
    compiled = str(page_query(wanted, 5).compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True}))
    async with node(tmp_path) as here:
        await _fill(here)
        plan = [detail for *_, detail in here.rows(f"EXPLAIN QUERY PLAN {compiled}")]

    scans = [step for step in plan if step.startswith("SCAN event") and "ix_event_reject" not in step]
    assert scans == []
    searches = [step for step in plan if step.startswith("SEARCH event")]
    assert searches
    if wanted.message or wanted.recipient:
        assert not any("rowid>?" in step for step in searches)


async def test_a_click_without_an_open_makes_no_open_up(tmp_path: Path) -> None:
    """Images are mostly off; whoever counts opens would count clicks twice."""
    async with node(tmp_path) as here:
        await here.take_in(accepted(), clicked(1), clicked(2))
        kinds = [body["eventType"] for body in here.bodies()]
        firsts = [body["mailwake"]["first"] for body in here.bodies()]

        assert (kinds, firsts) == (["Send", "Click", "Click"], [True, True, False])
        assert here.rows("SELECT opens, clicks FROM copy") == [(0, 2)]


async def test_lines_are_for_people(tmp_path: Path) -> None:
    """Time, type, recipient, message, verdict, and what is special to the type."""
    async with node(tmp_path) as here:
        await _fill(here)
        lines = [re.split(r" {2,}", readable(body)) for body in here.bodies()]

    told = {line[1]: line for line in lines if line[2] == TWO[0]}
    assert told["Open"][4] == "machine (ua_scanner:proofpoint)"
    assert told["Click"][3:] == [str(message_id(1)), "human", "https://shop.example/p?id=7&ref=mail"]
    assert told["Delivery"][-1] == "250 2.0.0 Ok: queued as 4F2C"
    assert told["Send"][-1] == "not tracked: 1 list_unsubscribe, 2 scheme"
    others = {line[1]: line for line in lines if line[2] != TWO[0]}
    assert others["Bounce"][-2:] == ["Permanent/NoEmail", "smtp; 550 5.1.1 no such user"]
    assert others["DeliveryDelay"][-2:] == ["General", "smtp; 421 4.4.1 try later"]
    assert others["Reject"][-1] == "550 5.7.1 This login may not send"
    assert all(len(line[0]) == len("2026-11-03T08:15:02.101Z") for line in lines)


def test_a_line_keeps_hostile_text_in_its_place() -> None:
    """A user agent or reply cannot move the cursor or begin a line of its own; hits that were folded are told."""
    record = {
        "eventType": "Click",
        "mail": {"timestamp": "t", "messageId": "m", "destination": []},
        "click": {"link": "https://x.example/\x1b[2J\nfake"},
        "mailwake": {"agent": {"class": "human", "reasons": []}, "count": 12},
    }

    assert readable(record) == "t  Click          -  m  human, 12 times  https://x.example/?[2J?fake"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration whose storage has some thousand events."""
    made = tmp_path_factory.mktemp("events")

    async def fill() -> None:
        async with node(made / "var") as here:
            await _fill(here)
            await here.take_in(*(opened(number, at=datetime.now(UTC)) for number in range(100, 1600)))

    asyncio.run(fill())
    configure(made, CONFIG)
    return made


def _events(folder: Path, *options: str) -> Result:
    return CliRunner().invoke(main, ["events", *options, "--config", str(folder / "config.toml")])


def test_the_command_filters_and_says_whether_there_was_anything(folder: Path) -> None:
    """0 where there was, 1 where not, 2 for what cannot be asked; JSON is one record a line."""
    found = _events(folder, "--json", "--type", "DeliveryDelay,BOUNCE", "--recipient", "ben@CLIENT.example")
    assert found.exit_code == 0
    assert [json.loads(line)["eventType"] for line in found.stdout.splitlines()] == ["DeliveryDelay", "Bounce"]

    assert len(_events(folder, "--since", "1h").stdout.splitlines()) == 1500
    none = _events(folder, "--message", "nothing")
    assert (none.exit_code, none.stdout, none.stderr) == (1, "", "")
    unknown = _events(folder, "--type", "opened")
    assert unknown.exit_code == 2
    assert "opened: choose from send, delivery" in unknown.stderr


def test_who_reads_may_stop_reading(folder: Path) -> None:
    """`mailwake events | head -1` says nothing and fails nothing."""
    command = [*COMMAND, "events", "--config", str(folder / "config.toml")]
    with subprocess.Popen(
        command, cwd=folder, env=environment({}), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert "Send" in process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read()
        assert process.wait(LIMIT_S) == 0

    assert said == ""
