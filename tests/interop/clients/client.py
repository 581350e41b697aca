"""What a client is asked to do, and how it says what came of it."""

import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

_LIMIT_S: Final = 60.0


class Security(StrEnum):
    """How the connection is to be encrypted."""

    NONE = "plain"
    STARTTLS = "starttls"
    IMPLICIT = "tls"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One message: where to, how, and the file that holds it with CRLF line ends."""

    host: str
    port: int
    security: Security
    authority: Path
    message: Path
    sender: str
    recipient: str
    user: str = ""
    password: str = ""
    mechanism: str = "PLAIN"
    folder: Path

    @property
    def is_international(self) -> bool:
        """True where an address is not ASCII."""
        return not (self.sender.isascii() and self.recipient.isascii())


class RefusedError(Exception):
    """The server refused, or nothing came of it; the text is what the program printed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A program: its version (AbsentError: it is not here), and how it sends (RefusedError, NotOfferedError)."""

    name: str
    version: Callable[[], str]
    send: Callable[[Order], None]


def run(*command: str | Path, stdin: bytes = b"", environment: Mapping[str, str] | None = None) -> str:
    """Run a program to its end and return what it printed. RefusedError: it failed."""
    done = subprocess.run(
        command, input=stdin, capture_output=True, timeout=_LIMIT_S, check=False, env=environment or None
    )
    printed = (done.stdout + done.stderr).decode(errors="replace")
    if done.returncode != 0:
        raise RefusedError(printed[-800:])
    return printed
