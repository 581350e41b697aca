"""The rule file: what machines say of themselves and where they come from, made ready for looking up.

Owns the file's shape, how its entries match, and how a file of the operator's is laid over ours. Does not own what a
match means (`classify.py`), nor the reading of files: they are handed in as text.

Shape: `version`, then a table for each kind of entry and signal, `[user_agent.ua_tool]`, with lists of entries by
name. A match gives the code `SIGNAL:NAME`, `"ua_tool:curl"`, which stands in journals: signals and names are never
given another meaning.

A second file is laid over the first: its entries are added, an entry that the first file has too gets the second
one's code, and `[remove]` takes entries away, by kind: `user_agent = ["curl/"]`.
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

_NETWORKS: Final = frozenset({"net_scanner", "net_suspect", "net_datacenter", "net_private_relay"})
_SIGNALS: Final = {
    "user_agent": frozenset(
        {"ua_tool", "ua_crawler", "ua_unfurler", "ua_scanner", "ua_office_probe", "ua_image_proxy"}
    ),
    "user_agent_exact": frozenset({"ua_privacy_proxy"}),
    "referer": frozenset({"gateway_referer"}),
    "network": _NETWORKS,
    "as_number": _NETWORKS,
}
_UNNAMED: Final = "ua_crawler:"  # says no more than that it is a robot; what else is known of one is worth more
_REMOVE: Final = "remove"
_NAME: Final = re.compile(r"[a-z0-9_]{1,32}")
_AS_NUMBER: Final = re.compile(r"as([1-9][0-9]{0,9})")
_REFERER_HOST: Final = re.compile(r"https?://([^/:?#@\s]{1,255})", re.IGNORECASE)
MAX_WORDS: Final = 1000  # each is looked for in every User-Agent that is new, on the way of a hit: 0.1 ms by then
_AGENTS_REMEMBERED: Final = 2048  # a few hundred make up nearly all hits

_Entries = dict[str, dict[str, str]]
"""By kind, entry to code: `{"user_agent": {"curl/": "ua_tool:curl"}}`."""


class RulesError(TrackerError, ValueError):
    """A rule file cannot be used: `entry` says where, `wrong` what is wrong there, `remedy` what to do."""

    def __init__(self, entry: str, wrong: str, remedy: str) -> None:
        super().__init__(f"{entry}: {wrong} - {remedy}")
        self.entry = entry
        self.wrong = wrong
        self.remedy = remedy


class Rules:
    """The entries of a rule file, or of two; immutable, one for a process."""

    def __init__(self, text: str, over: str | None = None) -> None:
        """Parse the file, and lay `over` over it. RulesError: one is no TOML, or not of the shape described above."""
        version, entries, _ = _parse(text)
        if over is not None:
            theirs, added, removed = _parse(over)
            version += f"+{theirs}"
            _lay_over(entries, added, removed)
        self.version = version
        """Says what codes were drawn by: `"2"`, or `"2+7"` with an operator's file of version 7."""
        self._words = entries["user_agent"]
        if len(self._words) > MAX_WORDS:
            remedy = f"keep {MAX_WORDS}; all decent robots are known by the address that they leave"
            raise RulesError("[user_agent]", f"has {len(self._words)} words with ours", remedy)
        self._agents = entries["user_agent_exact"]
        self._gateways = entries["referer"]
        self._as_numbers = {_as_number(entry): code for entry, code in entries["as_number"].items()}
        networks = [(_network(entry), code) for entry, code in entries["network"].items()]
        self._ranges = {family: _Ranges(found for found in networks if found[0].version == family) for family in (4, 6)}

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

    def of_as_number(self, number: int) -> str | None:
        """Return the code of an autonomous system, 8075."""
        return self._as_numbers.get(number)

    def find_in_user_agent(self, text: str) -> tuple[str, ...]:
        """The same as `of_user_agent`, not remembered."""
        found = [self._agents[text]] if text in self._agents else []
        lowered = text.lower()
        found += [code for word, code in self._words.items() if word in lowered and _begins_word(word, lowered)]
        named = [code for code in found if not code.startswith(_UNNAMED)]
        return tuple(dict.fromkeys(named or found))


@lru_cache(maxsize=_AGENTS_REMEMBERED)
def _of_user_agent(rules: Rules, text: str) -> tuple[str, ...]:
    return rules.find_in_user_agent(text)


class _Ranges:
    """Networks of one IP version that do not overlap, for finding by bisection."""

    def __init__(self, networks: Iterable[tuple[IPNetwork, str]]) -> None:
        found = sorted(networks, key=lambda one: int(one[0][0]))
        for (one, code), (other, other_code) in pairwise(found):
            if one.overlaps(other):
                remedy = "keep one of the two; an entry of ours goes away with [remove] network = [...]"
                raise RulesError(f"network {other}", f"{other_code} lies in {one} of {code}", remedy)
        self._starts = [int(network[0]) for network, _ in found]
        self._ends = [(int(network[-1]), code) for network, code in found]

    def find(self, address: int) -> str | None:
        index = bisect_right(self._starts, address) - 1
        if index < 0:
            return None
        end, code = self._ends[index]
        return code if address <= end else None


def _begins_word(word: str, text: str) -> bool:
    return re.search(rf"(?<![a-z0-9]){re.escape(word)}", text) is not None


def _parse(text: str) -> tuple[str, _Entries, Mapping[str, list[str]]]:
    """Return a file's version, its entries, and what it removes, by kind."""
    try:
        file = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RulesError("TOML", str(error), "mend the line; texts stand in quotes") from error
    version = file.pop("version", None)
    if type(version) is not int or version < 0:
        raise RulesError("version", "is no whole number", "write version = 1 at the head of the file")
    removed = file.pop(_REMOVE, {})
    for name in file:
        if name not in _SIGNALS:
            raise RulesError(f"[{name}]", "there is no such kind", f"choose from {', '.join(_SIGNALS)}, {_REMOVE}")
    if not isinstance(removed, dict) or not all(_is_texts(entries) for entries in removed.values()):
        raise RulesError(f"[{_REMOVE}]", "is no table of lists", 'write it like user_agent = ["curl/"]')
    return str(version), {kind: _entries(kind, file.get(kind, {})) for kind in _SIGNALS}, removed


def _lay_over(entries: _Entries, added: _Entries, removed: Mapping[str, list[str]]) -> None:
    for kind, gone in removed.items():
        if kind not in entries:
            raise RulesError(f"{_REMOVE}.{kind}", "there is no such kind", f"choose from {', '.join(_SIGNALS)}")
        for entry in gone:
            if entries[kind].pop(entry, None) is None:
                wrong = "is not in our file, to the letter"
                raise RulesError(f"{_REMOVE}.{kind} {entry!r}", wrong, "look it up in tracker/core/data/rules.toml")
    for kind, found in added.items():
        entries[kind].update(found)


def _entries(kind: str, tables: Any) -> dict[str, str]:  # noqa: ANN401 - what TOML gives is checked here
    """Return entry to code: `{"curl/": "ua_tool:curl"}`."""
    found: dict[str, str] = {}
    if not isinstance(tables, dict):
        raise RulesError(f"[{kind}]", "is no table", f"write [{kind}.SIGNAL]")
    for signal, names in tables.items():
        where = f"[{kind}.{signal}]"
        if signal not in _SIGNALS[kind]:
            raise RulesError(where, "there is no such signal", f"choose from {', '.join(sorted(_SIGNALS[kind]))}")
        if not isinstance(names, dict):
            raise RulesError(where, "is no table", 'write below it lines like vendor = ["entry"]')
        for name, entries in names.items():
            where = f"{kind}.{signal}.{name}"
            if not _NAME.fullmatch(name):
                raise RulesError(where, "is no name", "use 1 to 32 of a-z, 0-9 and _")
            if not _is_texts(entries):
                raise RulesError(where, "is no list of texts", f'write it like {name} = ["entry"]')
            for entry in entries:
                _check(kind, where, entry)
                if entry in found:
                    raise RulesError(f"{where} {entry!r}", f"stands in {found[entry]} too", "keep one of them")
                found[entry] = f"{signal}:{name}"
    return found


def _check(kind: str, where: str, entry: str) -> None:
    where = f"{where} {entry!r}"
    if not entry.strip():
        raise RulesError(where, "is empty, and would match everything", "remove it")
    if kind != "user_agent_exact" and entry != entry.lower():
        raise RulesError(where, "is not in lower case", f"write {entry.lower()!r}")
    if kind == "network":
        try:
            ip_network(entry)
        except ValueError as error:
            remedy = 'write it like "192.0.2.0/24" or "2001:db8::/32"'
            raise RulesError(where, f"is no network: {error}", remedy) from error
    if kind == "as_number" and not _AS_NUMBER.fullmatch(entry):
        raise RulesError(where, "is no number of an autonomous system", 'write it like "as64496"')


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _network(entry: str) -> IPNetwork:
    return ip_network(entry)


def _as_number(entry: str) -> int:
    return int(entry.removeprefix("as"))
