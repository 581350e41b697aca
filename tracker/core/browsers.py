"""What a User-Agent promises of the browser that it names, for telling who only says so.

Standards: Fetch Metadata Request Headers (W3C): a browser sends `Sec-Fetch-…` to hosts that it reached by https:.
"""

import re
from functools import lru_cache
from typing import Final

_AGENTS_REMEMBERED: Final = 2048
_CHROME: Final = re.compile(r"\bChrome/(\d{1,4})\.")
_FETCH_METADATA_SINCE: Final = 80  # it came with Chrome 76; a few releases later it was everywhere
_WEB_VIEW: Final = "; wv)"  # the browser within an app, which may send other headers than Chrome does
_FULL_BROWSERS: Final = ("Safari/", "Chrome/", "Version/", "CriOS/", "FxiOS/", "EdgiOS/")


@lru_cache(maxsize=_AGENTS_REMEMBERED)
def sends_fetch_metadata(user_agent: str) -> bool:
    """Say whether a click by this browser has `Sec-Fetch-Mode`: Chrome and what is built on it, from 80 on."""
    match = _CHROME.search(user_agent)
    return match is not None and int(match[1]) >= _FETCH_METADATA_SINCE and _WEB_VIEW not in user_agent


@lru_cache(maxsize=_AGENTS_REMEMBERED)
def is_bare_webkit(user_agent: str) -> bool:
    """Say whether it is WebKit and names no browser: Apple Mail, and Apple's proxy in its clothes."""
    return "AppleWebKit/" in user_agent and not any(name in user_agent for name in _FULL_BROWSERS)
