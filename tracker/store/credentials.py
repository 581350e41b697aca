"""Logins that were made by command: written by the command, and seen by every process that serves.

Theory: a process looks once a second, and reads only when the files of the storage have changed since, or change just
    now (their times are no finer than a tick of the kernel). Mail never waits for it: what was read last is what is in
    force, whatever has become of the storage.
"""

import json
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Final

import sqlalchemy as sa
import structlog

from tracker.contract.credentials import Credential, Permission
from tracker.store.database import StorageUnavailableError, reading
from tracker.store.schema import credential
from tracker.store.times import to_ms

LOOK_EVERY_S: Final = 1.0
_SETTLED_S: Final = 2.0
_FAILURES_TOLD: Final = 3  # the first ones may be a storage that is being made

_log = structlog.get_logger()


def read_all(connection: sa.Connection) -> dict[str, Credential]:
    """Return every login by its name."""
    return {row["name"]: _credential(row) for row in connection.execute(sa.select(credential)).mappings()}


def put(connection: sa.Connection, one: Credential, at: datetime) -> None:
    """Write a login, in place of one of the same name."""
    remove(connection, one.name)
    connection.execute(
        credential.insert(),
        {
            "name": one.name,
            "password_hash": one.password_hash,
            "sender_domains": json.dumps(one.permission.sender_domains),
            "configuration_sets": json.dumps(one.permission.configuration_sets),
            "changed_ms": to_ms(at),
        },
    )


def remove(connection: sa.Connection, name: str) -> bool:
    """Remove a login; False: there was none."""
    return connection.execute(credential.delete().where(credential.c.name == name)).rowcount > 0


class StoredCredentials:
    """What the storage has, as last read; None until it could be read once."""

    def __init__(self, path: Path) -> None:
        """Take the storage's path; nothing is opened yet."""
        self.found: Mapping[str, Credential] | None = None
        self._path = path
        self._seen: tuple[tuple[int, int, int], ...] | None = None
        self._failures = 0

    def look(self) -> bool:
        """Read the storage if it may have changed; True: what is stored is other than before. Blocks."""
        stamp = self._stamp()
        newest_ns = max((modified_ns for _, _, modified_ns in stamp), default=0)
        if stamp == self._seen and time.time_ns() - newest_ns > _SETTLED_S * 1e9:
            return False
        if not stamp:  # no storage: nothing was ever stored, or it is gone, and what was read stays
            found = {} if self.found is None else self.found
        else:
            try:
                with reading(self._path) as connection:
                    found = read_all(connection)
            except StorageUnavailableError as error:
                self._failures += 1
                if self._failures == _FAILURES_TOLD:
                    _log.warning("logins_not_read", error=str(error))
                return False
        self._seen, self._failures = stamp, 0
        changed = found != self.found
        self.found = found
        return changed

    def _stamp(self) -> tuple[tuple[int, int, int], ...]:
        """Tell the files' states apart: a commit changes the write-ahead log, a checkpoint the file."""
        states: list[tuple[int, int, int]] = []
        for path in (self._path, self._path.with_name(self._path.name + "-wal")):
            try:
                stat = path.stat()
            except FileNotFoundError:
                continue
            if stat.st_size or states:
                states.append((stat.st_ino, stat.st_size, stat.st_mtime_ns))
        return tuple(states)


def _credential(row: sa.RowMapping) -> Credential:
    return Credential(
        name=row["name"],
        password_hash=row["password_hash"],
        permission=Permission(
            sender_domains=tuple(json.loads(row["sender_domains"])),
            configuration_sets=tuple(json.loads(row["configuration_sets"])),
        ),
    )
