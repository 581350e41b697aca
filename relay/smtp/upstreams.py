"""The settings of an upstream, as values; the configuration reads its URL.

`smtp://` takes STARTTLS where it is offered; `smtp+starttls://` and `smtps://` (implicit TLS, RFC 8314 §3) refuse to go
on without a certificate that verifies; `maildir:` is a folder of this machine.
"""

from collections.abc import Awaitable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from relay.core.attempt import Attempt, Transaction
from relay.core.providers import Provider
from relay.smtp.ourselves import Sign


class Upstream(Protocol):
    """Whoever takes copies. `send` never raises but when it is cancelled."""

    def send(self, transaction: Transaction) -> Awaitable[list[Attempt]]:
        """Try once; return what came of it for each recipient, in order."""
        ...

    def close(self) -> Awaitable[None]:
        """End idle connections."""
        ...


class Security(StrEnum):
    """What an SMTP upstream's URL demands of TLS."""

    WHEN_OFFERED = "smtp"
    STARTTLS = "smtp+starttls"
    IMPLICIT = "smtps"


@dataclass(frozen=True, slots=True)
class SmtpTarget:
    """A server: `SmtpTarget("smtp.example.com", 587, Security.STARTTLS)`."""

    host: str
    port: int
    security: Security


@dataclass(frozen=True, slots=True)
class MaildirTarget:
    """A folder of this machine."""

    directory: Path


Target = SmtpTarget | MaildirTarget


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamOptions:
    """An upstream as configured. `hostname` is what we call ourselves in EHLO; `tls_ca` replaces the system's list.

    Time limits are those of RFC 5321 §4.5.3.2, in seconds. Greeting and connecting have one each of
    `connect_timeout_s`: an upstream that is slow to greet is a condition of the upstream, and costs no mail. One that
    shows `sign` is this relay itself.
    """

    name: str
    target: Target
    hostname: str
    username: str = ""
    password: str = ""
    tls_ca: Path | None = None
    sign: Sign | None = None
    provider: Provider = "generic"
    max_connections: int = 20
    max_messages_per_connection: int = 100
    idle_s: float = 30.0
    connect_timeout_s: float = 60.0
    command_timeout_s: float = 300.0
    block_timeout_s: float = 180.0
    dot_timeout_s: float = 600.0
