"""`[upstream.NAME]`: where mail goes from here, and how its URL is read."""

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, PlainSerializer, PlainValidator, SecretStr, ValidationInfo, model_validator
from pydantic.json_schema import WithJsonSchema

from tracker.contract.address import normalize_domain
from tracker.contract.errors import AddressError
from tracker.runtime.configtypes import Count, FilePath, Kind, Section, resolve
from tracker.runtime.units import UnfitError

MAILDIR: Final = "maildir:"
_PORTS: Final = {"smtp": 25, "smtp+starttls": 587, "smtps": 465}


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


UPSTREAM: Final = Kind(
    name="upstream", named=True, model=UpstreamSection, planned=frozenset({"provider", "max_rate", "set_headers"})
)
