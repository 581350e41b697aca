r"""May this URL be tracked? One verdict a link, with the reason where it is left alone.

Owns the order of the rules and how a URL is read for them: as browsers read it (`\` is a `/`, the last `@` of the
authority ends the user name), since what a rule says of a host must hold for the host that is visited. The URL itself
is never normalised, repaired or decoded: it is kept as it stands, or left. Does not own limits of number and length
(`plan`).

Standards: RFC 3986 §3; URL Standard §3.5 (hosts, `tracker.contract.hostnames`), §4.4 (the parser).

Limits: what a placeholder, or a sensitive link, looks like is a list of habits.
"""

import ipaddress
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

from relay.core.reasons import SkipReason
from tracker.contract.hostnames import a_labels
from tracker.contract.urls import without_query


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkRules:
    """What a configuration set and a message say of links.

    `own_hosts`: hosts of our trackers, lower-case A-labels, with `":8080"` where only that port is meant.
    `skip_hosts`: `"pay.example"` for one host, `"*.bank.example"` for all below it. `untouchable`: URLs that must stay
    as they are, the targets of List-Unsubscribe; so does one that differs from them only in scheme, case of the host or
    fragment.
    """

    own_hosts: frozenset[str] = frozenset()
    skip_hosts: tuple[str, ...] = ()
    skip_url_text: bool = False
    sensitive: Literal["redact", "skip", "track"] = "redact"
    untouchable: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkVerdict:
    """Either the link is wrapped, and perhaps its query kept out of events (`redact`), or `reason` says why not."""

    wrap: bool
    reason: SkipReason | None = None
    redact: bool = False


_WRAP: Final = LinkVerdict(wrap=True)
_REDACT: Final = LinkVerdict(wrap=True, redact=True)

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*):")
_HTTP: Final = frozenset({"http", "https"})
_UNSTORABLE: Final = frozenset({SkipReason.USERINFO, SkipReason.CONTROL_CHARACTER})
# A URL as nearly all are, in which nothing is that any of the rules below is about, and its authority.
_USUAL: Final = re.compile(r"https?://([A-Za-z0-9.:-]+)(?:[/?#][\w.~:/?#!&'()+,;=@-]*+)?", re.ASCII)
_AUTHORITY: Final = re.compile(r"//([^/\\?#]*)")
# What browsers take for one behind `https:`, with any number of slashes of either kind, and without a scheme.
_LOOSE_AUTHORITY: Final = re.compile(r"(?:[Hh][Tt][Tt][Pp][Ss]?:[/\\]*|[/\\]{2,})([^/\\?#]*)")
_AUTHORITY_END: Final = re.compile(r"[/\\?#]")
_PORT: Final = re.compile(r"[0-9]{0,5}")
_MAX_PORT: Final = 65535

# Mustache and Jinja, Jinja, ERB and ASP, Mailchimp, Salesforce, JavaScript; and, where it is no nested list of JSON,
# `[[name]]`.
_PLACEHOLDERS: Final = (("{{", "}}"), ("{%", "%}"), ("<%", "%>"), ("*|", "|*"), ("%%", "%%"), ("${", "}"))
_DOUBLE_BRACKETS: Final = re.compile(r"\[\[[^\[\]]++\]\]")

# What stands in links that are a key to something: beginnings of words (also within camelCase), whole words,
# parameters.
_STEMS: Final = (
    "reset",
    "verif",
    "confirm",
    "activat",
    "magic",
    "login",
    "logon",
    "log-in",
    "log_in",
    "signin",
    "sign-in",
    "sign_in",
    "password",
    "passwd",
    "passcode",
    "recover",
    "onetime",
    "one-time",
    "one_time",
    "accesstoken",
    "authtoken",
)
_WORDS: Final = ("auth", "oauth", "otp", "sso", "jwt", "mfa", "2fa", "totp", "pwd")
_PARAMETERS: Final = (
    "token",
    "code",
    "key",
    "apikey",
    "secret",
    "ticket",
    "hash",
    "sig",
    "signature",
    "session",
    "sid",
    "nonce",
    "pin",
)
_SENSITIVE: Final = re.compile(
    f"[^a-z0-9](?:{'|'.join(_STEMS)}|(?:{'|'.join(_WORDS)})[0-9]*+(?![a-z])|(?:{'|'.join(_PARAMETERS)})=)"
)
_CAMEL: Final = re.compile("|".join(stem.capitalize() for stem in _STEMS))

_URL_TEXT: Final = re.compile(r"(?:[Hh][Tt][Tt][Pp][Ss]?://)?([^\s/?#:@]++)(?::[0-9]{1,5})?(?:[/?#]\S*)?")
_TOP_LEVEL: Final = re.compile(r"(?:[^\W\d_]|xn--)[\w-]+")
# What stands behind a dot without being a top-level domain: "Node.js", "offer.pdf".
_FILE_TYPES: Final = frozenset(
    {
        "css",
        "csv",
        "doc",
        "docx",
        "exe",
        "gif",
        "htm",
        "html",
        "jpeg",
        "jpg",
        "js",
        "json",
        "mp3",
        "mp4",
        "pdf",
        "php",
        "png",
        "ppt",
        "pptx",
        "svg",
        "txt",
        "xls",
        "xlsx",
        "xml",
    }
)
_MAX_HOST: Final = 255
_MAX_ENCODED_HOST: Final = 3 * _MAX_HOST  # every octet as %41; what is longer must not fill the cache
_MAX_AUTHORITY: Final = _MAX_ENCODED_HOST + len(":65535")


def judge(url: str, rules: LinkRules, *, text: str = "", opt_out: SkipReason | None = None) -> LinkVerdict:
    """Judge one URL, as `html.find` or `text.find` gave it; `text` is what the reader sees of an HTML link.

    Total: any string gets a verdict, in time linear in its length. What must not be stored as it stands (USERINFO,
    CONTROL_CHARACTER) is named as such before anything else, then the opt-out.
    """
    place = _place(url)
    if isinstance(place, SkipReason):
        return LinkVerdict(wrap=False, reason=place if place in _UNSTORABLE else opt_out or place)
    reason = opt_out or _rule_against(url, *place, rules, text)
    if reason is None and rules.sensitive != "track" and is_sensitive(url):
        if rules.sensitive == "redact":
            return _REDACT
        reason = SkipReason.SENSITIVE
    return _WRAP if reason is None else LinkVerdict(wrap=False, reason=reason)


def is_sensitive(url: str) -> bool:
    """Say whether a URL looks like a login, a reset or a token: a secret that must not stand in somebody's events.

    What follows the host is looked at, the fragment too, since some services put the token there; a shop named
    magic.example is no secret.
    """
    end = _AUTHORITY_END.search(url, url.find("//") + 2)
    if end is None:
        return False
    tail = url[end.start() :]
    low = tail.lower()
    return _SENSITIVE.search(low) is not None or (low != tail and _CAMEL.search(tail) is not None)


def storable(url: str) -> str | None:
    """Return what may be kept of a URL that is left alone, for whatever reason.

    None for one with credentials or broken text; without query and fragment where it looks like a secret.
    """
    if _CONTROL.search(url) or _has_credentials(url) or "@" in (_AUTHORITY.search(url) or [""])[0]:
        return None
    return without_query(url) if is_sensitive(url) else url


def _place(url: str) -> tuple[str, str] | SkipReason:
    """Give host and port of a URL that could be tracked at all, or the reason why it could not."""
    usual = _USUAL.fullmatch(url)
    if usual:
        return _host_and_port(usual[1])
    if not url.isprintable() and _CONTROL.search(url):
        return SkipReason.CONTROL_CHARACTER
    scheme = _SCHEME.match(url)
    if scheme and scheme[1].lower() not in _HTTP:
        return SkipReason.SCHEME
    if _has_credentials(url):
        return SkipReason.USERINFO
    if _has_placeholder(url):
        return SkipReason.PLACEHOLDER
    if not scheme:
        return SkipReason.RELATIVE
    authority = _AUTHORITY.match(url, scheme.end())
    return _host_and_port(authority[1]) if authority else SkipReason.NO_HOST


def _rule_against(url: str, host: str, port: str, rules: LinkRules, text: str) -> SkipReason | None:
    if rules.untouchable and _target(url, host, port) in _targets(rules.untouchable):
        return SkipReason.LIST_UNSUBSCRIBE
    if host in rules.own_hosts or f"{host}:{port}" in rules.own_hosts:
        return SkipReason.OWN_HOST
    if rules.skip_hosts and _matches(host, rules.skip_hosts):
        return SkipReason.EXCLUDED_HOST
    if rules.skip_url_text and (shown := _host_shown(text)) and shown not in rules.own_hosts:
        return SkipReason.URL_TEXT
    return None


def _has_credentials(url: str) -> bool:
    loose = _LOOSE_AUTHORITY.match(url)
    return loose is not None and "@" in loose[1]


def _target(url: str, host: str, port: str) -> tuple[str, str, str]:
    """Give what two spellings of one address have in common: host, port, and path with query."""
    end = _AUTHORITY_END.search(url, url.find("//") + 2)
    return host, port, (url[end.start() :].partition("#")[0] if end else "") or "/"


@lru_cache(maxsize=64)
def _targets(urls: frozenset[str]) -> frozenset[tuple[str, str, str]]:
    places = ((url, _place(url)) for url in urls)
    return frozenset(_target(url, *place) for url, place in places if not isinstance(place, SkipReason))


def _has_placeholder(url: str) -> bool:
    for opening, closing in _PLACEHOLDERS:
        start = url.find(opening)
        if start >= 0 and url.find(closing, start + len(opening)) >= 0:
            return True
    return _DOUBLE_BRACKETS.search(url) is not None


def _host_and_port(authority: str) -> tuple[str, str] | SkipReason:
    """`"Shop.Example.:8080"` gives `("shop.example", "8080")`; NO_HOST means that no browser could go there."""
    return SkipReason.NO_HOST if len(authority) > _MAX_AUTHORITY else _split_authority(authority)


@lru_cache(maxsize=1024)  # the links of a mail lead to few hosts
def _split_authority(authority: str) -> tuple[str, str] | SkipReason:
    if authority.startswith("["):
        literal, bracket, rest = authority[1:].partition("]")
        host = _ipv6(literal) if bracket and rest[:1] in {"", ":"} else ""
        port = rest[1:]
    else:
        name, _, port = authority.partition(":")
        host = _normal(name) if len(name) <= _MAX_ENCODED_HOST else ""
    if not host or not _PORT.fullmatch(port) or int(port or "0") > _MAX_PORT:
        return SkipReason.NO_HOST
    return host, str(int(port)) if port else ""


def _ipv6(literal: str) -> str:
    try:
        return "" if "%" in literal else f"[{ipaddress.IPv6Address(literal).compressed}]"
    except ValueError:
        return ""


@lru_cache(maxsize=1024)
def _normal(name: str) -> str:
    """Give a host name in lower-case A-labels without its last dot; `""` for what can be none."""
    host = (a_labels(name) or "").lower().removesuffix(".")
    return host if len(host) <= _MAX_HOST else ""


def _matches(host: str, patterns: tuple[str, ...]) -> bool:
    exact, below = _compiled(patterns)
    return host in exact or host.endswith(below)


@lru_cache(maxsize=64)
def _compiled(patterns: tuple[str, ...]) -> tuple[frozenset[str], tuple[str, ...]]:
    exact = {_normal(pattern) for pattern in patterns if not pattern.startswith("*.")}
    below = tuple("." + name for pattern in patterns if pattern.startswith("*.") and (name := _normal(pattern[2:])))
    return frozenset(exact - {""}), below


def _host_shown(text: str) -> str:
    """Give the host if a visible text is a URL or a host name as a whole: `"www.shop.example/sale"`; else `""`."""
    match = _URL_TEXT.fullmatch(text.strip().rstrip(".,;:!?"))
    if match is None:
        return ""
    host = _normal(match[1])
    _, dot, top_level = host.rpartition(".")
    return host if dot and _TOP_LEVEL.fullmatch(top_level) and top_level not in _FILE_TYPES else ""
