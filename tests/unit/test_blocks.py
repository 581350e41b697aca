"""Which links are stopped: by message, set, sender domain and destination host, as a browser would see it."""

from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given

from tests.unit.hits import ask, path_to
from tests.unit.tokens import COPY, link, payloads, pixel
from tracker.contract.token import TokenPayload
from tracker.core.blocks import MAX_REASON_CHARACTERS, Block, BlockKind, Blocks, normal_value
from tracker.core.hit import PIXEL_ANSWER, Outcome

_AT = datetime(2026, 1, 31, 12, tzinfo=UTC)


def _block(kind: str, value: str, reason: str = "") -> Block:
    normal = normal_value(BlockKind(kind), value)
    assert normal is not None
    return Block(kind=BlockKind(kind), value=normal, reason=reason, added_at=_AT)


def _stopped(payload: TokenPayload, *blocks: tuple[str, str]) -> bool:
    return Blocks.of(_block(*one) for one in blocks).reason(payload) is not None


def _labelled(payload: TokenPayload) -> TokenPayload:
    return msgspec.structs.replace(payload, configuration_set="news", from_domain="mail.shop.example")


@pytest.mark.parametrize(
    ("kind", "value", "is_stopped"),
    [
        ("message", str(COPY.message), True),
        ("message", "0" * 26, False),
        ("set", "news", True),
        ("set", "new", False),
        ("set", "News", False),
        ("domain", "mail.shop.example", True),
        ("domain", "Shop.Example.", True),
        ("domain", "example", True),
        ("domain", "op.example", False),
        ("domain", "a.mail.shop.example", False),
    ],
)
def test_a_message_a_set_and_a_sender_domain_are_stopped(kind: str, value: str, is_stopped: bool) -> None:
    """For links and pixels alike; a domain with its sub-domains."""
    assert _stopped(_labelled(link()), (kind, value)) is is_stopped
    assert _stopped(_labelled(pixel()), (kind, value)) is is_stopped


def test_a_token_without_labels_is_stopped_by_message_and_host() -> None:
    """Mail of before there were labels: it is nobody's set and nobody's domain."""
    assert not _stopped(link(), ("set", "news"), ("domain", "shop.example"))
    assert _stopped(link(), ("message", str(COPY.message)))
    assert _stopped(link("https://evil.example/"), ("host", "evil.example"))
    assert not _stopped(pixel(), ("host", "evil.example"))


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example",
        "http://EVIL.Example/",
        "https://evil.example./login",
        "https://evil.example:8443/",
        "https://evil.example:/",
        "https://good.example@evil.example/",
        "https://good.example:pass@evil.example:443?x",
        "https://good.example%2F@evil.example/",
        "https://a@b@evil.example/",
        "https://%65vil.example/",
        "https://evil%2Eexample/",
        "https://evil\u3002example/",
        "https://ｅｖｉｌ．example/",
        "https://evi\u00adl.example/",
        "https://evi%C2%ADl.example/",
        "https:///evil.example/",
        "https:/\\evil.example\\@good.example/",
        "https:\\\\evil.example/",
        "https:evil.example/",
        " https://evil.example/ ",
        "ht\ntps://ev\til.example/",
        "https://evil.example#@good.example/",
        "https://evil.example?@good.example/",
        "https://evil.example\\.good.example/",
    ],
)
def test_a_host_is_stopped_however_the_url_is_written(url: str) -> None:
    """Where a browser would end, not what a reader sees (URL Standard §4.4)."""
    assert _stopped(link(url), ("host", "evil.example"))
    assert not _stopped(link(url), ("host", "good.example"), ("host", "*.evil.example"))


@pytest.mark.parametrize(
    "url",
    [
        "https://good.example/?to=https://evil.example/",
        "https://evil.example@good.example/",
        "https://evil.example:x@good.example/",
        "https://evil.example.good.example/",
        "https://notevil.example/",
        "https://good.example/evil.example",
        "https://good.example\\evil.example/",
        "https://good.example#@evil.example/",
        "https://a.evil.example/",
    ],
)
def test_another_host_is_not_stopped(url: str) -> None:
    """What only looks like the host, and hosts below it, go on."""
    assert not _stopped(link(url), ("host", "evil.example"))


def test_a_pattern_is_about_all_hosts_below() -> None:
    """As in `skip_hosts`: at any depth, not the host itself."""
    for url in ("https://a.evil.example/", "https://b.A.evil.example.:1/", "https://x@a.%65vil.example/"):
        assert _stopped(link(url), ("host", "*.EVIL.example"))
    for url in ("https://evil.example/", "https://xevil.example/", "https://evil.example.a.example/"):
        assert not _stopped(link(url), ("host", "*.evil.example"))


def test_an_international_name_is_one_host() -> None:
    """In letters, in A-labels, in capitals; `ß` is a letter of its own (non-transitional)."""
    urls = (
        "https://bücher.example/",
        "https://BÜCHER.example/",
        "https://xn--bcher-kva.example/",
        "https://b%C3%BCcher.example/",
    )
    for value in ("bücher.example", "xn--bcher-kva.example", "XN--BCHER-KVA.Example."):
        assert all(_stopped(link(url), ("host", value)) for url in urls)
    assert not _stopped(link("https://fass.example/"), ("host", "faß.example"))


def test_an_address_has_many_spellings_and_one_block() -> None:
    """URL Standard §3.5: decimal, octal, hexadecimal, fewer parts, and IPv4 in the clothes of IPv6."""
    for url in (
        "http://192.0.2.1/",
        "http://192.0.2.1./",
        "http://3221225985/",
        "http://0xC0000201/",
        "http://0300.0.2.1/",
        "http://192.0.513/",
        "http://192.513/",
        "http://0xc0.0x0.0x2.0x1/",
        "http://%31%39%32.0.2.1/",
        "http://１９２.0.2.1/",
        "http://[::ffff:192.0.2.1]/",
        "http://[0:0:0:0:0:FFFF:C000:0201]:80/",
    ):
        assert _stopped(link(url), ("host", "192.0.2.1")), url
    assert _stopped(link("http://[2001:DB8:0::1]/"), ("host", "[2001:db8::1]"))
    for url in ("http://192.0.2.2/", "http://192.0.2.1.example/", "http://192.0.2.256/", "http://1.192.0.2.1/"):
        assert not _stopped(link(url), ("host", "192.0.2.1")), url


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("message", "x"),
        ("message", str(COPY)),
        ("set", ""),
        ("set", "n" * 65),
        ("set", "a\nb"),
        ("domain", ""),
        ("domain", "a b.example"),
        ("host", ""),
        ("host", "*"),
        ("host", "*."),
        ("host", "https://evil.example/"),
        ("host", "evil.example/path"),
        ("host", "evil.example:443"),
        ("host", "good@evil.example"),
        ("host", "evil .example"),
        ("host", "evil.example\n"),
        ("host", "*.192.0.2.1"),
        ("host", "300.0.0.1"),
        ("host", "[::1"),
        ("host", "[2001:db8::1]:80"),
    ],
)
def test_what_can_never_match_is_no_value(kind: str, value: str) -> None:
    """The operator hears of it, instead of trusting a block that stops nothing."""
    assert normal_value(BlockKind(kind), value) is None


@given(payloads)
def test_any_payload_has_an_answer(payload: TokenPayload) -> None:
    """Total, whatever stands in the URL."""
    nothing = Blocks.of([_block("host", "evil.example"), _block("host", "*.evil.example"), _block("domain", "a.b.c")])
    assert nothing.reason(payload) is None or payload.link is not None
    assert Blocks({}).reason(payload) is None


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_stopped_link_answers_410_with_the_reason_alone(method: str) -> None:
    """In plain text, nothing of the request or the URL in it; a scanner and a person get the same."""
    path = path_to(_labelled(link("https://evil.example/<script>")))
    for reason, shown in [("", "its destination was stopped"), ("It was a\nphish\x1b[2J. ", "It was a phish [2J")]:
        stopped = Blocks.of([_block("host", "evil.example", reason)])
        answered = ask(path + "?utm=<b>", method=method, blocked=stopped.reason)

        assert (answered.http.status, answered.outcome, answered.record) == (410, Outcome.BLOCKED, None)
        assert answered.http.body.decode() == f"This link was stopped: {shown}.\n"
        assert ("Content-Type", "text/plain; charset=utf-8") in answered.http.headers
        assert ("Cache-Control", "no-store") in answered.http.headers


def test_a_stopped_pixel_is_the_pixel() -> None:
    """No mail shows a broken image, and nothing is recorded."""
    stopped = Blocks.of([_block("set", "news", "x")])
    answered = ask(path_to(_labelled(pixel())), blocked=stopped.reason)

    assert (answered.http, answered.outcome, answered.record) == (PIXEL_ANSWER, Outcome.BLOCKED, None)


def test_a_reason_is_one_short_line() -> None:
    """Whatever came into the storage."""
    (reason,) = Blocks.of([_block("set", "news", "a" * 1000)]).reasons.values()
    assert reason == "a" * MAX_REASON_CHARACTERS
