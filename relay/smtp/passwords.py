"""Passwords: hashed with argon2id, checked off the event loop, two at a time, and remembered for a while when right.

Owns the parameters. Every hash in use has exactly these, so that a check takes the same time whoever is asked for: an
unknown name is checked against a hash that no password fits.

Standards: RFC 9106 (argon2), with the parameters of OWASP's password storage cheat sheet: 19 MiB, 2 passes, 1 lane.
Theory: the library's defaults cost 242 ms of CPU and 64 MiB a login, these about 20 ms and 19 MiB; two at a time bound
    the memory. Programs log in anew for each message, so a right password is remembered: not itself, but its HMAC under
    a key that only this process has, together with the hash it fits. A changed hash is thereby a password not known.
"""

import asyncio
import hashlib
import hmac
import secrets
from base64 import b64encode
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import argon2
from argon2.exceptions import InvalidHashError, VerificationError
from prometheus_client import Counter

MEMORY_KIB: Final = 19 * 1024
PASSES: Final = 2
LANES: Final = 1
AT_A_TIME: Final = 2
REMEMBERED_S: Final = 600.0
MAX_REMEMBERED: Final = 4096
GENERATED_BYTES: Final = 24
PREFIX: Final = f"$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p={LANES}$"

HASHED: Final = Counter("mailwake_smtp_passwords_hashed", "Passwords of clients that were hashed to check them.")

_HASHER: Final = argon2.PasswordHasher(
    time_cost=PASSES, memory_cost=MEMORY_KIB, parallelism=LANES, hash_len=32, salt_len=16
)


def hash_password(password: bytes) -> str:
    """Return the text that `password_hash` takes. It takes as long as a login."""
    return _HASHER.hash(password)


def generate() -> str:
    """Return a new password of 192 random bits."""
    return secrets.token_urlsafe(GENERATED_BYTES)


def no_password_fits() -> str:
    """Return the text of a hash with our parameters that no password fits; it takes no time."""
    salt, tag = (b64encode(secrets.token_bytes(size)).decode().rstrip("=") for size in (16, 32))
    return f"{PREFIX}{salt}${tag}"


class Passwords:
    """Checks passwords for one process; `monotonic_s` is the clock that remembering goes by."""

    def __init__(self, monotonic_s: Callable[[], float]) -> None:
        self._monotonic_s = monotonic_s
        self._threads = ThreadPoolExecutor(max_workers=AT_A_TIME, thread_name_prefix="argon2")
        self._key = secrets.token_bytes(32)
        self._fitting: OrderedDict[bytes, float] = OrderedDict()
        self._no_password_fits = no_password_fits()

    async def fits(self, password_hash: str | None, password: bytes) -> bool:
        """Say whether a password fits; with None, that of an unknown name, it never does and takes as long."""
        mark = b""
        if password_hash is not None:
            mark = hmac.digest(self._key, password_hash.encode() + b"\0" + password, hashlib.sha256)
            if self._fitting.get(mark, 0.0) > self._monotonic_s():
                return True
        loop = asyncio.get_running_loop()
        does_fit = await loop.run_in_executor(self._threads, _verify, password_hash or self._no_password_fits, password)
        if not does_fit or password_hash is None:
            return False
        self._fitting[mark] = self._monotonic_s() + REMEMBERED_S
        self._fitting.move_to_end(mark)
        if len(self._fitting) > MAX_REMEMBERED:
            self._fitting.popitem(last=False)
        return True

    def close(self) -> None:
        """End the threads; what they work on is not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _verify(password_hash: str, password: bytes) -> bool:
    HASHED.inc()
    try:
        return _HASHER.verify(password_hash, password)
    except (VerificationError, InvalidHashError):
        return False
