"""Tokens: what we sealed is read, and nothing else is."""

import base64
import string
import struct
from datetime import date, timedelta

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.tokens import COPY, DAY, KEYS, NOW, URL, key, link, links, payloads, pixel
from tracker.contract.errors import KeysError, TokenError
from tracker.contract.token import (
    MAX_TOKEN_CHARACTERS,
    MAX_URL_BYTES,
    BodyPart,
    LinkPayload,
    Purpose,
    TokenKey,
    TokenKeys,
    TokenPayload,
    day_of,
    room_for_url,
)

_CHARACTERS = string.ascii_letters + string.digits + "-_"


@given(payloads)
def test_what_was_sealed_is_read(payload: TokenPayload) -> None:
    """The law of tokens: `read(seal(p)) == p`, for every payload."""
    token = KEYS.seal(payload, 1)

    assert KEYS.read(token, payload.purpose) == payload
    assert set(token) <= set(_CHARACTERS)
    assert len(token) <= MAX_TOKEN_CHARACTERS


@given(payloads)
def test_the_same_payload_has_one_token(payload: TokenPayload) -> None:
    """Sealing is deterministic, so a retry of a copy is the same mail."""
    assert KEYS.seal(payload, 1) == TokenKeys([key()]).seal(payload, 1)


@given(payloads, st.data())
def test_a_flipped_bit_makes_a_bad_token(payload: TokenPayload, data: st.DataObject) -> None:
    """128 bits of authentication cover every field, the clear header included."""
    token = KEYS.seal(payload, 1)
    raw = bytearray(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    bit = data.draw(st.integers(0, len(raw) * 8 - 1))
    raw[bit // 8] ^= 1 << bit % 8

    with pytest.raises(TokenError):
        KEYS.read(base64.urlsafe_b64encode(raw).decode().rstrip("="), payload.purpose)


@given(payloads, st.data())
def test_another_character_makes_a_bad_token(payload: TokenPayload, data: st.DataObject) -> None:
    """One spelling each: the unused bits of the last character count too, and so does case."""
    token = KEYS.seal(payload, 1)
    place = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.sampled_from(_CHARACTERS + "+/=%. \n\u00e9\u0130\0").filter(lambda c: c != token[place]))

    with pytest.raises(TokenError):
        KEYS.read(token[:place] + other + token[place + 1 :], payload.purpose)


@given(payloads, st.data())
def test_a_cut_token_is_bad(payload: TokenPayload, data: st.DataObject) -> None:
    """A token says its length, so none of its beginnings is a token."""
    token = KEYS.seal(payload, 1)

    with pytest.raises(TokenError):
        KEYS.read(token[: data.draw(st.integers(0, len(token) - 1))], payload.purpose)


@given(payloads, st.text(max_size=30))
def test_what_follows_a_token_is_ignored(payload: TokenPayload, rest: str) -> None:
    """Mail programs append `?utm=1`, `.`, `)`, `>`, `=` and `3D`, and the link works all the same."""
    assert KEYS.read(KEYS.seal(payload, 1) + rest, payload.purpose) == payload


@given(payloads)
def test_a_token_serves_its_own_purpose_alone(payload: TokenPayload) -> None:
    """A pixel's token is never a link's, nor the other way round."""
    other = Purpose.OPEN if payload.purpose is Purpose.CLICK else Purpose.CLICK

    with pytest.raises(TokenError):
        KEYS.read(KEYS.seal(payload, 1), other)


@given(payloads)
def test_another_key_reads_nothing(payload: TokenPayload) -> None:
    """Neither a key with another id nor another secret under the same id."""
    token = KEYS.seal(payload, 1)
    same_id = TokenKey(key_id=1, secret=b"x" * 32, mint_from=NOW)

    for keys in (TokenKeys([key(2)]), TokenKeys([same_id])):
        with pytest.raises(TokenError):
            keys.read(token, payload.purpose)


@given(st.text(max_size=60) | st.text(_CHARACTERS, max_size=6000), st.sampled_from(Purpose))
def test_any_other_text_is_a_bad_token(text: str, purpose: Purpose) -> None:
    """Whatever a stranger writes, the answer is TokenError and no other exception."""
    with pytest.raises(TokenError):
        KEYS.read(text, purpose)


@given(links)
def test_two_copies_never_share_a_token(target: LinkPayload) -> None:
    """The copy is inside, so whoever compares two mails cannot take one's link for the other's."""
    from tracker.contract.ids import CopyId

    mine = TokenPayload(copy=COPY, day=DAY, link=target)
    yours = TokenPayload(copy=CopyId(COPY.message, b"\xff" * 6), day=DAY, link=target)

    assert KEYS.seal(mine, 1) != KEYS.seal(yours, 1)


def test_the_longest_url_has_a_token_of_at_most_4096_characters() -> None:
    """The contract's limit; one byte more cannot be sealed."""
    longest = "https://a.example/" + "x" * (MAX_URL_BYTES - 18)

    assert len(KEYS.seal(link(longest), 1)) <= MAX_TOKEN_CHARACTERS
    with pytest.raises(TokenError):
        KEYS.seal(link(longest + "x"), 1)


@pytest.mark.parametrize(
    ("name", "domain"), [("", "shop.example"), ("news", ""), ("n" * 64, "d" * 253), ("n" * 255, "d" * 255)]
)
def test_labels_take_their_bytes_from_the_room_of_the_url(name: str, domain: str) -> None:
    """A labelled token has 4,096 characters at most, too, and `room_for_url` says exactly how long its URL may be."""
    longest = "https://a.example/" + "x" * (room_for_url(name, domain) - 18)

    token = KEYS.seal(link(longest, configuration_set=name, from_domain=domain), 1)
    assert len(token) == MAX_TOKEN_CHARACTERS
    assert KEYS.read(token, Purpose.CLICK).link == LinkPayload(index=2, part=BodyPart.HTML, url=longest)
    with pytest.raises(TokenError):
        KEYS.seal(link(longest + "x", configuration_set=name, from_domain=domain), 1)


def test_a_token_without_labels_is_as_it_ever_was() -> None:
    """What has no labels has no bytes for them, so that its token is the one that earlier releases sealed."""
    assert room_for_url("", "") == MAX_URL_BYTES
    assert len(KEYS.seal(pixel(), 1)) == 63
    assert len(KEYS.seal(pixel(configuration_set="s"), 1)) == 67


@pytest.mark.parametrize(
    "plain",
    [
        b"\x04" + bytes(24),  # labelled, and nothing follows
        b"\x04" + bytes(24) + b"\x01",
        b"\x04" + bytes(24) + b"\x01a",
        b"\x04" + bytes(24) + b"\x00\x05four",
        b"\x04" + bytes(24) + b"\x00\x00",  # labelled by nothing has another spelling, without the flag
        b"\x04" + bytes(24) + b"\x01a\x00x",
        b"\x04" + bytes(24) + b"\x01\xe9\x00",
        b"\x08" + bytes(24),
        bytes(25) + b"x",
    ],
)
def test_an_authentic_payload_of_another_layout_is_bad(plain: bytes) -> None:
    """Sealed by our key, but not by this version: never read as something else."""
    derived = HKDF(algorithm=SHA256(), length=64, salt=None, info=b"mailwake token v1").derive(key().secret)
    header = struct.pack(">BHBH", 1, 1, Purpose.OPEN, 16 + len(plain))
    raw = header + AESSIV(derived).encrypt(plain, [header])

    with pytest.raises(TokenError):
        KEYS.read(base64.urlsafe_b64encode(raw).decode().rstrip("="), Purpose.OPEN)


@pytest.mark.parametrize(
    "payload",
    [
        link(""),
        link("", from_domain="shop.example"),
        link(configuration_set="é"),
        link(from_domain="bücher.example"),
        pixel(configuration_set="n" * 256),
        pixel(from_domain="d" * 256),
        link("https://a.example/\ud800"),
        pixel(day=date(1969, 12, 31)),
        pixel(day=date(2149, 6, 7)),
        TokenPayload(copy=COPY, day=DAY, link=LinkPayload(index=0x10000, part=BodyPart.HTML, url=URL)),
        TokenPayload(copy=COPY, day=DAY, link=LinkPayload(index=-1, part=BodyPart.HTML, url=URL)),
    ],
)
def test_what_does_not_fit_is_not_sealed(payload: TokenPayload) -> None:
    """A number out of range is refused, not wrapped round."""
    with pytest.raises(TokenError):
        KEYS.seal(payload, 1)


def test_sealing_needs_a_key_that_is_there() -> None:
    """The mail that waits names a key; without it no link can be made."""
    with pytest.raises(KeysError):
        KEYS.seal(pixel(), 2)


def test_the_latest_key_whose_time_has_come_mints() -> None:
    """`rotate` sets `mint_from` ahead, so that every process has the key before the first token of it."""
    keys = TokenKeys([key(1, NOW), key(2, NOW + timedelta(minutes=10)), key(3, NOW - timedelta(days=1))])

    assert keys.minting(NOW) == 1
    assert keys.minting(NOW + timedelta(minutes=9)) == 1
    assert keys.minting(NOW + timedelta(minutes=10)) == 2
    assert keys.minting(NOW - timedelta(days=9)) == 3


def test_every_key_verifies_for_ever() -> None:
    """Links of an old key stand in mail."""
    keys = TokenKeys([key(1), key(2, NOW + timedelta(days=900))])

    assert keys.read(KEYS.seal(link(), 1), Purpose.CLICK) == link()


@pytest.mark.parametrize("keys", [[], [key(1), key(1)]])
def test_keys_need_one_of_each_id(keys: list[TokenKey]) -> None:
    """No key, or two under one id: the file cannot be used."""
    with pytest.raises(KeysError):
        TokenKeys(keys)


def test_a_key_does_not_show_its_secret() -> None:
    """A traceback or a log line must not hold it."""
    assert key().secret.hex() not in repr(key())
    assert repr(key().secret) not in repr(key())


def test_the_day_of_a_token_is_utc() -> None:
    """The sixty days begin on the same day in every zone."""
    from datetime import timezone

    assert day_of(NOW.astimezone(timezone(timedelta(hours=16)))) == DAY
