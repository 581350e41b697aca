"""The way out of webhooks: names are resolved here, and a connection goes to an address that was just looked at.

Owns that no request reaches an address that `core/reach.py` refuses. A name is refused whole where any of its addresses
is: whoever owns it would else choose which one we take. The library asks no resolver where the host is an address
already, so the socket is refused too: every connection has one.
"""

import asyncio
import ipaddress
import socket
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

from tracker.core import reach
from tracker.core.visitor import IPAddress

Lookup = Callable[[str], Awaitable[Sequence[str]]]
"""Returns the addresses of a host name, `["192.0.2.1", "2001:db8::1"]`. OSError: it has none, or nobody answers."""

Refusal = Callable[[IPAddress], str | None]
"""Returns why an address may not be connected to, None where it may."""


class ForbiddenAddressError(OSError):
    """The host leads to an address that webhooks may not be posted to; nothing was connected."""


class Guard(AbstractResolver):
    """Resolves hosts and makes sockets for one destination."""

    def __init__(self, refusal: Refusal, lookup: Lookup) -> None:
        """Take what refuses an address, and who is asked for names."""
        self._refusal = refusal
        self._lookup = lookup

    async def addresses(self, host: str) -> list[IPAddress]:
        """Return the addresses of a name or an address. ForbiddenAddressError: one of them is refused."""
        try:
            found = [ipaddress.ip_address(host)]
        except ValueError:
            found = [ipaddress.ip_address(text) for text in await self._lookup(host)]
        for address in found:
            self._check(address)
        return found

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Do the same in the shape that the HTTP library asks for; `family` it leaves open, and so do we."""
        return [
            ResolveResult(
                hostname=host,
                host=str(address),
                port=port,
                family=socket.AF_INET if address.version == 4 else socket.AF_INET6,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in await self.addresses(host)
        ]

    def socket(self, wanted: tuple[Any, ...]) -> socket.socket:
        """Make the socket of a connection, `wanted` as of getaddrinfo. ForbiddenAddressError: not to there."""
        family, kind, protocol, _, address = wanted
        self._check(ipaddress.ip_address(address[0]))
        return socket.socket(family=family, type=kind, proto=protocol)

    async def close(self) -> None:
        """Do nothing: nothing is open."""

    def _check(self, address: IPAddress) -> None:
        why = self._refusal(address)
        if why is not None:
            raise ForbiddenAddressError(why)


async def ask_system(host: str) -> list[str]:
    """Look a name up as this machine does, on a thread of its own.

    A name server that is silent holds up nobody else so, upstreams of mail least of all, nor the end of the process.
    """
    loop = asyncio.get_running_loop()
    found: asyncio.Future[list[str]] = loop.create_future()

    def tell(addresses: list[str], error: Exception | None) -> None:
        if found.done():  # nobody waits any more
            return
        if error is None:
            found.set_result(addresses)
        else:
            found.set_exception(error)

    def ask() -> None:
        addresses: list[str] = []
        trouble: Exception | None = None
        try:
            addresses = [str(row[4][0]) for row in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]
        except (OSError, UnicodeError) as error:  # UnicodeError: a label that is no name in IDNA
            trouble = error
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(tell, addresses, trouble)

    threading.Thread(target=ask, name="publish-dns", daemon=True).start()
    return await found


def guard_of(url_scheme: str, *, allow_private: bool, lookup: Lookup = ask_system) -> Guard:
    """Make the guard of a destination."""

    def refusal(address: IPAddress) -> str | None:
        return reach.refusal(address, allow_private=allow_private, is_plain=url_scheme == "http")

    return Guard(refusal, lookup)
