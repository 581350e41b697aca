"""What a reload takes up while the process serves, and what it leaves for a restart, and says so.

Everything is in force for mail that is accepted from then on, and for connections that come from then on; upstreams
and the lifetime of mail also for mail that waits. What a restart is needed for is mostly what was opened at the start.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

import msgspec

from relay.appconfig import Config, member_of
from relay.configdraft import TABLES

_TABLES: Final = frozenset(
    {
        "relay.tls",
        "tracker.tls",
        "credential",
        "upstream",
        "configuration_set",
        "sender_domain",
        "event_destination",
        "dkim",
        "tracking",
    }
)
_KEYS: Final = frozenset(
    {
        "relay.allow_networks",
        "relay.command_timeout",
        "relay.data_timeout",
        "relay.login_timeout",
        "relay.max_connections",
        "relay.max_connections_per_address",
        "relay.max_errors",
        "relay.max_junk_commands",
        "relay.max_message",
        "relay.max_recipients",
        "relay.min_data_rate",
        "relay.session_timeout",
        "spool.dsn",
        "spool.dsn_per_hour",
        "spool.dsn_sender",
        "spool.high_water",
        "spool.min_free",
        "spool.retry_for",
        "tracker.geoip",
        "tracker.max_connections",
        "tracker.max_hits",
        "tracker.public_url",
        "tracker.record_address",
        "tracker.rules",
        "tracker.trusted_proxies",
    }
)
_TRACKER_TLS: Final = "tracker.tls"
_NOT_THESE: Final = frozenset({"tracking.verify_sample"})


class Reloaded(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a reload: `problems` where the file was refused, else the keys that a restart is needed for."""

    problems: list[str] = []
    restart: list[str] = []


def wants_restart(before: Config, after: Config) -> list[str]:
    """Return the keys that changed and are not in force before a restart: `["relay.listen"]`."""
    old, new = dict(_values(before)), dict(_values(after))
    changed = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    restart = [key for key in changed if not is_live(key)]
    return [*restart, _TRACKER_TLS] if _changes_whether_tls(before, after) else restart


def taken_up(opened: Config, after: Config) -> Config:
    """Return the configuration that is in force after a reload, where a process was started with `opened`.

    What wants a restart is as it was, in every process alike: also in a worker that is started later.
    """
    tables: dict[str, Any] = {}
    for kind in TABLES:
        member = member_of(kind)
        before, now = getattr(opened, member), getattr(after, member)
        if not kind.named:
            keys = (f"{kind.name}.{name}" for name in kind.model.model_fields)
            names = (key.removeprefix(f"{kind.name}.") for key in keys if not is_live(key))
            tables[member] = now.model_copy(update={name: getattr(before, name) for name in names})
        elif kind.name not in _TABLES:
            tables[member] = before
    if _changes_whether_tls(opened, after):
        tables["tracker_tls"] = opened.tracker_tls
    return replace(after, **tables)


def _changes_whether_tls(before: Config, after: Config) -> bool:
    """Say whether the tracking host's addresses would begin or cease to speak TLS; what listens already cannot."""
    return bool(before.tracker_tls.pairs) != bool(after.tracker_tls.pairs)


def is_live(key: str) -> bool:
    """Say whether a reload takes a key up."""
    if key in _NOT_THESE:
        return False
    return key in _KEYS or any(key.startswith(f"{table}.") for table in _TABLES)


def _values(config: Config) -> Iterator[tuple[str, object]]:
    for path, section in config.entries():
        for name in type(section).model_fields:
            yield ".".join((*path, name)), getattr(section, name)
