"""Who asked, and what of the address is kept."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.core.visitor import parse_address, reduce_address, visitor_address

_TRUSTED = (ip_network("127.0.0.1/32"), ip_network("10.0.0.0/8"), ip_network("2001:db8:ffff::/48"))


@pytest.mark.parametrize(
    "lines, expected",
    [
        ((), "10.0.0.1"),
        (("203.0.113.7",), "203.0.113.7"),
        (("203.0.113.7, 10.0.0.9",), "203.0.113.7"),
        (("198.51.100.1, 203.0.113.7, 10.0.0.9, 127.0.0.1",), "203.0.113.7"),
        (("198.51.100.1", "203.0.113.7"), "203.0.113.7"),
        (("10.0.0.3, 10.0.0.2",), "10.0.0.3"),
        (("203.0.113.7:4711",), "203.0.113.7"),
        (("[2001:db8::7]:4711",), "2001:db8::7"),
        (("2001:db8::7",), "2001:db8::7"),
        (("::ffff:203.0.113.7",), "203.0.113.7"),
        (("203.0.113.7, unknown",), "10.0.0.1"),
        (("203.0.113.7, ",), "10.0.0.1"),
        (("203.0.113.7, evil, 10.0.0.9",), "10.0.0.9"),
        (("",), "10.0.0.1"),
    ],
)
def test_the_right_most_untrusted_hop_is_the_visitor(lines: tuple[str, ...], expected: str) -> None:
    """What stands left of it was written by the visitor, and so were lines before the proxy's own."""
    assert visitor_address("10.0.0.1", lines, _TRUSTED) == ip_address(expected)


def test_a_strangers_header_is_not_believed() -> None:
    """Else a visitor would choose what is recorded."""
    assert visitor_address("203.0.113.7", ("198.51.100.1",), _TRUSTED) == IPv4Address("203.0.113.7")
    assert visitor_address("10.0.0.1", ("198.51.100.1",), ()) == IPv4Address("10.0.0.1")


def test_a_very_long_chain_ends() -> None:
    """A header of 64 KB is not walked to its end."""
    line = ", ".join(["203.0.113.7"] + ["10.0.0.9"] * 5000)

    assert visitor_address("10.0.0.1", (line,), _TRUSTED) == IPv4Address("10.0.0.9")


@given(st.text(max_size=80), st.lists(st.text(max_size=200), max_size=3))
def test_any_header_gives_an_address_or_none(peer: str, lines: list[str]) -> None:
    """Total, whatever is sent."""
    visitor_address(peer, lines, _TRUSTED)
    visitor_address("10.0.0.1", lines, _TRUSTED)


@pytest.mark.parametrize(
    "text, truncated",
    [
        ("203.0.113.77", "203.0.113.0"),
        ("0.0.0.0", "0.0.0.0"),
        ("2001:db8:7:8:9:a:b:c", "2001:db8:7::"),
        ("::1", "::"),
        ("::ffff:203.0.113.77", "203.0.113.0"),
    ],
)
def test_a_truncated_address_is_its_24_or_48(text: str, truncated: str) -> None:
    """What is kept by default names no household."""
    assert reduce_address(parse_address(text), "truncated") == truncated


@given(st.ip_addresses())
def test_no_more_is_kept_than_was_asked_for(address: IPv4Address | IPv6Address) -> None:
    """`none` is nothing, `truncated` is within the /24 or /48, `full` is the address."""
    assert reduce_address(address, "none") == ""
    assert reduce_address(address, "full") == str(address)
    prefix = 24 if address.version == 4 else 48
    assert ip_address(reduce_address(address, "truncated")) == ip_network((address, prefix), strict=False)[0]


def test_no_address_is_none() -> None:
    """Behind a Unix socket there is none."""
    assert visitor_address("", (), ()) is None
    assert reduce_address(None, "full") == ""


def test_a_zone_is_not_kept() -> None:
    """`fe80::1%eth0` says something of this machine, not of the visitor."""
    assert reduce_address(parse_address("fe80::1%eth0"), "full") == "fe80::1"
