"""Laws of links: every URL gets a verdict, and what is wrapped leads where a browser would have gone."""

import re

from relay.core import linkrules
from relay.core.linkrules import LinkRules
from tracker.contract import urls
from tracker.contract.token import Purpose
from tracker.core.hit import path_of
from tracker.core.location import host_of, location

RULES = LinkRules(
    own_hosts=frozenset({"trace.shop.example", "127.0.0.1:8080"}),
    skip_hosts=("*.bank.example", "Pay.Example", "*.xn--bcher-kva.example"),
    untouchable=frozenset({"https://shop.example/leave?id=1"}),
)
_VALUE = re.compile(r"https?://[!-~]+", re.IGNORECASE)


def judging_is_total(url: str, rules: LinkRules = RULES, text: str = "") -> None:
    """Any text gets a verdict; what is wrapped has a Location, and no query of a secret is kept."""
    verdict = linkrules.judge(url, rules, text=text)
    kept = linkrules.storable(url)
    assert verdict.wrap == (verdict.reason is None)
    assert kept is None or url.startswith(kept)
    assert kept is None or not linkrules.is_sensitive(url) or not set(kept) & set("?#")
    if verdict.wrap:
        assert url.lower().startswith(("http://", "https://"))
        assert location(url) is not None
    assert url.startswith(urls.without_query(url))


def a_location_is_a_header_value_of_http(url: str) -> None:
    """No response splitting and no script, whatever was sealed."""
    try:
        value = location(url)
    except UnicodeEncodeError:
        assert _has_surrogate(url)  # a token is UTF-8 and cannot hold one
        return
    assert value is None or _VALUE.fullmatch(value)


def a_location_is_its_own_location(url: str) -> None:
    """Nothing is encoded twice."""
    if not _has_surrogate(url) and (once := location(url)) is not None:
        assert location(once) == once


def a_host_has_one_spelling(url: str) -> None:
    """What a block is compared with: the host of any URL is its own host, and of any URL that leads there."""
    if _has_surrogate(url):
        return
    host = host_of(url)
    assert host.isascii()
    assert host == host.lower()
    if host:
        assert host_of(f"http://{host}/") == host
        assert host_of(f"HTTPS:\\\\x:y@{host.upper()}:8443\\?@other.example") == host


def a_path_is_split_or_none_of_ours(target: str) -> None:
    """A request target is a path in one spelling; what is split is put together again."""
    path = path_of(target)
    split = urls.split(path)
    assert split is None or urls.make("", *split) == path
    for purpose in Purpose:
        assert urls.split(urls.make("", purpose, target)) == (purpose, target)


def _has_surrogate(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)
