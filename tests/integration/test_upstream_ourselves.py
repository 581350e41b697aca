"""An upstream that is this relay itself is found out at its answer to EHLO, whoever leads the connection there."""

from dataclasses import replace
from pathlib import Path

from structlog.testing import capture_logs

from relay.core.attempt import Accepted, Attempt
from relay.smtp.ourselves import IS_OURSELVES, Sign
from relay.smtp.passwords import hash_password
from relay.smtp.pool import make_upstream
from relay.smtp.tls import relay_tls
from relay.smtp.upstreams import Security, SmtpTarget, UpstreamOptions
from tests.certificates import make_certificate
from tests.integration.smtp_in import OPTIONS, Inbox, access, serving
from tests.integration.test_upstream import transaction
from tracker.contract.credentials import Credential, CredentialBook, Permission
from tracker.runtime.tls import TlsFiles

OURS, ANOTHER = Sign(b"k" * 32), Sign(b"o" * 32)
EVERYTHING = Permission(sender_domains=("shop.example",))
BOOK = CredentialBook(
    declared={"us": Credential(name="us", password_hash=hash_password(b"secret"), permission=EVERYTHING)}, stored={}
)


async def send(port: int, security: Security = Security.WHEN_OFFERED, **options: object) -> list[Attempt]:
    """Send one message to a listener as the relay with `OURS` does, and return what came of it."""
    target = SmtpTarget("127.0.0.1", port, security)
    made = UpstreamOptions(name="next", target=target, hostname="relay.example.com", sign=OURS, **options)  # type: ignore[arg-type]
    upstream = make_upstream(made)
    try:
        return await upstream.send(transaction())
    finally:
        await upstream.close()


async def test_nothing_is_sent_to_a_relay_with_our_sign() -> None:
    """A condition of the upstream: its mail waits, neither bounced nor sent in a circle; the log says what it is."""
    inbox = Inbox()
    with capture_logs() as lines:
        async with serving(inbox, replace(OPTIONS, sign=OURS)) as service:
            attempts = await send(service.port)

    assert attempts == [IS_OURSELVES]
    assert inbox.mail == []
    assert [(line["event"], line["log_level"]) for line in lines] == [("upstream_is_ourselves", "error")]


async def test_a_relay_with_another_sign_is_an_upstream() -> None:
    """Two relays in a row have keys of their own; that both bear one host name says nothing."""
    for sign in (ANOTHER, None):
        inbox = Inbox()
        async with serving(inbox, replace(OPTIONS, sign=sign)) as service:
            attempts = await send(service.port)

        assert isinstance(attempts[0], Accepted)
        assert len(inbox.mail) == 1


async def test_our_own_login_is_not_tried_on_ourselves(tmp_path: Path) -> None:
    """The sign is looked at before the password is sent, in clear and where TLS begins at once."""
    certificate, key = make_certificate(tmp_path)
    inbox, logins = Inbox(), access(BOOK, tls=relay_tls(TlsFiles(certificate=certificate, key=key)))
    async with serving(inbox, replace(OPTIONS, sign=OURS), logins=logins) as service:
        for port, security in (
            (service.port, Security.WHEN_OFFERED),
            (service.port, Security.STARTTLS),
            (service.tls_port, Security.IMPLICIT),
        ):
            with capture_logs() as lines:
                attempts = await send(port, security, tls_ca=certificate, username="us", password="wrong")
            assert attempts == [IS_OURSELVES]
            assert "login_refused" not in {line["event"] for line in lines}
