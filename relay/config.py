"""The relay's tables of the configuration file.

Owns which keys there are, their defaults and what may stand in each alone. Checks that concern several tables are made
where the whole file is read, above both halves.
"""

import ipaddress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    BeforeValidator,
    Field,
    PlainSerializer,
    PlainValidator,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.json_schema import WithJsonSchema

from tracker.contract.address import normalize_domain
from tracker.contract.errors import AddressError
from tracker.runtime.configtypes import (
    Count,
    Duration,
    FilePath,
    Kind,
    Listens,
    Networks,
    Section,
    Size,
    as_list,
    resolve,
)
from tracker.runtime.units import ListenAddress, Network, UnfitError, is_private_network

MAILDIR: Final = "maildir:"
_PORTS: Final = {"smtp": 25, "smtp+starttls": 587, "smtps": 465}
_MAX_MESSAGE_BYTES: Final = 1 << 30
_INSTANCE: Final = r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9])?$"


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamUrl:
    """Where an upstream is: a server (`host`, `port`), or a folder (`maildir`). `str` gives it as it was written."""

    text: str
    scheme: Literal["smtp", "smtp+starttls", "smtps", "maildir"]
    host: str = ""
    port: int = 0
    maildir: Path | None = None

    def __str__(self) -> str:
        return self.text

    @property
    def is_local(self) -> bool:
        """Say whether mail that goes there stays on this machine."""
        if self.scheme == "maildir" or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def _upstream_url(value: object, info: ValidationInfo) -> UpstreamUrl:
    example = 'write it like "smtp+starttls://smtp.example.com:587" or "maildir:var/mail"'
    if not isinstance(value, str):
        raise UnfitError("it is no text", example)
    if value.startswith(MAILDIR):
        return UpstreamUrl(text=value, scheme="maildir", maildir=resolve(value.removeprefix(MAILDIR), info))
    try:
        url = urlsplit(value)
        host, port = url.hostname or "", url.port
    except ValueError as error:
        raise UnfitError(f"it is no URL: {error}", example) from error
    if url.username is not None or url.password is not None:
        raise UnfitError("it holds a user name", "write it as username and password")
    match url.scheme:
        case "smtp" | "smtp+starttls" | "smtps" as scheme:
            pass
        case _:
            raise UnfitError(f"{url.scheme!r} is no scheme of an upstream", example)
    if not host or url.path not in ("", "/") or url.query or url.fragment or port == 0:
        raise UnfitError(f"{value!r} is no server", example)
    if ":" not in host:  # an address of IPv6 was checked with its brackets
        try:
            host = normalize_domain(host)
        except AddressError as error:
            raise UnfitError(f"{host!r} is no host: {error}", example) from error
    return UpstreamUrl(text=value, scheme=scheme, host=host, port=port or _PORTS[scheme])


def _hostname(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        domain = normalize_domain(value)
    except AddressError as error:
        raise UnfitError(f"{value!r} is no host name", 'write it like "relay.example.com"') from error
    if domain.startswith("["):
        raise UnfitError("it is an address", 'write a name like "relay.example.com"')
    return domain


def _smtp_listen(value: object) -> object:
    for text in value if isinstance(value, list | tuple) else [value]:
        if isinstance(text, str) and text.startswith("smtps:"):
            raise UnfitError("TLS is planned, and not in this version", 'write it like "127.0.0.1:2525"')
    return as_list(value)


class RelaySection(Section):
    """`[relay]`: the SMTP server that mail is sent to."""

    listen: Annotated[Listens, BeforeValidator(_smtp_listen)] = Field(
        (ListenAddress("127.0.0.1", 2525),), min_length=1, description="Where the relay listens."
    )
    hostname: Annotated[str, BeforeValidator(_hostname)] | None = Field(
        None,
        examples=['"relay.example.com"'],
        description="The name in the greeting and in Received. Left out: this machine's.",
    )
    instance: str | None = Field(
        None,
        pattern=_INSTANCE,
        examples=['"relay1"'],
        description="This node's name, in Received. Left out: this machine's.",
    )
    allow_networks: Networks = Field(
        (), examples=['["127.0.0.0/8", "::1/128"]'], description="Private networks that may send without a login."
    )
    max_message: Size = Field(25 << 20, description="The largest message taken in.")
    max_recipients: Count = Field(1000, ge=100, le=100_000, description="The most recipients of a message.")
    max_connections: Count = Field(1000, ge=1, le=100_000, description="The most connections at a time.")
    max_connections_per_address: Count = Field(
        100, ge=1, le=100_000, description="The most from one address; loopback and allow_networks excepted."
    )
    bare_line_ends: Literal["normalize", "reject"] = Field(
        "normalize", description="A bare LF becomes CRLF and a bare CR a space, or the message is refused."
    )

    @field_validator("allow_networks")
    @classmethod
    def _are_private(cls, value: tuple[Network, ...]) -> tuple[Network, ...]:
        for network in value:
            if not is_private_network(network):
                raise UnfitError(f"{network} is not private: this would be an open relay", "name your own network")
        return value

    @field_validator("max_message")
    @classmethod
    def _has_a_bound(cls, value: int) -> int:
        if not 1 << 10 <= value <= _MAX_MESSAGE_BYTES:
            raise UnfitError("it is not between 1KiB and 1GiB", 'write it like "25MiB"')
        return value


class UpstreamSection(Section):
    """`[upstream.NAME]`: where mail goes from here."""

    url: Annotated[
        UpstreamUrl, PlainValidator(_upstream_url), PlainSerializer(str), WithJsonSchema({"type": "string"})
    ] = Field(
        examples=['"smtp+starttls://smtp.example.com:587"'],
        description="smtp:// (STARTTLS when offered), smtp+starttls:// (required, verified), smtps:// or maildir:DIR.",
    )
    username: str | None = Field(None, min_length=1, examples=['"apikey"'], description="The login's name.")
    password: SecretStr | None = Field(
        None, min_length=1, examples=['"env:UPSTREAM_PASSWORD"'], description="The login's password."
    )
    tls_ca: FilePath | None = Field(
        None, examples=['"ca.pem"'], description="Certificates to trust in place of the system's."
    )
    max_connections: Count = Field(20, ge=1, le=1000, description="The most connections at a time.")
    max_messages_per_connection: Count = Field(100, ge=1, description="Then a new connection is made.")
    max_recipients: Count = Field(
        50, ge=1, le=1000, description="Recipients of one transaction; only untracked mail has several."
    )
    final: bool = Field(
        default=False, description="true: its 250 means delivery (a maildir:, the recipients' own server)."
    )

    @model_validator(mode="after")
    def _fits_its_scheme(self) -> Self:
        if (self.username is None) != (self.password is None):
            raise UnfitError("a login has a username and a password", "write both or neither")
        if self.url.scheme == "maildir" and (self.username is not None or self.tls_ca is not None):
            raise UnfitError("a maildir has no login and no TLS", "remove username, password and tls_ca")
        if self.tls_ca is not None and not self.tls_ca.is_file():
            raise UnfitError(f"tls_ca: {self.tls_ca} is not there", "name a PEM file")
        return self


class SpoolSection(Section):
    """`[spool]`: the mail that was accepted and is not delivered yet."""

    directory: FilePath = Field(Path("var/spool"), description="Where it lies, on a local disk.")
    retry_for: Duration = Field(timedelta(days=5), description="How long delivery is tried; then the message bounces.")
    high_water: Size = Field(5 << 30, description="More than this in the spool: 452.")
    min_free: Size = Field(1 << 30, description="Less free than this on its disk, or than 1.5 max_message: 452.")
    dsn: bool = Field(default=True, description="Whether a bounce is reported to its author by mail, too (RFC 3464).")


RELAY: Final = Kind(name="relay", model=RelaySection, planned=frozenset({"tls", "inline_wait"}))
UPSTREAM: Final = Kind(
    name="upstream", named=True, model=UpstreamSection, planned=frozenset({"provider", "max_rate", "set_headers"})
)
SPOOL: Final = Kind(name="spool", model=SpoolSection, planned=frozenset({"dsn_sender"}))
