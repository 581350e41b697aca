"""What we rely on in aiosmtplib, and what we work around; read this first when it is upgraded.

S1 (paths), S3 (replies of a connection that was cut), S12 (the way data are sent).
"""

import asyncio
import inspect

import aiosmtplib
import pytest
from aiosmtplib.email import quote_address
from aiosmtplib.errors import SMTPReadTimeoutError, SMTPServerDisconnected
from aiosmtplib.protocol import MAX_LINE_LENGTH, MAX_RESPONSE_LENGTH, SMTPProtocol

from tests.integration.smtp_script import Script


async def _connected(server: Script) -> aiosmtplib.SMTP:
    smtp = aiosmtplib.SMTP(hostname=server.host, port=server.port, start_tls=False, local_hostname="relay.example.com")
    await smtp.connect(timeout=5)
    await smtp.ehlo(timeout=5)
    return smtp


def test_its_paths_are_not_ours() -> None:
    """S1: it wants the null sender as an empty string, and re-parses addresses that were checked already."""
    assert quote_address("") == "<>"
    with pytest.raises(ValueError, match=r".*"):
        quote_address("<>")


async def test_connecting_says_neither_ehlo_nor_starttls_nor_auth() -> None:
    """With start_tls=False and no user name, each step is ours."""
    async with Script() as server:
        smtp = aiosmtplib.SMTP(hostname=server.host, port=server.port, start_tls=False, local_hostname="a.example")
        await smtp.connect(timeout=5)

        assert server.commands == [[]]
        smtp.close()


async def test_a_command_with_a_control_character_is_refused() -> None:
    """The last defence against command injection."""
    async with Script() as server:
        smtp = await _connected(server)
        with pytest.raises(ValueError, match="control character"):
            await smtp.execute_command(b"MAIL", b"FROM:<a@b.example>\r\nRSET")
        smtp.close()


async def test_421_closes_and_any_other_code_is_returned() -> None:
    """S12: `execute_command` has no opinion on codes but 421."""
    async with Script(replies={"rset": "599 odd", "mail": "421 4.3.2 bye"}) as server:
        smtp = await _connected(server)

        assert (await smtp.execute_command(b"RSET")).code == 599
        assert smtp.is_connected
        assert (await smtp.execute_command(b"MAIL", b"FROM:<>")).code == 421
        assert not smtp.is_connected


async def test_a_timeout_closes_the_connection() -> None:
    """S3: a late answer must not be taken for the next one's."""
    async with Script(replies={"mail": "wait"}) as server:
        smtp = await _connected(server)
        with pytest.raises(SMTPReadTimeoutError):
            await smtp.execute_command(b"MAIL", b"FROM:<>", timeout=0.01)

        assert not smtp.is_connected


async def test_a_cancelled_command_leaves_the_connection_open_and_out_of_step() -> None:
    """S3: so it is ours to close it."""
    async with Script(replies={"mail": "wait"}, once=True) as server:
        smtp = await _connected(server)
        cut = asyncio.create_task(smtp.execute_command(b"MAIL", b"FROM:<>"))
        await server.waiting.wait()
        cut.cancel()
        await asyncio.wait([cut])

        assert smtp.is_connected
        smtp.close()


async def test_its_data_rewrites_the_body() -> None:
    """S12: why DATA is ours: bare line ends become CRLF, at the cost of a regex over the whole body."""
    async with Script() as server:
        smtp = await _connected(server)
        await smtp.mail("")
        await smtp.rcpt("a@b.example")
        await smtp.data(b"a\nb\r")
        smtp.close()

    assert server.messages[0][1] == b"a\r\nb\r\n.\r\n"


async def test_the_private_names_that_our_data_uses() -> None:
    """S12: `write`, `read_response`, `_response_waiter`, `_response_pending`, `_drain_helper`."""
    async with Script() as server:
        smtp = await _connected(server)
        protocol = smtp.protocol
        assert isinstance(protocol, SMTPProtocol)
        assert isinstance(protocol._response_waiter, asyncio.Future)
        assert protocol._response_pending is False
        assert inspect.iscoroutinefunction(protocol._drain_helper)
        await smtp.execute_command(b"MAIL", b"FROM:<>")
        await smtp.execute_command(b"RCPT", b"TO:<a@b.example>")
        assert (await smtp.execute_command(b"DATA")).code == 354
        waiter = protocol._response_waiter
        protocol._response_pending = True
        protocol.write(b"x\n\r\n.\r\n")
        await asyncio.wait_for(protocol._drain_helper(), 5)
        reply = await protocol.read_response(timeout=5)
        smtp.close()

    assert reply.code == 250
    assert waiter is not None
    assert waiter.done()
    assert server.messages[0][1] == b"x\n\r\n.\r\n"


async def test_a_reply_that_nobody_waits_for_is_thrown_away_unless_it_is_pending() -> None:
    """S12: an answer before the dot would be lost, and waited for in vain."""
    async with Script() as server:
        smtp = await _connected(server)
        protocol = smtp.protocol
        assert protocol is not None
        for is_pending in (False, True):
            protocol._response_pending = is_pending
            protocol.data_received(b"552 too big\r\n")
            assert protocol._response_waiter is not None
            assert protocol._response_waiter.done() is is_pending
        smtp.close()


async def test_writing_to_a_lost_connection_is_an_error_and_its_last_reply_is_kept() -> None:
    """S12: `552` and close, while we were sending."""
    async with Script() as server:
        smtp = await _connected(server)
        protocol = smtp.protocol
        assert protocol is not None
        protocol._response_pending = True
        protocol.data_received(b"552 too big\r\n")
        smtp.close()
        with pytest.raises(SMTPServerDisconnected):
            protocol.write(b"x")
        assert (await protocol.read_response(timeout=1)).code == 552


def test_replies_are_limited() -> None:
    """8 KiB a line, 32 KiB a reply."""
    assert (MAX_LINE_LENGTH, MAX_RESPONSE_LENGTH) == (8192, 32768)


async def test_a_missing_starttls_and_a_refused_one_differ() -> None:
    """`supports_extension` is asked first; a refusal has its code."""
    async with Script(extensions=("STARTTLS",), replies={"starttls": "454 4.7.0 not now"}) as server:
        smtp = await _connected(server)
        assert smtp.supports_extension("starttls")
        with pytest.raises(aiosmtplib.SMTPResponseException) as refused:
            await smtp.starttls(timeout=5)
        assert refused.value.code == 454
        smtp.close()
