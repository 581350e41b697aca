"""Signs of machines at the edge, and the verdicts drawn from them."""

import re
from collections.abc import Mapping
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from tests.machine import ROOT
from tests.unit.hits import BROWSER, RULES
from tracker.contract.events import EventType
from tracker.core.classify import _WEIGHTS, AgentClass, features, judge
from tracker.core.rules import Rules

_GOOGLE_PROXY = "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)"
_OPEN, _CLICK = EventType.OPEN, EventType.CLICK


def _features(headers: Mapping[str, str], *, method: str = "GET", address: str = "203.0.113.7") -> tuple[str, ...]:
    """Draw the signs of a click."""
    return features(
        method=method,
        is_click=True,
        is_http_1_0=False,
        headers=CIMultiDict(headers),
        user_agent=headers.get("User-Agent", ""),
        address=ip_address(address),
        rules=RULES,
    )


def test_a_browser_shows_no_sign() -> None:
    """An ordinary click is a person's."""
    assert _features(BROWSER) == ()
    assert judge(_CLICK, (), since_delivery_s=600).agent_class is AgentClass.HUMAN


@pytest.mark.parametrize(
    "change, sign",
    [
        ({"Purpose": "prefetch"}, "prefetch"),
        ({"Sec-Purpose": "prefetch;prerender"}, "prefetch"),
        ({"X-Moz": "Prefetch"}, "prefetch"),
        ({"Accept": "*/*"}, "accept_without_html"),
        ({"User-Agent": "curl/8.5.0"}, "ua_tool:curl"),
        ({"User-Agent": "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)"}, "ua_unfurler:slack"),
        ({"User-Agent": "Mozilla/5.0 BarracudaCentral"}, "ua_scanner:barracuda"),
        ({"User-Agent": "Microsoft Office Existence Discovery"}, "ua_office_probe:microsoft"),
        ({"User-Agent": _GOOGLE_PROXY}, "ua_image_proxy:google"),
        ({"User-Agent": "Mozilla/5.0"}, "ua_privacy_proxy:apple"),
        ({"Referer": "https://eu01.safelinks.protection.outlook.com/?url=x"}, "gateway_referer:microsoft"),
        ({"Referer": "HTTPS://URLDefense.com:443/v3/__x__"}, "gateway_referer:proofpoint"),
    ],
)
def test_a_header_is_a_sign(change: Mapping[str, str], sign: str) -> None:
    """One row of the knowledge about machines each."""
    assert _features({**BROWSER, **change}) == (sign,)


@pytest.mark.parametrize("name, sign", [("Accept-Language", "no_accept_language"), ("Accept", "accept_without_html")])
def test_a_missing_header_is_a_sign(name: str, sign: str) -> None:
    """Browsers send both with every click."""
    assert _features({key: value for key, value in BROWSER.items() if key != name}) == (sign,)


def test_the_request_itself_has_signs() -> None:
    """Method, version, and no name at all."""
    assert _features(BROWSER, method="HEAD") == ("head",)
    assert "no_user_agent" in _features({})
    signs = features(
        method="GET",
        is_click=False,
        is_http_1_0=True,
        headers=CIMultiDict(BROWSER),
        user_agent="x",
        address=None,
        rules=RULES,
    )
    assert signs == ("http_1_0",)


def test_an_image_need_not_accept_html() -> None:
    """Browsers ask for images with another Accept."""
    headers = CIMultiDict({**BROWSER, "Accept": "image/avif,image/webp,*/*"})
    signs = features(
        method="GET",
        is_click=False,
        is_http_1_0=False,
        headers=headers,
        user_agent=BROWSER["User-Agent"],
        address=None,
        rules=RULES,
    )

    assert signs == ()


@pytest.mark.parametrize(
    "address, signs",
    [
        ("40.92.0.0", ("net_scanner:microsoft",)),
        ("40.93.255.255", ("net_scanner:microsoft",)),
        ("40.94.0.0", ("net_suspect:microsoft",)),
        ("40.95.0.0", ()),
        ("40.91.255.255", ()),
        ("209.222.82.200", ("net_scanner:barracuda",)),
        ("2a01:111:f400::1", ("net_scanner:microsoft",)),
        ("2a01:111:f401::1", ()),
        ("2607:f8b0:1::", ("net_suspect:google",)),
        ("0.0.0.0", ()),
        ("255.255.255.255", ()),
        ("::", ()),
    ],
)
def test_a_network_is_a_sign_up_to_its_edges(address: str, signs: tuple[str, ...]) -> None:
    """The first and the last address of a network, and their neighbours."""
    assert _features(BROWSER, address=address) == signs


@pytest.mark.parametrize(
    "agent", ["Skinkycurl/2", "Mozilla/5.0 (thejava/1)", "Mozilla/5.0 (X) notslackbot", "mozilla/5.0", "Mozilla/5.0 "]
)
def test_a_word_begins_where_a_word_begins(agent: str) -> None:
    """`inky` is no part of `Skinky`."""
    assert RULES.of_user_agent(agent) == ()


@pytest.mark.parametrize(
    "referer", ["https://notmimecast.com/", "https://mimecast.com.evil.example/", "x", "", "https://"]
)
def test_another_host_is_no_gateway(referer: str) -> None:
    """A suffix is one of whole labels."""
    assert RULES.of_referer(referer) is None


@pytest.mark.parametrize(
    "kind, signals, since_s, expected",
    [
        (_CLICK, ("ua_tool:curl",), 600, AgentClass.MACHINE),
        (_CLICK, ("ua_office_probe:microsoft",), 600, AgentClass.MACHINE),
        (_OPEN, ("ua_office_probe:microsoft",), 600, AgentClass.HUMAN),
        (_OPEN, ("prefetch",), 600, AgentClass.MACHINE),
        (_CLICK, ("net_scanner:microsoft",), 600, AgentClass.MACHINE),
        (_CLICK, ("net_suspect:google",), 600, AgentClass.PROBABLE),
        (_CLICK, ("net_suspect:google",), 20, AgentClass.MACHINE),
        (_OPEN, ("net_suspect:google",), 600, AgentClass.HUMAN),
        (_CLICK, (), 20, AgentClass.PROBABLE),
        (_CLICK, (), -0.5, AgentClass.PROBABLE),
        (_CLICK, (), None, AgentClass.HUMAN),
        (_OPEN, (), 9, AgentClass.PROBABLE),
        (_OPEN, (), 20, AgentClass.HUMAN),
        (_CLICK, ("gateway_referer:microsoft",), 600, AgentClass.HUMAN),
        (_CLICK, ("no_accept_language",), 600, AgentClass.PROBABLE),
        (_OPEN, ("no_accept_language",), 600, AgentClass.HUMAN),
        (_CLICK, ("no_accept_language", "accept_without_html"), 600, AgentClass.MACHINE),
        (_OPEN, ("no_user_agent",), 600, AgentClass.PROBABLE),
        (_OPEN, ("ua_image_proxy:google",), 600, AgentClass.HUMAN),
        (_OPEN, ("ua_image_proxy:google",), 3, AgentClass.MACHINE),
        (_OPEN, ("ua_privacy_proxy:apple",), 600, AgentClass.PRIVACY_PROXY),
        (_OPEN, ("ua_privacy_proxy:apple",), 3, AgentClass.PRIVACY_PROXY),
        (_CLICK, ("ua_privacy_proxy:apple",), 600, AgentClass.HUMAN),
    ],
)
def test_signs_are_weighed(
    kind: EventType, signals: tuple[str, ...], since_s: float | None, expected: AgentClass
) -> None:
    """Proof is a verdict, one doubt is a doubt, and what people show too is neither."""
    assert judge(kind, signals, since_delivery_s=since_s).agent_class is expected


def test_the_hits_around_are_signs() -> None:
    """A HEAD before the GET; three links of one mail within half a minute."""
    assert judge(_CLICK, (), probed=True).reasons == ("probed",)
    assert judge(_CLICK, (), probed=True).agent_class is AgentClass.MACHINE
    assert judge(_OPEN, (), probed=True).agent_class is AgentClass.MACHINE
    assert judge(_CLICK, (), links_around=2).agent_class is AgentClass.HUMAN
    assert judge(_CLICK, (), links_around=3).agent_class is AgentClass.MACHINE


def test_the_reasons_are_the_signs_that_count_for_the_kind() -> None:
    """An operator reads why."""
    verdict = judge(_CLICK, ("ua_tool:curl", "gateway_referer:cisco", "bare_webkit"), since_delivery_s=5)

    assert verdict.reasons == ("ua_tool:curl", "gateway_referer:cisco", "instant")


@given(
    st.sampled_from(EventType),
    st.lists(st.text(max_size=30) | st.sampled_from(["ua_tool:x", "head", "ua_privacy_proxy:apple"])),
    st.none() | st.floats(),
    st.booleans(),
    st.integers(),
)
def test_judging_is_total(
    kind: EventType, signals: list[str], since_s: float | None, holds: bool, links_around: int
) -> None:
    """Codes of a later version, impossible times, other kinds of events: always a verdict."""
    verdict = judge(
        kind,
        signals,
        since_delivery_s=since_s,
        probed=holds,
        links_around=links_around,
        is_echo=not holds,
        is_twice=holds,
    )

    assert isinstance(verdict.agent_class, AgentClass)


@given(st.text(max_size=200), st.text(max_size=200))
def test_any_header_has_its_codes(agent: str, referer: str) -> None:
    """Total, and short codes alone: nothing of the visitor's text goes into a signal."""
    for code in _features({"User-Agent": agent, "Referer": referer, "Accept": agent}):
        assert code.replace(":", "_").isidentifier()


def test_every_sign_is_explained_with_its_points() -> None:
    """`docs/explanation/accuracy-of-opens.md` has a row for each; one that is a class has no points."""
    page = (ROOT / "docs" / "explanation" / "accuracy-of-opens.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z0-9_]+)` \| (\d|–|class) \| (\d|–) \|", page, re.MULTILINE)
    points = {"–": None, "class": 0}

    def shown(column: int) -> dict[str, int]:
        weights = {row[0]: points.get(row[column], row[column]) for row in rows}
        return {code: int(weight) for code, weight in weights.items() if weight is not None}

    assert shown(1) == dict(_WEIGHTS[_OPEN])
    assert shown(2) == dict(_WEIGHTS[_CLICK])


def test_an_empty_rule_file_knows_nobody() -> None:
    """All tables may be left out."""
    rules = Rules("version = 7")

    assert rules.version == "7"
    assert rules.of_user_agent("curl/8") == ()
    assert rules.of_address(ip_address("40.92.0.0")) is None
