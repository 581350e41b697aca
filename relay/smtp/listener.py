"""The SMTP listener: sockets that are bound already, who may connect, and the way to stop.

The library's Controller runs a thread with a loop of its own; here its protocol class runs on ours. It has no limit on
connections, and building its object costs 0.2 ms; so a small protocol stands at the door, refuses what is too much
without building anything, and hands every other connection over to a session.

Owns the sockets, the count of connections, the drain. Does not own the conversation (session.py).

Standards: RFC 5321 §3.8 and §4.2.3 (421).
"""

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from prometheus_client import Counter, Gauge

from relay.core import reply as replies
from relay.core.reply import Reply
from relay.smtp.acceptance import Acceptances
from relay.smtp.access import Access
from relay.smtp.guessing import source_of
from relay.smtp.memory import MessageMemory
from relay.smtp.options import Accept, Admit, ListenerOptions
from relay.smtp.session import REPLIES, ClientSession
from tracker.contract.ports import Clock
from tracker.runtime.seat import Column, Counts

CONNECTIONS: Final = Counter("mailwake_smtp_connections", "Connections of clients, by what became of them.", ["result"])
OPEN_CONNECTIONS: Final = Gauge(
    "mailwake_smtp_open_connections", "Connections of clients now open.", multiprocess_mode="livesum"
)
_BACKLOG: Final = 1024  # connections that wait in the kernel while the loop is busy


class Listener:
    """Takes mail on the sockets that `start` is given, until `drain`.

    `accept` gets every message that was read to its end; `admit` is asked at each MAIL; `memory` bounds what messages
    take until they are answered; `counts` has the connections of all processes of the node.
    """

    def __init__(
        self,
        options: ListenerOptions,
        accept: Accept,
        admit: Admit,
        access: Access,
        clock: Clock,
        *,
        memory: MessageMemory,
        counts: Counts | None = None,
    ) -> None:
        self._options = options
        self._access = access
        self._memory = memory
        self._acceptances = Acceptances(accept, memory)
        self._admit = admit
        self._clock = clock
        self._servers: list[asyncio.Server] = []
        self._sessions: set[ClientSession] = set()
        self._counts = counts or Counts()
        self._all_left = asyncio.Event()
        self._all_left.set()
        self._is_draining = False

    async def start(self, sockets: Sequence[socket.socket], *, tls_sockets: Sequence[socket.socket] = ()) -> None:
        """Listen on bound TCP sockets, with TLS at once on the second ones; they belong to the listener from now on."""
        loop = asyncio.get_running_loop()
        for implicit_tls, group in ((False, sockets), (True, tls_sockets)):
            for sock in group:
                door = partial(_Door, self, implicit_tls=implicit_tls)
                self._servers.append(await loop.create_server(door, sock=sock, backlog=_BACKLOG))

    def configure(self, options: ListenerOptions) -> None:
        """Replace the settings for connections that come from now on; those that are open keep theirs.

        Our name stays: the rest of the process works by it, too.
        """
        self._options = replace(options, hostname=self._options.hostname)

    async def drain(self, timeout_s: float) -> None:
        """Stop: no new connection, 421 to idle sessions, and an end to each message that is on its way.

        Returns when all sessions and acceptances have ended. After `timeout_s` the sessions left are cut without a
        reply, so that their clients send again; an acceptance still running then goes on, and nobody waits for it.
        """
        self._is_draining = True
        for server in self._servers:
            server.close()
        for session in tuple(self._sessions):
            session.stop()
        try:
            async with asyncio.timeout(timeout_s):
                await self._all_left.wait()
                await self._acceptances.finished()
        except TimeoutError:
            for session in tuple(self._sessions):
                session.abort()
            await self._all_left.wait()

    def admit_connection(self, transport: asyncio.Transport, *, implicit_tls: bool = False) -> ClientSession | Reply:
        """Make the session of a new connection, or the 421 that it gets instead."""
        peer = transport.get_extra_info("peername")
        if self._is_draining or peer is None:  # None: it has gone already
            return self._turn_away(replies.SHUTTING_DOWN, "draining")
        address = _parse_address(peer[0])
        trusted = any(address in network for network in self._options.allow_networks)
        if self._counts.total(Column.CONNECTIONS) >= self._options.max_connections:
            return self._turn_away(replies.TOO_MANY_CONNECTIONS, "too_many")
        if self._memory.is_short():
            return self._turn_away(replies.NO_MEMORY_TO_CONNECT, "no_memory")
        is_bound = not (trusted or address.is_loopback)
        if is_bound and self._of_address(str(address)) >= self._options.max_connections_per_address:
            return self._turn_away(replies.TOO_MANY_CONNECTIONS, "too_many_of_address")
        session = ClientSession(
            self._options,
            self._acceptances,
            self._admit,
            self._access,
            self._clock,
            memory=self._memory,
            client_address=str(address),
            trusted=trusted,
            implicit_tls=implicit_tls,
            on_lost=self._forget,
        )
        CONNECTIONS.labels("accepted").inc()
        OPEN_CONNECTIONS.inc()
        self._sessions.add(session)
        self._count(session, 1)
        self._all_left.clear()
        return session

    def _count(self, session: ClientSession, step: int) -> None:
        self._counts.add(Column.CONNECTIONS, step)
        self._counts.add(self._counts.column_of(source_of(session.client_address)), step)

    def _of_address(self, address: str) -> int:
        return self._counts.total(self._counts.column_of(source_of(address)))

    def _turn_away(self, reply: Reply, result: str) -> Reply:
        CONNECTIONS.labels(result).inc()
        REPLIES.labels(reply.code).inc()
        return reply

    def _forget(self, session: ClientSession) -> None:
        OPEN_CONNECTIONS.dec()
        self._sessions.discard(session)
        self._count(session, -1)
        if not self._sessions:
            self._all_left.set()


def silence_library_log() -> None:
    """Keep the library's log shut: it writes every command, addresses included, at INFO, and message data at DEBUG."""
    library_log = logging.getLogger("mail.log")
    library_log.setLevel(logging.CRITICAL + 1)
    library_log.propagate = False


class _Door(asyncio.Protocol):
    """Stands in for a connection until it is known whether it may come in."""

    def __init__(self, listener: Listener, *, implicit_tls: bool) -> None:
        self._listener = listener
        self._implicit_tls = implicit_tls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not isinstance(transport, asyncio.Transport):
            raise TypeError("an SMTP listener needs stream sockets")
        match self._listener.admit_connection(transport, implicit_tls=self._implicit_tls):
            case Reply() as refusal:
                if not self._implicit_tls:  # a handshake for the sake of a refusal would be the costly part
                    transport.write(refusal.line().encode("ascii") + b"\r\n")
                transport.close()
            case session:
                if self._implicit_tls:
                    transport.pause_reading()  # the client speaks first: its hello is for the TLS that comes now
                transport.set_protocol(session)
                session.connection_made(transport)


def _parse_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Parse a peer's address: `"::ffff:192.0.2.1"` is the IPv4 client behind it, `"fe80::1%eth0"` loses its zone."""
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
