"""The settings that both halves work by, as one immutable snapshot, and how a message's configuration set is chosen.

A snapshot is made from the configuration file at the edge; whoever uses it holds one for the whole of a message or hit.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Literal

Scope = Literal["account", "account+domain", "domain"]
SensitiveLinks = Literal["redact", "skip", "track"]
OnSigned = Literal["skip", "resign"]
Consent = Literal["assume", "require"]
DestinationType = Literal["jsonl", "stdout", "webhook", "nats"]
RecordFormat = Literal["ses", "sns", "tencent"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigurationSet:
    """How the mail of a set is tracked, where it goes, who is told, and who signs it (`dkim`, a name).

    `fallbacks` are the upstreams that are tried, in order, while `upstream` cannot be used.
    """

    name: str
    open_tracking: bool = True
    html_links: bool = True
    text_links: bool = True
    upstream: str = "default"
    fallbacks: tuple[str, ...] = ()
    destinations: tuple[str, ...] = ()
    skip_hosts: tuple[str, ...] = ()
    skip_url_text: bool = False
    sensitive_links: SensitiveLinks = "redact"
    dkim: str | None = None
    on_signed: OnSigned = "skip"
    consent: Consent = "assume"
    paused: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SenderDomain:
    """A sender domain in A-labels and the set of its mail; serves its sub-domains too, unless they have their own."""

    domain: str
    configuration_set: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EventDestination:
    """Where events go, and which: `sets` may be `("*",)`; `events` are values of EventType.

    `path` and `keep` are of `jsonl`. Of `webhook` are `url`, `secrets` (`whsec_…`, the first signs first),
    `batch` (events of one request) and `allow_private` (addresses of private networks may be posted to). Of `nats` are
    `servers`, `stream` and `credentials` (a file).
    """

    name: str
    type: DestinationType
    path: Path | None = None
    keep: timedelta | None = None
    url: str = ""
    secrets: tuple[str, ...] = field(default=(), repr=False)
    batch: int = 1
    allow_private: bool = False
    servers: tuple[str, ...] = ()
    stream: str = "MAILWAKE"
    credentials: Path | None = None
    sets: tuple[str, ...] = ("*",)
    events: frozenset[str] = frozenset()
    exclude_machine: bool = False
    format: RecordFormat = "ses"


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownSet:
    """The message names a set that is not there, and `unknown_set` is `reject`."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All of it. `base_url` is where links point, without a slash at its end; `own_hosts` are hosts never wrapped.

    `dkim_domains` has the signing domain of each name that a set may have as its `dkim`.
    """

    base_url: str
    own_hosts: frozenset[str] = frozenset()
    enabled: bool = True
    scope: Scope = "account+domain"
    account_set: str | None = None
    unknown_set: Literal["reject", "ignore"] = "reject"
    max_links: int = 250
    collect_for: timedelta = timedelta(days=60)
    default_upstream: str = "default"
    sets: Mapping[str, ConfigurationSet] = field(default_factory=dict)
    sender_domains: Mapping[str, SenderDomain] = field(default_factory=dict)
    destinations: Mapping[str, EventDestination] = field(default_factory=dict)
    dkim_domains: Mapping[str, str] = field(default_factory=dict)

    def choose_set(self, *, named: str | None, sender_domain: str | None) -> ConfigurationSet | UnknownSet | None:
        """Choose a message's set: the one it names, else its sender domain's, else the account's, as `scope` allows.

        `sender_domain` is in lower-case A-labels, None where no sender can be read. None: the message passes untouched.
        """
        if named is not None:
            chosen = self.sets.get(named)
            if chosen is not None:
                return chosen
            if self.unknown_set == "reject":
                return UnknownSet(name=named)
        entry = self.sender_domain_of(sender_domain) if sender_domain and self.scope != "account" else None
        if entry is not None:
            return self.sets[entry.configuration_set]
        if self.scope == "domain" or self.account_set is None:
            return None
        return self.sets[self.account_set]

    def sender_domain_of(self, domain: str) -> SenderDomain | None:
        """Return the entry of the longest suffix of `domain`: `a.shop.example`, then `shop.example`, then `example`."""
        while domain:
            entry = self.sender_domains.get(domain)
            if entry is not None:
                return entry
            domain = domain.partition(".")[2]
        return None

    def destinations_of(self, set_name: str | None) -> tuple[EventDestination, ...]:
        """Return the destinations of a set's events; mail without a set is reported to those of the account's set."""
        name = set_name if set_name in self.sets else self.account_set
        if name is None or name not in self.sets:
            return ()
        listed = (self.destinations[destination] for destination in self.sets[name].destinations)
        return tuple(entry for entry in listed if "*" in entry.sets or name in entry.sets)
