"""The control socket: how the command line reaches a running process. One JSON object a line, one line each way.

A socket is `run/NN.sock`, mode 0600, in a folder of mode 0700: whoever may connect is this user or root, so there is no
other check. NN is the number of the process's slot.

Requests: `{"command": "status"}`, answered by a `Status`. Every other is answered `{"error": "..."}`.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from tracker.runtime.configfile import ConfigError, Problem

MAX_LINE_BYTES: Final = 64 << 10
TIMEOUT_S: Final = 5.0
_MAX_PATH_BYTES: Final = 100  # sun_path holds 104 (macOS) or 108 (Linux), with a zero byte


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """What a process says of itself.

    `listening` is by part, `{"relay": ["127.0.0.1:2525"]}`; `queue` is how many messages wait.
    """

    pid: int
    version: str
    slot: int
    started_at: str
    listening: dict[str, list[str]]
    queue: int


class ControlServer:
    """Answers on the socket of this process."""

    def __init__(self, path: Path, status: Callable[[], Status]) -> None:
        self._path = path
        self._status = status
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen. The slot is ours, so a socket that is there is one that a killed process left.

        ConfigError: the folder cannot be used, or its path is too long.
        """
        if len(os.fsencode(self._path)) > _MAX_PATH_BYTES:
            wrong = f"{self._path} is too long for a socket's name"
            raise ConfigError(None, [Problem(key="spool.directory", wrong=wrong, remedy="choose a shorter path")])
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._path.unlink(missing_ok=True)
            self._server = await asyncio.start_unix_server(self._serve, self._path, limit=MAX_LINE_BYTES)
            self._path.chmod(0o600)
        except OSError as error:
            wrong = f"{self._path} cannot be made: {error.strerror}"
            problem = Problem(key="spool.directory", wrong=wrong, remedy="let this user write in its parent folder")
            raise ConfigError(None, [problem]) from error

    async def close(self) -> None:
        """Stop listening and remove the socket."""
        if self._server is not None:
            self._server.close()
            self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(TimeoutError, ConnectionError, ValueError):
            async with asyncio.timeout(TIMEOUT_S):
                line = await reader.readline()
                writer.write(self._answer(line) + b"\n")
                await writer.drain()
        writer.close()

    def _answer(self, line: bytes) -> bytes:
        try:
            request = msgspec.json.decode(line, type=_Request)
        except msgspec.MsgspecError:
            return msgspec.json.encode({"error": "the request is no JSON object with a command"})
        if request.command == "status":
            return msgspec.json.encode(self._status())
        return msgspec.json.encode({"error": "there is no such command"})


def running(run_directory: Path) -> list[Status]:
    """Ask every process that has a socket in the folder; one that is gone or silent is left out."""
    return [status for path in sorted(run_directory.glob("*.sock")) if (status := _ask(path)) is not None]


class _Request(msgspec.Struct):
    command: str


def _ask(path: Path) -> Status | None:
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(TIMEOUT_S)
            connection.connect(os.fspath(path))
            connection.sendall(b'{"command": "status"}\n')
            with connection.makefile("rb") as file:
                return msgspec.json.decode(file.readline(MAX_LINE_BYTES), type=Status)
    except (OSError, msgspec.MsgspecError):
        return None
