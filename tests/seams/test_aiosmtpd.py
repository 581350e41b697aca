"""What aiosmtpd 1.4.6 does by itself, one fact a test: each is a reason for something in relay/smtp.

A test that fails after an upgrade says which defence to look at again; it does not say that we are broken.
"""

import asyncio
import inspect
import logging
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest.mock import Mock, call

import aiosmtplib
import pytest
from aiosmtpd import controller
from aiosmtpd import smtp as library

from relay.smtp.listener import silence_library_log
from tests.certificates import make_certificate


class _Handler:
    """Records envelopes; `during` runs while a message is being handled."""

    def __init__(self, during: Callable[[], Awaitable[None]] | None = None) -> None:
        self.envelopes: list[library.Envelope] = []
        self._during = during

    async def handle_DATA(self, server: library.SMTP, session: library.Session, envelope: library.Envelope) -> str:
        self.envelopes.append(envelope)
        if self._during is not None:
            await self._during()
        return "250 OK"


@asynccontextmanager
async def _talking(
    handler: object = None, **options: object
) -> AsyncIterator[tuple[Callable[[bytes], Awaitable[bytes]], asyncio.StreamWriter]]:
    """Run a stock server on our loop; give a function that sends bytes and returns the last line of the reply."""
    loop = asyncio.get_running_loop()
    settings: dict[str, Any] = {"hostname": "seam.example", "enable_SMTPUTF8": True, "loop": loop, **options}
    server = await loop.create_server(lambda: library.SMTP(handler, **settings), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1])

    async def ask(raw: bytes) -> bytes:
        writer.write(raw)
        while True:
            line = await asyncio.wait_for(reader.readline(), 10)
            if line[3:4] != b"-":
                return line.rstrip(b"\r\n")

    await ask(b"")
    await ask(b"EHLO client.example\r\n")
    try:
        yield ask, writer
    finally:
        writer.close()
        server.close()
        await server.wait_closed()


async def _deliver(ask: Callable[[bytes], Awaitable[bytes]], sender: bytes = b"<ana@shop.example>") -> None:
    """Come to the 354 of a transaction."""
    assert (await ask(b"MAIL FROM:" + sender + b"\r\n")).startswith(b"250")
    assert (await ask(b"RCPT TO:<bo@home.example>\r\n")).startswith(b"250")
    assert (await ask(b"DATA\r\n")).startswith(b"354")


def test_the_version_is_the_one_that_was_measured() -> None:
    """Newer: read this file first, then change the number."""
    assert version("aiosmtpd") == "1.4.6"


async def test_s1_the_null_sender_is_spelled_in_two_ways() -> None:
    """The server says `<>`, the client library wants the empty string: our ReversePath stands between them."""
    handler = _Handler()
    async with _talking(handler) as (ask, writer):
        await _deliver(ask, b"<>")
        await ask(b"Hi\r\n.\r\n")
        port = writer.get_extra_info("peername")[1]
        async with aiosmtplib.SMTP(hostname="127.0.0.1", port=port) as client:
            with pytest.raises(ValueError, match="not permitted"):
                await client.mail("<>")
            assert (await client.mail("")).code == 250

    assert handler.envelopes[0].mail_from == "<>"


async def test_s2_an_exception_is_500_with_its_text_and_the_transaction_stays_open(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Permanent where it should be temporary, and it leaks; the next MAIL is refused."""
    caplog.set_level(logging.CRITICAL, "mail.log")

    async def fail() -> None:
        raise OSError("/secret/place")

    async with _talking(_Handler(fail)) as (ask, _):
        await _deliver(ask)
        failed = await ask(b"Hi\r\n.\r\n")
        following = await ask(b"MAIL FROM:<ana@shop.example>\r\n")

    assert failed == b"500 Error: (OSError) /secret/place"
    assert following == b"503 Error: nested MAIL command"


async def test_s3_the_end_of_file_cancels_the_handler() -> None:
    """A client that half-closes or leaves cuts off whatever is being done with its message."""
    began, cancelled = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async with _talking(_Handler(wait)) as (ask, writer):
        await _deliver(ask)
        writer.write(b"Hi\r\n.\r\n")
        await began.wait()
        writer.write_eof()
        await asyncio.wait_for(cancelled.wait(), 5)


async def test_s3_a_connection_is_served_by_one_task_that_can_be_replaced() -> None:
    """What our session overrides and uses: `_handle_client`, `_reader`, `_writer`, the timer's handle."""
    seen: list[tuple[bool, bool, bool]] = []
    done = asyncio.Event()

    class Ours(library.SMTP):
        async def _handle_client(self) -> None:
            seen.append(
                (
                    isinstance(self._reader, asyncio.StreamReader),
                    isinstance(self._writer, asyncio.StreamWriter),
                    isinstance(self._timeout_handle, asyncio.TimerHandle),
                )
            )
            self._writer.close()
            done.set()

    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Ours(None, hostname="seam.example", loop=loop), "127.0.0.1", 0)
    _, writer = await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1])
    await asyncio.wait_for(done.wait(), 5)
    writer.close()
    server.close()

    assert seen == [(True, True, True)]


async def test_s4_the_timer_runs_during_the_handler() -> None:
    """Armed at the command, it closes the connection while the message is being handled."""

    async def wait() -> None:
        await asyncio.Event().wait()

    async with _talking(_Handler(wait), timeout=0.1) as (ask, _):
        await _deliver(ask)

        assert await ask(b"Hi\r\n.\r\n") == b""


async def test_s5_a_line_beyond_1001_octets_is_500() -> None:
    """DATA is read by the line; ours is read by the block."""
    async with _talking(_Handler()) as (ask, _):
        await _deliver(ask)

        assert (await ask(b"x" * 1100 + b"\r\n.\r\n")).startswith(b"500 Line too long")


async def test_s5_a_stream_reader_shows_its_input_and_takes_more() -> None:
    """The ground of our DATA reader: `_buffer` is empty when all was read; what is fed stands in front."""
    reader = asyncio.StreamReader(limit=8)
    reader.feed_data(b"DATA\r\nearly")
    await reader.readuntil(b"\n")
    assert bytes(reader._buffer) == b"early"  # type: ignore[attr-defined]
    await reader.readexactly(5)
    assert not reader._buffer  # type: ignore[attr-defined]

    reader.feed_data(b"\r\n")
    reader.feed_data(b".\r\nNOOP\r\n")

    assert await reader.readuntil(b"\r\n.\r\n") == b"\r\n.\r\n"


async def test_s5_a_block_never_ends_inside_the_separator() -> None:
    """`consumed` of an overrun leaves enough behind for an end that is still coming in."""
    reader = asyncio.StreamReader(limit=8)
    reader.feed_data(b"0123456789\r\n.")
    with pytest.raises(asyncio.LimitOverrunError) as overrun:
        await reader.readuntil(b"\r\n.\r\n")
    block = await reader.readexactly(overrun.value.consumed)
    reader.feed_data(b"\r\n")

    assert block + await reader.readuntil(b"\r\n.\r\n") == b"0123456789\r\n.\r\n"


@pytest.mark.parametrize(
    ("path", "becomes"),
    [
        (b"<=?utf-8?q?ev=0d=0aRCPT?=@a.example>", "ev\r\nRCPT@a.example"),
        (b"<a\x00b@a.example>", "a\x00b@a.example"),
        (b"<a b@a.example>", '"a b"@a.example'),
    ],
)
async def test_s6_addresses_are_decoded_and_mended(path: bytes, becomes: str) -> None:
    """The string that was checked would not be the string that is sent: our own parser reads paths."""
    handler = _Handler()
    async with _talking(handler) as (ask, _):
        await _deliver(ask, path)
        await ask(b"Hi\r\n.\r\n")

    assert handler.envelopes[0].mail_from == becomes


async def test_s6_what_follows_an_address_is_split_off() -> None:
    """`a,b@a.example` is read as `a`, and the rest as parameters."""
    session = library.SMTP(None, hostname="seam.example", loop=asyncio.get_running_loop())

    assert session._getaddr("a,b@a.example") == ("a", ",b@a.example")


async def test_s7_the_argument_of_ehlo_may_hold_a_cr() -> None:
    """It would end a line of the Received field that it goes into."""
    names: list[str] = []

    class Handler:
        async def handle_HELO(self, _server: object, _session: object, _envelope: object, name: str) -> str:
            names.append(name)
            return "250 OK"

    async with _talking(Handler()) as (ask, _):
        await ask(b"HELO a\rX-Injected: b\r\n")

    assert names == ["a\rX-Injected: b"]


async def test_s8_a_thousand_recipients_and_commands_are_all_taken() -> None:
    """There is no limit on either."""
    async with _talking(_Handler()) as (ask, _):
        await ask(b"MAIL FROM:<ana@shop.example>\r\n")
        found = {await ask(b"RCPT TO:<r%d@home.example>\r\n" % number) for number in range(1001)}
        found |= {await ask(b"NOOP\r\n") for _ in range(200)}

    assert found == {b"250 OK"}


async def test_s8_a_password_may_be_guessed_at_without_end() -> None:
    """On one connection, as fast as it goes."""
    async with _talking(_Handler(), auth_require_tls=False) as (ask, _):
        found = {await ask(b"AUTH PLAIN AGEAYg==\r\n") for _ in range(50)}

    assert found == {b"535 5.7.8 Authentication credentials invalid"}


def test_s8_the_sizes_of_commands_are_shared_by_all_sessions() -> None:
    """A class attribute that EHLO changes."""
    assert library.SMTP.__dict__["command_size_limits"] is library.SMTP.command_size_limits


async def test_s8_without_a_host_name_the_name_of_the_machine_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A blocking DNS query for each connection; given a name, there is none."""
    lookup = Mock(return_value="looked.up.example")
    monkeypatch.setattr(socket, "getfqdn", lookup)
    loop = asyncio.get_running_loop()

    library.SMTP(None, hostname="given.example", loop=loop)
    lookup.assert_not_called()
    assert library.SMTP(None, loop=loop).hostname == "looked.up.example"


async def test_s8_making_a_session_looks_at_every_member(monkeypatch: pytest.MonkeyPatch) -> None:
    """0.2 ms of introspection for each connection: who is refused at the door costs none of it."""
    look = Mock(wraps=inspect.getmembers)
    monkeypatch.setattr(inspect, "getmembers", look)

    session = library.SMTP(None, hostname="given.example", loop=asyncio.get_running_loop())

    assert look.mock_calls == [call(session), call(None)]


async def test_s9_parameters_are_upper_cased() -> None:
    """An ENVID or an ORCPT would not survive it."""
    options: list[str] = []

    class Handler:
        async def handle_MAIL(
            self, _server: object, _session: object, envelope: library.Envelope, address: str, given: list[str]
        ) -> str:
            options.extend(given)
            envelope.mail_from = address
            return "250 OK"

    async with _talking(Handler()) as (ask, _):
        await ask(b"MAIL FROM:<ana@shop.example> body=8bitmime\r\n")

    assert options == ["BODY=8BITMIME"]


@pytest.mark.parametrize("parameter", [b"AUTH=<>", b"RET=HDRS", b"ENVID=x"])
async def test_s9_auth_of_mail_is_refused_with_the_rest(parameter: bytes) -> None:
    """RFC 4954 §5 wants AUTH= accepted."""
    async with _talking(_Handler()) as (ask, _):
        assert (await ask(b"MAIL FROM:<ana@shop.example> " + parameter + b"\r\n")).startswith(b"555 ")


@pytest.mark.parametrize("parameter", [b"NOTIFY=NEVER", b"ORCPT=rfc822;bo@home.example"])
async def test_s9_parameters_of_rcpt_are_refused(parameter: bytes) -> None:
    """RFC 3461 needs them."""
    async with _talking(_Handler()) as (ask, _):
        await ask(b"MAIL FROM:<ana@shop.example>\r\n")
        assert (await ask(b"RCPT TO:<bo@home.example> " + parameter + b"\r\n")).startswith(b"555 ")


async def test_s9_a_response_beyond_1001_octets_ends_the_exchange() -> None:
    """RFC 4954 §4 wants 12,288 taken: tokens of some mechanisms are long."""
    async with _talking(_Handler(), auth_require_tls=False) as (ask, _):
        assert (await ask(b"AUTH PLAIN\r\n")).startswith(b"334")
        assert (await ask(b"A" * 2000 + b"\r\n")).startswith(b"500 ")


async def test_s9_starttls_inside_tls_is_answered_220(tmp_path: Path) -> None:
    """RFC 3207 §4.2 wants it refused: a second handshake inside the first is no way to go on."""
    certificate, key = make_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    async with _talking(_Handler(), tls_context=context) as (ask, writer):
        assert (await ask(b"STARTTLS\r\n")).startswith(b"220 ")
        await writer.start_tls(ssl.create_default_context(cafile=certificate), server_hostname="127.0.0.1")
        await ask(b"EHLO client.example\r\n")
        assert (await ask(b"STARTTLS\r\n")).startswith(b"220 ")


async def test_s9_mechanism_names_are_case_sensitive() -> None:
    """RFC 4422 §3.1 has them without case."""
    async with _talking(_Handler(), auth_require_tls=False) as (ask, _):
        assert (await ask(b"AUTH plain AGEAYg==\r\n")).startswith(b"504")
        assert (await ask(b"AUTH PLAIN AGEAYg==\r\n")).startswith(b"535")


async def test_s10_commands_are_logged_and_we_keep_that_log_shut(caplog: pytest.LogCaptureFixture) -> None:
    """Addresses at INFO, message data at DEBUG, until the log is silenced."""
    library_log = logging.getLogger("mail.log")
    level, propagates = library_log.level, library_log.propagate
    library_log.propagate = True
    try:
        library_log.setLevel(logging.DEBUG)
        async with _talking(_Handler()) as (ask, _):
            await _deliver(ask)
            await ask(b"a secret\r\n.\r\n")
        loud = caplog.text
        caplog.clear()
        silence_library_log()
        async with _talking(_Handler()) as (ask, _):
            await _deliver(ask)
            await ask(b"a secret\r\n.\r\n")
        quiet = caplog.text
    finally:
        library_log.setLevel(level)
        library_log.propagate = propagates

    assert "ana@shop.example" in loud
    assert "a secret" in loud
    assert quiet == ""


async def test_s11_the_text_of_a_reply_goes_out_as_it_is() -> None:
    """A line end in it makes two replies of one: every text of ours goes through the sanitiser."""

    class Handler:
        async def handle_NOOP(self, _server: object, _session: object, _envelope: object, _argument: str) -> str:
            return "250 one\r\n250 two"

    async with _talking(Handler()) as (ask, _):
        assert await ask(b"NOOP\r\n") == b"250 one"
        assert await ask(b"") == b"250 two"


def test_s16_the_controller_runs_a_thread_of_its_own(tmp_path: Path) -> None:
    """With a loop of its own; the protocol class runs on any."""
    served = controller.UnixSocketController(_Handler(), unix_socket=tmp_path / "s", server_hostname="seam.example")
    before = threading.active_count()
    served.start()
    during = threading.active_count()
    served.stop()

    assert during == before + 1
