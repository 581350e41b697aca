"""What may be wrong between the tables of a configuration file: names that lead nowhere, ports taken twice, circles.

What may stand in one key alone is checked where its table is declared.
"""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from relay.configdraft import Draft
from tracker.contract.address import normalize_domain
from tracker.contract.credentials import EVERY_SET
from tracker.contract.errors import AddressError
from tracker.runtime import configfile
from tracker.runtime.configtypes import NAME_PATTERN
from tracker.runtime.units import HTTP, HTTPS, ListenAddress

DEFAULT_UPSTREAM: Final = "default"
_NAME: Final = re.compile(NAME_PATTERN)
_RESIGN: Final = 'name a table as dkim, or write on_signed = "skip"'
_NAME_REMEDY: Final = "use 1 to 64 letters, digits, _ and -"


def check(draft: Draft) -> None:
    """Add every problem that lies between tables to the draft's reader."""
    _check_listens(draft)
    _check_relay(draft)
    _check_upstreams(draft)
    _check_tracker_tls(draft)
    _check_links(draft)
    _check_names(draft)
    _check_secrets(draft)
    _check_keeping(draft)


def _check_listens(draft: Draft) -> None:
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


def _check_relay(draft: Draft) -> None:
    if draft.relay is not None and draft.relay_tls is not None and draft.relay_tls.certificate is None:
        for address in draft.relay.listen:
            if address.scheme:
                remedy = "write [relay.tls] with certificate and key, or listen without smtps://"
                draft.reader.add(("relay", "listen"), f"{address} wants TLS, and there is no certificate", remedy)
    for name, credential in draft.credentials.items():
        if not _NAME.fullmatch(name):
            draft.reader.add(("credential", name), "is no name", _NAME_REMEDY)
        for listed in credential.configuration_sets if credential is not None else ():
            if listed != EVERY_SET and listed not in draft.sets:
                wrong = f"there is no configuration set {listed!r}"
                remedy = _choose("configuration_set", draft.sets)
                draft.reader.add(("credential", name, "configuration_sets"), wrong, remedy)
    if draft.spool is not None and draft.journal is not None and draft.spool.directory == draft.journal.directory:
        draft.reader.add(("journal", "directory"), "is the spool's", "give each its own folder")


def _check_upstreams(draft: Draft) -> None:
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


def _check_tracker_tls(draft: Draft) -> None:
    if draft.tracker is None or draft.tracker_tls is None:
        return
    listen, has_tls = draft.tracker.listen, bool(draft.tracker_tls.pairs)
    for address in listen:
        if address.scheme == HTTPS and not has_tls:
            remedy = "write [tracker.tls] with certificate and key, or listen without https://"
            draft.reader.add(("tracker", "listen"), f"{address} wants TLS, and there is no certificate", remedy)
    if has_tls and all(address.scheme == HTTP for address in listen):
        remedy = 'listen on an address without http://, like "0.0.0.0:443", or remove the certificates'
        draft.reader.add(("tracker", "tls"), "no address of tracker.listen speaks TLS", remedy)


def _check_links(draft: Draft) -> None:
    """Links that only this machine can follow must not leave it."""
    tracker = draft.tracker
    if tracker is None:
        return
    if tracker.public_url is None and not tracker.listen[0].is_loopback:
        remedy = 'write it like public_url = "https://trace.shop.example"'
        draft.reader.add(("tracker", "public_url"), "is missing, and the tracking host is not on loopback", remedy)
        return
    away = [name for name, upstream in draft.upstreams.items() if upstream is not None and not upstream.url.is_local]
    first = tracker.listen[0]
    url = urlsplit(tracker.public_url or f"{first.scheme or 'http://'}{replace(first, scheme='')}")
    if away and (url.scheme == "http" or _is_loopback(url.hostname or "")):
        wrong = f"is {url.geturl()}, and mail leaves this machine through upstream {away[0]}"
        remedy = "write the https: address that recipients reach the tracking host by"
        draft.reader.add(("tracker", "public_url"), wrong, remedy)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_names(draft: Draft) -> None:
    add = draft.reader.add
    tables: dict[str, Mapping[str, object]] = {
        "configuration_set": draft.sets,
        "event_destination": draft.destinations,
        "dkim": draft.dkims,
    }
    for table, names in tables.items():
        for name in names:
            if not _NAME.fullmatch(name):
                add((table, name), "is no name", _NAME_REMEDY)
    for name in draft.sets:
        _check_set(draft, name)
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


def _check_set(draft: Draft, name: str) -> None:
    section = draft.sets[name]
    if section is None:
        return
    add, here = draft.reader.add, ("configuration_set", name)
    for upstream in section.upstream:
        if upstream not in draft.upstreams:
            add((*here, "upstream"), f"there is no upstream {upstream!r}", _choose("upstream", draft.upstreams))
    if len(set(section.upstream)) < len(section.upstream):
        add((*here, "upstream"), "names an upstream twice", "name each once, in the order in which they are tried")
    if section.dkim is not None and section.dkim not in draft.dkims:
        add((*here, "dkim"), f"there is no table [dkim.{section.dkim}]", _choose("dkim", draft.dkims))
    if section.on_signed == "resign" and section.dkim is None:
        add((*here, "on_signed"), "resign takes a signature away, and there is no dkim to put one on", _RESIGN)
    for destination in section.destinations:
        if destination not in draft.destinations:
            remedy = _choose("event_destination", draft.destinations)
            add((*here, "destinations"), f"there is no event destination {destination!r}", remedy)


def _check_sender_domains(draft: Draft) -> None:
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


def _check_keeping(draft: Draft) -> None:
    """A hit must find its message."""
    storage, tracking = draft.storage, draft.tracking
    if storage is not None and tracking is not None and storage.keep < tracking.collect_for:
        wrong = f"{_days(storage.keep)} is less than tracking.collect_for, {_days(tracking.collect_for)}"
        draft.reader.add(("storage", "keep"), wrong, "keep mail for as long as its hits are recorded, or collect less")


def _days(duration: timedelta) -> str:
    return f"{duration / timedelta(days=1):g}d"


def _check_secrets(draft: Draft) -> None:
    """A password or a key in a file that others can read is theirs too."""
    source = draft.reader.source
    for key in (
        *(("upstream", name, "password") for name in draft.upstreams),
        *(("dkim", name, "key") for name in draft.dkims),
        *(("credential", name, "password_hash") for name in draft.credentials),  # can be guessed at offline
        *(("event_destination", name, "secret") for name in draft.destinations),
    ):
        origins = source.origins.get(configfile.key_path(key), "").split(configfile.SOURCES)
        if source.readable_by_others and "file" in origins:
            remedy = f'write "env:NAME" or "file:PATH", or run: chmod 600 {source.path}'
            draft.reader.add(key, "stands in a file that others can read", remedy)
    for key in (
        *(("dkim", name, "key") for name in draft.dkims),
        *(("event_destination", name, "secret") for name in draft.destinations),
    ):
        for origin in source.origins.get(configfile.key_path(key), "").split(configfile.SOURCES):
            path = source.base / Path(origin.removeprefix("file:")).expanduser()
            if origin.startswith("file:") and path.is_file() and path.stat().st_mode & 0o077:
                wrong = f"{path} can be read by others, who could sign with it"
                draft.reader.add(key, wrong, f"run: chmod 600 {path}")
