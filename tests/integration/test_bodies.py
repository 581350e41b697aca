"""Records are kept without what a message's events share, and told as if they were not."""

import json
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.integration.storage import HOSTNAME, PERSONS, drain, node
from tests.unit.happenings import accepted, after, bounce, clicked, copy_id, delivery, message_id, opened
from tracker.contract import records, ses
from tracker.core.redaction import Redaction
from tracker.store import bodies
from tracker.store.personal import kept
from tracker.store.publishing import enter, read_on
from tracker.store.reports import EventFilter, events

TWO = ("ana@client.example", "ben@client.example")


async def test_a_record_is_told_as_it_was_made_and_kept_without_the_header(tmp_path: Path) -> None:
    """Every reader gets the very bytes of the whole record; the log has no header field of it."""
    message = accepted(1, TWO)
    mail = ses.Mail(message.facts, 2)
    sends = [ses.encode_send(mail, one).decode() for one in message.copies]
    happened: list[ses.CopyEvent] = [delivery(1, 0), bounce(1, 1)]
    outcomes = [
        ses.encode(event, ses.About(mail, message.copies[index], True), hostname=HOSTNAME).decode()
        for index, event in enumerate(happened)
    ]
    async with node(tmp_path) as here:
        await here.store.write(lambda connection: enter(connection, ["archive"]))
        await here.take_in(message, delivery(1, 0), bounce(1, 1))
        page = await here.store.read(lambda connection: read_on(connection, "archive", 10))
        mine = await here.store.read(lambda connection: kept(connection, PERSONS, TWO[0]))

        assert [entry.body for entry in page.entries] == [*sends, *outcomes]
        assert list(events(here.database, EventFilter())) == [*sends, *outcomes]
        assert [bytes(raw).decode() for raw in mine["events"]] == [sends[0], outcomes[0]]
        stored = [body for (body,) in here.rows("SELECT body FROM event")]
        assert not any('"headers"' in body for body in stored)
        assert [list(json.loads(body)["mail"]) for body in stored] == [["destination"]] * 4


async def test_a_row_of_an_earlier_version_is_whole_as_it_is(tmp_path: Path) -> None:
    """A body without a line end is told as it stands, whatever the message's row says by now."""
    async with node(tmp_path) as here:
        await here.take_in(accepted(), delivery(), opened(1))
        told = here.records()
        whole = [{"number": number, "whole": body} for number, body in enumerate(told, start=1)]
        statement = sa.text("UPDATE event SET body = :whole WHERE seq = :number")
        await here.store.write(lambda connection: connection.execute(statement, whole).rowcount)

        assert here.rows("SELECT count(*) FROM event WHERE body LIKE '%' || char(10) || '%'") == [(0,)]
        assert list(events(here.database, EventFilter())) == told


async def test_a_record_outlives_its_message(tmp_path: Path) -> None:
    """Its `mail` is then what the id alone tells, and whom the event was about."""
    async with node(tmp_path) as here:
        await here.take_in(accepted(), clicked(1))
        await here.store.write(lambda connection: connection.execute(sa.text("DELETE FROM message")).rowcount)

        told = [json.loads(line) for line in events(here.database, EventFilter())]
        assert [list(record["mail"]) for record in told] == [
            ["timestamp", "messageId", "sendingAccountId", "destination", "tags"]
        ] * 2
        assert told[1]["mail"]["messageId"] == str(message_id(1))
        assert told[1]["mail"]["destination"] == ["ana@client.example"]


async def test_an_event_that_is_there_already_is_looked_for_then(tmp_path: Path) -> None:
    """In the middle of new ones, and of an event that the log has without its message: each is there once."""
    async with node(tmp_path) as here:
        await here.take_in(accepted(1), delivery(1), opened(1))
        here.now = after(4000)
        await here.take_in(opened(7, message=2))
        here.now = after(9000)
        await drain(here.ingester())  # it has waited in vain
        await here.take_in(opened(2), delivery(1), opened(1), opened(7, message=2), opened(3))

        found = here.rows("SELECT type, count(*) FROM event GROUP BY type ORDER BY type")
        assert found == [("delivery", 1), ("open", 4), ("send", 1)]
        assert here.rows("SELECT count(*) FROM aside") == [(0,)]
        assert here.rows("SELECT count(*) FROM pending") == [(0,)]
        assert here.rows("SELECT opens FROM copy") == [(3,)]


@pytest.mark.parametrize("address", ["ana@client.example", "nobody@client.example"])
def test_a_redacted_body_is_still_an_own_part(address: str) -> None:
    """Whoever takes an address out of it leaves the two line ends where they were."""
    message = accepted(1, TWO)
    mail = ses.Mail(message.facts, 2)
    own = ses.own_send(mail, message.copies[0], ses.send_id(copy_id(1, 0))).decode()

    found = bodies.redacted(Redaction(address), own)
    assert found.count("\n") == 2
    assert (found == own) == (address != TWO[0])
    assert (
        json.loads(mail.whole(found.encode()))["mail"]["headers"]
        == json.loads(records.encode(message))["facts"]["headers"]
    )
    assert (TWO[0] in found) == (address != TWO[0])


def test_a_whole_record_stays_whole() -> None:
    """Nothing is put into a record that has no line ends."""
    message = accepted(1)
    mail = ses.Mail(message.facts, 1)
    whole = ses.encode_send(mail, message.copies[0])

    assert b"\n" not in whole
    assert mail.whole(whole) == whole
