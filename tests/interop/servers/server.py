"""What every server of a run has: ports, a certificate, a login, mailboxes."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.interop.certificates import Certificate

USER: Final = "tester"
PASSWORD: Final = "correct-horse-7"
REFUSED: Final = "refused@client.example"
"""Answered 550 by every server."""

DOMAINS: Final = ("client.example", "shop.example")
"""Whose mail every server takes: of the recipients, and of the sender for reports."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where a server lives: a folder of its own, the certificate to show."""

    folder: Path
    certificate: Certificate


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A server that listens.

    `urls` has an upstream URL by what is asked: `plain`, `starttls`, `tls`, `login` (mail only after AUTH), and
    `seven_bit` (no 8BITMIME); one that is missing has its reason in `not_offered`. `taken` gives all mail taken so far.
    """

    urls: Mapping[str, str]
    taken: Callable[[], list[bytes]]
    not_offered: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A program: how to learn its version (AbsentError: it is not here) and how to run it."""

    name: str
    version: Callable[[], str]
    run: Callable[[Site], AbstractContextManager[Running]]


def files_below(folder: Path) -> Callable[[], list[bytes]]:
    """Return a reader of the messages in a maildir, or in any folder of files; dot files are not ready."""

    def read() -> list[bytes]:
        whole = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.parent.name != "tmp")
        return [path.read_bytes() for path in whole if not path.name.startswith(".")]

    return read
