"""TLS of the tracking host: which certificates, how long a handshake may take, and what is counted of it.

Limits: TLS takes time on the loop, half a millisecond a full handshake with an ECDSA key; a proxy in front does it
elsewhere. A connection that has not finished its handshake is not counted with the others; it ends with `HANDSHAKE_S`.
"""

import asyncio
import socket
from collections.abc import Sequence
from typing import Final

from aiohttp import web
from prometheus_client import Counter, Gauge

from tracker.contract.ports import Clock
from tracker.runtime.tls import Door, ServerTls, TlsFiles

ALPN: Final = ("http/1.1",)
HANDSHAKE_S: Final = 10.0  # mail programs on bad networks need some seconds; a stranger must not hold a connection long
SHUTDOWN_S: Final = 2.0

EXPIRY: Final = Gauge(
    "mailwake_http_certificate_expiry_timestamp_seconds",
    "When the first certificate of tracker.tls ends, in Unix time; 0 without one.",
    multiprocess_mode="livemax",
)
HELLOS: Final = Counter(
    "mailwake_http_tls_hellos_total",
    "Handshakes that clients of the tracking host began, by whether a certificate is for the host they want.",
    ["server_name"],
)


def tracker_tls(files: Sequence[TlsFiles]) -> ServerTls:
    """Load the certificates, the default first. TlsError: one cannot be used."""
    return ServerTls(*files, expiry=EXPIRY, alpn=ALPN)


def open_door(tls: ServerTls, clock: Clock) -> Door:
    """Make the context that the tracking host listens with."""
    counted = {name: HELLOS.labels(name) for name in ("known", "unknown", "none")}
    return Door(tls, clock, lambda name: counted[name].inc())


class TlsSite(web.BaseSite):
    """A socket that speaks TLS. The library's own sites leave the handshake a minute."""

    __slots__ = ("_socket",)

    def __init__(self, runner: web.ServerRunner, bound: socket.socket, door: Door, *, backlog: int) -> None:
        """Take a bound socket; it is closed when the site stops."""
        super().__init__(runner, ssl_context=door.context, backlog=backlog)
        self._socket = bound

    @property
    def name(self) -> str:
        """The address, for the library's own lists."""
        host, port = self._socket.getsockname()[:2]
        return f"https://{host}:{port}"

    async def start(self) -> None:
        """Listen."""
        await super().start()
        server = self._runner.server
        if server is None:
            raise AssertionError("the runner is not set up")
        self._server = await asyncio.get_running_loop().create_server(
            server,
            sock=self._socket,
            ssl=self._ssl_context,
            backlog=self._backlog,
            ssl_handshake_timeout=HANDSHAKE_S,
            ssl_shutdown_timeout=SHUTDOWN_S,
        )
