"""Tokens that nobody sealed, made from real ones by whoever has got a mail: what a forger can do without the key."""

import base64
import random
import string
from collections.abc import Iterator
from itertools import islice
from typing import Final

_ALPHABET: Final = string.ascii_letters + string.digits + "-_"
_HEADER_BYTES: Final = 6


def forged(pixel: str, link: str, *, count: int, seed: int) -> list[tuple[str, str]]:
    """Return so many paths, each with the name of the forgery: `("bit", "/l/AQAB…")`; the systematic ones first.

    `pixel` and `link` are the paths of real tokens. No path is the one of a token that was sealed.
    """
    real = {pixel, link}
    found: dict[str, str] = {}
    for name, path in islice(_all(pixel, link, random.Random(seed)), count * 50):
        if path not in real and not path.startswith((pixel, link)):  # what stands behind a token is ignored
            found.setdefault(path, name)
        if len(found) == count:
            break
    assert len(found) == count, f"only {len(found)} forgeries"
    return [(name, path) for path, name in found.items()]


def _all(pixel: str, link: str, chance: random.Random) -> Iterator[tuple[str, str]]:
    for path, other in ((link, pixel), (pixel, link)):
        prefix, token = path[:3], path[3:]
        raw, other_raw = decode(token), decode(other[3:])
        yield "other_kind", other[:3] + token
        yield "other_kind", other[:3] + encode(raw[:3] + bytes([ord(other[1])]) + raw[4:])
        for bit in range(len(raw) * 8):
            yield "bit", prefix + encode(_flip(raw, bit))
        for length in range(len(token)):
            yield "cut", prefix + token[:length]
            yield "cut_from_the_front", prefix + token[length + 1 :]
        yield from _spellings(prefix, token)
        for version in range(256):
            yield "version", prefix + encode(bytes([version]) + raw[1:])
        for key_id in (*range(64), *(chance.randrange(65536) for _ in range(64))):
            yield "key_id", prefix + encode(raw[:1] + key_id.to_bytes(2, "big") + raw[3:])
        for more in range(1, 64):
            yield "extended", prefix + encode(_with_length(raw, more) + bytes(more))
            yield "extended", prefix + encode(_with_length(raw, more) + chance.randbytes(more))
        yield "body_of_another", prefix + encode(raw[:_HEADER_BYTES] + other_raw[_HEADER_BYTES:])
        for at in range(len(token)):
            yield "inserted", prefix + token[:at] + chance.choice(_ALPHABET) + token[at:]
    while True:
        prefix, token = chance.choice([(link[:3], link[3:]), (pixel[:3], pixel[3:])])
        raw = decode(token)
        yield "bits", prefix + encode(_flip(_flip(raw, chance.randrange(len(raw) * 8)), chance.randrange(len(raw) * 8)))
        yield "made_up", prefix + encode(raw[:_HEADER_BYTES] + chance.randbytes(len(raw) - _HEADER_BYTES))
        yield "noise", prefix + "".join(chance.choices(_ALPHABET, k=chance.randrange(200)))
        at = chance.randrange(len(token))
        yield "character", prefix + token[:at] + chance.choice(_ALPHABET) + token[at + 1 :]


def _spellings(prefix: str, token: str) -> Iterator[tuple[str, str]]:
    """Give what other decoders of base64 take for the same bytes."""
    yield "spelling", prefix + token.lower()
    yield "spelling", prefix + token.upper()
    yield "spelling", prefix + token.swapcase()
    yield "spelling", prefix + "=" + token
    yield "spelling", prefix + "/" + token
    yield "spelling", prefix + token[:8] + "=" + token[8:]
    yield "spelling", prefix + token[:8] + "%0A" + token[8:]
    yield "spelling", prefix + token.replace("-", "+").replace("_", "/") + "/standard" * ("-" not in token)
    for at, character in enumerate(token):
        yield "spelling", f"{prefix}{token[:at]}%{ord(character):02X}{token[at + 1 :]}"
        yield "spelling", f"{prefix}{token[:at]}={token[at:]}" if at else prefix + "==" + token
    if len(token) % 4:
        value = _ALPHABET_OF_BASE64.index(token[-1])
        for unused in range(1, 4 if len(token) % 4 == 3 else 16):
            yield "spelling", prefix + token[:-1] + _ALPHABET_OF_BASE64[value ^ unused]


_ALPHABET_OF_BASE64: Final = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"


def decode(token: str) -> bytes:
    """Read URL-safe base64 without padding."""
    return base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))


def encode(raw: bytes) -> str:
    """Write it."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _flip(raw: bytes, bit: int) -> bytes:
    changed = bytearray(raw)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def _with_length(raw: bytes, more: int) -> bytes:
    length = int.from_bytes(raw[4:6], "big") + more
    return raw[:4] + length.to_bytes(2, "big") + raw[6:]
