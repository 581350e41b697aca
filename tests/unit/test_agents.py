"""Which program and device a User-Agent names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.happenings import ACCEPTED_AT
from tests.unit.visits import APPLE_MAIL_ON_IPHONE, APPLE_PRIVACY, BROWSERS, GMAIL, MAIL_PROGRAMS, YAHOO
from tracker.contract.events import Hit
from tracker.store import agents
from tracker.store.agents import Client

_LINUX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


@pytest.mark.parametrize(
    "user_agent, expected",
    [
        (BROWSERS["Firefox on Linux"]["User-Agent"], ("Firefox 140", "desktop", "Linux")),
        (BROWSERS["Firefox on Android"]["User-Agent"], ("Firefox Mobile 133", "mobile", "Android")),
        (BROWSERS["Chrome on Windows"]["User-Agent"], ("Chrome 131", "desktop", "Windows")),
        (BROWSERS["Chrome on Android"]["User-Agent"], ("Chrome Mobile 131", "mobile", "Android")),
        (BROWSERS["Edge on Windows"]["User-Agent"], ("Edge 131", "desktop", "Windows")),
        (BROWSERS["Safari on a Mac"]["User-Agent"], ("Safari 18", "desktop", "Mac OS X")),
        (BROWSERS["Safari on an iPhone"]["User-Agent"], ("Mobile Safari 18", "mobile", "iOS")),
        (MAIL_PROGRAMS["Outlook on Windows"]["User-Agent"], ("Outlook 2016", "desktop", "Windows")),
        (MAIL_PROGRAMS["Thunderbird"]["User-Agent"], ("Thunderbird 128", "desktop", "Linux")),
        (
            MAIL_PROGRAMS["Apple Mail without privacy protection"]["User-Agent"],
            ("Apple Mail", "desktop", "Mac OS X"),
        ),
        (APPLE_MAIL_ON_IPHONE["User-Agent"], ("Mobile Safari UI/WKWebView", "mobile", "iOS")),
        (
            "Mozilla/5.0 (iPad; CPU OS 17_5 like Mac OS X) AppleWebKit/605.1 Version/17.5 Mobile/15E148 Safari/604.1",
            ("Mobile Safari 17", "tablet", "iOS"),
        ),
        (
            "Mozilla/5.0 (Linux; Android 14; SM-X710) AppleWebKit/537.36 Chrome/131.0.0.0 Safari/537.36",
            ("Chrome 131", "tablet", "Android"),
        ),
        ("curl/8.5.0", ("curl 8", "other", "")),
        ("Mozilla/5.0", ("", "", "")),
        ("", ("", "", "")),
    ],
)
def test_a_user_agent_is_read(user_agent: str, expected: tuple[str, str, str]) -> None:
    """Program with its version, kind of device, operating system without one."""
    assert agents.read(user_agent) == expected


@pytest.mark.parametrize(
    "user_agent, signal",
    [
        (GMAIL["User-Agent"], "ua_image_proxy:google"),
        (YAHOO["User-Agent"], "ua_image_proxy:yahoo"),
        (APPLE_PRIVACY["User-Agent"], "ua_privacy_proxy:apple"),
        (_LINUX, "ua_image_proxy:acme"),
    ],
)
def test_a_proxy_of_images_hides_its_reader(user_agent: str, signal: str) -> None:
    """Gmail's says that it is Firefox 11 on Windows XP: a statistic of that would be a lie."""
    assert agents.of_hit(Hit(at=ACCEPTED_AT, user_agent=user_agent, signals=(signal,))) == Client()
    assert agents.of_hit(Hit(at=ACCEPTED_AT, user_agent=_LINUX)).client == "Firefox 140"


@given(
    st.text(max_size=2000) | st.text(alphabet="(;/ 1aA.)\ud800", max_size=600).map(lambda text: "Mozilla/5.0 " + text)
)
def test_reading_is_total_and_bounded(user_agent: str) -> None:
    """Names are taken from hostile text; they stay short, and a surrogate raises nothing."""
    client, device, system = agents.read(user_agent)

    assert len(client) <= 64
    assert len(system) <= 64
    assert device in {"desktop", "mobile", "tablet", "other", ""}
    client.encode()
