"""The keys file: the account's secret and the keys that seal links, made once and never lost silently.

A lost keys file is an error at start, never a silent new key: links that are already in mail would stop working for
ever. So the file is made only where nothing can depend on one yet.

Format, version 1: a JSON object, mode 0600.
    version          1
    account_secret   32 random bytes in base64
    keys             [{id: 1 to 65535, secret: 32 bytes in base64, mint_from: "2026-01-31T00:00:00Z"}, ...]
Unknown members are of a later version and refused: a file that is only half understood must not be written again.

A key is added by `rotate`, and none is ever taken away. Processes that serve look at the file and take up what came
(`keysfile.py`).

What other purposes need is derived from the account's secret by HKDF-SHA256 (RFC 5869, no salt), each with an info of
its own.
"""

import fcntl
import os
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tracker.contract.errors import KeysError
from tracker.contract.ports import Entropy
from tracker.contract.token import SECRET_BYTES, TokenKey, TokenKeys
from tracker.runtime.durable import flush_folder, replace_file

VERSION: Final = 1
ROTATE_AHEAD: Final = timedelta(minutes=10)
"""How long a new key waits before it mints: for processes that look once a second it is long, and a person has the time
to copy the file to other nodes, whose trackers must know the key before mail with its links arrives."""

_LOCK_WAIT_S: Final = 10.0  # a rotation takes a few flushes; one that was stopped by hand is not waited for
_LOCK_POLL_S: Final = 0.02
_VERIFICATION_INFO: Final = b"mailwake verification v1"
_SIGN_INFO: Final = b"mailwake smtp sign v1"
_PERSON_INFO: Final = b"mailwake person v1"
_MAX_FILE_BYTES: Final = 16 << 20


class Secrets:
    """What a keys file holds: `tokens` seal and read links, `account` is what other keys are derived from."""

    def __init__(self, account: bytes, keys: Iterable[TokenKey]) -> None:
        """KeysError: the account's secret is of another length, or the keys cannot be used."""
        if len(account) != SECRET_BYTES:
            raise KeysError(f"account_secret is {len(account)} bytes long, not {SECRET_BYTES}")
        self.account = account
        self.tokens = TokenKeys(keys)

    def __repr__(self) -> str:
        return f"Secrets(keys={self.tokens.keys!r})"

    @property
    def verification_key(self) -> bytes:
        """The key of the answer to `/.well-known/mailwake`, 32 bytes."""
        return self._derived(_VERIFICATION_INFO)

    @property
    def sign_key(self) -> bytes:
        """The key of the sign by which the relay knows itself as an upstream, 32 bytes."""
        return self._derived(_SIGN_INFO)

    @property
    def person_key(self) -> bytes:
        """The key of the hashes that stand for addresses where consent is kept, 32 bytes."""
        return self._derived(_PERSON_INFO)

    def _derived(self, info: bytes) -> bytes:
        return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(self.account)


def load(path: Path) -> Secrets:
    """Read a keys file. KeysError: it is gone, can be read by others, or is damaged; the message says what to do."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077:
                raise KeysError(f"{path} has mode {mode:04o}, so that others can use the keys; run: chmod 600 {path}")
            raw = file.read(_MAX_FILE_BYTES)
    except FileNotFoundError as error:
        raise KeysError(
            f"{path} is not there. `mailwake serve` makes it at its very first start; later, links that were sent "
            "need its keys: put it back from a backup"
        ) from error
    except OSError as error:
        raise KeysError(f"{path} cannot be read: {error.strerror}; make it readable to this user alone") from error
    try:
        kept = msgspec.json.decode(raw, type=_File)
    except msgspec.MsgspecError as error:
        raise KeysError(f"{path} is damaged: {error}; put it back from a backup") from error
    if kept.version != VERSION:
        raise KeysError(f"{path} is of version {kept.version}, and this release reads {VERSION}; run the newer release")
    try:
        return Secrets(kept.account_secret, [_key(entry) for entry in kept.keys])
    except KeysError as error:
        raise KeysError(f"{path} is damaged: {error}; put it back from a backup") from error


def create(path: Path, *, now: datetime, entropy: Entropy) -> Secrets:
    """Make a keys file with one key, which mints from now on. KeysError: there is a file, or it cannot be written."""
    key = TokenKey(key_id=1, secret=entropy(SECRET_BYTES), mint_from=now.replace(microsecond=0))
    secrets = Secrets(entropy(SECRET_BYTES), [key])
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write_new(path, _encode(secrets))
    except FileExistsError as error:
        raise KeysError(f"{path} is there already; it is never written over") from error
    except OSError as error:
        raise KeysError(f"{path} cannot be written: {error.strerror}; choose another keys.file") from error
    return secrets


def rotate(path: Path, *, now: datetime, entropy: Entropy, mint_from: datetime | None = None) -> TokenKey:
    """Add a key that mints from `ROTATE_AHEAD` on, or from a later `mint_from`, and return it; it is durable then.

    Everything that was in the file stays. KeysError: the file cannot be read or written, the time is too near, or
    another rotation does not end.
    """
    earliest = now.replace(microsecond=0) + ROTATE_AHEAD
    if mint_from is not None and mint_from < earliest:
        raise KeysError(f"a key mints at the earliest from {earliest.isoformat()} on: name that time or a later one")
    load(path)  # says what is wrong before anything is locked
    path = path.resolve()  # a link stays one
    with _locked(path.parent):
        kept = load(path)
        key_id = max(key.key_id for key in kept.tokens.keys) + 1
        key = TokenKey(key_id=key_id, secret=entropy(SECRET_BYTES), mint_from=mint_from or earliest)
        try:
            state = path.stat()
            raw = _encode(Secrets(kept.account, [*kept.tokens.keys, key]))
            replace_file(path, raw, owner=(state.st_uid, state.st_gid))
        except OSError as error:
            raise KeysError(
                f"{path} cannot be written: {error.strerror}; run this as its owner, who may write in its folder"
            ) from error
    return key


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    id: int
    secret: bytes
    mint_from: datetime


class _File(msgspec.Struct, forbid_unknown_fields=True):
    version: int
    account_secret: bytes
    keys: list[_Entry]


def _key(entry: _Entry) -> TokenKey:
    return TokenKey(key_id=entry.id, secret=entry.secret, mint_from=entry.mint_from)


def _encode(secrets: Secrets) -> bytes:
    entries = [_Entry(id=key.key_id, secret=key.secret, mint_from=key.mint_from) for key in secrets.tokens.keys]
    file = _File(version=VERSION, account_secret=secrets.account, keys=entries)
    return msgspec.json.format(msgspec.json.encode(file), indent=2) + b"\n"


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock on a folder; it leaves nothing behind. KeysError: somebody else holds it, or it cannot be had."""
    ends_at = time.monotonic() + _LOCK_WAIT_S
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            while not _has_locked(descriptor):
                if time.monotonic() > ends_at:
                    raise KeysError(f"another command has locked {folder} for {_LOCK_WAIT_S:.0f} s; end it, try again")
                time.sleep(_LOCK_POLL_S)
            yield
        finally:
            os.close(descriptor)
    except OSError as error:
        raise KeysError(f"{folder} cannot be locked: {error.strerror}; keep the keys on a local disk") from error


def _has_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write_new(path: Path, raw: bytes) -> None:
    """Write a file that either is there whole and durable or is not there; never over another (link fails then)."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor, not a path
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    finally:
        draft.unlink()
    flush_folder(path.parent)
