"""The rule file: what machines say of themselves and where they come from, made ready for looking up.

Owns the file's shape and how its entries match. Does not own what a match means (`classify.py`), nor the reading of the
file: it is handed in as text.

Shape: `version`, then a table for each kind of entry and signal, `[user_agent.ua_tool]`, with lists of entries by
name. A match gives the code `SIGNAL:NAME`, `"ua_tool:curl"`, which stands in journals: signals and names are never
given another meaning.
"""

import re
import tomllib
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from functools import lru_cache
from ipaddress import ip_network
from itertools import pairwise
from typing import Any, Final

from tracker.contract.errors import TrackerError
from tracker.core.visitor import IPAddress, IPNetwork

_SIGNALS: Final = {
    "user_agent": frozenset({"ua_tool", "ua_unfurler", "ua_scanner", "ua_office_probe", "ua_image_proxy"}),
    "user_agent_exact": frozenset({"ua_privacy_proxy"}),
    "referer": frozenset({"gateway_referer"}),
    "network": frozenset({"net_scanner", "net_suspect"}),
}
_NAME: Final = re.compile(r"[a-z0-9_]+")
_REFERER_HOST: Final = re.compile(r"https?://([^/:?#@\s]{1,255})", re.IGNORECASE)
_AGENTS_REMEMBERED: Final = 2048  # a few hundred make up nearly all hits


class RulesError(TrackerError, ValueError):
    """The rule file cannot be used; the message names the entry."""


class Rules:
    """The entries of a rule file; immutable, one for a process."""

    def __init__(self, text: str) -> None:
        """Parse the file. RulesError: it is no TOML, or something in it is not of the shape described above."""
        try:
            file = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise RulesError(f"the rule file is no TOML: {error}") from error
        self.version = file.pop("version", None)
        if not isinstance(self.version, int) or not set(file) <= set(_SIGNALS):
            raise RulesError(f"the rule file has a version, a number, and tables of {', '.join(_SIGNALS)}")
        entries = {kind: _entries(kind, file.get(kind, {})) for kind in _SIGNALS}
        self._words = entries["user_agent"]
        self._agents = entries["user_agent_exact"]
        self._gateways = entries["referer"]
        networks = [(_network(entry), code) for entry, code in entries["network"].items()]
        self._ranges = {
            version: _Ranges(found for found in networks if found[0].version == version) for version in (4, 6)
        }

    def of_user_agent(self, text: str) -> tuple[str, ...]:
        """Return the codes of a User-Agent, in the order of the file."""
        return _of_user_agent(self, text)

    def of_referer(self, text: str) -> str | None:
        """Return the code of the mail gateway that a Referer names."""
        match = _REFERER_HOST.match(text)
        host = match[1].lower() if match else ""
        while host:
            if host in self._gateways:
                return self._gateways[host]
            host = host.partition(".")[2]
        return None

    def of_address(self, address: IPAddress) -> str | None:
        """Return the code of the network that an address is in."""
        return self._ranges[address.version].find(int(address))

    def find_in_user_agent(self, text: str) -> tuple[str, ...]:
        """The same as `of_user_agent`, not remembered."""
        found = [self._agents[text]] if text in self._agents else []
        lowered = text.lower()
        found += [code for word, code in self._words.items() if word in lowered and _begins_word(word, lowered)]
        return tuple(dict.fromkeys(found))


@lru_cache(maxsize=_AGENTS_REMEMBERED)
def _of_user_agent(rules: Rules, text: str) -> tuple[str, ...]:
    return rules.find_in_user_agent(text)


class _Ranges:
    """Networks of one IP version that do not overlap, for finding by bisection."""

    def __init__(self, networks: Iterable[tuple[IPNetwork, str]]) -> None:
        ranges = sorted((int(network[0]), int(network[-1]), code) for network, code in networks)
        for (_, end, code), (start, _, other) in pairwise(ranges):
            if start <= end:
                raise RulesError(f"a network of {code} and one of {other} overlap")
        self._starts = [start for start, _, _ in ranges]
        self._ranges = ranges

    def find(self, address: int) -> str | None:
        index = bisect_right(self._starts, address) - 1
        if index < 0:
            return None
        _, end, code = self._ranges[index]
        return code if address <= end else None


def _begins_word(word: str, text: str) -> bool:
    return re.search(rf"(?<![a-z0-9]){re.escape(word)}", text) is not None


def _entries(kind: str, tables: Any) -> Mapping[str, str]:  # noqa: ANN401 - what TOML gives is checked here
    """Return entry to code: `{"curl/": "ua_tool:curl"}`."""
    found: dict[str, str] = {}
    if not isinstance(tables, dict) or not set(tables) <= _SIGNALS[kind]:
        raise RulesError(f"[{kind}] has tables of {', '.join(sorted(_SIGNALS[kind]))}")
    for signal, names in tables.items():
        if not isinstance(names, dict):
            raise RulesError(f"[{kind}.{signal}] is a table of names")
        for name, entries in names.items():
            where = f"{kind}.{signal}.{name}"
            if not _NAME.fullmatch(name) or not isinstance(entries, list):
                raise RulesError(f"{where}: a name in a-z, 0-9 and _, and a list of entries")
            for entry in entries:
                if not isinstance(entry, str) or not entry or entry in found:
                    raise RulesError(f"{where}: an entry is a text that stands in the file once")
                if kind != "user_agent_exact" and entry != entry.lower():
                    raise RulesError(f"{where}: {entry} is not in lower case")
                found[entry] = f"{signal}:{name}"
    return found


def _network(text: str) -> IPNetwork:
    try:
        return ip_network(text)
    except ValueError as error:
        raise RulesError(f"{text} is no network: {error}") from error
