"""Was it a person? Signs that are seen at the edge, and the verdict that is drawn from them later.

Two steps, because they happen in two places. `features` runs where the request is, sees the whole address and all
headers, and leaves short codes in the journal. `judge` runs at ingest, where delivery and the copy's other hits are
known; it needs the codes alone, so it can be run again over stored events when it has learnt more.

A verdict never changes a response, and never drops an event.

Theory: signs are weighed. Some are proof (a crawler says its name, a browser says that it prefetches). Others people
show too, so one is a doubt and two are a verdict: machine from 4 points on, probable from 2. A gateway's Referer
alone is no doubt: people who click in a mail behind that gateway send the same. Signs without weight are kept as
reasons: they tell what a hit came through. `docs/explanation/accuracy-of-opens.md` tells of each where it is from.

Limits: a scanner that comes minutes later, from an ordinary network, with a browser's headers, is taken for a person.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final

from tracker.contract.events import EventType
from tracker.core.browsers import is_bare_webkit, sends_fetch_metadata
from tracker.core.rules import Rules
from tracker.core.visitor import IPAddress


class AgentClass(StrEnum):
    """The verdict on a hit, as events show it."""

    HUMAN = "human"
    PROBABLE = "probable"
    """Somebody or something: one sign of a machine that people show too."""
    MACHINE = "machine"
    PRIVACY_PROXY = "privacy_proxy"
    """A proxy that loads every image, read or not: it says nothing of a reader."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A class and the codes that led to it, those without weight included; none for a human without a sign."""

    agent_class: AgentClass
    reasons: tuple[str, ...]


_CERTAIN: Final = 4
_MACHINE_POINTS: Final = 4
_PROBABLE_POINTS: Final = 2
_INSTANT_S: Final = {EventType.OPEN: 10, EventType.CLICK: 60}
_SWEEP_LINKS: Final = 3

_ALWAYS: Final = {
    "head": _CERTAIN,
    "prefetch": _CERTAIN,
    "ua_tool": _CERTAIN,
    "ua_crawler": _CERTAIN,
    "ua_unfurler": _CERTAIN,
    "ua_scanner": _CERTAIN,
    "net_scanner": _CERTAIN,
    "probed": _CERTAIN,
    "no_user_agent": 3,
    "instant": 2,
    "http_1_0": 1,
}
_WEIGHTS: Final[Mapping[EventType, Mapping[str, int]]] = {
    EventType.OPEN: {
        **_ALWAYS,
        "ua_image_proxy": 0,
        "ua_privacy_proxy": 0,
        "net_private_relay": 0,
        "bare_webkit": 0,
        "net_suspect": 0,  # webmail fetches its readers' images from there
        "net_datacenter": 0,
    },
    EventType.CLICK: {
        **_ALWAYS,
        "sweep": _CERTAIN,
        "echo": _CERTAIN,
        "ua_office_probe": _CERTAIN,
        "ua_image_proxy": _CERTAIN,  # what fetches images follows no links
        "twice": 2,
        "accept_without_html": 2,
        "no_accept_language": 2,
        "no_sec_fetch": 2,
        "net_suspect": 2,
        "net_datacenter": 1,
        "gateway_referer": 1,
    },
}
_CODES_REMEMBERED: Final = 1024  # of each hit and of those around it; few combinations make up nearly all
_PREFETCH_HEADERS: Final = ("Purpose", "Sec-Purpose", "X-Moz")
_RELAYED_BY_APPLE: Final = frozenset({"net_private_relay", "bare_webkit"})


def features(
    *,
    method: str,
    is_click: bool,
    is_http_1_0: bool,
    headers: Mapping[str, str],
    user_agent: str,
    address: IPAddress | None,
    rules: Rules,
    is_https: bool = False,
    as_number: int = 0,
) -> tuple[str, ...]:
    """Return the codes of what a request gives away; `headers` finds names in any case, `address` is the whole one.

    `is_https`: visitors reach the tracking host by https:. `as_number` is the autonomous system of the address, 8075, 0
    where it is not known.
    """
    codes: list[str | None] = []
    if method == "HEAD":
        codes.append("head")
    for name in _PREFETCH_HEADERS:
        if name in headers and "prefetch" in headers[name].lower():
            codes.append("prefetch")
            break
    if is_http_1_0:
        codes.append("http_1_0")
    if not user_agent:
        codes.append("no_user_agent")
    if "Accept-Language" not in headers:
        codes.append("no_accept_language")
    if is_click:
        if "text/html" not in headers.get("Accept", "").lower():
            codes.append("accept_without_html")
        if is_https and "Sec-Fetch-Mode" not in headers and sends_fetch_metadata(user_agent):
            codes.append("no_sec_fetch")
    elif is_bare_webkit(user_agent):
        codes.append("bare_webkit")
    if "Referer" in headers:
        codes.append(rules.of_referer(headers["Referer"]))
    codes += rules.of_user_agent(user_agent)
    if address is not None:
        codes.append(rules.of_address(address))
    if as_number:
        codes.append(rules.of_as_number(as_number))
    return tuple(dict.fromkeys(code for code in codes if code is not None))


def judge(
    kind: EventType,
    signals: Sequence[str],
    *,
    since_delivery_s: float | None = None,
    probed: bool = False,
    links_around: int = 1,
    is_echo: bool = False,
    is_twice: bool = False,
) -> Verdict:
    """Judge an open or a click; total: codes that are not known here, and other kinds of events, weigh nothing.

    `since_delivery_s` is counted from the upstream's reply, negative before it, None where there is none yet.
    `probed`: a HEAD of the same copy came within ten seconds. `links_around`: how many different links of the copy
    were followed within thirty seconds, this one included. `is_echo`, `is_twice`: as `tracker.core.around` finds.
    """
    codes = tuple(signals)
    if since_delivery_s is not None and since_delivery_s < _INSTANT_S.get(kind, 0):
        codes += ("instant",)
    if probed:
        codes += ("probed",)
    if links_around >= _SWEEP_LINKS:
        codes += ("sweep",)
    if is_echo:
        codes += ("echo",)
    if is_twice:
        codes += ("twice",)
    return _weigh(kind, codes)


@lru_cache(maxsize=_CODES_REMEMBERED)
def _weigh(kind: EventType, codes: tuple[str, ...]) -> Verdict:
    weights = _WEIGHTS.get(kind, {})
    reasons = tuple([code for code in codes if code.partition(":")[0] in weights])
    kinds = {reason.partition(":")[0] for reason in reasons}
    points = sum(weights[name] for name in kinds)
    is_open = kind is EventType.OPEN
    if is_open and kinds >= {"ua_image_proxy", "instant"}:
        points += _CERTAIN  # nobody reads that fast: the proxy fetched it by itself
    is_private = is_open and ("ua_privacy_proxy" in kinds or kinds >= _RELAYED_BY_APPLE)
    return Verdict(agent_class=_class_of(points, is_privacy_proxy=is_private), reasons=reasons)


def is_doubtful(kind: EventType, signals: tuple[str, ...]) -> bool:
    """Say whether a hit is taken for no person by its own signs: then a hit beside it may well be the person's."""
    return _weigh(kind, signals).agent_class is not AgentClass.HUMAN


def hides_its_reader(signals: Sequence[str]) -> bool:
    """Say whether a hit came through a proxy of images: its address, place and program are the proxy's."""
    return any(code.startswith(("ua_image_proxy:", "ua_privacy_proxy:")) for code in signals)


def _class_of(points: int, *, is_privacy_proxy: bool) -> AgentClass:
    if points >= _MACHINE_POINTS:
        return AgentClass.MACHINE
    if is_privacy_proxy:
        return AgentClass.PRIVACY_PROXY
    return AgentClass.PROBABLE if points >= _PROBABLE_POINTS else AgentClass.HUMAN
