"""A credentials file of NATS, `.creds`: who we are (a JWT), and the key that proves it (an nkey's seed).

The file is read at each connection, so one that was renewed is used from the next on. The library reads such files by
another package; the key is an Ed25519 key in base32, and what is here is all that it takes.

Standards: RFC 4648 §6 (base32), RFC 8032 (Ed25519); the layout of a seed is that of the nkeys of NATS.
"""

import base64
import binascii
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_BLOCK: Final = re.compile(r"-{5}BEGIN ([A-Z ]{1,40})-{5}\s*([A-Za-z0-9._=-]{1,16384}?)\s*-{5,6}END \1-{5,6}")
_JWT: Final = "NATS USER JWT"
_SEED: Final = "USER NKEY SEED"
_SEED_BYTES: Final = 36  # two of prefix, 32 of key, two of check sum
_SEED_PREFIX: Final = 18 << 3  # "S"
_USER_PREFIX: Final = 20 << 3  # "U"


class CredentialsError(Exception):
    """A file that cannot be used; the message says why, and quotes nothing of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What a connection is opened with."""

    jwt: str
    key: Ed25519PrivateKey

    def sign(self, nonce: str) -> bytes:
        """Sign what the server sent; base64url without padding."""
        return base64.urlsafe_b64encode(self.key.sign(nonce.encode())).rstrip(b"=")


def read(path: Path) -> Credentials:
    """Read a file. CredentialsError: it cannot be read, others can read it, or it is no such file."""
    try:
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise CredentialsError(f"{path} can be read by others; run: chmod 600 {path}")
        text = path.read_text(encoding="ascii")
    except OSError as error:
        raise CredentialsError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CredentialsError(f"{path} is no credentials file") from error
    blocks = dict(_BLOCK.findall(text))
    if _JWT not in blocks or _SEED not in blocks:
        raise CredentialsError(f"{path} is no credentials file: it needs a JWT of a user and the seed of its nkey")
    try:
        return Credentials(jwt=blocks[_JWT], key=_key(blocks[_SEED]))
    except ValueError as error:
        raise CredentialsError(f"{path} holds no seed of a user's nkey") from error


def _key(seed: str) -> Ed25519PrivateKey:
    """Read `SUA…`. ValueError: it is no seed of a user."""
    raw = base64.b32decode(seed + "=" * (-len(seed) % 8))
    if len(raw) != _SEED_BYTES or int.from_bytes(raw[-2:], "little") != binascii.crc_hqx(raw[:-2], 0):
        raise ValueError("the check sum is wrong")
    kind = (raw[0] & 0b111) << 5 | (raw[1] & 0b11111000) >> 3
    if raw[0] & 0b11111000 != _SEED_PREFIX or kind != _USER_PREFIX:
        raise ValueError("it is another kind of key")
    return Ed25519PrivateKey.from_private_bytes(raw[2:-2])
