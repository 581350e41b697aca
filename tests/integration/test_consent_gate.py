"""What ingest leaves out of the journals: hits of who denied, and everything of who was forgotten."""

import json
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import sqlalchemy as sa

from tests.integration.storage import PERSONS, Node, node
from tests.unit.happenings import ACCEPTED_AT, accepted, after, bounce, clicked, copy_id, delivery, opened, probed
from tracker.contract.events import Rejected
from tracker.store import consent, reports
from tracker.store.consent import Told, copies_of, read_silenced, tell
from tracker.store.forget import Forgetting
from tracker.store.schema import silenced

ANA, BO = "ana@client.example", "bo@home.example"
COLLECT_FOR = timedelta(days=60)


async def _deny(here: Node, address: str, at: datetime = ACCEPTED_AT) -> int:
    """Deny as the command does."""

    def work(connection: sa.Connection) -> int:
        person = PERSONS.of(address)
        tell(connection, [Told(person=person, decision="deny", at=at)])
        since_ms = consent.collected_since(at, COLLECT_FOR)
        return consent.silence(connection, copies_of(connection, PERSONS, address, since_ms=since_ms), person)

    return await here.store.write(work)


async def _forget(here: Node, address: str, at: datetime) -> Forgetting:
    """Forget as the command does."""
    work = Forgetting(address, PERSONS, now=at, collect_for=COLLECT_FOR)
    await here.store.write(work.begin)
    copies = await here.store.read(work.copies)
    await here.store.write(partial(work.silence, copies=copies))
    for one in copies:
        await here.store.write(partial(work.redact, message_id=one.message, own=[one.suffix], after=0))
    await here.store.write(partial(work.erase, copies=copies))
    await here.store.write(partial(work.rejects, after=0))
    await here.store.write(partial(work.set_aside, after=0))
    for table, column, text in await here.store.read(work.named_totals):
        await here.store.write(partial(work.rename_total, table=table, column=column, text=text))
    return work


def _types(here: Node) -> list[str]:
    return [kind for (kind,) in here.rows("SELECT type FROM event ORDER BY seq")]


async def test_hits_that_a_journal_holds_of_a_denied_person_are_dropped(tmp_path: Path) -> None:
    """Other events of the copy are kept, and hits of other copies; an allowance lets hits in again."""
    async with node(tmp_path) as here:
        await here.take_in(accepted(recipients=(ANA, BO)), opened(1))
        assert await _deny(here, "ANA@client.example") == 1
        await here.take_in(delivery(), opened(2), clicked(3), probed(4), opened(5, recipient=1))

        assert _types(here) == ["send", "send", "open", "delivery", "open"]
        assert here.rows("SELECT count(*) FROM probe") == [(0,)]
        assert here.rows("SELECT opens FROM copy ORDER BY suffix") == [(1,), (1,)]
        allow = Told(person=PERSONS.of(ANA), decision="allow", at=after(9))
        await here.store.write(lambda connection: tell(connection, [allow]))
        await here.take_in(opened(6))
        assert _types(here)[-1] == "open"


async def test_a_message_that_is_taken_in_after_a_denial_is_silenced(tmp_path: Path) -> None:
    """Its tokens may be older than the denial: also where a hit came before the message, or with it."""
    async with node(tmp_path) as here:
        await here.take_in(opened(1))
        await _deny(here, ANA)
        assert here.rows("SELECT count(*) FROM pending") == [(1,)]
        await here.take_in(clicked(2), accepted(recipients=(ANA, BO)), clicked(3), clicked(4, recipient=1))

        assert _types(here) == ["send", "send", "click"]
        assert here.rows("SELECT count(*) FROM pending") == [(0,)]
        found = await here.store.read(read_silenced)
        assert copy_id() in found
        assert copy_id(recipient=1) not in found


async def test_what_has_no_tokens_or_is_too_old_is_not_silenced(tmp_path: Path) -> None:
    """The memory of a tracker holds what can be recorded, and no more."""
    old = after(3600) - COLLECT_FOR - timedelta(days=2)
    async with node(tmp_path) as here:
        await _deny(here, ANA)
        await here.take_in(accepted(1, opens=False, clicks=False), accepted(2, at=old))

        assert here.rows("SELECT count(*) FROM silenced") == [(0,)]


async def test_copies_of_the_forgotten_are_taken_out_of_later_records(tmp_path: Path) -> None:
    """What a journal tells of mail that was accepted before; its outcomes, too, and not a word of the address."""
    shared = accepted(1, recipients=(BO, ANA))
    facts = shared.facts
    rejected = Rejected(
        facts=accepted(4).facts, copies=accepted(4, recipients=(ANA,)).copies, reply="550 5.7.1 This login may not"
    )
    async with node(tmp_path) as here:
        await _forget(here, "Ana@client.example", after(5))
        await here.take_in(
            opened(9, message=2), shared, accepted(2), rejected, bounce(1, 1), delivery(1, 0), delivery(2)
        )

        assert _types(here) == ["send", "delivery"]
        assert here.rows("SELECT message FROM message") == [(str(facts.message),)]
        assert [body["mail"]["commonHeaders"]["to"] for body in here.bodies()] == [["[forgotten]"]] * 2
        assert ANA not in json.dumps(here.bodies())
        assert here.rows("SELECT count(*) FROM pending") == [(0,)]
        assert here.rows("SELECT count(*) FROM silenced WHERE person IS NULL") == [(2,)]

        await here.take_in(accepted(3, at=after(6)))
        assert len(here.bodies()) == 3


async def test_an_event_that_waits_is_forgotten_with_its_copy(tmp_path: Path) -> None:
    """Whether its message comes or not: what waited for a minute would be logged without it."""
    async with node(tmp_path) as here:
        await here.take_in(opened(1), delivery())
        await _forget(here, ANA, after(5))
        await here.take_in(accepted())
        here.now += timedelta(seconds=61)
        await here.take_in()

        assert here.bodies() == []
        assert here.rows("SELECT count(*) FROM pending") == [(0,)]


async def test_a_denial_stays_with_the_forgotten_and_an_allowance_goes(tmp_path: Path) -> None:
    """Who is forgotten does not come to be tracked by it; where the denial came from is forgotten."""
    async with node(tmp_path) as here:
        for address, decision in ((ANA, "deny"), (BO, "allow")):
            told = Told(person=PERSONS.of(address), decision=decision, at=after(1), source="a letter")  # type: ignore[arg-type]
            await here.store.write(partial(tell, decisions=[told]))
            await _forget(here, address, after(5))

        assert here.rows("SELECT allowed, source FROM consent") == [(0, "")]


async def test_a_second_run_finds_what_a_kill_left(tmp_path: Path) -> None:
    """Copies go last: by them the rest is found."""
    shared = accepted(1, recipients=(ANA, BO))
    async with node(tmp_path) as here:
        await here.take_in(shared, delivery(1, 0), delivery(1, 1))
        killed = Forgetting(ANA, PERSONS, now=after(5), collect_for=COLLECT_FOR)
        await here.store.write(killed.begin)
        await here.store.write(partial(killed.silence, copies=await here.store.read(killed.copies)))
        await _forget(here, ANA, after(6))

        assert len(here.bodies()) == 2
        assert ANA not in json.dumps(here.bodies())


async def test_a_person_is_found_in_every_spelling(tmp_path: Path) -> None:
    """Of case, of quotes, and beyond ASCII, where the database cannot compare; reports ask alike."""
    spellings = ("Ana@client.example", '"ana"@client.example', "ANA@client.example", "anna@client.example")
    async with node(tmp_path) as here:
        await here.take_in(accepted(1, recipients=spellings), accepted(2, recipients=("JÖRG@client.example",)))

        assert len(await here.store.read(lambda connection: copies_of(connection, PERSONS, ANA))) == 3
        assert len(await here.store.read(lambda connection: copies_of(connection, PERSONS, "jörg@client.example"))) == 1
        found = list(reports.events(here.database, reports.EventFilter(recipient="ANA@client.example")))
        assert len(found) == 2
        plan = here.rows("EXPLAIN QUERY PLAN SELECT 1 FROM copy WHERE recipient = 'a@b' COLLATE NOCASE")
        assert "ix_copy_recipient" in plan[0][3]


async def test_an_address_that_was_put_aside_or_waits_as_a_dead_letter_goes(tmp_path: Path) -> None:
    """Tables that others own, and that may not be there."""
    async with node(tmp_path) as here:
        await here.take_in(accepted(1, recipients=(ANA, BO)))
        ids = [event_id for (event_id,) in here.rows("SELECT event_id FROM event ORDER BY seq")]
        bodies = here.records()

        def prepare(connection: sa.Connection) -> None:
            connection.exec_driver_sql("DROP TABLE IF EXISTS dead_letter")
            connection.exec_driver_sql(
                "CREATE TABLE dead_letter (id INTEGER PRIMARY KEY, destination TEXT, event_id TEXT, at_ms INTEGER,"
                " reason TEXT, body TEXT)"
            )
            for event_id, body in zip(ids, bodies, strict=True):
                row = (event_id, body)
                connection.exec_driver_sql("INSERT INTO dead_letter (event_id, body) VALUES (?, ?)", row)
            for raw in (b"{poison of Ana@Client.example}", b"{other}"):
                connection.exec_driver_sql(
                    "INSERT INTO aside (at_ms, slot, error, raw) VALUES (0, '00', 'x', ?)", (raw,)
                )

        await here.store.write(prepare)
        done = await _forget(here, ANA, after(5))

        assert (done.erased.dead_letters, done.erased.set_aside) == (1, 1)
        ((kept_id, kept),) = here.rows("SELECT event_id, body FROM dead_letter")
        assert kept_id == ids[1]
        assert ANA not in kept


async def test_a_copy_of_many_messages_is_found_by_the_tracker(tmp_path: Path) -> None:
    """The compact set says yes to each of its copies and to no other."""
    async with node(tmp_path) as here:
        rows = [
            {"message": str(copy_id(n).message), "suffix": copy_id(n).suffix.hex(), "accepted_ms": 0}
            for n in range(300)
        ]
        await here.store.write(lambda connection: connection.execute(silenced.insert(), rows))
        found = await here.store.read(read_silenced)

        assert len(found) == 300
        assert all(copy_id(number) in found for number in range(300))
        assert not any(copy_id(number, 1) in found for number in range(300))
        assert copy_id(300) not in found


async def test_a_total_that_is_named_by_the_address_is_renamed(tmp_path: Path) -> None:
    """A tag's value may be an address; the numbers stay."""
    async with node(tmp_path) as here:

        def prepare(connection: sa.Connection) -> None:
            connection.exec_driver_sql("DROP TABLE IF EXISTS roll_up_value")
            connection.exec_driver_sql(
                "CREATE TABLE roll_up_value (day, value, PRIMARY KEY (day, value)) WITHOUT ROWID"
            )
            for row in ((1, "Ana@client.example"), (1, "ana@client.example"), (2, ANA), (2, "nov")):
                connection.exec_driver_sql("INSERT INTO roll_up_value VALUES (?, ?)", row)

        await here.store.write(prepare)
        await _forget(here, ANA, after(5))
        assert here.rows("SELECT * FROM roll_up_value") == [(1, "[forgotten]"), (2, "[forgotten]"), (2, "nov")]
