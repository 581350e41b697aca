"""Requests as real programs send them, and the verdict that is drawn on one from edge to ingest."""

from collections.abc import Mapping
from typing import Any, Final

from tests.unit.hits import ask, path_to
from tests.unit.tokens import link, pixel
from tracker.contract.events import EventType, Hit
from tracker.core.classify import Verdict, judge

OPEN, CLICK = EventType.OPEN, EventType.CLICK

_HTML: Final = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8"
_NAVIGATE: Final = {
    "Sec-Fetch-Site": "cross-site",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-User": "?1",
    "Sec-Fetch-Dest": "document",
}
_WINDOWS: Final = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko)"
_IPHONE: Final = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)"
_MAC: Final = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko)"
CHROME_UA: Final = f"{_WINDOWS} Chrome/131.0.0.0 Safari/537.36"


def browser(user_agent: str, **more: str) -> dict[str, str]:
    """Make the header of a click in a browser."""
    return {"User-Agent": user_agent, "Accept": _HTML, "Accept-Language": "de-DE,de;q=0.9,en;q=0.8", **more}


def client(user_agent: str) -> dict[str, str]:
    """Make the header of an image's request by a mail program: these send next to nothing."""
    return {"User-Agent": user_agent, "Accept": "image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5"}


CHROME: Final = browser(CHROME_UA, **_NAVIGATE)
BROWSERS: Final = {
    "Chrome on Windows": CHROME,
    "Chrome on Android": browser(
        "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) "
        "Chrome/131.0.0.0 Mobile Safari/537.36",
        **_NAVIGATE,
    ),
    "Chrome 49, the last on Windows XP": browser(
        "Mozilla/5.0 (Windows NT 5.1) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/49.0.2623.112 Safari/537.36"
    ),
    "Edge on Windows": browser(f"{CHROME_UA} Edg/131.0.0.0", **_NAVIGATE),
    "Edge on an iPhone": browser(f"{_IPHONE} Version/18.0 EdgiOS/131.0.2903.92 Mobile/15E148 Safari/605.1.15"),
    "Firefox on Linux": browser("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", **_NAVIGATE),
    "Firefox on Android": browser("Mozilla/5.0 (Android 14; Mobile; rv:133.0) Gecko/133.0 Firefox/133.0", **_NAVIGATE),
    "Safari on a Mac": browser(f"{_MAC} Version/18.5 Safari/605.1.15"),
    "Safari on an iPhone": browser(f"{_IPHONE} Version/18.5 Mobile/15E148 Safari/604.1"),
    "the Gmail app's browser on Android": browser(
        "Mozilla/5.0 (Linux; Android 14; Pixel 8 Build/AP2A; wv) AppleWebKit/537.36 (KHTML, like Gecko) "
        "Version/4.0 Chrome/131.0.6778.39 Mobile Safari/537.36"
    ),
}
APPLE_MAIL: Final = client(_MAC)
APPLE_MAIL_ON_IPHONE: Final = client(f"{_IPHONE} Mobile/15E148")
APPLE_PRIVACY: Final = client("Mozilla/5.0")
GMAIL: Final = client("Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)")
YAHOO: Final = client("YahooMailProxy; https://help.yahoo.com/kb/yahoo-mail-proxy-SLN28749.html")
OUTLOOK: Final = client(
    "Mozilla/4.0 (compatible; MSIE 7.0; Windows NT 10.0; WOW64; Trident/7.0; .NET4.0C; .NET4.0E; "
    "ms-office; MSOffice 16)"
)
MAIL_PROGRAMS: Final = {
    "Outlook on Windows": OUTLOOK,
    "Outlook on Windows, by its other name": client("Microsoft Office/16.0 (Microsoft Outlook 16.0.17928; Pro)"),
    "Outlook on a Mac": client("Microsoft Outlook/16.90 (Mac OS X 14.6; arm64)"),
    "Apple Mail without privacy protection": APPLE_MAIL,
    "Apple Mail on an iPhone, the same": APPLE_MAIL_ON_IPHONE,
    "Thunderbird": client("Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Thunderbird/128.5.0"),
    "the Gmail app, by its proxy": GMAIL,
    "Yahoo, by its proxy": YAHOO,
    "webmail in Firefox": BROWSERS["Firefox on Linux"] | {"Accept": "image/avif,image/webp,*/*"},
}


def record_of(kind: EventType, headers: Mapping[str, str], **request: Any) -> Hit:  # noqa: ANN401 - as `ask` takes them
    """Ask for a pixel or link, on a host that is reached by https:, and return what is kept of the request."""
    record = ask(path_to(pixel() if kind is OPEN else link()), headers=headers, **{"is_https": True, **request}).record
    assert record is not None
    return record.hit


def verdict_on(
    kind: EventType,
    headers: Mapping[str, str],
    *,
    after_s: float | None = 3600,
    around: Mapping[str, Any] | None = None,
    **request: Any,  # noqa: ANN401 - as `ask` takes them
) -> Verdict:
    """Judge a request, so long after delivery; `around` are what stood around it, as `judge` takes them."""
    hit = record_of(kind, headers, **request)
    return judge(kind, hit.signals, since_delivery_s=after_s, **(around or {}))
