"""The false side: what people's programs send must not be taken for machines; and an answer never tells the verdict."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.hits import ask, path_to
from tests.unit.tokens import link, pixel
from tests.unit.visits import (
    APPLE_PRIVACY,
    BROWSERS,
    CHROME,
    CLICK,
    GMAIL,
    MAIL_PROGRAMS,
    OPEN,
    OUTLOOK,
    record_of,
    verdict_on,
)
from tracker.core.hit import Outcome

_GATEWAYS = [
    "https://eur03.safelinks.protection.outlook.com/?url=https%3A%2F%2Ftrace.shop.example",
    "https://urldefense.proofpoint.com/v2/url?u=https-3A__trace.shop.example",
    "https://urldefense.com/v3/__https://trace.shop.example__",
    "https://protect-eu.mimecast.com/s/abc",
    "https://linkprotect.cudasvc.com/url?a=https%3A%2F%2Ftrace.shop.example",
    "https://secure-web.cisco.com/1abc",
]


@pytest.mark.parametrize("headers", BROWSERS.values(), ids=BROWSERS)
def test_a_click_in_a_browser_is_a_persons(headers: Mapping[str, str]) -> None:
    """Without a single sign, also where the tracking host is reached in plain HTTP."""
    assert verdict_on(CLICK, headers).reasons == ()
    assert verdict_on(CLICK, headers).agent_class.value == "human"
    assert verdict_on(CLICK, headers, is_https=False).reasons == ()


@pytest.mark.parametrize("headers", BROWSERS.values(), ids=BROWSERS)
def test_a_click_soon_after_delivery_is_doubted_and_no_more(headers: Mapping[str, str]) -> None:
    """Somebody waits for a mail with a code in it, and clicks at once."""
    assert verdict_on(CLICK, headers, after_s=12).agent_class.value == "probable"


@pytest.mark.parametrize("headers", BROWSERS.values(), ids=BROWSERS)
@pytest.mark.parametrize("gateway", _GATEWAYS)
def test_a_click_through_a_gateway_is_a_persons(gateway: str, headers: Mapping[str, str]) -> None:
    """Whoever reads mail behind one comes from its page; soon after delivery that stays a doubt."""
    headers = {**headers, "Referer": gateway}

    assert verdict_on(CLICK, headers).agent_class.value == "human"
    assert verdict_on(CLICK, headers, after_s=12).agent_class.value == "probable"


@pytest.mark.parametrize("headers", MAIL_PROGRAMS.values(), ids=MAIL_PROGRAMS)
def test_an_open_in_a_mail_program_is_a_persons(headers: Mapping[str, str]) -> None:
    """Public lists call Outlook a scanner: it is the program that shows the mail."""
    assert verdict_on(OPEN, headers).agent_class.value == "human"


def test_a_click_by_somebody_behind_apples_relay_is_a_persons() -> None:
    """Safari there is Safari; whatever is known of the network."""
    assert verdict_on(CLICK, BROWSERS["Safari on an iPhone"], peer="172.224.224.9").agent_class.value == "human"


def test_a_proxy_in_front_does_not_make_machines_of_all() -> None:
    """Nginx speaks HTTP/1.0 to what is behind it, by default; that is its version, not the visitor's."""
    from ipaddress import ip_network

    behind: dict[str, Any] = {"peer": "127.0.0.1", "trusted_proxies": (ip_network("127.0.0.0/8"),), "is_http_1_0": True}

    assert verdict_on(CLICK, CHROME, forwarded_for=("203.0.113.9",), **behind).reasons == ()
    assert verdict_on(CLICK, CHROME, **behind).reasons == ("http_1_0",)


def test_two_links_of_a_mail_are_read_by_people() -> None:
    """A mail with two links has all of them followed within ten seconds by many."""
    assert verdict_on(CLICK, CHROME, around={"links_around": 2}).agent_class.value == "human"


def test_behind_a_proxy_of_images_nobody_knows_where_the_reader_is() -> None:
    """The country would be Google's or Apple's."""
    known = {"country_of": lambda _address: "US"}

    assert record_of(OPEN, OUTLOOK, **known).country == "US"
    assert record_of(OPEN, GMAIL, **known).country == ""
    assert record_of(OPEN, APPLE_PRIVACY, **known).country == ""


def test_a_place_is_looked_up_before_the_address_is_cut() -> None:
    """`record_address = "none"` keeps the country all the same."""
    seen: list[str] = []

    def country_of(address: object) -> str:
        seen.append(str(address))
        return "DE"

    hit = record_of(CLICK, CHROME, peer="203.0.113.77", record_address="none", country_of=country_of)

    assert (hit.address, hit.country, seen) == ("", "DE", ["203.0.113.77"])


_HEADERS = st.dictionaries(
    st.sampled_from(
        ["User-Agent", "Accept", "Accept-Language", "Referer", "Purpose", "Sec-Purpose", "X-Moz", "Sec-Fetch-Mode"]
    ),
    st.text(max_size=60)
    | st.sampled_from(["curl/8.5.0", "prefetch", "BarracudaCentral", "Mozilla/5.0", "text/html", *_GATEWAYS]),
)


@given(_HEADERS, st.sampled_from(["203.0.113.7", "40.92.1.1", "2607:f8b0::1"]), st.booleans(), st.integers(0, 10**6))
def test_an_answer_never_depends_on_the_verdict(
    headers: dict[str, str], peer: str, is_http_1_0: bool, number: int
) -> None:
    """A scanner that is refused reports the link as dead; so a machine gets to the octet what a person gets."""
    request: dict[str, Any] = {"peer": peer, "is_http_1_0": is_http_1_0, "as_number_of": lambda _address: number}
    for path, outcome in ((path_to(pixel()), Outcome.OPEN), (path_to(link()), Outcome.CLICK)):
        answered = ask(path, headers=headers, is_https=True, **request)

        assert answered.http == ask(path, headers=CHROME).http
        assert answered.outcome is outcome
