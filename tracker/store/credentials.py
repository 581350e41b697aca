"""Logins that were made by command: written by the command, and seen by every process that serves (`watched.py`)."""

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from tracker.contract.credentials import Credential, Permission
from tracker.store.schema import credential
from tracker.store.times import to_ms
from tracker.store.watched import Watched, has_changed

SUBJECT: Final = "credential"


def read_all(connection: sa.Connection) -> dict[str, Credential]:
    """Return every login by its name."""
    return {row["name"]: _credential(row) for row in connection.execute(sa.select(credential)).mappings()}


def put(connection: sa.Connection, one: Credential, at: datetime) -> None:
    """Write a login, in place of one of the same name."""
    connection.execute(credential.delete().where(credential.c.name == one.name))
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
    has_changed(connection, SUBJECT)


def remove(connection: sa.Connection, name: str) -> bool:
    """Remove a login; False: there was none."""
    is_there = connection.execute(credential.delete().where(credential.c.name == name)).rowcount > 0
    if is_there:
        has_changed(connection, SUBJECT)
    return is_there


def watched(path: Path) -> Watched[Mapping[str, Credential]]:
    """Return the logins that the storage has, for a process to look at."""
    return Watched(path, SUBJECT, read_all, nothing={})


def _credential(row: sa.RowMapping) -> Credential:
    return Credential(
        name=row["name"],
        password_hash=row["password_hash"],
        permission=Permission(
            sender_domains=tuple(json.loads(row["sender_domains"])),
            configuration_sets=tuple(json.loads(row["configuration_sets"])),
        ),
    )
