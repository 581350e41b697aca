"""Where a message ends: DATA in blocks, dots, sizes, and every look-alike of the end that smuggles mail elsewhere."""

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.integration.smtp_in import OPTIONS, Inbox, dialing, serving

SMUGGLED = (
    b"MAIL FROM:<eve@bank.example>\r\nRCPT TO:<bo@home.example>\r\nDATA\r\nSubject: smuggled\r\n\r\nEvil\r\n.\r\n"
)


@pytest.mark.parametrize(
    "look_alike",
    [
        b"\n.\n",
        b"\n.\r\n",
        b"\r\n.\n",
        b"\r.\r",
        b"\r.\r\n",
        b"\r\n.\r",
        b"\n\n.\r\n",
        b"\r\n\x00.\r\n",
        b"\r\n.\x00\r\n",
        b"\r\r\n.\r\r\n",
        b"\r\n .\r\n",
        b"\n.\r",
        b"\r.\n",
    ],
)
async def test_a_look_alike_of_the_end_is_content(look_alike: bytes) -> None:
    """SMTP smuggling: what another server may take for the end of DATA never begins a second message here."""
    inbox = Inbox()

    async with serving(inbox) as service, dialing(service.port) as wire:
        await wire.open_data()
        wire.send(b"Subject: one\r\n\r\nHi" + look_alike + SMUGGLED)
        accepted = await wire.reply()
        bye = await wire.ask("QUIT")

    assert accepted.startswith("250 2.0.0 Ok: queued")
    assert bye.startswith("221 2.0.0")
    (mail,) = inbox.mail
    assert b"smuggled" in mail.message
    assert str(mail.envelope.reverse_path) == "ana@shop.example"


async def test_a_message_behind_the_true_end_needs_commands_in_step() -> None:
    """RFC 2920 §3.1: nothing may stand behind DATA. A second message sent blindly with the first is refused."""
    inbox = Inbox()

    async with serving(inbox) as service, dialing(service.port) as wire:
        await wire.open_data()
        wire.send(b"Hi\r\n.\r\n" + SMUGGLED)
        found = await wire.rest()

    assert [reply[:9] for reply in found] == ["250 2.0.0", "250 2.1.0", "250 2.1.5", "554 5.5.0"]
    assert len(inbox.mail) == 1


async def test_data_before_354_is_refused() -> None:
    """A body that is sent with DATA was not written in answer to the 354: the connection is out of step."""
    inbox = Inbox()

    async with serving(inbox) as service, dialing(service.port) as wire:
        wire.send(b"MAIL FROM:<ana@shop.example>\r\nRCPT TO:<bo@home.example>\r\nDATA\r\nSubject: x\r\n\r\nHi\r\n.\r\n")
        found = await wire.rest()

    assert [reply[:9] for reply in found] == ["250 2.1.0", "250 2.1.5", "554 5.5.0"]
    assert inbox.mail == []


async def test_a_group_of_commands_may_be_pipelined() -> None:
    """RFC 2920: MAIL, RCPT and DATA in one packet."""
    inbox = Inbox()

    async with serving(inbox) as service, dialing(service.port) as wire:
        wire.send(b"RSET\r\nMAIL FROM:<ana@shop.example>\r\nRCPT TO:<bo@home.example>\r\nDATA\r\n")
        found = [await wire.reply() for _ in range(4)]
        accepted = await wire.ask("Hi\r\n.")

    assert [reply[:3] for reply in found] == ["250", "250", "250", "354"]
    assert accepted.startswith("250 ")


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (b".\r\n", b""),
        (b"\r\n.\r\n", b"\r\n"),
        (b"..\r\n.\r\n", b".\r\n"),
        (b"a\r\n..\r\n...\r\nb.\r\n.\r\n", b"a\r\n.\r\n..\r\nb.\r\n"),
        (b".a\r\n.\r\n", b"a\r\n"),
        (b"a\n..\r\n.\r\n", b"a\n..\r\n"),
        (b"a\r\r\n..b\r\n.\r\n", b"a\r\r\n.b\r\n"),
        (b"\x00\xff\r\n.\r\n", b"\x00\xff\r\n"),
    ],
)
async def test_dots_are_unstuffed(sent: bytes, message: bytes) -> None:
    """RFC 5321 §4.5.2, the first line included; a line begins behind a CRLF and nowhere else."""
    inbox = Inbox()

    async with serving(inbox) as service, dialing(service.port) as wire:
        await wire.open_data()
        wire.send(sent)
        await wire.reply()

    assert inbox.mail[0].message == message


@given(lines=st.lists(st.binary(max_size=40).map(lambda raw: raw.replace(b"\r\n", b"")), max_size=30), data=st.data())
@settings(max_examples=25)
def test_any_message_arrives_as_it_was_however_it_is_cut(lines: list[bytes], data: st.DataObject) -> None:
    """What a correct client stuffs and sends in pieces of any size comes out as it was."""
    message = b"".join(line + b"\r\n" for line in lines if not line.endswith(b"\r"))
    stuffed = (b"\r\n" + message).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stuffed)), max_size=6)))
    inbox = Inbox()

    async def scenario() -> None:
        async with serving(inbox) as service, dialing(service.port) as wire:
            await wire.open_data()
            for start, end in zip([0, *cuts], [*cuts, len(stuffed)], strict=True):
                wire.send(stuffed[start:end])
                await asyncio.sleep(0)
            assert (await wire.reply()).startswith("250 ")

    asyncio.run(scenario())

    assert [mail.message for mail in inbox.mail] == [message]


@pytest.mark.parametrize("size", [65_530, 65_535, 65_536, 65_537, 131_072, 131_073, 700_000])
async def test_a_message_across_blocks_arrives_whole(size: int) -> None:
    """The end is found wherever the borders of the blocks fall, in one line far longer than RFC 5321 allows."""
    inbox = Inbox()
    message = (b"." + b"x" * size)[: size - 2] + b"\r\n"

    async with serving(inbox) as service, dialing(service.port) as wire:
        await wire.open_data()
        wire.send(b"." + message + b".\r\n")
        reply = await wire.reply()

    assert reply.startswith("250 ")
    assert inbox.mail[0].message == message


async def test_the_size_limit_is_exact_and_dots_do_not_count() -> None:
    """RFC 1870 §3: the limit binds the message, not its stuffing."""
    inbox = Inbox()
    fits = b".\r\n" * 100

    async with (
        serving(inbox, replace(OPTIONS, max_message_bytes=len(fits))) as service,
        dialing(service.port) as wire,
    ):
        await wire.open_data()
        wire.send(b"..\r\n" * 100 + b".\r\n")
        taken = await wire.reply()
        await wire.open_data()
        wire.send(b"x" + b"..\r\n" * 100 + b".\r\n")
        refused = await wire.reply()

    assert taken.startswith("250 ")
    assert refused.startswith("552 5.3.4 ")
    assert [mail.message for mail in inbox.mail] == [fits]


async def test_too_big_a_message_is_read_to_its_end_and_the_session_goes_on() -> None:
    """The 552 comes after the end: before it, the client would not be listening."""
    inbox = Inbox()

    async with serving(inbox) as service, dialing(service.port) as wire:
        await wire.open_data()
        wire.send(b"x" * 3_000_000 + b"\r\n.\r\n")
        refused = await wire.reply()
        await wire.open_data()
        taken = await wire.ask("Hi\r\n.")

    assert refused.startswith("552 5.3.4 ")
    assert taken.startswith("250 ")
    assert [mail.message for mail in inbox.mail] == [b"Hi\r\n"]


async def test_a_message_that_is_cut_off_is_not_taken() -> None:
    """Without the end there is no message, however the client leaves."""
    inbox = Inbox()

    async with serving(inbox) as service, dialing(service.port) as wire:
        await wire.open_data()
        wire.send(b"Hi\r\n.\r")
        wire.writer.write_eof()
        left = await wire.rest()

    assert left == []
    assert inbox.mail == []
