"""How often an address may guess at passwords: a growing delay, then none for a while.

Owns the counts of failed logins by address (of IPv6 by its /64, which one client has whole). Bounded: the address that
failed longest ago is forgotten first.

Limits: each process counts for itself.
"""

import ipaddress
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

MAX_ADDRESSES: Final = 10_000
FREE_TRIES: Final = 3  # a typing error costs nothing
_MAX_DOUBLINGS: Final = 6  # 64 s; peers of allow_networks are never blocked, so they come here again and again


@dataclass(slots=True)
class _Failures:
    count: int = 0
    forgotten_at_s: float = 0.0


class Guesses:
    """The failed logins of the last while, by address."""

    def __init__(self, *, limit: int, block_s: float, monotonic_s: Callable[[], float]) -> None:
        """Block an address for `block_s` after `limit` failures; those that are as old are forgotten."""
        self._limit = limit
        self._block_s = block_s
        self._monotonic_s = monotonic_s
        self._of_address: OrderedDict[str, _Failures] = OrderedDict()

    def is_blocked(self, address: str) -> bool:
        """Say whether an address may not try now."""
        return self._current(source_of(address)).count >= self._limit

    def add(self, address: str) -> float:
        """Count a failure; return the seconds that its answer waits: none for three, then 1, 2, 4 and so on."""
        key = source_of(address)
        failures = self._current(key)
        failures.count += 1
        failures.forgotten_at_s = self._monotonic_s() + self._block_s
        self._of_address[key] = failures
        self._of_address.move_to_end(key)
        if len(self._of_address) > MAX_ADDRESSES:
            self._of_address.popitem(last=False)
        surplus = failures.count - FREE_TRIES
        return 0.0 if surplus <= 0 else 2.0 ** min(surplus - 1, _MAX_DOUBLINGS)

    def _current(self, key: str) -> _Failures:
        failures = self._of_address.get(key)
        if failures is None:
            return _Failures()
        if failures.forgotten_at_s <= self._monotonic_s():
            del self._of_address[key]
            return _Failures()
        return failures


def source_of(address: str) -> str:
    """Return what counts as one client: an address of IPv4; of IPv6 the /64, all of which one client has."""
    parsed = ipaddress.ip_address(address)
    return address if parsed.version == 4 else str(ipaddress.ip_network((parsed, 64), strict=False))
