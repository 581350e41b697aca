"""One request to the tracking host in, its answer and the record to keep out.

Owns what pixels and links answer, whatever comes: never an open redirect, since a destination comes only from a token
that one of our keys has sealed; never an echo of the request; never a cookie. Does not own HTTP itself, nor the
journal.

A machine gets the same answer as a person: who refuses a scanner has the link reported dead. What it was is only
recorded.

Standards: RFC 9110 §9.3.2 (HEAD), §15.4.3 (302), §15.5.6 (405).

Limits: what an address was is reduced before the record is made, so verdicts that need it are drawn here as signals.
"""

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Final, NamedTuple

from tracker.contract import urls
from tracker.contract.errors import TokenError
from tracker.contract.events import Click, Hit, Open, Probe
from tracker.contract.ids import EVENT_ID_CHARACTERS, CopyId, EventId
from tracker.contract.ports import Entropy
from tracker.contract.token import Purpose, TokenKeys, TokenPayload, day_of
from tracker.core.classify import features, hides_its_reader
from tracker.core.location import location
from tracker.core.rules import Rules
from tracker.core.visitor import (
    IPAddress,
    IPNetwork,
    RecordAddress,
    parse_address,
    reduce_address,
    visitor_address,
)

HitRecord = Open | Click | Probe

MAX_USER_AGENT_CHARACTERS: Final = 512
_DESTINATIONS_REMEMBERED: Final = 1024  # all recipients of a mail have the same; 3 KB each at most
_VISITORS_REMEMBERED: Final = 2048  # 3 KB each at most

# A transparent image of one pixel.
PIXEL: Final = bytes.fromhex(
    "474946383961 0100 0100 80 00 00 000000 ffffff 21f904 01 0000 00 00 2c 0000 0000 0100 0100 00 02 02 4401 00 3b"
)


class HitRequest(NamedTuple):
    """What a request says: `path` is as `path_of` gives it, `headers` finds names in any case (the first of each).

    `peer` is the other end of the connection, `"192.0.2.1"`; `forwarded_for` are the lines of X-Forwarded-For. `block`
    are the bytes that `headers` and `forwarded_for` were read from, where they are known: what they give away is
    remembered by them.
    """

    method: str
    path: str
    is_http_1_0: bool
    peer: str
    forwarded_for: tuple[str, ...]
    headers: Mapping[str, str]
    block: bytes = b""


class Seen(NamedTuple):
    """What a request gives away of its visitor, as `Hit` has it."""

    address: str
    user_agent: str
    signals: tuple[str, ...]
    country: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HitSettings:
    """What the tracking host goes by; one snapshot for the whole of a hit.

    `denied` are the copies whose recipients said no: answered, never recorded. `blocked` says why a link is blocked, or
    None. `country_of` knows where an address is, `"DE"`, empty where it does not; `as_number_of` the autonomous system
    that it belongs to, 8075, or 0. `is_https`: visitors come by https:, whoever ends the TLS.
    """

    keys: TokenKeys
    rules: Rules
    collect_for: timedelta = timedelta(days=60)
    record_address: RecordAddress = "truncated"
    trusted_proxies: tuple[IPNetwork, ...] = ()
    denied: Container[CopyId] = frozenset()
    blocked: Callable[[TokenPayload], str | None] = lambda _payload: None
    country_of: Callable[[IPAddress], str] = lambda _address: ""
    as_number_of: Callable[[IPAddress], int] = lambda _address: 0
    is_https: bool = False
    seen: dict[tuple[bytes, str, bool], Seen] = field(init=False, repr=False, compare=False, default_factory=dict)
    """By block, peer, and whether it is a link: a few browsers and proxies of images send nearly all requests."""


class HttpAnswer(NamedTuple):
    """A response: status, header fields in their order, body. A HEAD gets the same without the body."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""


def plain(status: int, text: str, *fields: tuple[str, str]) -> HttpAnswer:
    """Make an answer of plain text that nobody keeps."""
    headers = (("Content-Type", "text/plain; charset=utf-8"), ("Cache-Control", "no-store"), *fields)
    return HttpAnswer(status=status, headers=headers, body=text.encode())


PIXEL_ANSWER: Final = HttpAnswer(
    status=200,
    headers=(("Content-Type", "image/gif"), ("Cache-Control", "no-store, no-cache, must-revalidate, private")),
    body=PIXEL,
)
REDIRECT_FIELDS: Final = (
    ("Cache-Control", "no-store"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Robots-Tag", "noindex, nofollow"),
)
NOT_FOUND: Final = plain(404, "There is nothing here.\n")
METHOD_NOT_ALLOWED: Final = plain(405, "Only GET and HEAD are answered here.\n", ("Allow", "GET, HEAD"))


class Outcome(StrEnum):
    """What became of a request: the closed set that metrics count by."""

    OPEN = "open"
    CLICK = "click"
    PROBE = "probe"
    BAD_TOKEN = "bad_token"  # noqa: S105 - an outcome, no secret
    SAMPLE = "sample"
    """The token of a preview: answered, never recorded."""
    TOO_LATE = "too_late"
    """Its message is older than `collect_for`: answered, not recorded."""
    DENIED = "denied"
    """Its recipient does not want to be tracked: answered, not recorded."""
    BLOCKED = "blocked"
    """Somebody stopped the links of its message, set, sender domain or destination: 410, not recorded."""
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"


class Answered(NamedTuple):
    """What to send, and what to write before it is sent."""

    http: HttpAnswer
    outcome: Outcome
    record: HitRecord | None = None


_OUTCOME_OF: Final = {Open: Outcome.OPEN, Click: Outcome.CLICK, Probe: Outcome.PROBE}
_BAD_PIXEL: Final = Answered(http=PIXEL_ANSWER, outcome=Outcome.BAD_TOKEN)
_BAD_LINK: Final = Answered(http=NOT_FOUND, outcome=Outcome.BAD_TOKEN)
_NOT_FOUND: Final = Answered(http=NOT_FOUND, outcome=Outcome.NOT_FOUND)
_METHOD_NOT_ALLOWED: Final = Answered(http=METHOD_NOT_ALLOWED, outcome=Outcome.METHOD_NOT_ALLOWED)


def answer(request: HitRequest, *, settings: HitSettings, now: datetime, entropy: Entropy) -> Answered:
    """Answer a request; total."""
    found = urls.split(request.path)
    if found is None:
        return _NOT_FOUND
    if request.method not in {"GET", "HEAD"}:
        return _METHOD_NOT_ALLOWED
    purpose, text = found
    try:
        payload = settings.keys.read(text, purpose)
    except TokenError:
        # The image is the same, so that no mail shows a broken one; the page is, so that nobody learns what was wrong.
        return _BAD_PIXEL if purpose is Purpose.OPEN else _BAD_LINK
    blocked = settings.blocked(payload)
    if blocked is not None:
        return Answered(http=PIXEL_ANSWER if payload.link is None else _gone(blocked), outcome=Outcome.BLOCKED)
    if payload.link is None:
        http = PIXEL_ANSWER
    else:
        redirect = _redirect(payload.link.url)
        if redirect is None:
            return _BAD_LINK
        http = redirect
    if payload.sample:
        return Answered(http=http, outcome=Outcome.SAMPLE)
    if day_of(now) - payload.day > settings.collect_for:
        return Answered(http=http, outcome=Outcome.TOO_LATE)
    if payload.copy in settings.denied:
        return Answered(http=http, outcome=Outcome.DENIED)
    record = _record(payload, request, settings, now, entropy)
    return Answered(http=http, outcome=_OUTCOME_OF[type(record)], record=record)


def path_of(target: str) -> str:
    """Return path and query of a request's target, `"/l/TOKEN?utm=1"`, which may have the absolute form.

    RFC 9112 §3.2.2: a server accepts `http://trace.example/l/TOKEN` too. Empty for what is neither, such as `*`.
    """
    if target.startswith("/"):
        return target
    _scheme, separator, rest = target.partition("://")
    return rest[rest.find("/") :] if separator and "/" in rest else ""


@lru_cache(maxsize=_DESTINATIONS_REMEMBERED)
def _redirect(url: str) -> HttpAnswer | None:
    destination = location(url)
    if destination is None:
        return None
    # Never 301: a cached redirect hides later clicks.
    return HttpAnswer(status=302, headers=(("Location", destination), *REDIRECT_FIELDS))


def _gone(reason: str) -> HttpAnswer:
    return plain(410, f"This link was stopped: {reason}.\n")


def _record(
    payload: TokenPayload, request: HitRequest, settings: HitSettings, now: datetime, entropy: Entropy
) -> HitRecord:
    link = payload.link
    seen = _look(request, settings, is_click=link is not None)
    hit = Hit(
        at=now,
        address=seen.address,
        user_agent=seen.user_agent,
        signals=seen.signals,
        country=seen.country,
        rules=settings.rules.version,
    )
    event = EventId.drawn(entropy(EVENT_ID_CHARACTERS))
    if request.method == "HEAD":
        return Probe(event=event, copy=payload.copy, hit=hit, link_index=None if link is None else link.index)
    if link is None:
        return Open(event=event, copy=payload.copy, hit=hit)
    return Click(
        event=event,
        copy=payload.copy,
        hit=hit,
        link_index=link.index,
        part=link.part.name.lower(),
        url=urls.without_query(link.url) if payload.redact else link.url,
    )


def _look(request: HitRequest, settings: HitSettings, *, is_click: bool) -> Seen:
    """Return what a request gives away; of the same header fields from the same peer it is the same."""
    if not request.block or request.method != "GET" or request.is_http_1_0:
        return _look_anew(request, settings, is_click=is_click)
    key = (request.block, request.peer, is_click)
    seen = settings.seen.get(key)
    if seen is None:
        if len(settings.seen) >= _VISITORS_REMEMBERED:
            settings.seen.clear()
        seen = settings.seen[key] = _look_anew(request, settings, is_click=is_click)
    return seen


def _look_anew(request: HitRequest, settings: HitSettings, *, is_click: bool) -> Seen:
    address = visitor_address(request.peer, request.forwarded_for, settings.trusted_proxies)
    user_agent = _printable(request.headers.get("User-Agent", ""))
    signals = features(
        method=request.method,
        is_click=is_click,
        is_http_1_0=request.is_http_1_0 and address == parse_address(request.peer),  # else it is the proxy's version
        headers=request.headers,
        user_agent=user_agent,
        address=address,
        rules=settings.rules,
        is_https=settings.is_https,
        as_number=settings.as_number_of(address) if address is not None else 0,
    )
    return Seen(
        address=reduce_address(address, settings.record_address),
        user_agent=user_agent,
        signals=signals,
        country=_country(settings, address, signals),
    )


def _country(settings: HitSettings, address: IPAddress | None, signals: tuple[str, ...]) -> str:
    """Return where the visitor is; empty behind a proxy of images, which stands somewhere else."""
    return "" if address is None or hides_its_reader(signals) else settings.country_of(address)


def _printable(text: str) -> str:
    """Keep what can be shown: neither control characters nor bytes that are no UTF-8 reach a journal or a screen."""
    if not text.isprintable():
        text = "".join(character for character in text if character.isprintable())
    return text[:MAX_USER_AGENT_CHARACTERS]
