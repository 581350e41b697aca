"""`[upstream.NAME]`: where mail goes from here, and how its URL is read."""

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, PlainSerializer, PlainValidator, SecretStr, ValidationInfo, model_validator
from pydantic.json_schema import WithJsonSchema

from relay.core.providers import Provider
from tracker.contract.address import normalize_domain
from tracker.contract.errors import AddressError
from tracker.runtime.configtypes import Count, FilePath, Kind, Rate, Section, resolve
from tracker.runtime.units import UnfitError

MAILDIR: Final = "maildir:"
_FIELD_NAME: Final = re.compile(r"[!-9;-~]{1,76}")  # RFC 5322 §3.6.8
_MAX_WORD: Final = 900  # a line has 998 octets (RFC 5322 §2.1.1), and folding breaks at spaces alone
_NEVER_SET: Final = frozenset(
    {
        "received",
        "return-path",
        "from",
        "sender",
        "to",
        "cc",
        "bcc",
        "reply-to",
        "date",
        "message-id",
        "in-reply-to",
        "references",
        "subject",
        "mime-version",
        "dkim-signature",
        "delivered-to",
        "x-mailwake-copy",
        "authentication-results",
        "list-unsubscribe",
        "list-unsubscribe-post",
    }
)
_NEVER_SET_PREFIXES: Final = ("content-", "resent-", "arc-")
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


def _outgoing(fields: dict[str, str]) -> dict[str, str]:
    """Check what is put on mail: a wrong name or value would break it, or speak for somebody else."""
    seen: set[str] = set()
    for name, value in fields.items():
        folded = name.lower()
        if not _FIELD_NAME.fullmatch(name):
            raise UnfitError(f"{name!r} is no name of a header field", 'write it like "X-SES-CONFIGURATION-SET"')
        if folded in _NEVER_SET or folded.startswith(_NEVER_SET_PREFIXES):
            raise UnfitError(f"{name} is written by authors or servers, not by settings", "name another field")
        if folded in seen:
            raise UnfitError(f"{name} is there twice", "write it once")
        seen.add(folded)
        if not value.strip() or not value.isprintable() or not value.isascii():
            raise UnfitError(f"the value of {name} is empty, or not of printable ASCII", "write another value")
        if max(map(len, value.split(" "))) > _MAX_WORD:
            raise UnfitError(f"the value of {name} is too long for a line", "write a shorter one")
    return fields


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
    max_rate: Rate | None = Field(
        None, examples=['"100/s"'], description="The most messages a second, minute or hour, as /s, /m or /h."
    )
    provider: Provider = Field(
        "generic",
        description="Whose it is: generic, ses, postmark, sendgrid, mailgun or sparkpost. Its own tracking is switched "
        "off, its throttling replies and its message ids are understood.",
    )
    set_headers: Annotated[dict[str, str], AfterValidator(_outgoing)] = Field(
        {},
        examples=['{ "X-SES-CONFIGURATION-SET" = "bounces" }'],
        description="Header fields put on what leaves, in place of those of the same names.",
    )
    final: bool = Field(
        default=False, description="true: its 250 means delivery (a maildir:, the recipients' own server)."
    )

    @model_validator(mode="after")
    def _fits_its_scheme(self) -> Self:
        if (self.username is None) != (self.password is None):
            raise UnfitError("a login has a username and a password", "write both or neither")
        if self.url.scheme == "maildir" and (self.max_rate is not None or self.provider != "generic"):
            raise UnfitError("a maildir has no pace and no provider", "remove max_rate and provider")
        if self.url.scheme == "maildir" and (self.username is not None or self.tls_ca is not None):
            raise UnfitError("a maildir has no login and no TLS", "remove username, password and tls_ca")
        if self.tls_ca is not None and not self.tls_ca.is_file():
            raise UnfitError(f"tls_ca: {self.tls_ca} is not there", "name a PEM file")
        return self


UPSTREAM: Final = Kind(name="upstream", named=True, model=UpstreamSection)
