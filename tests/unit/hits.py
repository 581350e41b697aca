"""Builders of requests to the tracking host, as a browser sends them, and of what it goes by."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from importlib.resources import files
from typing import Any, Final

from multidict import CIMultiDict

from tests.unit.tokens import KEYS, NOW
from tracker.contract import urls
from tracker.contract.token import TokenPayload
from tracker.core.hit import Answered, HitRequest, HitSettings, answer, path_of
from tracker.core.rules import Rules

RULES_TEXT: Final = files("tracker.core").joinpath("data/rules.toml").read_text(encoding="utf-8")
RULES: Final = Rules(RULES_TEXT)
SETTINGS: Final = HitSettings(keys=KEYS, rules=RULES)
BROWSER: Final = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Language": "en-GB,en;q=0.9",
}


def path_to(payload: TokenPayload) -> str:
    """Give the path of a pixel or link of ours."""
    return urls.make("", payload.purpose, KEYS.seal(payload, 1))


def ask(
    path: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str] = BROWSER,
    peer: str = "203.0.113.77",
    forwarded_for: tuple[str, ...] = (),
    is_http_1_0: bool = False,
    now: datetime = NOW,
    **settings: Any,  # noqa: ANN401 - fields of HitSettings
) -> Answered:
    """Ask for a path; random bytes are all 0xE5."""
    request = HitRequest(
        method=method,
        path=path_of(path),
        is_http_1_0=is_http_1_0,
        peer=peer,
        forwarded_for=forwarded_for,
        headers=CIMultiDict(headers),
    )
    return answer(request, settings=replace(SETTINGS, **settings), now=now, entropy=lambda size: b"\xe5" * size)
