"""RET, ENVID, NOTIFY and ORCPT on their way: from a client into the envelope, and from a transaction to an upstream."""

from dataclasses import replace

import pytest

from relay.core.attempt import Accepted
from relay.core.dsnrequest import NO_REQUEST, DsnRequest, RecipientRequest
from tests.integration.smtp_in import OPTIONS, Inbox, dialing, serving
from tests.integration.smtp_script import EXTENSIONS, Script
from tests.integration.test_upstream import send, transaction

MAIL = "MAIL FROM:<ana@shop.example>"
RCPT = "RCPT TO:<bo@home.example>"
REQUEST = DsnRequest(
    returned="FULL",
    envelope_id="QQ+2B314159",
    recipients=(
        RecipientRequest(notify="SUCCESS,FAILURE", original="rfc822;a+2Blist@x.example"),
        RecipientRequest(notify="NEVER"),
        RecipientRequest(),
    ),
)


@pytest.mark.parametrize(
    "parameter",
    [
        "RET",
        "RET=BODY",
        "RET=FULL RET=FULL",
        "ENVID",
        "ENVID=a+0Db",
        "ENVID=a+0A",
        "ENVID=a+7F",
        "ENVID=a+2b",
        "ENVID=a+",
        f"ENVID={'x' * 101}",
    ],
)
async def test_a_bad_parameter_of_mail_is_refused(parameter: str) -> None:
    """RFC 3461 §4.3, §4.4: what ENVID decodes to is printable, since it stands in a header of the report."""
    async with serving(Inbox()) as service, dialing(service.port) as wire:
        assert (await wire.ask(f"{MAIL} {parameter}")).startswith("501 5.5.4 ")


@pytest.mark.parametrize(
    "parameter",
    [
        "NOTIFY",
        "NOTIFY=ALWAYS",
        "NOTIFY=NEVER,SUCCESS",
        "NOTIFY=DELAY,DELAY",
        "NOTIFY=SUCCESS,",
        "NOTIFY=SUCCESS NOTIFY=NEVER",
        "ORCPT",
        "ORCPT=bo@home.example",
        "ORCPT=;bo@home.example",
        "ORCPT=rfc822;",
        "ORCPT=rfc822;a+0D+0ABcc:+20b",
        "ORCPT=rfc822;b+85@home.example+0A",
        "ORCPT=rfc822;bö@home.example",
        "ORCPT=utf-8;b+2Bo@home.example",
        "ORCPT=rfc 822;bo@home.example",
        f"ORCPT=rfc822;{'x' * 494}",
    ],
)
async def test_a_bad_parameter_of_rcpt_is_refused(parameter: str) -> None:
    """RFC 3461 §4.1, §4.2; RFC 6533 §3."""
    async with serving(Inbox()) as service, dialing(service.port) as wire:
        await wire.ask(f"{MAIL} SMTPUTF8")
        assert (await wire.ask(f"{RCPT} {parameter}")).startswith("501 5.5.4 ")


async def test_what_is_asked_comes_with_the_envelope() -> None:
    """Keywords and their words in any case, ENVID and ORCPT as they were sent."""
    inbox = Inbox()
    async with serving(inbox) as service, dialing(service.port) as wire:
        await wire.ask(f"{MAIL} ret=hdrs envid=QQ+2B314159")
        await wire.ask(f"{RCPT} notify=delay,Success orcpt=RFC822;Bo+40home.example")
        await wire.ask("RCPT TO:<cy@home.example> NOTIFY=never")
        await wire.ask("RCPT TO:<di@home.example>")
        assert (await wire.ask(f"{RCPT} NOTIFY=NEVER")).startswith("250 2.1.5")
        await wire.ask("DATA")
        await wire.ask("Subject: x\r\n\r\nx\r\n.")

    assert inbox.mail[0].envelope.dsn == DsnRequest(
        returned="HDRS",
        envelope_id="QQ+2B314159",
        recipients=(  # the second RCPT of an address neither adds a copy nor changes what was asked
            RecipientRequest(notify="SUCCESS,DELAY", original="RFC822;Bo+40home.example"),
            RecipientRequest(notify="NEVER"),
            RecipientRequest(),
        ),
    )


async def test_postfix_writes_an_address_of_smtputf8_in_octets() -> None:
    """`ORCPT=rfc822;+C3+A7elik@…` is xtext: refused, the mail of a Postfix in front of us would bounce."""
    inbox = Inbox()
    original = "rfc822;+C3+A7elik+2Blist@home.example"
    async with serving(inbox) as service, dialing(service.port) as wire:
        await wire.ask(f"{MAIL} SMTPUTF8")
        assert (await wire.ask(f"RCPT TO:<çelik@home.example> ORCPT={original}")).startswith("250 2.1.5")
        await wire.ask("DATA")
        await wire.ask("Subject: x\r\n\r\nx\r\n.")

    (request,) = inbox.mail[0].envelope.dsn.recipients
    assert request.original == original
    assert request.shown_original() == "rfc822; +C3+A7elik+list@home.example"


async def test_a_client_that_asks_nothing_leaves_nothing() -> None:
    """Most mail: no row of empty requests in every spool file."""
    inbox = Inbox()
    async with serving(inbox) as service, dialing(service.port) as wire:
        await wire.open_data()
        await wire.ask("Subject: x\r\n\r\nx\r\n.")

    assert inbox.mail[0].envelope.dsn == NO_REQUEST


async def test_dsn_is_offered_only_where_reports_are_made() -> None:
    """`spool.dsn = false`: nothing is promised, and what is asked all the same goes on to the upstream."""
    async with (
        serving(Inbox(), replace(OPTIONS, dsn=False)) as service,
        dialing(service.port, hello=False) as wire,
    ):
        await wire.reply()
        assert "DSN" not in await wire.ask("EHLO client.example")
        assert (await wire.ask(f"{MAIL} RET=HDRS")).startswith("250 ")


async def test_what_was_asked_goes_on_to_an_upstream_that_offers_dsn() -> None:
    """RFC 3461 §5.2.1: as it was sent, and then it is the upstream that reports a delivery."""
    sent = replace(transaction("a@x.example", "b@x.example", "c@x.example"), dsn=REQUEST)
    async with Script(extensions=(*EXTENSIONS, "DSN")) as server:
        attempts = await send(server, sent)

    mail, *rcpts = server.messages[0][0]
    assert mail.endswith(" RET=FULL ENVID=QQ+2B314159")
    assert rcpts == [
        "RCPT TO:<a@x.example> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;a+2Blist@x.example",
        "RCPT TO:<b@x.example> NOTIFY=NEVER",
        "RCPT TO:<c@x.example>",
    ]
    assert all(isinstance(attempt, Accepted) and attempt.reports for attempt in attempts)


async def test_an_upstream_without_dsn_is_not_told() -> None:
    """It would answer 555; a delivery is then ours to report."""
    sent = replace(transaction("a@x.example"), dsn=REQUEST.only((0,)))
    async with Script() as server:
        (attempt,) = await send(server, sent)

    assert not any(word in line for line in server.messages[0][0] for word in ("RET", "ENVID", "NOTIFY", "ORCPT"))
    assert isinstance(attempt, Accepted)
    assert not attempt.reports


async def test_an_original_recipient_in_utf_8_goes_on_as_it_is() -> None:
    """RFC 6533 §3: it came with SMTPUTF8, so it goes with SMTPUTF8."""
    request = DsnRequest(recipients=(RecipientRequest(original="utf-8;jörg@x.example"),))
    sent = replace(transaction("jörg@x.example"), dsn=request, smtputf8=True)
    async with Script(extensions=(*EXTENSIONS, "DSN")) as server:
        await send(server, sent)

    assert server.messages[0][0][1] == "RCPT TO:<jörg@x.example> ORCPT=utf-8;jörg@x.example"


async def test_an_original_recipient_in_utf_8_is_written_in_ascii_where_nothing_else_needs_smtputf8() -> None:
    """RFC 6533 §3: octets above 127 must not stand in a command without SMTPUTF8."""
    request = DsnRequest(recipients=(RecipientRequest(original=r"utf-8;jörg\x{F6}@x.example"),))
    async with Script(extensions=("SIZE", "DSN")) as server:
        await send(server, replace(transaction("a@x.example"), dsn=request))

    assert server.messages[0][0][1] == r"RCPT TO:<a@x.example> ORCPT=utf-8;j\x{F6}rg\x{F6}@x.example"
