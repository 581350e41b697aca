"""The whole configuration file: the tables of both halves together, found, read and checked."""

import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from relay.config.credential import CredentialSection
from relay.config.dkim import DkimSection
from relay.config.listening import RelaySection
from relay.config.spool import SpoolSection
from relay.config.tls import RelayTlsSection
from relay.config.upstream import UpstreamSection
from relay.configchecks import DEFAULT_UPSTREAM, check
from relay.configdraft import PLANNED_SECTIONS, TABLES, Draft
from relay.core.prepare import Site
from tracker.config import snapshot
from tracker.config.account import ConfigurationSetSection, SenderDomainSection, TrackingSection
from tracker.config.destination import EventDestinationSection
from tracker.config.host import ConsoleSection, MetricsSection, TrackerSection
from tracker.config.node import JournalSection, KeysSection, LogSection, StorageSection, VerificationSection
from tracker.config.tls import TrackerTlsSection, tracker_listen
from tracker.contract.address import normalize_domain
from tracker.contract.errors import AddressError
from tracker.contract.settings import Settings
from tracker.runtime import configfile
from tracker.runtime.configfile import Reader, Source
from tracker.runtime.configtypes import Kind, S, Section
from tracker.runtime.units import ListenAddress

_NAMED: Final = {
    "credential": "credentials",
    "upstream": "upstreams",
    "dkim": "dkims",
    "configuration_set": "sets",
    "sender_domain": "sender_domains",
    "event_destination": "destinations",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A file that can be used."""

    source: Source
    relay: RelaySection
    relay_tls: RelayTlsSection
    credentials: Mapping[str, CredentialSection]
    upstreams: Mapping[str, UpstreamSection]
    spool: SpoolSection
    dkims: Mapping[str, DkimSection]
    journal: JournalSection
    tracker: TrackerSection
    tracker_tls: TrackerTlsSection
    console: ConsoleSection
    metrics: MetricsSection
    storage: StorageSection
    keys: KeysSection
    tracking: TrackingSection
    sets: Mapping[str, ConfigurationSetSection]
    sender_domains: Mapping[str, SenderDomainSection]
    destinations: Mapping[str, EventDestinationSection]
    verification: VerificationSection
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

    @property
    def site(self) -> Site:
        """What a message is prepared by, in the relay and in `explain` alike."""
        return Site(
            hostname=self.hostname,
            instance=self.instance,
            bare_line_ends=self.relay.bare_line_ends,
            max_line_bytes=self.relay.max_line,
            large_headers=self.relay.large_headers,
        )

    @property
    def tracker_listen(self) -> tuple[ListenAddress, ...]:
        """Where the tracking host listens; the scheme is `"https://"` where it speaks TLS, and empty elsewhere."""
        return tracker_listen(self.tracker, self.tracker_tls)

    def base_url(self, listening: ListenAddress | None = None) -> str:
        """Return where links point; `listening` is the tracking host's address as bound, where the file has port 0."""
        first = self.tracker_listen[0]
        bound = replace(first, scheme="") if listening is None else listening
        return self.tracker.public_url or f"{first.scheme or 'http://'}{bound}"

    def settings(self, listening: ListenAddress | None = None) -> Settings:
        """Make the snapshot that both halves work by."""
        return snapshot.settings(
            base_url=self.base_url(listening),
            default_upstream=DEFAULT_UPSTREAM,
            tracking=self.tracking,
            sets=self.sets,
            sender_domains=self.sender_domains,
            destinations=self.destinations,
            dkim_domains={name: section.domain for name, section in self.dkims.items()},
        )

    def entries(self) -> Iterator[tuple[tuple[str, ...], Section]]:
        """Yield every table with its path: `("relay",)`, `("relay", "tls")`, `("upstream", "default")`."""
        for kind in TABLES:
            table = getattr(self, member_of(kind))
            if kind.named:
                yield from (((kind.name, name), entry) for name, entry in table.items())
            else:
                yield tuple(kind.name.split(".")), table


def member_of(kind: Kind[Section]) -> str:
    """Return the member of `Config` that holds a table, or all tables of a named kind: `"relay_tls"`, `"upstreams"`."""
    return _NAMED[kind.name] if kind.named else kind.name.replace(".", "_")


def load(path: Path | None, environ: Mapping[str, str]) -> Config:
    """Find, read and check a configuration. ConfigError: all that is wrong with it."""
    source = configfile.read(configfile.find(path, environ), environ)
    reader = Reader(source)
    draft = Draft(reader)
    check(draft)
    reader.finish(PLANNED_SECTIONS)
    return _config(draft)


def _config(draft: Draft) -> Config:
    """Put the tables together; the reader has raised if one is missing."""
    return Config(
        source=draft.reader.source,
        relay=_sound(draft.relay),
        relay_tls=_sound(draft.relay_tls),
        credentials=_sound_table(draft.credentials),
        upstreams=_sound_table(draft.upstreams),
        spool=_sound(draft.spool),
        dkims=_sound_table(draft.dkims),
        journal=_sound(draft.journal),
        tracker=_sound(draft.tracker),
        tracker_tls=_sound(draft.tracker_tls),
        console=_sound(draft.console),
        metrics=_sound(draft.metrics),
        storage=_sound(draft.storage),
        keys=_sound(draft.keys),
        tracking=_sound(draft.tracking),
        sets=_sound_table(draft.sets),
        sender_domains=_sound_table(draft.sender_domains),
        destinations=_sound_table(draft.destinations),
        verification=_sound(draft.verification),
        log=_sound(draft.log),
    )


def _sound(section: S | None) -> S:
    if section is None:
        raise AssertionError("a table is wrong, and no problem was noted")
    return section


def _sound_table(table: Mapping[str, S | None]) -> dict[str, S]:
    return {name: _sound(section) for name, section in table.items()}


def _this_machine() -> str:
    try:
        return normalize_domain(socket.gethostname())
    except AddressError:
        return "localhost"
