"""The sign by which the relay knows itself as an upstream."""

import pytest

from relay.smtp.ourselves import KEYWORD, Sign

SIGN = Sign(b"k" * 32)


def _extensions(line: str) -> dict[str, str]:
    """Return it as the client's library reads an answer to EHLO."""
    keyword, _, value = line.partition(" ")
    return {"size": "9", keyword.lower(): value}


def test_the_sign_of_the_same_keys_is_known() -> None:
    """Every process and node with one keys file makes it and knows it."""
    assert Sign(b"k" * 32).is_in(_extensions(SIGN.line()))


def test_the_sign_of_other_keys_is_another_relay() -> None:
    """A chain of two relays is none of our business, whatever their host names."""
    assert not Sign(b"o" * 32).is_in(_extensions(SIGN.line()))


def test_two_signs_have_nothing_in_common() -> None:
    """A stranger who reads answers to EHLO cannot tell which relays belong together."""
    one, other = (SIGN.line().removeprefix(f"{KEYWORD} ") for _ in range(2))

    assert one[:16] != other[:16]
    assert one[16:] != other[16:]
    assert "k" * 4 not in repr(SIGN)


@pytest.mark.parametrize("value", ["", "A", "====", "ä", "AAAAAAAAAAAAAAAA", "A" * 38, "A" * 400])
def test_what_is_no_sign_is_another_relay(value: str) -> None:
    """Whatever a server writes behind the keyword, or none at all."""
    assert not SIGN.is_in({KEYWORD.lower(): value})
    assert not SIGN.is_in({})


def test_a_sign_that_is_cut_or_goes_on_is_another_relay() -> None:
    """All of it is proved."""
    value = SIGN.line().removeprefix(f"{KEYWORD} ")

    assert SIGN.is_in({KEYWORD.lower(): value})
    assert not SIGN.is_in({KEYWORD.lower(): value[:-1]})
    assert not SIGN.is_in({KEYWORD.lower(): value + "A" * 40})


def test_a_flipped_bit_makes_another_sign() -> None:
    """It is proved, not compared with a name."""
    value = SIGN.line().removeprefix(f"{KEYWORD} ")

    assert not any(
        SIGN.is_in({KEYWORD.lower(): value[:at] + ("A" if value[at] != "A" else "B") + value[at + 1 :]})
        for at in range(len(value) - 1)
    )
