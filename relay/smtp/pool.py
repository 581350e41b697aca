"""The connections to one upstream: how many, which is used again, and when they end.

Only a connection that ended cleanly goes back: one that was cancelled, timed out or cut would answer one reply late for
ever. The most recently used is taken first, so that the others become idle and close.

A connection that waited here may have been closed by the upstream meanwhile. One that fails before MAIL is answered
told nothing of the mail: it is tried once more on a new connection, and costs the copy nothing.

One that says goodbye is open until the upstream has answered, and counts: an upstream that takes so many connections
and no more would refuse the next one.
"""

import asyncio
from dataclasses import dataclass
from typing import Final

import structlog
from prometheus_client import Counter, Gauge

from relay.core.attempt import Attempt, Deferred, Transaction
from relay.smtp.maildir import Maildir
from relay.smtp.ourselves import IS_OURSELVES
from relay.smtp.upstream import Connection, verifying_context
from relay.smtp.upstreams import MaildirTarget, SmtpTarget, Upstream, UpstreamOptions

_LOG: Final = structlog.get_logger()
_CONNECTIONS: Final = Gauge(
    "mailwake_upstream_connections", "Open connections", ["upstream"], multiprocess_mode="livesum"
)
_OPENED: Final = Counter("mailwake_upstream_connections_opened_total", "Connections made", ["upstream"])
_STALE: Final = Counter(
    "mailwake_upstream_connections_stale_total", "Pooled connections that the upstream had closed", ["upstream"]
)


def make_upstream(options: UpstreamOptions) -> Upstream:
    """Return what sends to the upstream. Raises OSError: `tls_ca` cannot be read or holds no certificate."""
    match options.target:
        case MaildirTarget(directory):
            return Maildir(directory)
        case SmtpTarget() as target:
            return Pool(options, target)


@dataclass(slots=True)
class _Idle:
    connection: Connection
    timer: asyncio.TimerHandle


class Pool:
    """An upstream over SMTP."""

    def __init__(self, options: UpstreamOptions, target: SmtpTarget) -> None:
        """Take the settings. Raises OSError: `tls_ca` cannot be used."""
        self._options = options
        self._target = target
        self._tls = verifying_context(options)
        self._room = asyncio.Semaphore(options.max_connections)
        self._idle: list[_Idle] = []
        self._farewells: set[asyncio.Task[None]] = set()
        self._open_count = 0
        self._is_closed = False

    async def send(self, transaction: Transaction) -> list[Attempt]:
        """Try once, waiting for a free connection first; return what came of it for each recipient."""
        async with self._room:
            connection = self._take()
            if connection is not None:
                attempts = await self._use(connection, transaction)
                if not connection.was_stale:
                    return attempts
                _STALE.labels(self._options.name).inc()
            opened = await self._open()
            if isinstance(opened, Connection):
                return await self._use(opened, transaction)
            return [opened] * len(transaction.recipients)

    async def close(self) -> None:
        """Say goodbye on every idle connection; those in use close when they are done."""
        self._is_closed = True
        while self._idle:
            self._dismiss(self._idle[0])
        if self._farewells:
            await asyncio.wait(self._farewells)

    def _take(self) -> Connection | None:
        if not self._idle:
            return None
        idle = self._idle.pop()
        idle.timer.cancel()
        return idle.connection

    async def _open(self) -> Connection | Attempt:
        while self._farewells and self._open_count >= self._options.max_connections:
            await asyncio.wait(self._farewells, return_when=asyncio.FIRST_COMPLETED)
        connection = Connection(self._options, self._target, self._tls)
        self._open_count += 1
        try:
            trouble = await connection.open()
        except BaseException:
            self._open_count -= 1
            raise
        if trouble is not None:
            self._open_count -= 1
            if trouble is IS_OURSELVES:
                _LOG.error("upstream_is_ourselves", upstream=self._options.name)
            elif isinstance(trouble, Deferred):
                _LOG.warning(
                    "upstream_unusable", upstream=self._options.name, phase=trouble.phase, detail=trouble.detail
                )
            return trouble
        _OPENED.labels(self._options.name).inc()
        _CONNECTIONS.labels(self._options.name).inc()
        return connection

    async def _use(self, connection: Connection, transaction: Transaction) -> list[Attempt]:
        try:
            return await connection.send(transaction)
        finally:
            self._put_back(connection)

    def _put_back(self, connection: Connection) -> None:
        if not connection.is_reusable:
            connection.abort()
            self._open_count -= 1
            _CONNECTIONS.labels(self._options.name).dec()
            return
        idle = _Idle(connection, asyncio.get_running_loop().call_later(self._options.idle_s, self._expire, connection))
        self._idle.append(idle)
        if self._is_closed or connection.messages >= self._options.max_messages_per_connection:
            self._dismiss(idle)

    def _expire(self, connection: Connection) -> None:
        for idle in self._idle:
            if idle.connection is connection:
                self._dismiss(idle)
                return

    def _dismiss(self, idle: _Idle) -> None:
        self._idle.remove(idle)
        idle.timer.cancel()
        _CONNECTIONS.labels(self._options.name).dec()
        farewell = asyncio.get_running_loop().create_task(idle.connection.quit())
        self._farewells.add(farewell)
        farewell.add_done_callback(self._parted)

    def _parted(self, farewell: asyncio.Task[None]) -> None:
        self._farewells.discard(farewell)
        self._open_count -= 1
