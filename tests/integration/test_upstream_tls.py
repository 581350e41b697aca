"""The upstream behind TLS: who gets the mail, and who the password."""

import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from relay.core.attempt import Accepted, Deferred, Phase
from relay.smtp.upstreams import Security, SmtpTarget
from tests.integration.smtp_script import Script
from tests.integration.test_upstream import send, transaction


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1, its own authority, with its key in the same file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "cert.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.fixture
def secure(certificate: Path) -> Callable[..., Script]:
    """Make a scripted server with the certificate."""

    def make(*, implicit: bool = False, offers: bool = True) -> Script:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
        extensions = ("STARTTLS", "AUTH PLAIN") if offers and not implicit else ("AUTH PLAIN",)
        return Script(tls=context, is_implicit=implicit, extensions=extensions)

    return make


@pytest.mark.parametrize("security", [Security.STARTTLS, Security.IMPLICIT])
async def test_a_verified_upstream_gets_mail_and_password(
    secure: Callable[..., Script], certificate: Path, security: Security
) -> None:
    """After STARTTLS, EHLO is said again (RFC 3207 §4.2)."""
    async with secure(implicit=security is Security.IMPLICIT) as server:
        target = SmtpTarget(server.host, server.port, security)
        attempts = await send(server, transaction(), target=target, tls_ca=certificate, username="u", password="p")

    verbs = [command.partition(" ")[0] for command in server.commands[0]]
    assert isinstance(attempts[0], Accepted)
    assert verbs[:4] == (["EHLO", "STARTTLS", "EHLO", "AUTH"] if security is Security.STARTTLS else verbs[:4])
    assert "AUTH" in verbs


@pytest.mark.parametrize("security", [Security.STARTTLS, Security.IMPLICIT])
async def test_a_certificate_that_does_not_verify_stops_everything(
    secure: Callable[..., Script], security: Security
) -> None:
    """Never in clear, never to a stranger; a condition of the upstream."""
    async with secure(implicit=security is Security.IMPLICIT) as server:
        target = SmtpTarget(server.host, server.port, security)
        attempts = await send(server, transaction(), target=target, username="u", password="p")

    attempt = attempts[0]
    assert isinstance(attempt, Deferred)
    assert (attempt.phase, attempt.of_upstream) == (Phase.TLS, True)
    assert "certificate is not valid" in attempt.detail
    assert not server.messages


@pytest.mark.parametrize("security", [Security.STARTTLS, Security.IMPLICIT])
async def test_a_certificate_of_another_name_stops_everything(
    secure: Callable[..., Script], certificate: Path, security: Security
) -> None:
    """Its authority is trusted, but it is for 127.0.0.1: anybody with a certificate could pass as the upstream."""
    async with secure(implicit=security is Security.IMPLICIT) as server:
        target = SmtpTarget("localhost", server.port, security)
        attempts = await send(server, transaction(), target=target, tls_ca=certificate, username="u", password="p")

    attempt = attempts[0]
    assert isinstance(attempt, Deferred)
    assert (attempt.phase, attempt.of_upstream) == (Phase.TLS, True)
    assert "certificate is not valid" in attempt.detail
    assert not any(command.startswith(("AUTH", "MAIL")) for commands in server.commands for command in commands)


async def test_replies_in_clear_behind_that_to_starttls_are_thrown_away(
    secure: Callable[..., Script], certificate: Path
) -> None:
    """RFC 3207 §4.2: whoever is on the way must not answer for the encrypted server."""
    async with secure() as server:
        server.replies["starttls"] = "220 go on\r\n250-evil.example\r\n250 AUTH CRAM-MD5"
        target = SmtpTarget(server.host, server.port, Security.STARTTLS)
        attempts = await send(server, transaction(), target=target, tls_ca=certificate, username="u", password="p")

    assert isinstance(attempts[0], Accepted)
    assert [command.partition(" ")[0] for command in server.commands[0]][:4] == ["EHLO", "STARTTLS", "EHLO", "AUTH"]
    assert "AUTH PLAIN" in server.commands[0][3]


async def test_starttls_that_is_demanded_and_not_offered_stops_everything(secure: Callable[..., Script]) -> None:
    """Stripping."""
    async with secure(offers=False) as server:
        target = SmtpTarget(server.host, server.port, Security.STARTTLS)
        attempts = await send(server, transaction(), target=target)

    assert isinstance(attempts[0], Deferred)
    assert "does not offer STARTTLS" in attempts[0].detail


async def test_offered_starttls_is_taken_even_from_a_stranger(secure: Callable[..., Script]) -> None:
    """smtp:// without a password: encryption without a known peer is better than none."""
    async with secure() as server:
        attempts = await send(server, transaction())

    assert isinstance(attempts[0], Accepted)
    assert "STARTTLS" in server.commands[0]


async def test_a_password_is_not_sent_in_clear_to_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loopback is excepted; here it is made to look like another machine."""
    monkeypatch.setattr("relay.smtp.upstream.Connection._is_loopback", lambda self: False)
    async with Script() as server:
        attempts = await send(server, transaction(), username="u", password="p")

    assert isinstance(attempts[0], Deferred)
    assert "not sent in clear" in attempts[0].detail
    assert not any(command.startswith("AUTH") for command in server.commands[0])


async def test_a_password_is_not_sent_to_a_stranger_on_another_machine(
    secure: Callable[..., Script], monkeypatch: pytest.MonkeyPatch
) -> None:
    """smtp:// with a password: encryption is not enough, the certificate must verify."""
    monkeypatch.setattr("relay.smtp.upstream.Connection._is_loopback", lambda self: False)
    async with secure() as server:
        attempts = await send(server, transaction(), username="u", password="p")

    assert isinstance(attempts[0], Deferred)
    assert "certificate is not valid" in attempts[0].detail
    assert server.commands[0] == ["EHLO relay.example.com", "STARTTLS"]
