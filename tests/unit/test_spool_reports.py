"""Which reports the runner makes, of what, to whom, and how many."""

import asyncio
import email
import email.policy
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path

import msgspec
import pytest
from prometheus_client import REGISTRY

from relay.core import dsn
from relay.core.attempt import Accepted, Attempt, Transaction, UpstreamReply
from relay.core.dsnrequest import DsnRequest, RecipientRequest
from relay.spool.entry import SpoolEntry
from relay.spool.layout import Row, State
from tests.unit.spool_world import DELIVERED, FAILED, LATER, NO, OK, World, fresh
from tests.unit.spooling import MESSAGE, make_entry

PASSED_ON = Accepted(reply=UpstreamReply(250, "2.0.0 Ok"), reports=True)
SHOP = "shop@shop.example"


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A fresh one."""
    return World(tmp_path / "00")


def asking(entry: SpoolEntry, *notify: str, **message: str) -> SpoolEntry:
    """Return the entry with NOTIFY for each recipient, and RET and ENVID."""
    request = DsnRequest(recipients=tuple(RecipientRequest(notify=each) for each in notify), **message)
    return msgspec.structs.replace(entry, dsn=request)


def reports_of(transactions: Iterable[Transaction]) -> dict[str, str]:
    """Return the action by the address of every report that was sent."""
    found: dict[str, str] = {}
    for transaction in transactions:
        if transaction.recipients == (SHOP,):
            fields = _fields(b"".join(transaction.data))
            found[str(fields["Final-Recipient"]).removeprefix("rfc822; ")] = str(fields["Action"])
    return found


def _fields(raw: bytes) -> EmailMessage:
    report = email.message_from_bytes(raw.partition(b"\r\n")[2], policy=email.policy.default)  # behind the copy's mark
    assert isinstance(report, EmailMessage)
    groups = list(report.iter_parts())[1].get_payload()
    assert isinstance(groups, list)
    assert isinstance(groups[1], EmailMessage)
    return groups[1]


async def run(world: World, entry: SpoolEntry, message: bytes = MESSAGE) -> dict[str, str]:
    """Accept a message, deliver all that comes of it, and return its reports."""
    async with world.running() as runner:
        await world.accept(runner, entry, message)
        await world.until_empty()
    return reports_of(world.sent)


async def test_each_recipient_is_reported_as_was_asked(world: World) -> None:
    """RFC 3461 §4.1, with a final upstream that does not offer DSN: what NOTIFY says, and a failure by default."""
    refused = {"b", "d", "f", "h"}

    def answer(transaction: Transaction) -> list[Attempt]:
        return [NO if recipient[0] in refused else OK for recipient in transaction.recipients]

    world.answer = answer
    entry = fresh(1, *(f"{name}@x.example" for name in "abcdefgh"))
    notify = ("", "", "NEVER", "NEVER", "SUCCESS", "SUCCESS", "SUCCESS,FAILURE", "FAILURE,DELAY")

    assert await run(world, asking(entry, *notify)) == {
        "b@x.example": "failed",
        "e@x.example": "delivered",
        "g@x.example": "delivered",
        "h@x.example": "failed",
    }


async def test_what_was_handed_to_a_server_that_does_not_report_is_relayed(world: World) -> None:
    """RFC 3461 §5.2.2: its delivery is not known here."""
    world.limits = replace(world.limits, final=False)

    assert await run(world, asking(fresh(1), "SUCCESS")) == {"ana@a.example": "relayed"}


async def test_what_an_upstream_with_dsn_took_is_its_own_to_report(world: World) -> None:
    """RFC 3461 §5.2.1; and so after a crash between the outcome and its telling."""
    world.answer = lambda transaction: [PASSED_ON] * len(transaction.recipients)
    assert await run(world, asking(fresh(1), "SUCCESS")) == {}

    await world.leave(asking(fresh(2), "SUCCESS"), replace(DELIVERED, upstream_reports=True))
    async with world.running():
        await world.until_empty()

    assert reports_of(world.sent) == {}
    assert world.kinds().count("Delivery") == 2


async def test_a_refusal_by_an_upstream_with_dsn_is_ours_to_report(world: World) -> None:
    """Whoever refuses takes nothing over."""
    await world.leave(asking(fresh(1), "FAILURE"), replace(FAILED, upstream_reports=True))
    async with world.running():
        await world.until_empty()

    assert reports_of(world.sent) == {"ana@a.example": "failed"}


async def test_an_upstream_is_told_what_was_asked_of_its_recipients(world: World) -> None:
    """Each transaction has the requests of its own recipients; a report asks for no report (RFC 3461 §6.1)."""
    world.limits = replace(world.limits, max_recipients=1)
    world.answer = lambda transaction: [NO] * len(transaction.recipients)
    await run(world, asking(fresh(1, "a@x.example", "b@x.example"), "NEVER", "FAILURE", envelope_id="QQ"))

    asked = {sent.recipients[0]: (sent.dsn.envelope_id, sent.dsn.of(0).notify) for sent in world.sent}
    assert asked == {"a@x.example": ("QQ", "NEVER"), "b@x.example": ("QQ", "FAILURE"), SHOP: ("", "NEVER")}


async def test_reports_come_from_the_sender_that_is_set(world: World) -> None:
    """For upstreams that refuse the null sender; a report that is refused is dropped, whoever it comes from."""
    world.options = replace(world.options, reports=replace(world.options.reports, sender="bounces@shop.example"))
    world.answer = lambda transaction: [NO] * len(transaction.recipients)
    before = REGISTRY.get_sample_value("mailwake_double_bounces_total") or 0
    await run(world, fresh(1))

    assert [sent.reverse_path for sent in world.sent] == [SHOP, "bounces@shop.example"]
    assert b"From: Mail Delivery System <bounces@shop.example>\r\n" in b"".join(world.sent[1].data)
    assert REGISTRY.get_sample_value("mailwake_double_bounces_total") == before + 1


async def test_a_report_that_comes_back_as_mail_causes_none(world: World) -> None:
    """It has a sender then, and whatever took its Auto-Submitted away, our mark is on it."""
    world.answer = lambda transaction: [NO] * len(transaction.recipients)
    await run(world, fresh(1))
    report = b"".join(world.sent[1].data).replace(b"Auto-Submitted: auto-replied\r\n", b"")
    world.sent.clear()

    assert f"{dsn.MARKER}: ".encode() in report
    assert b"Auto-Submitted" not in report
    assert await run(world, fresh(2), report) == {}
    assert len(world.sent) == 1


async def test_an_address_gets_so_many_reports_in_an_hour(world: World) -> None:
    """Above it only the events tell; nothing is lost, and it is counted."""
    world.options = replace(world.options, reports=replace(world.options.reports, per_hour=2))
    world.answer = lambda transaction: [NO if sent != SHOP else OK for sent in transaction.recipients]
    before = REGISTRY.get_sample_value("mailwake_reports_capped_total") or 0
    found = await run(world, fresh(1, *(f"{name}@x.example" for name in "abcde")))

    assert len(found) == 2
    assert world.kinds().count("Bounce") == 5
    assert REGISTRY.get_sample_value("mailwake_reports_capped_total") == before + 3


async def test_a_spool_that_is_full_uses_no_share_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The report is made when there is room again."""
    world.options = replace(world.options, reports=replace(world.options.reports, per_hour=1))
    world.answer = lambda transaction: [NO if transaction.reverse_path else OK]
    real, failures = world.spool.put, 3

    async def put(entry: SpoolEntry, message: bytes) -> None:
        nonlocal failures
        if entry.report and failures:
            failures -= 1
            raise OSError(28, "No space left on device")
        await real(entry, message)

    monkeypatch.setattr(world.spool, "put", put)
    monkeypatch.setattr("relay.spool.teller._FIRST_PAUSE_S", 0.0)

    assert await run(world, fresh(1)) == {"ana@a.example": "failed"}
    assert failures == 0


async def test_a_report_leaves_by_the_upstreams_of_its_message(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them, in order: the first may be down."""
    world.answer = lambda transaction: [NO if transaction.reverse_path else OK]
    real, reports = world.spool.put, []

    async def put(entry: SpoolEntry, message: bytes) -> None:
        if entry.report:
            reports.append(entry)
        await real(entry, message)

    monkeypatch.setattr(world.spool, "put", put)
    await run(world, fresh(1, fallbacks=("second", "third")))

    (report,) = reports
    assert (report.upstream, report.fallbacks) == ("default", ("second", "third"))


async def test_a_report_that_cannot_be_put_holds_up_nothing_else(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is freed by what is delivered; and what the journal has is not written there again and again."""
    monkeypatch.setattr("relay.spool.teller._BATCH", 2)
    monkeypatch.setattr("relay.spool.teller._FIRST_PAUSE_S", 0.001)
    world.answer = lambda transaction: [NO if "a@x.example" in transaction.recipients else OK]
    real, failures, tried_often = world.spool.put, 0, asyncio.Event()

    async def put(entry: SpoolEntry, message: bytes) -> None:
        nonlocal failures
        if entry.report:
            failures += 1
            if failures == 12:
                tried_often.set()
            raise OSError(28, "No space left on device")
        await real(entry, message)

    monkeypatch.setattr(world.spool, "put", put)
    bounced = [fresh(number, "a@x.example") for number in range(3)]
    async with world.running() as runner:
        for entry in (*bounced, fresh(4), fresh(5)):
            await world.accept(runner, entry)
        await world.until_left(*(entry.id for entry in bounced))
        await asyncio.wait_for(tried_often.wait(), 10)

    assert world.kinds().count("Bounce") == 3
    assert [row.state for entry in bounced for row in world.rows(entry)] == [State.FAILED] * 3


async def test_of_two_reports_the_one_that_was_put_is_not_counted_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the second cannot be put, both are done again: the first must not use up the share of the second."""
    world.options = replace(world.options, reports=replace(world.options.reports, per_hour=2))
    monkeypatch.setattr("relay.spool.teller._FIRST_PAUSE_S", 0.0)
    world.answer = lambda transaction: [NO if sent != SHOP else OK for sent in transaction.recipients]
    real, reports, failures = world.spool.put, 0, 3

    async def put(entry: SpoolEntry, message: bytes) -> None:
        nonlocal reports, failures
        reports += entry.report
        if entry.report and reports > 1 and failures:
            failures -= 1
            raise OSError(28, "No space left on device")
        await real(entry, message)

    monkeypatch.setattr(world.spool, "put", put)

    assert await run(world, fresh(1, "a@x.example", "b@x.example")) == {
        "a@x.example": "failed",
        "b@x.example": "failed",
    }
    assert failures == 0


@pytest.mark.parametrize("hours, is_dropped", [(23, False), (25, True)])
async def test_a_report_is_tried_for_a_day(world: World, hours: int, is_dropped: bool) -> None:
    """What it tells is stale then; other mail is tried for five days."""
    world.answer = lambda transaction: [LATER]
    at = datetime.now(UTC) - timedelta(hours=hours)
    report, mail = make_entry(1, at=at, reverse_path="", report=True), make_entry(2, at=at)
    before = REGISTRY.get_sample_value("mailwake_double_bounces_total") or 0
    await world.leave(report)
    await world.leave(mail)
    async with world.running():
        await world.until(lambda: len(world.sent) == 2)
        await world.until_left(*([mail.id] if is_dropped else [report.id, mail.id]))
        await world.until_rows(mail, State.WAITING)

    assert (REGISTRY.get_sample_value("mailwake_double_bounces_total") or 0) - before == is_dropped
    assert "Bounce" not in world.kinds()


async def test_a_row_that_is_not_to_be_reported_is_not(world: World) -> None:
    """Its author was told in another way."""
    await world.leave(fresh(1), Row(state=State.FAILED, code=550, changed_ms=7, text="5.1.1 no", unreported=True))
    async with world.running():
        await world.until_empty()

    assert world.sent == []
    assert world.kinds() == ["Accepted", "Bounce"]
