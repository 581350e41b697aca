"""Laws of the tracking host's answers: total, no split header, no redirect but to what was sealed, nothing echoed."""

from collections.abc import Mapping, Sequence
from ipaddress import ip_address, ip_network

from tests.unit.hits import BROWSER, ask, path_to
from tests.unit.tokens import link
from tracker.core.visitor import parse_address, reduce_address, visitor_address

SEED = "\n".join(["GET", path_to(link()), "127.0.0.1", "203.0.113.7", *map(": ".join, BROWSER.items())])
"""A request that is answered with a redirect, in the lines of `fuzz.targets.run_hits`."""

_TRUSTED = (ip_network("127.0.0.1/32"), ip_network("10.0.0.0/8"), ip_network("2001:db8:ffff::/48"))
_STATUSES = frozenset({200, 302, 404, 405})


def every_request_has_an_answer(method: str, path: str, headers: Mapping[str, str]) -> None:
    """Whatever the method, the path and the header say; a redirect comes from a token alone."""
    answered = ask(path, method=method, headers=headers)
    assert answered.http.status in _STATUSES
    fields = dict(answered.http.headers)
    assert all(value.isascii() and value.isprintable() for value in fields.values())
    assert ("Location" in fields) == (answered.http.status == 302)
    assert "Set-Cookie" not in fields
    if answered.record is not None:
        assert answered.record.hit.user_agent.isprintable()


def a_visitor_is_an_address_or_nobody(peer: str, forwarded_for: Sequence[str]) -> None:
    """Only a trusted proxy is believed; what is kept of an address is an address."""
    for own in (peer, "10.0.0.1"):
        found = visitor_address(own, forwarded_for, _TRUSTED)
        for keep in ("full", "truncated", "none"):
            kept = reduce_address(found, keep)
            assert kept == "" or str(ip_address(kept)) == kept
    direct = parse_address(peer)
    if direct is not None and not any(direct in network for network in _TRUSTED if network.version == direct.version):
        assert visitor_address(peer, forwarded_for, _TRUSTED) == direct
