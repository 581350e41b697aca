"""A real `nats-server` on loopback: started, killed, started again on the same port and store; never left behind."""

import asyncio
import base64
import binascii
import json
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from nats.aio.client import Client

from tests.machine import lacking
from tracker.contract.settings import EventDestination
from tracker.publish.nats import NatsWriter
from tracker.store.publishing import LogEntry

_CONFIG = """
listen: "127.0.0.1:{port}"
jetstream {{ store_dir: "{store}", sync_interval: always }}
{more}
"""


class NatsServer:
    """One server with JetStream; `url` has no user."""

    def __init__(self, folder: Path, more: str = "") -> None:
        """Write the configuration; start nothing yet."""
        folder.mkdir(parents=True, exist_ok=True)
        self._program = Path(sys.executable).with_name("nats-server")
        if not self._program.exists():
            lacking("nats-server is not installed")
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self.url = f"nats://127.0.0.1:{self.port}"
        self._folder = folder
        self._config = folder / "nats.conf"
        self._config.write_text(_CONFIG.format(port=self.port, store=folder / "store", more=more))
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Start it, and wait until it greets."""
        log = self._folder / "nats.log"
        self._process = subprocess.Popen(
            [self._program, "--config", self._config, "--log", log],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while True:  # the test's own time limit is the limit
            assert self._process.poll() is None, log.read_text() if log.exists() else "it ended"
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                greeting = await reader.readline()
                writer.close()
                await writer.wait_closed()
                if greeting.startswith(b"INFO"):
                    return
            except OSError:
                pass
            await asyncio.sleep(0.01)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        """Connect as a reader of the stream does."""
        client = Client()
        await client.connect(self.url, allow_reconnect=False)
        try:
            yield client
        finally:
            await client.close()

    async def stored(self, stream: str = "MAILWAKE") -> list[tuple[str, str, bytes]]:
        """Read all of a stream: subject, `Nats-Msg-Id`, record; in its order."""
        async with self.client() as client:
            manager = client.jsm()
            state = (await manager.stream_info(stream)).state
            found = []
            for number in range(state.first_seq, state.last_seq + 1):
                message = await manager.get_msg(stream, number)
                found.append((message.subject or "", (message.headers or {})["Nats-Msg-Id"], message.data or b""))
            return found


@contextmanager
def killed_at_the_end(server: NatsServer) -> Iterator[NatsServer]:
    """Leave no server behind."""
    try:
        yield server
    finally:
        server.kill()


class Operator:
    """An operator's configuration of a server, and a credentials file of a user that it knows."""

    def __init__(self, folder: Path) -> None:
        """Make keys and tokens: an operator, its system account, an account with JetStream, a user of that."""
        operator, system, account, user = (Ed25519PrivateKey.generate() for _ in range(4))
        ids = [_public(key, kind) for key, kind in ((operator, 14), (system, 0), (account, 0), (user, 20))]
        no_limits = dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1)
        storage = {"mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1, "wildcards": True}
        operator_jwt = _jwt(operator, ids[0], ids[0], {"type": "operator", "system_account": ids[1]})
        accounts = {
            ids[1]: _jwt(operator, ids[0], ids[1], {"type": "account", "limits": {**no_limits, "wildcards": True}}),
            ids[2]: _jwt(operator, ids[0], ids[2], {"type": "account", "limits": {**no_limits, **storage}}),
        }
        user_jwt = _jwt(account, ids[2], ids[3], {"type": "user", "subs": -1, "data": -1, "payload": -1})
        preload = "\n".join(f"{name}: {token}" for name, token in accounts.items())
        self.config = (
            f"operator: {operator_jwt}\nsystem_account: {ids[1]}\nresolver: MEMORY\nresolver_preload {{\n{preload}\n}}"
        )
        self.credentials = folder / "mailwake.creds"
        self.credentials.touch(mode=0o600)
        self.credentials.write_text(
            f"-----BEGIN NATS USER JWT-----\n{user_jwt}\n------END NATS USER JWT------\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{_seed(user, 20)}\n------END USER NKEY SEED------\n"
        )


def _public(key: Ed25519PrivateKey, kind: int) -> str:
    raw = bytes([kind << 3]) + key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return _base32(raw)


def _seed(key: Ed25519PrivateKey, kind: int) -> str:
    prefix = kind << 3
    raw = bytes([18 << 3 | prefix >> 5, (prefix & 31) << 3])
    return _base32(raw + key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption()))


def _base32(raw: bytes) -> str:
    return base64.b32encode(raw + binascii.crc_hqx(raw, 0).to_bytes(2, "little")).decode().rstrip("=")


def _jwt(signer: Ed25519PrivateKey, issuer: str, subject: str, claim: dict[str, Any]) -> str:
    header = {"typ": "JWT", "alg": "ed25519-nkey"}
    payload = {"jti": subject, "iat": 1, "iss": issuer, "name": "test", "sub": subject, "nats": {**claim, "version": 2}}
    text = ".".join(_base64(json.dumps(part).encode()) for part in (header, payload))
    return f"{text}.{_base64(signer.sign(text.encode()))}"


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


BUS = EventDestination(name="bus", type="nats", servers=("nats://127.0.0.1:1",))


def entries(count: int, *, type: str = "open", first: int = 1, body: str = '{"n":%d}') -> list[LogEntry]:  # noqa: A002
    """Make entries of the log."""
    return [
        LogEntry(
            seq=number,
            event_id=f"id{number}",
            type=type,
            configuration_set="promo",
            agent_class=None,
            body=body % number if "%d" in body else body,
        )
        for number in range(first, first + count)
    ]


def writer(server: NatsServer, **fields: object) -> NatsWriter:
    """Make a writer to a server."""
    return NatsWriter(replace(BUS, **{"servers": (server.url,), **fields}))  # type: ignore[arg-type]
