"""Who is let in by a server of NATS, and by whom we let ourselves be served: credentials, TLS, and no word too many."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.certificates import make_certificate
from tests.integration.nats_server import BUS, NatsServer, Operator, entries, killed_at_the_end, writer
from tracker.publish.nats import NatsWriter
from tracker.publish.outcome import Delivered, TryAgain

NOON = datetime(2026, 11, 3, 12, tzinfo=UTC)


async def test_a_password_in_an_address_is_in_no_reason(tmp_path: Path) -> None:
    """The reason is shown to whoever lists destinations."""
    server = NatsServer(tmp_path)
    bus = NatsWriter(replace(BUS, servers=(f"nats://news:secret@127.0.0.1:{server.port}",)))
    outcome = await bus.write(entries(1), NOON)
    await bus.close()

    assert isinstance(outcome, TryAgain)
    assert "secret" not in outcome.reason


async def test_a_credentials_file_opens_the_door(tmp_path: Path) -> None:
    """A server with an operator: without the file it refuses, with it the events go in."""
    operator = Operator(tmp_path)
    with killed_at_the_end(NatsServer(tmp_path / "nats", operator.config)) as made:
        await made.start()
        stranger, ours = writer(made), writer(made, credentials=operator.credentials)

        refused = await stranger.write(entries(1), NOON)
        assert isinstance(refused, TryAgain)
        assert "uthorization" in refused.reason
        assert await ours.write(entries(3), NOON) == Delivered()
        await stranger.close()
        await ours.close()


@pytest.mark.parametrize(
    "change, reason",
    [
        (lambda path: path.unlink(), "cannot be read: No such file"),
        (lambda path: path.chmod(0o644), "can be read by others"),
        (lambda path: path.write_text("SUAKEY"), "is no credentials file"),
        (lambda path: path.write_text(path.read_text().replace("SUA", "SUB")), "holds no seed of a user's nkey"),
        (lambda path: path.write_bytes(b"\xff\xfe"), "is no credentials file"),
    ],
)
async def test_a_credentials_file_that_cannot_be_used_is_said(
    tmp_path: Path, change: Callable[[Path], object], reason: str
) -> None:
    """And the file is never quoted."""
    credentials = Operator(tmp_path).credentials
    seed = credentials.read_text().rpartition("SEED-----\n")[2][:20]
    change(credentials)
    bus = NatsWriter(replace(BUS, credentials=credentials))

    outcome = await bus.write(entries(1), NOON)

    assert isinstance(outcome, TryAgain)
    assert reason in outcome.reason
    assert seed not in outcome.reason
    await bus.close()


async def test_tls_is_verified_and_never_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`tls://` with a known authority goes, with an unknown one does not, and a server in clear is refused."""
    certificate, key = make_certificate(tmp_path)
    secure = NatsServer(tmp_path / "secure", f'tls {{ cert_file: "{certificate}", key_file: "{key}" }}')
    plain = NatsServer(tmp_path / "plain")
    with killed_at_the_end(secure), killed_at_the_end(plain):
        await secure.start()
        await plain.start()

        async def ask(server: NatsServer) -> object:
            bus = writer(server, servers=(server.url.replace("nats:", "tls:"),))
            outcome = await bus.write(entries(1), NOON)
            await bus.close()
            return outcome

        unknown, in_clear = await ask(secure), await ask(plain)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        known = await ask(secure)

    assert isinstance(unknown, TryAgain)
    assert "certificate" in unknown.reason
    assert in_clear == TryAgain(reason="127.0.0.1 speaks no TLS: write nats:// for a server that needs none")
    assert known == Delivered()
