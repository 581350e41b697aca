"""TLS of the listener: STARTTLS and at once, what may not be injected, and a certificate that is replaced."""

import asyncio
import gc
import logging
import socket
import ssl
from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import patch

import pytest
from structlog.testing import capture_logs

from relay.core import reply as replies
from relay.core.reply import Reply
from relay.smtp.passwords import hash_password
from relay.smtp.session import HANDSHAKES, ClientSession
from relay.smtp.tls import EXPIRY, relay_tls
from tests.certificates import make_certificate
from tests.integration.smtp_in import OPTIONS, Inbox, Wire, access, dialing, serving
from tracker.contract.credentials import Credential, CredentialBook, Permission
from tracker.runtime.tls import TlsError, TlsFiles

_PERMISSION = Permission(sender_domains=("shop.example",))
BOOK = CredentialBook(
    declared={"news": Credential(name="news", password_hash=hash_password(b"secret"), permission=_PERMISSION)},
    stored={},
)
AUTH = "AUTH PLAIN " + b64encode(b"\0news\0secret").decode()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    """A certificate and its key."""
    certificate, key = make_certificate(tmp_path_factory.mktemp("tls"))
    return TlsFiles(certificate=certificate, key=key)


def _client(files: TlsFiles) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=files.certificate)


async def _encrypt(wire: Wire, context: ssl.SSLContext) -> Wire:
    """Do what a client does after the 220 of STARTTLS."""
    assert (await wire.ask("STARTTLS")) == "220 2.0.0 Ready to start TLS"
    await wire.writer.start_tls(context, server_hostname="127.0.0.1")
    return wire


async def test_after_starttls_everything_begins_again(files: TlsFiles) -> None:
    """RFC 3207 §4.2: EHLO, the transaction and the login of the clear part are forgotten."""
    inbox = Inbox()
    logins = access(BOOK, tls=relay_tls(files))
    async with serving(inbox, logins=logins) as service, dialing(service.port) as wire:
        assert "250-STARTTLS|" in await wire.ask("EHLO client.example")
        assert (await wire.ask(AUTH)).startswith("235 ")
        assert (await wire.ask("MAIL FROM:<ana@shop.example>")).startswith("250 ")
        await _encrypt(wire, _client(files))
        assert (await wire.ask("RCPT TO:<bo@home.example>")).startswith("503 5.5.1 Send EHLO")
        offered = await wire.ask("EHLO client.example")
        assert "STARTTLS" not in offered
        assert "AUTH PLAIN LOGIN" in offered
        assert (await wire.ask("STARTTLS")).startswith("503 5.5.1 This connection is encrypted")
        assert (await wire.ask(AUTH)).startswith("235 ")
        await wire.open_data()
        assert (await wire.ask("From: ana@shop.example\r\n\r\nhello\r\n.")).startswith("250 ")
        assert (await wire.ask("QUIT")).startswith("221 ")

    assert (inbox.mail[0].session.tls, inbox.mail[0].session.caller) == (True, "news")


async def test_tls_at_once(files: TlsFiles) -> None:
    """RFC 8314 §3.3: the greeting comes inside TLS."""
    inbox = Inbox()
    async with serving(inbox, logins=access(BOOK, tls=relay_tls(files))) as service:
        wire = Wire(*await asyncio.open_connection("127.0.0.1", service.tls_port, ssl=_client(files)))
        assert (await wire.reply()).startswith("220 relay.example")
        assert "STARTTLS" not in await wire.ask("EHLO client.example")
        await wire.open_data()
        big = "x" * 70 + "\r\n"
        assert (await wire.ask(f"From: ana@shop.example\r\n\r\n{big * 5000}.")).startswith("250 ")
        assert (await wire.ask("QUIT")).startswith("221 ")
        wire.writer.close()

    assert inbox.mail[0].session.tls
    assert len(inbox.mail[0].message) > 360_000


@pytest.mark.parametrize("behind", ["MAIL FROM:<ana@shop.example>\r\n", "EHLO evil.example\r\n", "x", "\r\n"])
async def test_nothing_that_stands_behind_starttls_is_obeyed(files: TlsFiles, behind: str) -> None:
    """An attacker on the path puts commands into the clear part, to be run as the client's inside TLS."""
    async with serving(Inbox(), logins=access(tls=relay_tls(files))) as service, dialing(service.port) as wire:
        wire.send(b"STARTTLS\r\n" + behind.encode())

        assert (await wire.reply()).startswith("554 5.5.0 ")
        assert await wire.reply() == ""


async def test_what_comes_in_clear_after_the_220_ends_the_connection(files: TlsFiles) -> None:
    """It is read as a TLS record, and is none."""
    inbox = Inbox()
    async with serving(inbox, logins=access(tls=relay_tls(files))) as service, dialing(service.port) as wire:
        assert (await wire.ask("STARTTLS")).startswith("220 ")
        wire.send(b"EHLO evil.example\r\nMAIL FROM:<ana@shop.example>\r\n")

        rest = await wire.reader.read()
        assert b"250" not in rest
    assert not inbox.mail


async def test_what_was_read_in_clear_before_the_handshake_ends_the_connection(
    files: TlsFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It came with the 220, so before TLS: an attacker's line, which must not be the first one inside."""
    send = ClientSession._send

    async def send_and_read(self: ClientSession, reply: Reply, **more: tuple[str, ...]) -> None:
        await send(self, reply, **more)
        if reply is replies.READY_FOR_TLS:
            self._reader.feed_data(b"EHLO evil.example\r\n")

    monkeypatch.setattr(ClientSession, "_send", send_and_read)
    async with serving(Inbox(), logins=access(tls=relay_tls(files))) as service, dialing(service.port) as wire:
        assert (await wire.ask("STARTTLS")).startswith("220 ")
        assert await wire.reply() == ""


async def test_a_drain_in_a_handshake_ends(files: TlsFiles) -> None:
    """A client that says nothing must not hold up the end of the process."""
    async with serving(Inbox(), logins=access(tls=relay_tls(files))) as service:
        silent = Wire(*await asyncio.open_connection("127.0.0.1", service.tls_port))
        async with dialing(service.port):  # taken after the silent one
            async with asyncio.timeout(10):
                await service.listener.drain(0.0)
        assert await asyncio.wait_for(silent.reader.read(), 10) == b""
        silent.writer.close()


async def test_a_handshake_that_does_not_come_ends(files: TlsFiles) -> None:
    """A connection that says nothing after the 220, or nothing at all on the TLS port, is not kept."""
    options = replace(OPTIONS, stranger_timeout_s=0.05)
    async with serving(Inbox(), options, logins=access(tls=relay_tls(files))) as service:
        async with dialing(service.port) as wire:
            assert (await wire.ask("STARTTLS")).startswith("220 ")
            assert await asyncio.wait_for(wire.reader.read(), 10) == b""
        silent = Wire(*await asyncio.open_connection("127.0.0.1", service.tls_port))
        assert await asyncio.wait_for(silent.reader.read(), 10) == b""
        silent.writer.close()


async def test_a_client_that_leaves_during_the_handshake_is_forgotten(files: TlsFiles) -> None:
    """Its place is free again: a scanner must not fill the listener."""
    async with serving(Inbox(), logins=access(tls=relay_tls(files))) as service:
        for port in (service.port, service.tls_port):
            async with dialing(port, hello=port == service.port) as wire:
                if port == service.port:
                    assert (await wire.ask("STARTTLS")).startswith("220 ")
                wire.send(b"\x16\x03\x01")
                wire.reset()
        async with asyncio.timeout(10):
            await service.listener._all_left.wait()


class _Deaf:
    """A client of TLS that sends what it likes and reads no more than it must: its kernel takes 4 KB of replies."""

    def __init__(self, files: TlsFiles, port: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._port = port
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = _client(files).wrap_bio(self._incoming, self._outgoing, server_hostname="127.0.0.1")
        self._sock = socket.socket()
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._sock.setblocking(False)

    async def connect(self, *commands: bytes, leaves: bool = False) -> None:
        """Come to where these commands are answered; or end TLS in one packet with the end of the handshake."""
        await self._loop.sock_connect(self._sock, ("127.0.0.1", self._port))
        if leaves:
            return await self._do(self._shake_hands_and_leave)
        await self._do(self.tls.do_handshake)
        for command in (b"", *commands):
            self.tls.write(command)
            await self._do(lambda: self.tls.read(1000))
        return None

    async def send(self) -> None:
        """Send what TLS has made of what was written."""
        await self._loop.sock_sendall(self._sock, self._outgoing.read())

    def close(self) -> None:
        self._sock.close()

    def _shake_hands_and_leave(self) -> None:
        self.tls.do_handshake()
        with pytest.raises(ssl.SSLWantReadError):
            self.tls.unwrap()

    async def _do(self, step: Callable[[], object]) -> None:
        while True:
            try:
                step()
            except ssl.SSLWantReadError:
                await self.send()
                self._incoming.write(await self._loop.sock_recv(self._sock, 4096))
            else:
                return await self.send()


@pytest.mark.parametrize("waits", [True, False])
async def test_a_client_that_ends_tls_and_reads_nothing_is_dropped(files: TlsFiles, *, waits: bool) -> None:
    """Its close_notify ends the shutdown of TLS, and the library's limit on it, before our replies are gone."""
    failures: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
    logins = access(tls=relay_tls(files))
    async with serving(Inbox(), logins=logins, send_buffer_bytes=4096) as service:
        client = _Deaf(files, service.tls_port)
        await client.connect(b"EHLO x\r\n", b"MAIL FROM:<ana@shop.example>\r\n")
        for _ in range(3):  # a record each
            client.tls.write(b"RCPT TO:<bo@home.example>\r\n" * 600)
        await client.send()
        (session,) = service.listener._sessions
        under_tls = session._writer.transport._ssl_protocol._transport  # type: ignore[attr-defined]
        while waits:
            await asyncio.sleep(0.01)
            waits = not (under_tls.get_write_buffer_size() and session._is_idle)
        with pytest.raises(ssl.SSLWantReadError):
            client.tls.unwrap()
        await client.send()
        async with asyncio.timeout(10):
            await service.listener._all_left.wait()
        client.close()

    gc.collect()
    assert failures == []


async def test_a_client_that_ends_tls_with_the_handshake_is_no_line_in_the_log(
    files: TlsFiles, caplog: pytest.LogCaptureFixture
) -> None:
    """A scanner that only looks at the certificate: the library would warn of an answer that TLS has no use for."""
    caplog.set_level(logging.WARNING)
    async with serving(Inbox(), logins=access(tls=relay_tls(files))) as service:
        client = _Deaf(files, service.tls_port)
        await client.connect(leaves=True)
        async with asyncio.timeout(10):
            await service.listener._all_left.wait()
        client.close()

    assert caplog.text == ""


@pytest.mark.parametrize("behind", [b"", b"EHLO x\r\n", b"\x16\x03\x01\x00\x05hello"])
async def test_a_handshake_that_fails_makes_room(files: TlsFiles, behind: bytes) -> None:
    """Bytes that are no TLS, a half hello, silence: none of them counts as a connection for longer than it is one."""
    options = replace(OPTIONS, stranger_timeout_s=0.1, max_connections=1)
    async with serving(Inbox(), options, logins=access(tls=relay_tls(files))) as service:
        for port in (service.port, service.tls_port):
            async with dialing(port, hello=port == service.port) as wire:
                assert len(service.listener._sessions) <= 1
                if port == service.port:
                    assert (await wire.ask("STARTTLS")).startswith("220 ")
                wire.send(behind)
                await asyncio.wait_for(wire.reader.read(), 10)
                async with asyncio.timeout(10):
                    await service.listener._all_left.wait()


async def test_who_is_too_many_gets_no_handshake(files: TlsFiles) -> None:
    """A handshake for the sake of a refusal would cost more than the connection that is refused."""
    before = HANDSHAKES.labels("done")._value.get(), HANDSHAKES.labels("failed")._value.get()
    options = replace(OPTIONS, max_connections=1)
    async with serving(Inbox(), options, logins=access(tls=relay_tls(files))) as service, dialing(service.port):
        surplus = Wire(*await asyncio.open_connection("127.0.0.1", service.tls_port))
        assert await asyncio.wait_for(surplus.reader.read(), 10) == b""
        surplus.writer.close()

    assert (HANDSHAKES.labels("done")._value.get(), HANDSHAKES.labels("failed")._value.get()) == before


async def test_with_require_neither_mail_nor_a_password_goes_in_clear(files: TlsFiles) -> None:
    """RFC 3207 §4; also from loopback and allow_networks."""
    logins = access(BOOK, tls=relay_tls(files), require_tls=True)
    async with serving(Inbox(), logins=logins) as service, dialing(service.port) as wire:
        assert "AUTH" not in await wire.ask("EHLO client.example")
        assert (await wire.ask("MAIL FROM:<ana@shop.example>")).startswith("530 5.7.0 Encryption required")
        assert (await wire.ask(AUTH)).startswith("530 5.7.0 Encryption required")
        await _encrypt(wire, _client(files))
        await wire.ask("EHLO client.example")
        assert (await wire.ask("MAIL FROM:<ana@shop.example>")).startswith("250 ")


async def test_starttls_without_a_certificate_is_not_offered() -> None:
    """What cannot work is not promised."""
    async with serving(Inbox()) as service, dialing(service.port) as wire:
        assert "STARTTLS" not in await wire.ask("EHLO client.example")
        assert (await wire.ask("STARTTLS")).startswith("502 5.5.1 ")


async def test_old_versions_of_tls_are_refused(files: TlsFiles) -> None:
    """RFC 8996."""
    context = _client(files)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1 is deprecated"):
        context.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="TLSv1_1 is deprecated"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    async with serving(Inbox(), logins=access(tls=relay_tls(files))) as service:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection("127.0.0.1", service.tls_port, ssl=context)


async def test_cipher_suites_without_authentication_are_refused(files: TlsFiles) -> None:
    """RFC 9325 §4.2: CBC and plain RSA are for nobody who can do better."""
    context = _client(files)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE-ECDSA-AES128-SHA:ECDHE-ECDSA-AES256-SHA384")
    async with serving(Inbox(), logins=access(tls=relay_tls(files))) as service:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection("127.0.0.1", service.tls_port, ssl=context)


def test_a_client_cannot_have_the_keys_made_again(files: TlsFiles) -> None:
    """Each renegotiation of TLS 1.2 would cost the server ten times what it costs the client."""
    assert relay_tls(files).context.options & ssl.OP_NO_RENEGOTIATION


async def test_a_new_certificate_is_for_new_connections(files: TlsFiles, tmp_path: Path) -> None:
    """The old ones go on with what they began with."""
    certificate, key = make_certificate(tmp_path, "two")
    logins = access(tls=relay_tls(files))
    async with serving(Inbox(), logins=logins) as service, dialing(service.port) as wire:
        await _encrypt(wire, _client(files))
        logins.tls = relay_tls(TlsFiles(certificate=certificate, key=key))
        assert (await wire.ask("EHLO client.example")).startswith("250-")
        other = Wire(
            *await asyncio.open_connection(
                "127.0.0.1", service.tls_port, ssl=ssl.create_default_context(cafile=certificate)
            )
        )
        assert (await other.reply()).startswith("220 ")
        other.writer.close()


def test_a_certificate_that_ends_is_said_once_a_day(tmp_path: Path) -> None:
    """A process runs for months, and a renewal that failed must not be found out by the clients."""
    certificate, key = make_certificate(tmp_path, days_left=30)
    tls = relay_tls(TlsFiles(certificate=certificate, key=key))

    with capture_logs() as said:
        for hours in (0, 22 * 24, 24 * 24, 24 * 24 + 1, 25 * 24, 40 * 24):
            tls.warn(tls.expires_at - timedelta(days=30) + timedelta(hours=hours))

    assert [line["event"] for line in said] == ["certificate_expires"] * 3
    assert EXPIRY._value.get() == tls.expires_at.timestamp()


async def test_clients_that_come_have_it_said(tmp_path: Path) -> None:
    """Nothing else turns in a process that takes no signal."""
    certificate, key = make_certificate(tmp_path, days_left=1)
    tls = relay_tls(TlsFiles(certificate=certificate, key=key))
    with patch("tests.integration.smtp_in.NOW", datetime.now(UTC)), capture_logs() as said:
        async with serving(Inbox(), logins=access(tls=tls)) as service, dialing(service.port) as wire:
            await _encrypt(wire, ssl.create_default_context(cafile=certificate))

    assert [line["event"] for line in said if line["event"] == "certificate_expires"] == ["certificate_expires"]


def test_a_pair_that_cannot_be_used_says_why(files: TlsFiles, tmp_path: Path) -> None:
    """Each with the file and a remedy; a key that others can read is theirs too."""
    certificate, key = make_certificate(tmp_path, "other")
    text = tmp_path / "text"
    text.write_text("hello\n")
    text.chmod(0o600)
    encrypted = tmp_path / "encrypted"
    encrypted.write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIC\n-----END ENCRYPTED PRIVATE KEY-----\n")
    encrypted.chmod(0o600)

    def fault(certificate: Path, key: Path) -> tuple[str, str]:
        with pytest.raises(TlsError) as caught:
            relay_tls(TlsFiles(certificate=certificate, key=key))
        return caught.value.part, caught.value.wrong.removeprefix(f"{tmp_path}/")

    assert fault(certificate, files.key) == ("key", f"{files.key} is not the key of {certificate}")
    assert fault(text, key) == ("certificate", "text holds no certificate that can be used")
    assert fault(certificate, text) == ("key", "text holds no key that can be used")
    assert fault(tmp_path / "none", key) == ("certificate", "none cannot be read: No such file or directory")
    assert fault(certificate, tmp_path / "none") == ("key", "none cannot be read: No such file or directory")
    assert fault(certificate, encrypted)[0] == "key"
    key.chmod(0o640)
    assert fault(certificate, key) == ("key", "other-key.pem can be read by others")
