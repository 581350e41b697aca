"""What each command is answered, in the order of a session."""

import pytest

from tests.integration.smtp_in import Inbox, dialing, serving

MAIL = "MAIL FROM:<ana@shop.example>"


async def test_the_greeting_names_us_and_ehlo_offers_what_is_done_in_full() -> None:
    """RFC 5321 §4.2.1, §4.1.1.1: no HELP, no AUTH, no STARTTLS."""
    async with serving(Inbox()) as service, dialing(service.port, hello=False) as wire:
        greeting = await wire.reply()
        ehlo = await wire.ask("ehlo [192.0.2.1]")
        helo = await wire.ask("HELO client.example")

    assert greeting == "220 relay.example ESMTP Mailwake"
    assert ehlo.split("|") == [
        "250-relay.example",
        "250-PIPELINING",
        "250-SIZE 1000000",
        "250-8BITMIME",
        "250-SMTPUTF8",
        "250-ENHANCEDSTATUSCODES",
        "250 DSN",
    ]
    assert helo == "250 relay.example"


@pytest.mark.parametrize(
    ("commands", "last"),
    [
        (["NOOP"], "250 2.0.0"),
        (["NOOP with words"], "250 2.0.0"),
        (["RSET "], "250 2.0.0"),
        (["RSET now"], "501 5.5.4"),
        (["quit"], "221 2.0.0"),
        (["QUIT now"], "501 5.5.4"),
        (["HELP"], "214 2.0.0"),
        (["VRFY bo"], "252 2.0.0"),
        (["VRFY"], "501 5.5.4"),
        (["EXPN list"], "502 5.5.1"),
        (["AUTH PLAIN AGEAYg=="], "502 5.5.1"),
        (["STARTTLS"], "502 5.5.1"),
        (["BDAT 5 LAST"], "502 5.5.1"),
        (["NONSENSE"], "500 5.5.2"),
        (["R\N{LATIN SMALL LETTER LONG S}ET"], "500 5.5.2"),
        ([""], "500 5.5.2"),
        (["NOOP \N{LATIN SMALL LETTER E WITH ACUTE}"], "250 2.0.0"),
        (["NOOP a\tb"], "500 5.5.2"),
        (["NOOP a\0b"], "500 5.5.2"),
        (["NOOP a\rb"], "500 5.5.2"),
        (["NOOP a\nb"], "500 5.5.2"),
        (["NOOP " + "x" * 2041], "250 2.0.0"),
        (["NOOP " + "x" * 2042], "500 5.5.2"),
        (["NOOP " + "x" * 200_000], "500 5.5.2"),
        (["EHLO"], "501 5.5.2"),
        (["EHLO a b"], "501 5.5.2"),
        (["EHLO a(b)"], "501 5.5.2"),
        (["HELO " + "a" * 256], "501 5.5.2"),
        (["RCPT TO:<bo@home.example>"], "503 5.5.1"),
        (["DATA"], "503 5.5.1"),
        ([MAIL], "250 2.1.0"),
        (["mail from:<ana@shop.example>"], "250 2.1.0"),
        (["MAIL FROM: <ana@shop.example>"], "250 2.1.0"),
        (["MAIL FROM:<>"], "250 2.1.0"),
        (["MAIL FROM:<@a.example:ana@shop.example>"], "250 2.1.0"),
        ([MAIL, MAIL], "503 5.5.1"),
        ([MAIL, "RSET", MAIL], "250 2.1.0"),
        ([MAIL, "EHLO again.example", MAIL], "250 2.1.0"),
        (["HELO old.example", MAIL], "250 2.1.0"),
        (["MAIL"], "501 5.5.4"),
        (["MAIL ana@shop.example"], "501 5.5.4"),
        (["MAIL FROM:ana@shop.example"], "501 5.1.7"),
        (["MAIL FROM:<ana>"], "501 5.1.7"),
        (["MAIL FROM:<=?utf-8?q?ev=0d=0aRCPT?=@shop,example>"], "501 5.1.7"),
        (["MAIL FROM:<ana@shop.example>x"], "501 5.1.7"),
        ([f"{MAIL} SIZE=1000000"], "250 2.1.0"),
        ([f"{MAIL} SIZE=1000001"], "552 5.3.4"),
        ([f"{MAIL} SIZE=99999999999999999999"], "552 5.3.4"),
        ([f"{MAIL} SIZE=999999999999999999999"], "501 5.5.4"),
        ([f"{MAIL} SIZE"], "501 5.5.4"),
        ([f"{MAIL} SIZE=-1"], "501 5.5.4"),
        ([f"{MAIL} SIZE=1 SIZE=1"], "501 5.5.4"),
        ([f"{MAIL} body=8bitmime"], "250 2.1.0"),
        ([f"{MAIL} BODY=7BIT  SMTPUTF8"], "250 2.1.0"),
        ([f"{MAIL} BODY=BINARYMIME"], "501 5.5.4"),
        ([f"{MAIL} SMTPUTF8=yes"], "501 5.5.4"),
        ([f"{MAIL} AUTH=<>"], "250 2.1.0"),
        ([f"{MAIL} AUTH=e+3Dmc2@shop.example"], "250 2.1.0"),
        ([f"{MAIL} HOLDFOR=60"], "555 5.5.4"),
        ([f"{MAIL} =x"], "501 5.5.4"),
        ([f"{MAIL} SIZE="], "501 5.5.4"),
        ([f"{MAIL} size=9 SiZe=9"], "501 5.5.4"),
        ([f"{MAIL} SIZE=+9"], "501 5.5.4"),
        ([f"{MAIL} SIZE=\N{ARABIC-INDIC DIGIT NINE} SMTPUTF8"], "501 5.5.4"),
        ([f"{MAIL} SIZE=9\N{NO-BREAK SPACE}BODY=7BIT SMTPUTF8"], "501 5.5.4"),
        ([f"{MAIL} BODY=8B\N{LATIN SMALL LETTER DOTLESS I}TMIME SMTPUTF8"], "501 5.5.4"),
        ([f"{MAIL} SMTPUTF8 SMTPUTF8"], "501 5.5.4"),
        ([f"{MAIL} BODY=7BIT BODY=8BITMIME"], "501 5.5.4"),
        ([f"{MAIL} AUTH"], "501 5.5.4"),
        ([f"{MAIL} AUTH=<> AUTH=<>"], "501 5.5.4"),
        ([f"{MAIL} ENVID=+0A"], "501 5.5.4"),
        ([f"{MAIL} ENVID=+4a"], "501 5.5.4"),
        ([f"{MAIL} RET=HDRS RET=FULL"], "501 5.5.4"),
        ([f"{MAIL} ret=full envid=QQ+2B1"], "250 2.1.0"),
        ([f"{MAIL} NOTIFY=NEVER"], "555 5.5.4"),
        (["MAIL FROM:<jösé@shop.example>"], "553 5.6.7"),
        (["MAIL FROM:<ana@bücher.example>"], "553 5.6.7"),
        (["MAIL FROM:<jösé@bücher.example> SMTPUTF8"], "250 2.1.0"),
        ([MAIL, "DATA"], "554 5.5.1"),
        ([MAIL, "RCPT TO:<bo@home.example>"], "250 2.1.5"),
        ([MAIL, "rcpt to: <bo@home.example>"], "250 2.1.5"),
        ([MAIL, 'RCPT TO:<"b o"@[192.0.2.1]>'], "250 2.1.5"),
        ([MAIL, "RCPT FROM:<bo@home.example>"], "501 5.5.4"),
        ([MAIL, "RCPT TO:<>"], "501 5.1.3"),
        ([MAIL, "RCPT TO:<Postmaster>"], "501 5.1.3"),
        ([MAIL, "RCPT TO:<a,b@home.example>"], "501 5.1.3"),
        ([MAIL, "RCPT TO:<bo@home.example> RET=HDRS"], "555 5.5.4"),
        ([MAIL, "RCPT TO:<bo@home.example> NOTIFY=NEVER,SUCCESS"], "501 5.5.4"),
        ([MAIL, "RCPT TO:<bo@home.example> notify=Never"], "250 2.1.5"),
        ([MAIL, "RCPT TO:<bo@home.example> NOTIFY=DELAY NOTIFY=DELAY"], "501 5.5.4"),
        ([MAIL, "RCPT TO:<bo@home.example> ORCPT=rfc822;a+0D+0ABcc:+20b"], "501 5.5.4"),
        ([MAIL, "RCPT TO:<jösé@home.example>"], "553 5.6.7"),
        ([f"{MAIL} SMTPUTF8", "RCPT TO:<jösé@home.example>"], "250 2.1.5"),
        ([MAIL, "RCPT TO:<bo@home.example>", "DATA now"], "501 5.5.4"),
        ([MAIL, "RCPT TO:<bo@home.example>", "DATA"], "354 End"),
    ],
)
async def test_a_command_is_answered(commands: list[str], last: str) -> None:
    """docs/reference/smtp.md, row by row: what is wrong has a code of its own."""
    async with serving(Inbox()) as service, dialing(service.port) as wire:
        replies = [await wire.ask(command) for command in commands]

    assert replies[-1].startswith(last)
    assert all(reply[0] in "23" for reply in replies[:-1])


async def test_commands_need_ehlo_first() -> None:
    """RFC 5321 §4.1.4."""
    async with serving(Inbox()) as service, dialing(service.port, hello=False) as wire:
        await wire.reply()
        found = [await wire.ask(command) for command in (MAIL, "RCPT TO:<bo@home.example>", "DATA")]

    assert [reply[:9] for reply in found] == ["503 5.5.1"] * 3


async def test_a_line_that_is_not_utf_8_is_refused() -> None:
    """RFC 6531 §3.3 allows UTF-8 and nothing else."""
    async with serving(Inbox()) as service, dialing(service.port) as wire:
        wire.send(b"MAIL FROM:<j\xf6s@shop.example> SMTPUTF8\r\n")
        reply = await wire.reply()

    assert reply.startswith("500 5.5.2 ")


async def test_a_line_that_ends_in_a_bare_lf_is_refused_at_once() -> None:
    """A client that never sends CR is told so, instead of both waiting for the other."""
    async with serving(Inbox()) as service, dialing(service.port) as wire:
        wire.send(b"NOOP\n")
        refused = await wire.reply()
        taken = await wire.ask("NOOP")

    assert refused.startswith("500 5.5.2 Command lines end with CR LF")
    assert taken.startswith("250 ")


async def test_a_refusal_never_repeats_what_the_client_wrote() -> None:
    """Replies end in logs and on screens: hostile text is not echoed."""
    async with serving(Inbox()) as service, dialing(service.port) as wire:
        found = [
            await wire.ask("MAIL FROM:<<script>alert(1)</script>@x>"),
            await wire.ask("SCRIPT alert"),
            await wire.ask("EHLO <script>"),
        ]

    assert all("cript" not in reply.lower().replace("description", "") for reply in found)
