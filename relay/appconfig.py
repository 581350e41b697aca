"""The whole configuration file: the tables of both halves together, checked against each other.

Owns the checks that concern several tables. What may stand in one key alone is checked where its table is declared.
"""

import ipaddress
import re
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from relay import config as relay_config
from relay.config import RelaySection, SpoolSection, UpstreamSection
from tracker import config as tracker_config
from tracker.config import (
    ConfigurationSetSection,
    ConsoleSection,
    EventDestinationSection,
    JournalSection,
    KeysSection,
    LogSection,
    MetricsSection,
    SenderDomainSection,
    StorageSection,
    TrackerSection,
    TrackingSection,
)
from tracker.contract.address import normalize_domain
from tracker.contract.errors import AddressError
from tracker.contract.settings import Settings
from tracker.runtime import configfile
from tracker.runtime.configfile import Reader, Source
from tracker.runtime.configtypes import NAME_PATTERN, Kind, S, Section
from tracker.runtime.units import ListenAddress

DEFAULT_UPSTREAM: Final = "default"
PLANNED_SECTIONS: Final = frozenset({"credential", "tracking_domain", "verification", "dkim"})
TABLES: Final[tuple[Kind[Section], ...]] = (
    relay_config.RELAY,
    relay_config.UPSTREAM,
    relay_config.SPOOL,
    tracker_config.JOURNAL,
    tracker_config.TRACKER,
    tracker_config.CONSOLE,
    tracker_config.METRICS,
    tracker_config.STORAGE,
    tracker_config.KEYS,
    tracker_config.TRACKING,
    tracker_config.CONFIGURATION_SET,
    tracker_config.SENDER_DOMAIN,
    tracker_config.EVENT_DESTINATION,
    tracker_config.LOG,
)

_NAME: Final = re.compile(NAME_PATTERN)
_NAME_REMEDY: Final = "use 1 to 64 letters, digits, _ and -"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A file that can be used."""

    source: Source
    relay: RelaySection
    upstreams: Mapping[str, UpstreamSection]
    spool: SpoolSection
    journal: JournalSection
    tracker: TrackerSection
    console: ConsoleSection
    metrics: MetricsSection
    storage: StorageSection
    keys: KeysSection
    tracking: TrackingSection
    sets: Mapping[str, ConfigurationSetSection]
    sender_domains: Mapping[str, SenderDomainSection]
    destinations: Mapping[str, EventDestinationSection]
    log: LogSection

    @property
    def run_directory(self) -> Path:
        """Where the control sockets of this configuration's processes are: beside the spool."""
        return self.spool.directory.parent / "run"

    @property
    def hostname(self) -> str:
        """The relay's name: the one that is written, else this machine's where it is one."""
        return self.relay.hostname or _this_machine()

    @property
    def instance(self) -> str:
        """This node's name: the one that is written, else this machine's."""
        return self.relay.instance or _this_machine()

    def base_url(self, listening: ListenAddress | None = None) -> str:
        """Return where links point; `listening` is the tracking host's address as bound, where the file has port 0."""
        return self.tracker.public_url or f"http://{listening or self.tracker.listen[0]}"

    def settings(self, listening: ListenAddress | None = None) -> Settings:
        """Make the snapshot that both halves work by."""
        return tracker_config.settings(
            base_url=self.base_url(listening),
            default_upstream=DEFAULT_UPSTREAM,
            tracking=self.tracking,
            sets=self.sets,
            sender_domains=self.sender_domains,
            destinations=self.destinations,
        )

    def entries(self) -> Iterator[tuple[tuple[str, ...], Section]]:
        """Yield every table with its path: `("relay",)`, `("upstream", "default")`."""
        named: dict[str, Mapping[str, Section]] = {
            "upstream": self.upstreams,
            "configuration_set": self.sets,
            "sender_domain": self.sender_domains,
            "event_destination": self.destinations,
        }
        for kind in TABLES:
            if kind.named:
                yield from (((kind.name, name), entry) for name, entry in named[kind.name].items())
            else:
                yield (kind.name,), getattr(self, kind.name)


def load(path: Path | None, environ: Mapping[str, str]) -> Config:
    """Find, read and check a configuration. ConfigError: all that is wrong with it."""
    source = configfile.read(configfile.find(path, environ), environ)
    reader = Reader(source)
    draft = _Draft(reader)
    _check_listens(draft)
    _check_relay(draft)
    _check_upstreams(draft)
    _check_links(draft)
    _check_names(draft)
    _check_secrets(draft)
    reader.finish(PLANNED_SECTIONS)
    return draft.config()


class _Draft:
    """The tables that can be used so far; None stands for one that is wrong, which was said already."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.relay = reader.section(relay_config.RELAY)
        self.upstreams = reader.table(relay_config.UPSTREAM)
        self.spool = reader.section(relay_config.SPOOL)
        self.journal = reader.section(tracker_config.JOURNAL)
        self.tracker = reader.section(tracker_config.TRACKER)
        self.console = reader.section(tracker_config.CONSOLE)
        self.metrics = reader.section(tracker_config.METRICS)
        self.storage = reader.section(tracker_config.STORAGE)
        self.keys = reader.section(tracker_config.KEYS)
        self.tracking = reader.section(tracker_config.TRACKING)
        self.sets = reader.table(tracker_config.CONFIGURATION_SET)
        self.sender_domains = reader.table(tracker_config.SENDER_DOMAIN)
        self.destinations = reader.table(tracker_config.EVENT_DESTINATION)
        self.log = reader.section(tracker_config.LOG)

    def config(self) -> Config:
        """Put the tables together; the reader has raised if one is missing."""
        return Config(
            source=self.reader.source,
            relay=_sound(self.relay),
            upstreams=_sound_table(self.upstreams),
            spool=_sound(self.spool),
            journal=_sound(self.journal),
            tracker=_sound(self.tracker),
            console=_sound(self.console),
            metrics=_sound(self.metrics),
            storage=_sound(self.storage),
            keys=_sound(self.keys),
            tracking=_sound(self.tracking),
            sets=_sound_table(self.sets),
            sender_domains=_sound_table(self.sender_domains),
            destinations=_sound_table(self.destinations),
            log=_sound(self.log),
        )


def _sound(section: S | None) -> S:
    if section is None:
        raise AssertionError("a table is wrong, and no problem was noted")
    return section


def _sound_table(table: Mapping[str, S | None]) -> dict[str, S]:
    return {name: _sound(section) for name, section in table.items()}


def _check_listens(draft: _Draft) -> None:
    taken: list[tuple[str, ListenAddress]] = []
    sections = {"relay": draft.relay, "tracker": draft.tracker, "console": draft.console}
    wanted = [(name, address) for name, section in sections.items() if section for address in section.listen]
    if draft.metrics is not None:
        wanted.append(("metrics", draft.metrics.listen))
    for name, address in wanted:
        for other, held in taken:
            if address.port == held.port != 0 and _overlap(address.host, held.host):
                wrong = f"{address} is taken by {other}.listen ({held})"
                draft.reader.add((name, "listen"), wrong, "give each its own port")
        taken.append((name, address))


def _overlap(one: str, other: str) -> bool:
    first, second = ipaddress.ip_address(one), ipaddress.ip_address(other)
    same_family = first.version == second.version  # sockets of IPv6 take IPv6 alone
    return first == second or (same_family and (first.is_unspecified or second.is_unspecified))


def _check_relay(draft: _Draft) -> None:
    if draft.relay is not None and not draft.relay.allow_networks:
        draft.reader.add(
            ("relay", "allow_networks"),
            "is empty, and there is no login in this version: nobody could send",
            'write allow_networks = ["127.0.0.0/8", "::1/128"] for this machine alone',
        )
    if draft.spool is not None and draft.journal is not None and draft.spool.directory == draft.journal.directory:
        draft.reader.add(("journal", "directory"), "is the spool's", "give each its own folder")


def _check_upstreams(draft: _Draft) -> None:
    if DEFAULT_UPSTREAM not in draft.upstreams:
        remedy = 'write [upstream.default] and its url, for a first try url = "maildir:var/mail" and final = true'
        draft.reader.add(("upstream", DEFAULT_UPSTREAM), "is missing: mail without a set leaves through it", remedy)
    for name, upstream in draft.upstreams.items():
        if not _NAME.fullmatch(name):
            draft.reader.add(("upstream", name), "is no name", _NAME_REMEDY)
        if upstream is None or draft.relay is None:
            continue
        for address in draft.relay.listen:
            if upstream.url.port == address.port != 0 and _reaches(upstream.url.host, address.host):
                remedy = "name the next server on the way"
                draft.reader.add(("upstream", name, "url"), "is this relay itself: mail would go in a circle", remedy)


def _reaches(host: str, listening: str) -> bool:
    """Say whether a connection to `host` certainly arrives at `listening`; names are not resolved."""
    host = "127.0.0.1" if host == "localhost" else host
    if ipaddress.ip_address(listening).is_unspecified:
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return False
    return host == listening


def _check_links(draft: _Draft) -> None:
    """Links that only this machine can follow must not leave it."""
    tracker = draft.tracker
    if tracker is None:
        return
    if tracker.public_url is None and not tracker.listen[0].is_loopback:
        remedy = 'write it like public_url = "https://trace.shop.example"'
        draft.reader.add(("tracker", "public_url"), "is missing, and the tracking host is not on loopback", remedy)
        return
    away = [name for name, upstream in draft.upstreams.items() if upstream is not None and not upstream.url.is_local]
    url = urlsplit(tracker.public_url or f"http://{tracker.listen[0]}")
    if away and (url.scheme == "http" or _is_loopback(url.hostname or "")):
        wrong = f"is {url.geturl()}, and mail leaves this machine through upstream {away[0]}"
        remedy = "write the https: address that recipients reach the tracking host by"
        draft.reader.add(("tracker", "public_url"), wrong, remedy)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_names(draft: _Draft) -> None:
    add = draft.reader.add
    for table, names in (("configuration_set", draft.sets), ("event_destination", draft.destinations)):
        for name in names:
            if not _NAME.fullmatch(name):
                add((table, name), "is no name", _NAME_REMEDY)
    for name, section in draft.sets.items():
        if section is None:
            continue
        here = ("configuration_set", name)
        if section.upstream not in draft.upstreams:
            add((*here, "upstream"), f"there is no upstream {section.upstream!r}", _choose("upstream", draft.upstreams))
        for destination in section.destinations:
            if destination not in draft.destinations:
                remedy = _choose("event_destination", draft.destinations)
                add((*here, "destinations"), f"there is no event destination {destination!r}", remedy)
    for name, entry in draft.destinations.items():
        for listed in entry.sets if entry is not None else ():
            if listed != "*" and listed not in draft.sets:
                remedy = _choose("configuration_set", draft.sets)
                add(("event_destination", name, "sets"), f"there is no configuration set {listed!r}", remedy)
    tracking = draft.tracking
    if tracking is not None and tracking.scope != "domain" and tracking.configuration_set not in draft.sets:
        wrong = f"there is no configuration set {tracking.configuration_set!r}"
        add(("tracking", "configuration_set"), wrong, _choose("configuration_set", draft.sets))
    _check_sender_domains(draft)


def _check_sender_domains(draft: _Draft) -> None:
    seen: dict[str, str] = {}
    for name, section in draft.sender_domains.items():
        here = ("sender_domain", name)
        try:
            domain = normalize_domain(name)
        except AddressError as error:
            draft.reader.add(here, f"is no domain: {error}", 'write it like [sender_domain."shop.example"]')
            continue
        if domain in seen:
            draft.reader.add(here, f"is the same domain as {seen[domain]!r}", "keep one of them")
        seen[domain] = name
        if section is not None and section.configuration_set not in draft.sets:
            wrong = f"there is no configuration set {section.configuration_set!r}"
            draft.reader.add((*here, "configuration_set"), wrong, _choose("configuration_set", draft.sets))


def _choose(table: str, names: Mapping[str, object]) -> str:
    return f"choose from {', '.join(sorted(names))}" if names else f"write [{table}.NAME]"


def _check_secrets(draft: _Draft) -> None:
    """A password in a file that others can read is theirs too."""
    source = draft.reader.source
    for name in draft.upstreams:
        key = ("upstream", name, "password")
        if source.readable_by_others and source.origins.get(configfile.key_path(key)) == "file":
            remedy = f'write "env:NAME" or "file:PATH", or run: chmod 600 {source.path}'
            draft.reader.add(key, "stands in a file that others can read", remedy)


def _this_machine() -> str:
    try:
        return normalize_domain(socket.gethostname())
    except AddressError:
        return "localhost"
