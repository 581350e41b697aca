"""The keys file as a process that serves has it in memory: a key that is added is in force within a second.

Theory: the file's state is looked at twice a second, and it is read when that is another; also while it was written a
    moment ago, since times of files are no finer than a tick of the kernel. What is wrong with it then, the keys that
    were read last stay: a link that worked goes on working, whatever somebody does to the file.

    A file is taken up only if all keys of before are in it, and the same account. A key that is missing would break the
    links of all mail that bears it, and an older file that was put back by mistake looks just like that.
"""

import time
from pathlib import Path
from typing import Final

import structlog
from prometheus_client import Gauge

from tracker.contract.errors import KeysError
from tracker.contract.token import TokenKey, TokenKeys
from tracker.runtime import secrets
from tracker.runtime.secrets import Secrets

LOOK_EVERY_S: Final = 0.5
_SETTLED_S: Final = 2.0

REFUSED: Final = Gauge(
    "mailwake_keys_file_refused",
    "1 while the keys file cannot be used, or lacks a key, and the keys of before are used.",
    multiprocess_mode="livemax",
)

_log = structlog.get_logger()
_State = tuple[int, int, int, int, int]


class KeysFile:
    """A keys file and what was read of it last: `secrets`."""

    def __init__(self, path: Path, found: Secrets) -> None:
        """Take what was read at the start; whether it has changed since is seen at the first look."""
        self.secrets = found
        self._path = path
        self._seen: _State | None = None
        self._told = ""

    @property
    def tokens(self) -> TokenKeys:
        """The keys that are in force."""
        return self.secrets.tokens

    def look(self) -> bool:
        """Read the file if it may have changed; True: there are other keys than before. Blocks, never raises."""
        try:
            state = self._state()
            if state is not None and state == self._seen and time.time_ns() - max(state[2:4]) > _SETTLED_S * 1e9:
                return False
            found = secrets.load(self._path)
            self._check(found)
        except (KeysError, OSError) as error:
            self._refuse(str(error))
            return False
        self._seen = state
        if self._told:
            self._told = ""
            REFUSED.set(0)
            _log.info("keys_accepted", path=str(self._path))
        before, self.secrets = self.secrets, found
        if found.tokens.keys == before.tokens.keys:
            return False
        _log.info("keys_changed", path=str(self._path), keys=[_shown(key) for key in found.tokens.keys])
        return True

    def _check(self, found: Secrets) -> None:
        """Refuse what would break links that are in mail. KeysError says what is missing."""
        secret_of = {key.key_id: key.secret for key in found.tokens.keys}
        missing = [key.key_id for key in self.tokens.keys if secret_of.get(key.key_id) != key.secret]
        if missing:
            ids = ", ".join(map(str, missing))
            raise KeysError(
                f"{self._path} lacks keys that were in it, or has others in their place: {ids}; put the newest back"
            )
        if found.account != self.secrets.account:
            raise KeysError(f"{self._path} is of another account; put the right one back")

    def _refuse(self, why: str) -> None:
        self._seen = None
        REFUSED.set(1)
        if why != self._told:
            self._told = why
            _log.error("keys_refused", path=str(self._path), error=why)

    def _state(self) -> _State | None:
        """Tell the file's states apart; None where it is not there."""
        try:
            stat = self._path.stat()
        except FileNotFoundError:
            return None
        return stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_mode


def _shown(key: TokenKey) -> str:
    return f"{key.key_id} from {key.mint_from.isoformat()}"
