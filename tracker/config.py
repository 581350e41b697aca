"""The tracker's tables of the configuration file, and the snapshot of settings that they make.

Owns which keys there are, their defaults and what may stand in each alone. Checks that concern several tables are made
where the whole file is read, above both halves.
"""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from tracker.contract.address import normalize_domain
from tracker.contract.errors import AddressError
from tracker.contract.events import EventType
from tracker.contract.settings import (
    ConfigurationSet,
    EventDestination,
    OnSigned,
    Scope,
    SenderDomain,
    SensitiveLinks,
    Settings,
)
from tracker.contract.token import MAX_LINK_INDEX
from tracker.runtime.configtypes import (
    NAME_PATTERN,
    Count,
    Duration,
    FilePath,
    Kind,
    Listen,
    Listens,
    Networks,
    Section,
    Texts,
    as_list,
    resolve,
)
from tracker.runtime.units import ListenAddress, UnfitError

SQLITE: Final = "sqlite:"
DEFAULT_JSONL_KEEP: Final = timedelta(days=60)
_NO_SUCH_EVENTS: Final = frozenset({"complaint", "renderingfailure", "subscription"})  # SES has them, Mailwake does not
_EVENTS: Final = {event.value.replace("_", ""): event.value for event in EventType}
_ONE_DAY: Final = timedelta(days=1)


def _event(value: object) -> object:
    """Read an event's name in our spelling or any of SES's: `delivery_delay`, `deliveryDelay`, `DELIVERY_DELAY`."""
    if not isinstance(value, str):
        return value
    folded = value.lower().replace("_", "").replace("-", "")
    if folded in _EVENTS:
        return _EVENTS[folded]
    if folded in _NO_SUCH_EVENTS:
        raise UnfitError(f"Mailwake has no event {value!r}", "remove it")
    raise UnfitError(f"there is no event {value!r}", f"choose from {', '.join(_EVENTS.values())}")


def _base_url(value: object) -> object:
    if not isinstance(value, str):
        return value
    url = urlsplit(value)
    try:
        usable = url.scheme in ("http", "https") and bool(url.hostname) and (url.port is None or url.port > 0)
    except ValueError:
        usable = False
    if not usable or url.username is not None or url.query or url.fragment or not value.isascii():
        raise UnfitError(f"{value!r} is no base of links", 'write it like "https://trace.shop.example"')
    if url.path not in ("", "/"):
        raise UnfitError("it has a path, and tokens stand at the root of the host", "write the scheme and host alone")
    default_port = ":80" if url.scheme == "http" else ":443"
    return f"{url.scheme}://{url.netloc.lower().removesuffix(default_port)}"


def _host_pattern(value: object) -> object:
    if not isinstance(value, str):
        return value
    star = "*." if value.startswith("*.") else ""
    try:
        return star + normalize_domain(value.removeprefix("*."))
    except AddressError as error:
        raise UnfitError(f"{value!r} is no host", 'write it like "bank.example" or "*.bank.example"') from error


def _click_tracking(value: object) -> object:
    return False if value == "false" else value  # as an environment variable gives it


def _resolver(value: object) -> object:
    return value if value == "system" or not isinstance(value, str) else str(ListenAddress.parse(value))


def _sqlite(value: object, info: ValidationInfo) -> object:
    if not isinstance(value, str) or value.startswith("postgresql:"):
        raise UnfitError("only SQLite is there in this version", 'write it like "sqlite:var/mailwake.db"')
    path = value.removeprefix(SQLITE)
    if not value.startswith(SQLITE) or not path or path.startswith(":"):
        raise UnfitError(f"{value!r} is no storage", 'write it like "sqlite:var/mailwake.db"')
    return f"{SQLITE}{resolve(path, info)}"


Name = Annotated[str, Field(pattern=f"^{NAME_PATTERN}$")]
EventName = Annotated[str, BeforeValidator(_event)]
HostPattern = Annotated[str, BeforeValidator(_host_pattern)]


class JournalSection(Section):
    """`[journal]`: the events that were answered for, until the storage has them."""

    directory: FilePath = Field(Path("var/journal"), description="Where the journal lies, on a local disk.")
    keep: Duration = Field(_ONE_DAY, description="How long what the storage has taken in is kept beyond that.")


class TrackerSection(Section):
    """`[tracker]`: the host that links and pixels point to."""

    listen: Listens = Field(
        (ListenAddress("127.0.0.1", 8080),), min_length=1, description="Where the tracking host listens."
    )
    public_url: Annotated[str, BeforeValidator(_base_url)] | None = Field(
        None,
        examples=['"https://trace.shop.example"'],
        description="Where links point, as recipients reach it. Left out: the first address of `listen`, on loopback.",
    )
    trusted_proxies: Networks = Field((), description="Networks whose X-Forwarded-For is believed.")
    record_address: Literal["truncated", "full", "none"] = Field(
        "truncated", description="What is kept of a visitor's address: truncated (/24, /48), full or none."
    )


class ConsoleSection(Section):
    """`[console]`: the page that says what runs."""

    listen: Listens = Field(
        (ListenAddress("127.0.0.1", 8081),), min_length=1, description="Where the console listens: loopback only."
    )

    @field_validator("listen")
    @classmethod
    def _is_loopback(cls, value: tuple[Listen, ...]) -> tuple[Listen, ...]:
        for address in value:
            if not address.is_loopback:
                raise UnfitError(f"{address} can be reached from elsewhere, and there is no login yet", "use 127.0.0.1")
        return value


class MetricsSection(Section):
    """`[metrics]`: /metrics, /healthz and /readyz of this process."""

    listen: Listen = Field(
        ListenAddress("127.0.0.1", 9464), description="Where it listens: loopback or a private address."
    )

    @field_validator("listen")
    @classmethod
    def _is_private(cls, value: Listen) -> Listen:
        if not value.is_private:
            raise UnfitError(f"{value} is not on a private network", "use 127.0.0.1 or an address of your own network")
        return value


class StorageSection(Section):
    """`[storage]`: what has happened to messages, for statistics, publishing and the console."""

    url: Annotated[str, BeforeValidator(_sqlite)] = Field(
        "sqlite:var/mailwake.db", description="The database; its folder is made."
    )

    @property
    def path(self) -> Path:
        """The SQLite file."""
        return Path(self.url.removeprefix(SQLITE))


class KeysSection(Section):
    """`[keys]`: the secrets that seal links."""

    file: FilePath = Field(
        Path("var/keys.json"),
        description="The keys file, mode 0600. Made only while spool, journal and storage are empty.",
    )


class TrackingSection(Section):
    """`[tracking]`: the account."""

    scope: Scope = Field("account+domain", description="Which sets count: account, account+domain or domain.")
    configuration_set: Name = Field("default", description="The account's set.")
    enabled: bool = Field(default=True, description="false: every message passes untouched.")
    collect_for: Duration = Field(timedelta(days=60), description="How long hits are recorded, from acceptance.")
    max_links: Count = Field(250, ge=0, le=MAX_LINK_INDEX + 1, description="Links wrapped in a message, HTML first.")
    unknown_set: Literal["reject", "ignore"] = Field(
        "reject", description="A message that names a set that is not there: reject or ignore."
    )
    verify_sample: float = Field(
        0.0, ge=0, le=1, description="Share of rewritten mail that the witness checks, in a process of its own."
    )

    @field_validator("collect_for")
    @classmethod
    def _has_a_day(cls, value: timedelta) -> timedelta:
        if value < _ONE_DAY:
            raise UnfitError("a token tells the day only", 'write "1d" or more')
        return value


class ConfigurationSetSection(Section):
    """`[configuration_set.NAME]`: how the mail of a set is tracked and who is told."""

    open_tracking: bool = Field(default=True, description="Whether HTML gets a pixel.")
    click_tracking: Annotated[Literal["html+text", "html", False], BeforeValidator(_click_tracking)] = Field(
        "html+text", description="Which links are wrapped: html+text, html or false."
    )
    upstream: Annotated[tuple[Name, ...], BeforeValidator(as_list)] = Field(
        ("default",),
        min_length=1,
        max_length=8,
        examples=['["ses", "backup"]'],
        description="The upstream that its mail leaves through; of a list the first that can be used.",
    )
    destinations: Texts = Field((), description="The event destinations that hear of its mail.")
    skip_hosts: Annotated[tuple[HostPattern, ...], BeforeValidator(as_list)] = Field(
        (), examples=['["*.bank.example"]'], description="Hosts whose links are never wrapped."
    )
    skip_url_text: bool = Field(default=False, description="true: a link whose visible text is itself a URL is left.")
    sensitive_links: SensitiveLinks = Field(
        "redact", description="Links that look like logins, resets or tokens: redact, skip or track."
    )
    dkim: Name | None = Field(None, examples=['"shop"'], description="The table [dkim.NAME] that signs its mail.")
    on_signed: OnSigned = Field(
        "skip",
        description="A DKIM signature that rewriting would break: skip rewriting, or resign (with an aligned dkim).",
    )
    paused: bool = Field(default=False, description="true: its mail is put off with 451 4.7.1.")


class SenderDomainSection(Section):
    """`[sender_domain."shop.example"]`: the set of a domain and of its sub-domains."""

    configuration_set: Name = Field(examples=['"default"'], description="The set of its mail.")


class EventDestinationSection(Section):
    """`[event_destination.NAME]`: where events go."""

    type: Literal["jsonl", "stdout"] = Field(examples=['"jsonl"'], description="jsonl or stdout.")
    path: FilePath | None = Field(None, description="jsonl: the folder of PATH/YYYY-MM-DD.jsonl, by UTC day.")
    keep: Duration | None = Field(None, description='jsonl: how long a file is kept; "60d" where it is left out.')
    sets: Texts = Field(("*",), description="The sets whose events it takes.")
    events: Annotated[tuple[EventName, ...], BeforeValidator(as_list)] = Field(
        tuple(event.value for event in EventType),
        min_length=1,
        examples=['["open", "click"]'],
        description="The events it takes; SES's spellings are understood.",
    )
    format: Literal["ses"] = Field("ses", description="The shape of an event.")

    @field_validator("type", mode="before")
    @classmethod
    def _is_there(cls, value: object) -> object:
        if value in ("webhook", "nats"):
            raise UnfitError(f"{value!r} is planned, and not in this version", 'write "jsonl" or "stdout"')
        return value

    @field_validator("format", mode="before")
    @classmethod
    def _is_ses(cls, value: object) -> object:
        if value in ("sns", "tencent"):
            raise UnfitError(f"{value!r} is planned, and not in this version", 'write "ses"')
        return value

    @model_validator(mode="after")
    def _fits_its_type(self) -> Self:
        if self.type == "jsonl" and self.path is None:
            raise UnfitError("jsonl needs a path", 'write path = "var/events"')
        if self.type == "stdout" and (self.path is not None or self.keep is not None):
            raise UnfitError("path and keep belong to jsonl", "remove them")
        return self


class VerificationSection(Section):
    """`[verification]`: how DNS is asked whether domains are set up."""

    resolver: Annotated[str, BeforeValidator(_resolver)] = Field(
        "system", description="Who is asked: system, or a server's ADDRESS:PORT."
    )


class LogSection(Section):
    """`[log]`: what the process says on standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="debug, info, warning or error.")
    addresses: bool = Field(default=False, description="true: mail addresses in logs; else a hash of each.")
    format: Literal["auto", "text", "json"] = Field(
        "auto", description="auto (text on a terminal, else json), text or json."
    )


JOURNAL: Final = Kind(name="journal", model=JournalSection)
TRACKER: Final = Kind(name="tracker", model=TrackerSection, planned=frozenset({"tls", "geoip", "max_hits"}))
CONSOLE: Final = Kind(name="console", model=ConsoleSection, planned=frozenset({"tls", "behind_proxy"}))
METRICS: Final = Kind(name="metrics", model=MetricsSection)
STORAGE: Final = Kind(name="storage", model=StorageSection, planned=frozenset({"keep", "keep_statistics"}))
KEYS: Final = Kind(name="keys", model=KeysSection)
TRACKING: Final = Kind(name="tracking", model=TrackingSection, planned=frozenset({"require_verified_senders"}))
CONFIGURATION_SET: Final = Kind(
    name="configuration_set",
    named=True,
    model=ConfigurationSetSection,
    planned=frozenset({"tracking_domain", "mode", "share", "consent"}),
)
SENDER_DOMAIN: Final = Kind(name="sender_domain", named=True, model=SenderDomainSection)
EVENT_DESTINATION: Final = Kind(
    name="event_destination",
    named=True,
    model=EventDestinationSection,
    planned=frozenset(
        {"url", "secret", "batch", "allow_private", "servers", "stream", "credentials", "exclude_machine"}
    ),
)
VERIFICATION: Final = Kind(
    name="verification", model=VerificationSection, planned=frozenset({"ca_file", "http_port", "https_port"})
)
LOG: Final = Kind(name="log", model=LogSection)


def settings(
    *,
    base_url: str,
    default_upstream: str,
    tracking: TrackingSection,
    sets: Mapping[str, ConfigurationSetSection],
    sender_domains: Mapping[str, SenderDomainSection],
    destinations: Mapping[str, EventDestinationSection],
    dkim_domains: Mapping[str, str],
) -> Settings:
    """Make the snapshot that both halves work by; `base_url` is where links point (`"http://127.0.0.1:8080"`)."""
    return Settings(
        base_url=base_url,
        own_hosts=frozenset({urlsplit(base_url).netloc}),
        enabled=tracking.enabled,
        scope=tracking.scope,
        account_set=tracking.configuration_set if tracking.configuration_set in sets else None,
        unknown_set=tracking.unknown_set,
        max_links=tracking.max_links,
        collect_for=tracking.collect_for,
        default_upstream=default_upstream,
        sets={name: _set(name, section) for name, section in sets.items()},
        sender_domains=_sender_domains(sender_domains),
        destinations={name: _destination(name, section) for name, section in destinations.items()},
        dkim_domains=dkim_domains,
    )


def _set(name: str, section: ConfigurationSetSection) -> ConfigurationSet:
    return ConfigurationSet(
        name=name,
        open_tracking=section.open_tracking,
        html_links=section.click_tracking is not False,
        text_links=section.click_tracking == "html+text",
        upstream=section.upstream[0],
        fallbacks=section.upstream[1:],
        destinations=section.destinations,
        skip_hosts=section.skip_hosts,
        skip_url_text=section.skip_url_text,
        sensitive_links=section.sensitive_links,
        dkim=section.dkim,
        on_signed=section.on_signed,
        paused=section.paused,
    )


def _sender_domains(sections: Mapping[str, SenderDomainSection]) -> dict[str, SenderDomain]:
    entries = {}
    for name, section in sections.items():
        domain = normalize_domain(name)
        entries[domain] = SenderDomain(domain=domain, configuration_set=section.configuration_set)
    return entries


def _destination(name: str, section: EventDestinationSection) -> EventDestination:
    return EventDestination(
        name=name,
        type=section.type,
        path=section.path,
        keep=(section.keep or DEFAULT_JSONL_KEEP) if section.type == "jsonl" else None,
        sets=section.sets,
        events=frozenset(section.events),
    )
