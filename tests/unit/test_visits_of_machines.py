"""The published signs of machines and proxies, a row each, with the verdict that each leads to.

What is published and not used, and why, is in `docs/explanation/accuracy-of-opens.md`.
"""

from collections.abc import Mapping
from typing import Any, Final

import pytest

from tests.unit.visits import (
    APPLE_MAIL,
    APPLE_PRIVACY,
    CHROME,
    CHROME_UA,
    CLICK,
    GMAIL,
    OPEN,
    OUTLOOK,
    YAHOO,
    browser,
    client,
    verdict_on,
)
from tracker.contract.events import EventType

_LESS_FETCH: Final = {name: value for name, value in CHROME.items() if not name.startswith("Sec-Fetch")}
_LESS_LANGUAGE: Final = {name: value for name, value in CHROME.items() if name != "Accept-Language"}
_FROM_EOP: Final = {"peer": "40.107.1.2"}


def _without(*names: str) -> dict[str, str]:
    return {name: value for name, value in CHROME.items() if name not in names}


def _from_system(number: int) -> dict[str, Any]:
    return {"as_number_of": lambda _address: number}


@pytest.mark.parametrize(
    "kind, headers, conditions, verdict, reasons",
    [
        # Proxies of images
        (OPEN, APPLE_PRIVACY, {}, "privacy_proxy", "ua_privacy_proxy:apple"),
        (OPEN, APPLE_PRIVACY, {"after_s": 2}, "privacy_proxy", "ua_privacy_proxy:apple instant"),
        (OPEN, GMAIL, {}, "human", "ua_image_proxy:google"),
        (OPEN, GMAIL, {"after_s": 4}, "machine", "ua_image_proxy:google instant"),
        (OPEN, YAHOO, {}, "human", "ua_image_proxy:yahoo"),
        (OPEN, YAHOO, {"after_s": 4}, "machine", "ua_image_proxy:yahoo instant"),
        (OPEN, client(f"{CHROME_UA} FastmailUA/1.0"), {}, "human", "ua_image_proxy:fastmail"),
        (OPEN, client(f"hey.com/imageproxy {CHROME_UA}"), {}, "human", "ua_image_proxy:hey"),
        (
            OPEN,
            client("Mozilla/5.0 (compatible; YandexImageResizer/2.0; +http://yandex.com/bots)"),
            {},
            "human",
            "ua_image_proxy:yandex",
        ),
        (
            OPEN,
            client("Mozilla/5.0 (compatible; Linux x86_64; Mail.RU_Bot/Img/2.0; +http://go.mail.ru/help/robots)"),
            {},
            "human",
            "ua_image_proxy:mail_ru",
        ),
        (CLICK, GMAIL, {}, "machine", "accept_without_html ua_image_proxy:google no_accept_language"),
        (OPEN, OUTLOOK, {}, "human", ""),
        (CLICK, client("Microsoft Office Existence Discovery"), {}, "machine", "ua_office_probe:microsoft"),
        (CLICK, browser("Microsoft Office Protocol Discovery"), {}, "machine", "ua_office_probe:microsoft"),
        (OPEN, CHROME, _from_system(8075), "human", "net_suspect:microsoft"),
        (OPEN, CHROME, _from_system(8075) | {"after_s": 3}, "probable", "net_suspect:microsoft instant"),
        # Scanners of links
        (CLICK, CHROME, _FROM_EOP, "machine", "net_scanner:microsoft"),
        (OPEN, CHROME, _FROM_EOP, "machine", "net_scanner:microsoft"),
        (CLICK, CHROME, {"peer": "2a01:111:f403::5"}, "machine", "net_scanner:microsoft"),
        (CLICK, CHROME, {"peer": "40.94.30.1"}, "probable", "net_suspect:microsoft"),
        (CLICK, CHROME, {"peer": "40.94.30.1", "after_s": 40}, "machine", "net_suspect:microsoft instant"),
        (CLICK, CHROME, _from_system(12076), "probable", "net_suspect:microsoft"),
        (CLICK, CHROME, _from_system(22843), "probable", "net_suspect:proofpoint"),
        (CLICK, CHROME, _from_system(30031), "probable", "net_suspect:mimecast"),
        (CLICK, CHROME, _from_system(16417), "probable", "net_suspect:cisco"),
        (CLICK, CHROME, {"peer": "18.133.136.100"}, "machine", "net_scanner:barracuda"),
        (CLICK, browser("Mozilla/5.0 BarracudaCentral"), {}, "machine", "ua_scanner:barracuda"),
        (CLICK, CHROME, {"peer": "2607:f8b0:4004::1", "after_s": 30}, "machine", "net_suspect:google instant"),
        (OPEN, CHROME, {"peer": "2607:f8b0:4004::1"}, "human", "net_suspect:google"),
        (CLICK, CHROME, _from_system(16509), "human", "net_datacenter:amazon"),
        (CLICK, CHROME, _from_system(24940) | {"after_s": 20}, "probable", "net_datacenter:hetzner instant"),
        (CLICK, _without("Accept-Language"), _from_system(14061), "probable", "net_datacenter:digitalocean"),
        # The request itself
        (CLICK, CHROME | {"Purpose": "prefetch"}, {}, "machine", "prefetch"),
        (CLICK, CHROME | {"Sec-Purpose": "prefetch;prerender"}, {}, "machine", "prefetch"),
        (OPEN, CHROME | {"X-Moz": "prefetch"}, {}, "machine", "prefetch"),
        (CLICK, CHROME, {"method": "HEAD"}, "machine", "head"),
        (CLICK, _without("Accept-Language"), {}, "probable", "no_accept_language"),
        (CLICK, CHROME | {"Accept": "*/*"}, {}, "probable", "accept_without_html"),
        (CLICK, _LESS_FETCH, {}, "probable", "no_sec_fetch"),
        (CLICK, _LESS_FETCH, {"after_s": 20}, "machine", "no_sec_fetch instant"),
        (CLICK, CHROME, {"is_http_1_0": True}, "human", "http_1_0"),
        (CLICK, _without("Accept-Language"), {"is_http_1_0": True}, "probable", "http_1_0 no_accept_language"),
        (CLICK, _without("User-Agent"), {}, "probable", "no_user_agent"),
        (CLICK, {}, {}, "machine", "no_user_agent no_accept_language accept_without_html"),
        # Around it
        (CLICK, CHROME, {"after_s": 59}, "probable", "instant"),
        (CLICK, CHROME, {"after_s": -2}, "probable", "instant"),
        (OPEN, CHROME, {"after_s": 9}, "probable", "instant"),
        (CLICK, CHROME, {"around": {"probed": True}}, "machine", "probed"),
        (CLICK, CHROME, {"around": {"links_around": 3}}, "machine", "sweep"),
        (CLICK, CHROME, {"around": {"is_echo": True}}, "machine", "echo"),
        (OPEN, CHROME, {"around": {"is_echo": True}}, "human", ""),
        (CLICK, CHROME, {"around": {"is_twice": True}}, "probable", "twice"),
        (CLICK, CHROME, {"around": {"is_twice": True}, "after_s": 30}, "machine", "instant twice"),
    ],
)
def test_a_published_sign_has_its_verdict(
    kind: EventType, headers: Mapping[str, str], conditions: Mapping[str, Any], verdict: str, reasons: str
) -> None:
    """From the request to the class, with the codes that an operator reads."""
    found = verdict_on(kind, headers, **conditions)

    assert found.agent_class.value == verdict
    assert set(reasons.split()) <= set(found.reasons)


@pytest.mark.parametrize(
    "user_agent, reason",
    [
        ("Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)", "ua_unfurler:slack"),
        ("facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)", "ua_unfurler:facebook"),
        ("Twitterbot/1.0", "ua_unfurler:twitter"),
        ("LinkedInBot/1.0 (compatible; Mozilla/5.0; +http://www.linkedin.com)", "ua_unfurler:linkedin"),
        ("WhatsApp/2.23.20.0", "ua_unfurler:whatsapp"),
        ("Mozilla/5.0 (compatible; Discordbot/2.0; +https://discordapp.com)", "ua_unfurler:discord"),
        ("TelegramBot (like TwitterBot)", "ua_unfurler:telegram"),
        ("Mozilla/5.0 (Windows NT 6.1; WOW64) SkypeUriPreview Preview/0.5", "ua_unfurler:skype"),
        (f"{CHROME_UA} BingPreview/1.0b", "ua_unfurler:bing"),
        ("Mozilla/5.0 (compatible; MicrosoftPreview/2.0; +https://aka.ms/MicrosoftPreview)", "ua_unfurler:microsoft"),
        ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", "ua_unfurler:google"),
        ("curl/8.5.0", "ua_tool:curl"),
        ("Wget/1.21.4", "ua_tool:wget"),
        ("python-requests/2.32.3", "ua_tool:python"),
        ("Go-http-client/2.0", "ua_tool:go"),
        ("okhttp/4.12.0", "ua_tool:okhttp"),
        ("axios/1.7.9", "ua_tool:axios"),
        ("node-fetch/1.0 (+https://github.com/bitinn/node-fetch)", "ua_tool:node"),
        ("Java/17.0.2", "ua_tool:java"),
        ("Mozilla/5.0 (X11; Linux x86_64) HeadlessChrome/131.0.0.0 Safari/537.36", "ua_tool:headless_chrome"),
        ("Mozilla/5.0 (Unknown; Linux x86_64) AppleWebKit/538.1 PhantomJS/2.1.1 Safari/538.1", "ua_tool:phantomjs"),
        (f"{CHROME_UA} Puppeteer/23", "ua_tool:puppeteer"),
        ("Playwright/1.49", "ua_tool:playwright"),
        ("Mozilla/5.0 (compatible; AhrefsBot/7.0; +http://ahrefs.com/robot/)", "ua_crawler:self_described"),
        *[
            (f"Mozilla/5.0 {words} link check", f"ua_scanner:{name}")
            for words, name in {
                "Symantec": "symantec",
                "MessageLabs": "messagelabs",
                "Sophos": "sophos",
                "Trend Micro": "trend_micro",
                "TrendMicro": "trend_micro",
                "Forcepoint": "forcepoint",
                "FireEye": "fireeye",
                "McAfee": "mcafee",
                "Fortinet": "fortinet",
                "Cloudmark": "cloudmark",
                "Vade Secure": "vade",
                "Hornetsecurity": "hornetsecurity",
                "SpamTitan": "spamtitan",
                "Avanan": "avanan",
                "Abnormal Security": "abnormal",
                "Agari": "agari",
                "Tessian": "tessian",
                "Inky": "inky",
                "GreatHorn": "greathorn",
                "ZeroFOX": "zerofox",
                "MailMarshal": "mailmarshal",
                "Webroot": "webroot",
                "AppRiver": "appriver",
                "Barracuda Sentinel": "barracuda",
            }.items()
        ],
    ],
)
@pytest.mark.parametrize("kind", [OPEN, CLICK])
def test_what_names_itself_is_a_machine(kind: EventType, user_agent: str, reason: str) -> None:
    """Unfurlers, tools, crawlers and vendors of mail security, whatever else they send."""
    found = verdict_on(kind, CHROME | {"User-Agent": user_agent})

    assert found.agent_class.value == "machine"
    assert reason in found.reasons


def test_apples_relay_is_told_by_network_and_bare_name_together() -> None:
    """Its list of networks changes each day, so it is in a file of the operator's; a browser behind it is a person."""
    from tests.unit.hits import RULES_TEXT
    from tracker.core.rules import Rules

    rules = Rules(RULES_TEXT, 'version = 1\n[network.net_private_relay]\napple = ["172.224.224.0/27"]')
    from_relay: dict[str, Any] = {"peer": "172.224.224.9", "rules": rules}

    assert verdict_on(OPEN, APPLE_MAIL, **from_relay).agent_class.value == "privacy_proxy"
    assert verdict_on(OPEN, APPLE_MAIL, rules=rules).agent_class.value == "human"
    assert verdict_on(OPEN, CHROME, **from_relay).agent_class.value == "human"
    assert verdict_on(CLICK, CHROME, **from_relay).agent_class.value == "human"
