"""Who asks: the address of a visitor behind proxies, and what of it may be kept.

Owns whom to believe. A header that anyone can write is believed only from a proxy that the operator named, and only
as far as each hop is such a proxy (the right-most address that is none is the visitor's); else a visitor could choose
the address that is recorded.

Limits: the header `Forwarded` (RFC 7239) is not read. A chain of proxies is followed for 16 hops.
"""

import ipaddress
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, Literal

RecordAddress = Literal["truncated", "full", "none"]
IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

_MAX_HOPS: Final = 16
_ADDRESSES_REMEMBERED: Final = 4096  # reading one takes as long as reading a token, and proxies come again and again
_V4_MASK: Final = 0xFFFFFF00  # /24
_V6_MASK: Final = 0xFFFFFFFFFFFF << 80  # /48


def visitor_address(peer: str, forwarded_for: Sequence[str], trusted: Sequence[IPNetwork]) -> IPAddress | None:
    """Return the visitor's address; None where there is none, as behind a Unix socket.

    `peer` is the other end of the connection, `"192.0.2.1"`; `forwarded_for` are the request's X-Forwarded-For lines in
    their order, `("203.0.113.7, 192.0.2.9",)`.
    """
    address = parse_address(peer)
    if not forwarded_for or address is None or not _is_in(address, trusted):
        return address
    hops = ",".join(forwarded_for).rsplit(",", _MAX_HOPS)
    for hop in reversed(hops[-_MAX_HOPS:]):
        claimed = parse_address(_without_port(hop.strip()))
        if claimed is None:
            return address  # the last proxy that could be followed
        address = claimed
        if not _is_in(address, trusted):
            break
    return address


@lru_cache(maxsize=_ADDRESSES_REMEMBERED)
def reduce_address(address: IPAddress | None, keep: RecordAddress) -> str:
    """Return what is kept of an address: the /24 or /48 (`"192.0.2.0"`, `"2001:db8:7::"`), all of it, or nothing."""
    if address is None or keep == "none":
        return ""
    if keep == "full":
        return str(address).partition("%")[0]
    if isinstance(address, ipaddress.IPv4Address):
        return str(ipaddress.IPv4Address(int(address) & _V4_MASK))
    return str(ipaddress.IPv6Address(int(address) & _V6_MASK))


@lru_cache(maxsize=_ADDRESSES_REMEMBERED)
def parse_address(text: str) -> IPAddress | None:
    """Read an address; one of IPv4 in the clothes of IPv6 (`::ffff:192.0.2.1`, a dual-stack socket's) is IPv4."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _is_in(address: IPAddress, networks: Sequence[IPNetwork]) -> bool:
    return any(address in network for network in networks)


def _without_port(hop: str) -> str:
    """Some proxies add one: `192.0.2.1:8080`, `[2001:db8::1]:8080`."""
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    return hop.partition(":")[0] if hop.count(":") == 1 else hop
