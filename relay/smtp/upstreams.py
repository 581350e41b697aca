"""The settings of an upstream, and what its URL means.

`smtp://host:port` takes STARTTLS where it is offered; `smtp+starttls://` and `smtps://` (implicit TLS, RFC 8314 §3)
refuse to go on without a certificate that verifies; `maildir:DIR` is a folder of this machine.
"""

from collections.abc import Awaitable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import urlsplit

from relay.core.attempt import Attempt, Transaction
from tracker.contract.address import normalize_domain
from tracker.contract.errors import AddressError

_DEFAULT_PORTS: Final = {"smtp": 25, "smtp+starttls": 587, "smtps": 465}


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
    `connect_timeout_s`: an upstream that is slow to greet is a condition of the upstream, and costs no mail.
    """

    name: str
    target: Target
    hostname: str
    username: str = ""
    password: str = ""
    tls_ca: Path | None = None
    max_connections: int = 20
    max_messages_per_connection: int = 100
    idle_s: float = 30.0
    connect_timeout_s: float = 60.0
    command_timeout_s: float = 300.0
    block_timeout_s: float = 180.0
    dot_timeout_s: float = 600.0


def parse_target(url: str) -> Target:
    """Read an upstream's URL. ValueError says what is wrong with it, without repeating it (it may hold a password)."""
    if url.startswith("maildir:"):
        if not url.removeprefix("maildir:"):
            raise ValueError("maildir: needs a folder, as in maildir:var/mail")
        return MaildirTarget(Path(url.removeprefix("maildir:")))
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError("the port or the host of the URL cannot be read") from error
    if parts.scheme not in _DEFAULT_PORTS:
        raise ValueError(
            f"the URL must begin with {', '.join(f'{scheme}://' for scheme in _DEFAULT_PORTS)} or maildir:"
        )
    if "@" in parts.netloc:
        raise ValueError("user name and password have keys of their own, not a place in the URL")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError("nothing may stand behind host and port")
    if port == 0 or not parts.hostname:
        raise ValueError("the URL needs a host, and a port that is not 0")
    return SmtpTarget(_host(parts.hostname), port or _DEFAULT_PORTS[parts.scheme], Security(parts.scheme))


def _host(text: str) -> str:
    if ":" in text:
        return text  # an IPv6 address; urlsplit has checked it and taken its brackets off
    try:
        return normalize_domain(text)
    except AddressError as error:
        raise ValueError(f"the host is no host name: {error}") from error
