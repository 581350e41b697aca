"""Addresses and paths: what was checked is what is sent (RFC 5321 §4.1.2, RFC 6531 §3.3)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.laws import contract as laws
from tracker.contract.address import NULL_SENDER, normalize_domain, parse_path
from tracker.contract.errors import AddressError


@pytest.mark.parametrize(
    ("text", "expected", "rest"),
    [
        ("<ana@shop.example>", "ana@shop.example", ""),
        ("<ana@Shop.EXAMPLE> SIZE=9", "ana@shop.example", " SIZE=9"),
        ('<"ana > b"@shop.example>', '"ana > b"@shop.example', ""),
        ('<"a\\"b"@shop.example> BODY=7BIT', '"a\\"b"@shop.example', " BODY=7BIT"),
        ("<@one.example,@two.example:ana@shop.example>", "ana@shop.example", ""),
        ("<ana@[192.0.2.1]>", "ana@[192.0.2.1]", ""),
        ("<ana@[ipv6:2001:DB8::0001]>", "ana@[IPv6:2001:db8::1]", ""),
        ("<jösé@bücher.example>", "jösé@xn--bcher-kva.example", ""),
        ("<ana@faß.de>", "ana@xn--fa-hia.de", ""),
        ("<a+b=c/d@x.example>", "a+b=c/d@x.example", ""),
    ],
)
def test_a_path_is_parsed_and_its_domain_normalized(text: str, expected: str, rest: str) -> None:
    """Local parts stay as they are, domains become lower-case A-labels by UTS 46."""
    path, left = parse_path(text)

    assert str(path) == expected
    assert left == rest


def test_the_null_sender_is_a_value_of_its_own() -> None:
    """RFC 5321 §4.5.5; it prints as the empty string, which the upstream client wants."""
    path, rest = parse_path("<> BODY=8BITMIME")

    assert path is NULL_SENDER
    assert (str(path), rest) == ("", " BODY=8BITMIME")


@pytest.mark.parametrize(
    "text",
    [
        "ana@shop.example",
        "<ana@shop.example",
        "<ana>",
        "<ana@>",
        "<@shop.example>",
        "<ana..b@shop.example>",
        "<.ana@shop.example>",
        "<ana@shop..example>",
        "<ana@-shop.example>",
        "<ana@shop.example.>",
        "<a,b@shop.example>",
        "<ana@shop.example>x",
        "<ana b@shop.example>",
        "<ana\r@shop.example>",
        "<ana@shop\n.example>",
        "<ana\0@shop.example>",
        "<ana\x85@shop.example>",
        "<ana@[192.0.2.300]>",
        "<ana@[192.0.2.1>",
        "<ana@" + "a" * 64 + ".example>",
        "<" + "a" * 65 + "@shop.example>",
        '<"ana@shop.example>',
        "<ana\udcff@shop.example>",
        "< ana@shop.example>",
        "<<ana@shop.example>>",
    ],
)
def test_what_breaks_the_grammar_is_refused(text: str) -> None:
    """No decoding, no dropping of what is not understood, no control character."""
    with pytest.raises(AddressError):
        parse_path(text)


def test_an_encoded_word_is_only_text() -> None:
    """`=0d=0a` in an encoded word never becomes a line end: the address is sent as it was checked."""
    path, _ = parse_path("<=?utf-8?q?ev=0d=0aRCPT?=@shop.example>")

    assert str(path) == "=?utf-8?q?ev=0d=0aRCPT?=@shop.example"


@given(st.text(max_size=80))
def test_parsing_never_raises_anything_else_and_prints_what_it_checked(text: str) -> None:
    """Any text is an address or an AddressError; what it prints parses to itself, without line ends."""
    laws.a_path_prints_what_was_checked(f"<{text}>")


@given(st.from_regex(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,70}@[A-Za-z0-9.-]{1,70}", fullmatch=True))
def test_an_address_prints_as_it_parses(text: str) -> None:
    """parse(str(a)) == a."""
    laws.an_address_prints_as_it_parses(text)


@pytest.mark.parametrize("text", ["", ".", "a b", "a" * 64, "x." * 128 + "x", "exa\u202emple.com", "ex ample"])
def test_no_domain(text: str) -> None:
    """Labels are letters, digits and hyphens, 63 octets at most, 255 in all."""
    with pytest.raises(AddressError):
        normalize_domain(text)
