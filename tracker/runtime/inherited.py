"""Listening sockets that a service manager made and hands on: a restart then refuses no connection.

The protocol is systemd's `sd_listen_fds(3)`: LISTEN_FDS sockets from descriptor 3 on, for the process LISTEN_PID, and
their names in LISTEN_FDNAMES. Connections that come while no process serves wait in the socket's backlog.

A socket serves the `listen` that it is bound to. One whose address is not in the file as it is (`[::]` for `0.0.0.0`,
or a port 0) says by its name which part it is for, `FileDescriptorName=relay`, and takes the first of its `listen`
that is not taken yet.
"""

import os
import socket
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Final

from tracker.runtime.configfile import ConfigError, Problem
from tracker.runtime.units import ListenAddress

_FIRST: Final = 3
_NAMES: Final = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")

Listens = Mapping[str, Sequence[ListenAddress]]
Place = tuple[str, int]
"""A part and the position among its `listen`: `("relay", 0)`."""


@dataclass(frozen=True, slots=True)
class Inherited:
    """A socket that was handed on; `name` is empty where it has none."""

    socket: socket.socket
    name: str


def take(environ: MutableMapping[str, str]) -> list[Inherited]:
    """Take the sockets that are meant for this process, and their variables out of the environment.

    ConfigError: what was handed on is no socket that listens for TCP.
    """
    pid, count, names = (environ.pop(name, "") for name in _NAMES)
    if pid != str(os.getpid()) or not count.isdigit():
        return []
    named = dict(enumerate(names.split(":") if names else ()))
    return [_open(_FIRST + index, named.get(index, "")) for index in range(int(count))]


def assign(inherited: Sequence[Inherited], listens: Listens) -> dict[Place, socket.socket]:
    """Say which `listen` each socket serves. ConfigError: one fits none."""
    places: dict[Place, socket.socket] = {}
    unnamed: list[Inherited] = []
    for one in inherited:
        place = next(
            (
                (part, index)
                for part, addresses in listens.items()
                for index, address in enumerate(addresses)
                if _bound(one) == (address.host, address.port)
            ),
            None,
        )
        if place is None or place in places:
            unnamed.append(one)
        else:
            places[place] = one.socket
    problems = []
    for one in unnamed:
        free = [(one.name, index) for index in range(len(listens.get(one.name, ()))) if (one.name, index) not in places]
        if free:
            places[free[0]] = one.socket
            continue
        host, port = _bound(one)
        wrong = f"the socket {ListenAddress(host, port)} that was handed on ({one.name or 'no name'}) is none of those"
        remedy = f"write its address there, or name it after its part: FileDescriptorName={next(iter(listens))}"
        problems.append(Problem(key="listen", wrong=wrong, remedy=remedy))
    if problems:
        raise ConfigError(None, problems)
    return places


def _bound(one: Inherited) -> tuple[str, int]:
    host, port = one.socket.getsockname()[:2]
    return str(host), int(port)


def _open(descriptor: int, name: str) -> Inherited:
    try:
        one = socket.socket(fileno=descriptor)
        listening = one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise _unfit(descriptor, f"cannot be used: {error.strerror}") from error
    if one.family not in (socket.AF_INET, socket.AF_INET6) or one.type != socket.SOCK_STREAM or not listening:
        one.detach()
        raise _unfit(descriptor, "is no socket that listens for TCP")
    one.setblocking(False)
    one.set_inheritable(False)
    return Inherited(one, name)


def _unfit(descriptor: int, why: str) -> ConfigError:
    remedy = "hand on sockets of ListenStream= with Accept=no"
    problem = Problem(key="listen", wrong=f"descriptor {descriptor} of LISTEN_FDS {why}", remedy=remedy)
    return ConfigError(None, [problem])
