"""Where a webhook may go: addresses by what they are, URLs by how they are written."""

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.core.reach import fault_of_url, refusal

_PRIVATE = [
    "127.0.0.1", "127.255.255.254", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1",
    "100.127.255.255", "::1", "fc00::1", "fdff::1",
]  # fmt: skip
_NEVER = [
    "0.0.0.0", "0.1.2.3", "169.254.169.254", "192.0.0.1", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1",
    "192.88.99.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255", "::", "::ffff:8.8.8.8", "::ffff:127.0.0.1",
    "::8.8.8.8", "::7f00:1", "2002:808:808::", "2002:7f00:1::", "2001:0:808:808::1", "64:ff9b::808:808",
    "64:ff9b::7f00:1", "64:ff9b:1::1", "100::1", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "2001:db8::1",
    "ff0e::1", "4000::1",
]  # fmt: skip
_PUBLIC = ["8.8.8.8", "1.1.1.1", "172.32.0.1", "100.128.0.1", "192.169.0.1", "2606:4700::1111", "2a00:1450::1"]


@pytest.mark.parametrize("text", _PRIVATE)
def test_private_addresses_are_for_whoever_allows_them(text: str) -> None:
    """With both schemes."""
    for is_plain in (False, True):
        assert refusal(ip_address(text), allow_private=False, is_plain=is_plain) == f"{text} is a private address"
        assert refusal(ip_address(text), allow_private=True, is_plain=is_plain) is None


@pytest.mark.parametrize("text", _NEVER)
def test_some_addresses_are_never_posted_to(text: str) -> None:
    """Nobody receives there, or it stands for another one, or it is where clouds keep passwords."""
    for allow_private in (False, True):
        assert refusal(ip_address(text), allow_private=allow_private, is_plain=False) is not None


@pytest.mark.parametrize("text", _PUBLIC)
def test_public_addresses_are_posted_to_by_https_alone(text: str) -> None:
    """Whether or not private ones are allowed, too."""
    for allow_private in (False, True):
        assert refusal(ip_address(text), allow_private=allow_private, is_plain=False) is None
        assert "http: is for private ones" in (
            refusal(ip_address(text), allow_private=allow_private, is_plain=True) or ""
        )


@given(st.ip_addresses(v=4))
def test_no_ipv6_address_smuggles_an_ipv4_one(address: object) -> None:
    """In whatever form it carries it."""
    for text in (f"::ffff:{address}", f"::{address}", f"64:ff9b::{address}"):
        assert refusal(ip_address(text), allow_private=False, is_plain=False) is not None


@pytest.mark.parametrize(
    "url",
    [
        "https://events.shop.example/hook", "https://events.shop.example:8443/hook?tenant=7", "https://8.8.8.8/",
        "https://[2606:4700::1111]:443/", "https://EVENTS.shop.example", "https://1.events.shop.example/",
        "https://7events.example7/",
    ],
)  # fmt: skip
def test_a_public_url_can_be_used(url: str) -> None:
    """By name or by address."""
    assert fault_of_url(url, allow_private=False) is None


@pytest.mark.parametrize(
    "url, wrong",
    [
        ("http://events.shop.example/", "http: can be read"), ("ftp://events.shop.example/", "neither https: nor"),
        ("events.shop.example/hook", "no URL"), ("https:///hook", "no URL"), ("https://[::1/", "no URL"),
        ("https://a.example:99999/", "no URL"), ("https://a.example/ä", "printable ASCII"),
        ("https://a.example/a b", "printable ASCII"), ("https://a.example\\@b.example/", "printable ASCII"),
        ("https://user:pw@a.example/", "user name"), ("https://a.example/#top", "fragment"),
        ("https://a.example:22/", "port 22"), ("https://a.example:0/", "port 0"), ("https://a.example:80/", "port 80"),
        ("https://127.0.0.1/", "private address"), ("https://2130706433/", "no usual spelling"),
        ("https://0x7f.1/", "no usual spelling"), ("https://0177.0.0.1/", "no usual spelling"),
        ("https://127.1/", "no usual spelling"), ("https://127.0.0.1./", "no usual spelling"),
        ("https://[::ffff:127.0.0.1]/", "stands for an IPv4"), ("https://169.254.169.254/", "no public address"),
    ],
)  # fmt: skip
def test_a_url_that_cannot_be_used_says_why(url: str, wrong: str) -> None:
    """At the configuration, before anything is resolved."""
    fault = fault_of_url(url, allow_private=False)

    assert fault is not None
    assert wrong in fault[0]
    assert fault[1]


def test_a_receiver_of_ones_own_may_be_anywhere_private() -> None:
    """On any port, by http: too; what is public keeps its rules."""
    for url in ("http://127.0.0.1:3000/", "http://hooks.internal/", "https://10.0.0.1:22/", "http://[fd00::1]:8080/"):
        assert fault_of_url(url, allow_private=True) is None
    for url in ("http://8.8.8.8/", "https://169.254.169.254/", "https://2130706433/", "http://u@127.0.0.1/"):
        assert fault_of_url(url, allow_private=True) is not None
