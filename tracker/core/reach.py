"""Where a webhook may be posted to: which URLs can be used, and which addresses may be connected to.

Whoever writes a URL may be another than whoever runs this machine's network, and a name leads wherever its owner's DNS
says at that moment. So the URL is looked at once, and every address at each connection.

Standards: RFC 6890 and IANA's special-purpose registries (what is no public address), RFC 4291, 3056, 4380, 6052 and
8215 (IPv6 addresses that stand for IPv4 ones), RFC 3927 (link-local).
"""

import ipaddress
import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import SplitResult, urlsplit

from tracker.core.visitor import IPAddress, IPNetwork

PUBLIC_PORTS: Final = frozenset({443, 8443})  # where web servers take https:; others are some other service's
_PRIVATE_REMEDY: Final = "use a public host, or write allow_private = true where the receiver is your own"
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*", re.IGNORECASE)


def _networks(*texts: str) -> tuple[IPNetwork, ...]:
    return tuple(ipaddress.ip_network(text) for text in texts)


# What `allow_private` allows. Link-local addresses are not among them: at 169.254.169.254 clouds keep their passwords.
_PRIVATE: Final = _networks(
    "127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "::1/128", "fc00::/7"
)
# IPv6 addresses that carry an IPv4 one: a private one may be in it, and a receiver has addresses of its own.
_CARRIERS: Final = _networks("::ffff:0:0/96", "::/96", "2002::/16", "2001::/32", "64:ff9b::/96", "64:ff9b:1::/48")
_GLOBAL_UNICAST_6: Final = ipaddress.ip_network("2000::/3")
_NOT_PUBLIC_4: Final = _networks("0.0.0.0/8", "192.88.99.0/24", "224.0.0.0/3")


def refusal(address: IPAddress, *, allow_private: bool, is_plain: bool) -> str | None:
    """Return why an address may not be connected to, None where it may; `is_plain`: the URL is `http:`."""
    if _is_in(address, _PRIVATE):
        return None if allow_private else f"{address} is a private address"
    if _is_in(address, _CARRIERS):
        return f"{address} stands for an IPv4 address"
    if not _is_public(address):
        return f"{address} is no public address"
    return f"{address} is a public address, and http: is for private ones" if is_plain else None


def fault_of_url(url: str, *, allow_private: bool) -> tuple[str, str] | None:
    """Return what is wrong with a receiver's URL and what to do, None where it can be used; names are not resolved."""
    example = 'write it like "https://events.shop.example/hook"'
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
    except ValueError:
        return "it is no URL", example
    if not host or not url.isascii() or re.search(r"[\x00-\x20\x7f\\]", url):
        return "it is no URL of printable ASCII with a host", example
    if "@" in parts.netloc or parts.fragment:
        return "it holds a user name or a fragment", "remove it; the signature says who posts"
    if parts.scheme == "http" and not allow_private:
        return "http: can be read and changed on the way", f"{example}; a receiver of your own: allow_private = true"
    if parts.scheme not in ("http", "https"):
        return "it is neither https: nor http:", example
    if not allow_private and (443 if port is None else port) not in PUBLIC_PORTS:
        return f"port {port} is none that receivers have", f"use {' or '.join(map(str, sorted(PUBLIC_PORTS)))}"
    return _fault_of_host(parts, host, allow_private=allow_private)


def without_secret(url: str) -> str:
    """Return a URL for logs and tables, without what may be a secret: `"https://a.example/hook?..."`."""
    parts = urlsplit(url)
    return parts._replace(query="...").geturl() if parts.query else url


def _fault_of_host(parts: SplitResult, host: str, *, allow_private: bool) -> tuple[str, str] | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        # Systems read 2130706433, 0x7f.1 and 0177.0.0.1 as addresses, each in its own way.
        if _NUMBER.fullmatch(host.rstrip(".").rpartition(".")[2]):
            return f"{host} is no usual spelling of an address", "write its four numbers, or a name"
        return None
    fault = refusal(address, allow_private=allow_private, is_plain=parts.scheme == "http")
    return None if fault is None else (fault, _PRIVATE_REMEDY)


def _is_public(address: IPAddress) -> bool:
    if address.version == 6:
        return address in _GLOBAL_UNICAST_6 and address.is_global
    return address.is_global and not _is_in(address, _NOT_PUBLIC_4)


def _is_in(address: IPAddress, networks: Iterable[IPNetwork]) -> bool:
    return any(address.version == network.version and address in network for network in networks)
