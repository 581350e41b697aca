"""The control socket: how the command line reaches a running process. One JSON object a line, one line each way.

A socket is `run/NN.sock`, mode 0600, in a folder of mode 0700: whoever may connect is this user or root, so there is no
other check. NN is the number of the process's slot.

A request names its command, `{"command": "status"}`; what else is in it belongs to the command. Which commands a
process knows is decided where it is wired. What it does not know, and what a command cannot do, is answered
`{"error": "..."}`. Long work is asked for in pieces: a request is one line of at most MAX_LINE_BYTES.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, TypeVar

import msgspec
import structlog

from tracker.runtime.configfile import ConfigError, Problem

MAX_LINE_BYTES: Final = 64 << 10
TIMEOUT_S: Final = 5.0
PATIENCE_S: Final = 60.0  # a command may wait for the disk
_MAX_PATH_BYTES: Final = 100  # sun_path holds 104 (macOS) or 108 (Linux), with a zero byte

_LOG: Final = structlog.get_logger()

Handler = Callable[[bytes], Awaitable[msgspec.Struct]]
"""Takes the line of a request, gives the answer. Raises msgspec.MsgspecError for a request that makes no sense."""
A = TypeVar("A", bound=msgspec.Struct)


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """What a process says of itself.

    `listening` is by part, `{"relay": ["127.0.0.1:2525"]}`; `queue` is how many messages wait. `supervisor` is the
    process that it is a worker of. One that has workers says the same for all of them, and which they are.
    """

    pid: int
    version: str
    slot: int
    started_at: str
    listening: dict[str, list[str]]
    queue: int
    supervisor: int | None = None
    workers: list[int] = []


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to what cannot be done."""

    error: str


class ControlServer:
    """Answers on the socket of this process."""

    def __init__(self, path: Path, handlers: Mapping[str, Handler]) -> None:
        """Take what is answered, by command."""
        self._path = path
        self._handlers = handlers
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
            answer = await self._answer(line)
            async with asyncio.timeout(TIMEOUT_S):
                writer.write(msgspec.json.encode(answer) + b"\n")
                await writer.drain()
        writer.close()

    async def _answer(self, line: bytes) -> msgspec.Struct:
        try:
            command = msgspec.json.decode(line, type=_Request).command
        except msgspec.MsgspecError:
            return Refusal(error="the request is no JSON object with a command")
        handler = self._handlers.get(command)
        if handler is None:
            return Refusal(error="there is no such command")
        try:
            return await handler(line)
        except msgspec.MsgspecError as error:
            return Refusal(error=f"the request makes no sense: {error}")
        except OSError as error:
            return Refusal(error=error.strerror or "the disk failed")
        except Exception:  # noqa: BLE001 - a request: a command that fails must not end the process
            _LOG.exception("control_command_failed", command=command)
            return Refusal(error="it failed by a fault of ours; the log has the traceback")


def running(run_directory: Path) -> list[Status]:
    """Ask every process that has a socket in the folder; one that is gone or silent is left out."""
    answers = (ask(path, b'{"command": "status"}', Status, timeout_s=TIMEOUT_S) for path in sockets(run_directory))
    return [status for status in answers if isinstance(status, Status)]


def sockets(run_directory: Path) -> Iterator[Path]:
    """Give the sockets in the folder; a process that was killed has left its own."""
    yield from sorted(run_directory.glob("*.sock"))


def ask(path: Path, request: bytes, answer: type[A], *, timeout_s: float = PATIENCE_S) -> A | Refusal | None:
    """Send a request, a line of JSON, to a process; None where nobody answers."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(timeout_s)
            connection.connect(os.fspath(path))
            connection.sendall(request + b"\n")
            with connection.makefile("rb") as file:
                line = file.readline()
    except OSError:
        return None
    with contextlib.suppress(msgspec.MsgspecError):
        return msgspec.json.decode(line, type=Refusal)
    with contextlib.suppress(msgspec.MsgspecError):
        return msgspec.json.decode(line, type=answer)
    return None


class _Request(msgspec.Struct):
    command: str
