"""Sizes, times, rates and addresses as an operator writes them in the configuration file: text in, value out, and back.

Owns the spellings `"25MiB"`, `"15m"`, `"100/s"` and `"127.0.0.1:2525"`. Does not own which key has which: that is the
models'.
"""

import ipaddress
import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Self

_NUMBER_AND_UNIT: Final = re.compile(r"(\d{1,15})\s*([A-Za-z]+)")
_SIZE_UNITS: Final = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_TIME_UNITS: Final = {
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "y": timedelta(days=365),
}
_LONGEST: Final = timedelta(days=365 * 500)  # further back from now than that, and twice that, dates come to an end
_RATE: Final = re.compile(r"(\d{1,9})\s*/\s*([smh])")
_RATE_UNITS: Final = {"s": 1, "m": 60, "h": 3600}
_MAX_PORT: Final = 0xFFFF
HTTP: Final = "http://"  # the schemes of an address that a web server listens on
HTTPS: Final = "https://"
# Python's is_private also covers documentation ranges and changes between releases; these are the networks that a
# stranger on the net cannot send from.
_PRIVATE_NETWORKS: Final = tuple(
    ipaddress.ip_network(text)
    for text in (
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "100.64.0.0/10",
        "::1/128",
        "fc00::/7",
        "fe80::/10",
    )
)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class UnfitError(ValueError):
    """A value that cannot be used: `wrong` says what it is, `remedy` what to write instead."""

    def __init__(self, wrong: str, remedy: str) -> None:
        super().__init__(f"{wrong}; {remedy}")
        self.wrong = wrong
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """Where a server listens; port 0 lets the system choose. `str` gives `"127.0.0.1:2525"`, `"[::1]:2525"`.

    `scheme` is written before it where there is more than one way to listen: `"smtps://0.0.0.0:465"`.
    """

    host: str
    port: int
    scheme: str = ""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}{host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Say whether only this machine can reach it."""
        return ipaddress.ip_address(self.host).is_loopback

    @property
    def is_private(self) -> bool:
        """Say whether it is one address of a private network (so not `0.0.0.0`)."""
        return is_private_network(ipaddress.ip_network(self.host))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `"127.0.0.1:2525"`, `"[::1]:2525"` or `"localhost:2525"`. UnfitError: neither, or a name."""
        host, colon, port = text.rpartition(":")
        if not colon or not port.isascii() or not port.isdigit() or int(port) > _MAX_PORT:
            raise UnfitError(f"{text!r} is no address and port", 'write it like "127.0.0.1:2525" or "[::1]:2525"')
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        try:
            address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
        except ValueError as error:
            raise UnfitError(f"{host!r} is no IP address", 'write the address; "0.0.0.0" is every one') from error
        return cls(str(address), int(port))


def parse_size(text: str) -> int:
    """Parse `"25MiB"` into bytes; units B, KiB, MiB, GiB, TiB. UnfitError: another spelling."""
    match = _NUMBER_AND_UNIT.fullmatch(text)
    if match is None or match[2] not in _SIZE_UNITS:
        raise UnfitError(f"{text!r} is no size", 'write it like "25MiB": B, KiB, MiB, GiB or TiB')
    return int(match[1]) * _SIZE_UNITS[match[2]]


def format_size(size_bytes: int) -> str:
    """Write bytes in the largest unit that holds them without a rest: 26214400 gives `"25MiB"`."""
    fits = [name for name, factor in _SIZE_UNITS.items() if size_bytes % factor == 0]
    unit = fits[-1] if size_bytes else "B"
    return f"{size_bytes // _SIZE_UNITS[unit]}{unit}"


def parse_duration(text: str) -> timedelta:
    """Parse `"20s"`, `"15m"`, `"4h"`, `"60d"` or `"5y"` (365 days each). UnfitError: another spelling."""
    match = _NUMBER_AND_UNIT.fullmatch(text)
    if match is None or match[2] not in _TIME_UNITS:
        raise UnfitError(f"{text!r} is no time", 'write it like "20s", "15m", "4h", "60d" or "5y"')
    unit = _TIME_UNITS[match[2]]
    if int(match[1]) > _LONGEST // unit:
        raise UnfitError(f"{text!r} is longer than 500 years", 'write a shorter one; "500y" is as good as for ever')
    return int(match[1]) * unit


def format_duration(duration: timedelta) -> str:
    """Write a time in the largest unit up to days that holds it without a rest: `"60d"`, `"90m"`."""
    seconds = int(duration.total_seconds())
    for unit, factor in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds and seconds % factor == 0:
            return f"{seconds // factor}{unit}"
    return f"{seconds}s"


def parse_rate(text: str) -> float:
    """Parse `"100/s"`, `"600/m"` or `"5000/h"` into a number a second. UnfitError: another spelling, or none at all."""
    match = _RATE.fullmatch(text)
    if match is None or int(match[1]) == 0:
        raise UnfitError(f"{text!r} is no rate", 'write it like "100/s": s, m or h')
    return int(match[1]) / _RATE_UNITS[match[2]]


def format_rate(per_s: float) -> str:
    """Write a rate in the largest unit in which it is a whole number: 10.0 gives `"10/s"`, 0.5 `"30/m"`."""
    unit = next((unit for unit, factor in _RATE_UNITS.items() if (per_s * factor).is_integer()), "h")
    return f"{round(per_s * _RATE_UNITS[unit])}/{unit}"


def parse_network(text: str) -> Network:
    """Parse `"10.0.0.0/8"` or a single address. UnfitError: neither, or bits are set behind the prefix."""
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise UnfitError(f"{text!r} is no network", 'write it like "10.0.0.0/8" or "::1/128"') from error


def is_private_network(network: Network) -> bool:
    """Say whether all of a network lies in one that is not routed on the public net."""
    for private in _PRIVATE_NETWORKS:
        match network, private:
            case ipaddress.IPv4Network(), ipaddress.IPv4Network() if network.subnet_of(private):
                return True
            case ipaddress.IPv6Network(), ipaddress.IPv6Network() if network.subnet_of(private):
                return True
            case _:
                pass
    return False
