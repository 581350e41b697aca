"""What the tracking host answers and records: the table of the contract, and what strangers try."""

import random
import string
from datetime import timedelta
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.hits import BROWSER, RULES, ask, path_to
from tests.unit.tokens import COPY, DAY, KEYS, NOW, URL, key, link, payloads, pixel
from tracker.contract.events import Click, Hit, Open, Probe
from tracker.contract.ids import EventId
from tracker.contract.token import Purpose, TokenKeys, TokenPayload
from tracker.core.hit import PIXEL, Outcome, path_of

_EVENT = EventId.drawn(b"\xe5" * 26)
_HIT = Hit(at=NOW, address="203.0.113.0", user_agent=BROWSER["User-Agent"], rules=RULES.version)
_CLICK = Click(event=_EVENT, copy=COPY, hit=_HIT, link_index=2, part="html", url=URL)


def test_a_pixel_is_a_gif_of_43_bytes_that_nobody_caches() -> None:
    """The contract's first row; an image that was cached would hide later opens."""
    answered = ask(path_to(pixel()))

    assert answered.http.status == 200
    assert dict(answered.http.headers) == {
        "Content-Type": "image/gif",
        "Cache-Control": "no-store, no-cache, must-revalidate, private",
    }
    assert answered.http.body == PIXEL
    assert answered.record == Open(event=_EVENT, copy=COPY, hit=_HIT)


def test_the_pixel_is_one_transparent_pixel() -> None:
    """GIF89a: 1 by 1, a transparent colour, a trailer; 43 bytes."""
    assert len(PIXEL) == 43
    assert PIXEL[:10] == b"GIF89a\x01\x00\x01\x00"
    assert PIXEL[19:23] == b"\x21\xf9\x04\x01"  # graphic control extension, transparency on
    assert PIXEL[-1:] == b"\x3b"


def test_a_link_redirects_to_the_authors_url() -> None:
    """The contract's second row; the record says which link, where it stood and whereto."""
    answered = ask(path_to(link()))

    assert answered.http.status == 302
    assert answered.http.headers == (
        ("Location", URL),
        ("Cache-Control", "no-store"),
        ("Referrer-Policy", "no-referrer"),
        ("X-Robots-Tag", "noindex, nofollow"),
    )
    assert answered.http.body == b""
    assert answered.record == _CLICK


@pytest.mark.parametrize(
    "rest",
    [
        "?utm_source=x",
        "&fbclid=x",
        ".",
        ")",
        ">",
        "=",
        "==",
        "=3D",
        "3D",
        "%3D",
        "%0D%0A",
        "%20and",
        "/",
        "\u2026",
        "?url=https://evil.example",
    ],
)
def test_what_stands_after_the_token_changes_nothing(rest: str) -> None:
    """Mail programs append; nobody can redirect elsewhere by it."""
    assert ask(path_to(link()) + rest) == ask(path_to(link()))


def test_the_absolute_form_is_understood() -> None:
    """RFC 9112 §3.2.2: whatever host it names."""
    assert ask("http://any.example" + path_to(link())) == ask(path_to(link()))


@pytest.mark.parametrize("target", ["*", "http://any.example", "any.example:443", ""])
def test_a_target_without_a_path_has_none(target: str) -> None:
    """RFC 9112 §3.2: the other forms lead nowhere here."""
    assert path_of(target) == ""
    assert ask(target).outcome is Outcome.NOT_FOUND


def test_a_bad_pixel_is_the_same_image_and_records_nothing() -> None:
    """No mail shows a broken image."""
    bad = ask("/i/nothing")

    assert bad.http == ask(path_to(pixel())).http
    assert (bad.outcome, bad.record) == (Outcome.BAD_TOKEN, None)


def test_a_bad_link_is_a_page_that_echoes_nothing() -> None:
    """What a stranger writes does not come back, as script or as text; every bad token looks the same."""
    bad = ask("/l/<script>alert(1)</script>")

    assert bad.http.status == 404
    assert b"script" not in bad.http.body
    assert dict(bad.http.headers)["Content-Type"] == "text/plain; charset=utf-8"
    assert bad.record is None
    assert ask("/l/" + KEYS.seal(link(), 1).lower()) == bad


def _forged(source: random.Random, kind: int) -> str:
    """Make the path of a token that we never sealed, in one of ten ways."""
    good = path_to(link(f"https://shop.example/{source.random()}"))
    token = good[3:]
    place = source.randrange(len(token))
    other = source.choice([c for c in string.ascii_letters + string.digits + "-_" if c != token[place]])
    stranger = TokenKeys([key(source.randint(2, 65535))])
    return [
        "/l/" + token[:place] + other + token[place + 1 :],
        "/l/" + token[:place],
        "/l/" + token[place + 1 :],
        "/l/" + token[::-1],
        "/l/" + token.swapcase(),
        "/l/" + stranger.seal(link(), stranger.keys[0].key_id),
        path_to(pixel()).replace("/i/", "/l/"),
        "/l/" + "".join(source.choices(string.ascii_letters + string.digits + "-_", k=source.randint(0, 5000))),
        "/l/https://evil.example/?u=https://evil.example",
        "/l/" + token[:place] + source.choice("=%+. \n\0é") + token[place:],
    ][kind % 10]


def test_a_thousand_forged_tokens_redirect_nowhere_and_record_nothing() -> None:
    """No open redirect: a destination comes from a token of ours alone, and a flood of bad ones costs no disk."""
    source = random.Random(20261103)
    answers = [ask(_forged(source, number)) for number in range(1000)]

    assert {answered.http.status for answered in answers} == {404}
    assert not any(name == "Location" for answered in answers for name, _ in answered.http.headers)
    assert all(answered.record is None for answered in answers)


@given(st.text(max_size=200))
def test_any_path_has_an_answer(text: str) -> None:
    """`answer` is total, and gives a redirect to nobody who guesses."""
    for path in (text, "/l/" + text, "/i/" + text):
        assert ask(path).http.status in {200, 404}
        assert ask(path).record is None


@given(payloads)
def test_any_payload_of_ours_has_an_answer(payload: TokenPayload) -> None:
    """Even a URL that no rule of ours would have wrapped; what redirects goes to http or https."""
    http = ask(path_to(payload)).http

    assert http.status in ({200} if payload.purpose is Purpose.OPEN else {302, 404})
    for name, value in http.headers:
        assert value.isascii()
        assert value.isprintable()
        assert name != "Location" or value.lower().startswith(("http://", "https://"))


@pytest.mark.parametrize("url", ["javascript:alert(1)", "data:text/html,x", "//evil.example", "/x", "ftp://a.example"])
def test_only_http_and_https_are_destinations(url: str) -> None:
    """Should one ever be sealed, it is still not followed."""
    assert ask(path_to(link(url))).http.status == 404
    assert ask(path_to(link(url))).record is None


def test_head_answers_alike_and_is_a_probe() -> None:
    """A sign of a machine for the hits around it, no event."""
    head, get = ask(path_to(link()), method="HEAD"), ask(path_to(link()))

    assert head.http == get.http
    assert isinstance(head.record, Probe)
    assert head.record.link_index == 2
    assert head.record.hit.signals == ("head",)
    image = ask(path_to(pixel()), method="HEAD")
    assert isinstance(image.record, Probe)
    assert image.record.link_index is None


@pytest.mark.parametrize("field", ["Purpose", "Sec-Purpose", "X-Moz"])
@pytest.mark.parametrize("payload", [link(), pixel()])
def test_a_prefetch_is_answered_alike_and_marked(payload: TokenPayload, field: str) -> None:
    """A browser that fetches ahead must find what its reader would; the record says that nobody looked yet."""
    ahead, later = (ask(path_to(payload), headers={**BROWSER, **fields}) for fields in ({field: "prefetch"}, {}))

    assert ahead.http == later.http
    assert ahead.record is not None
    assert ahead.record.hit.signals == ("prefetch",)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "get", "X"])
@pytest.mark.parametrize("payload", [link(), pixel()])
def test_other_methods_are_405_with_allow(method: str, payload: TokenPayload) -> None:
    """RFC 9110 §15.5.6."""
    answered = ask(path_to(payload), method=method)

    assert answered.http.status == 405
    assert dict(answered.http.headers)["Allow"] == "GET, HEAD"
    assert answered.record is None


def test_other_paths_are_404() -> None:
    """There is nothing else on this host."""
    assert ask("/").http.status == 404
    assert ask("/favicon.ico", method="POST").outcome is Outcome.NOT_FOUND


@pytest.mark.parametrize("payload", [link(sample=True), pixel(sample=True)])
def test_a_sample_is_answered_and_never_recorded(payload: TokenPayload) -> None:
    """The links of `mailwake rewrite` work, and count for nobody."""
    answered = ask(path_to(payload))

    assert answered.http.status in {200, 302}
    assert (answered.outcome, answered.record) == (Outcome.SAMPLE, None)


def test_collection_ends_after_collect_for_and_the_link_goes_on() -> None:
    """To the day, counted from acceptance."""
    last = ask(path_to(link()), now=NOW + timedelta(days=60), collect_for=timedelta(days=60))
    late = ask(path_to(link()), now=NOW + timedelta(days=61), collect_for=timedelta(days=60))

    assert last.outcome is Outcome.CLICK
    assert (late.outcome, late.record) == (Outcome.TOO_LATE, None)
    assert late.http == last.http


def test_a_link_sealed_with_an_older_key_redirects() -> None:
    """Keys are rotated, mail is kept: every key that is in the file reads its links for ever."""
    keys = TokenKeys([*KEYS.keys, key(7)])

    assert ask(path_to(link()), keys=keys) == ask(path_to(link()))


def test_a_hit_bears_the_time_of_the_tracking_host() -> None:
    """In UTC; nothing that a client says of the time is taken."""
    record = ask(path_to(link()), headers={**BROWSER, "Date": "Thu, 01 Jan 1970 00:00:00 GMT"}).record

    assert record is not None
    assert (record.hit.at, record.hit.at.utcoffset()) == (NOW, timedelta(0))


def test_a_token_from_tomorrow_is_recorded() -> None:
    """Clocks of two machines differ."""
    assert ask(path_to(link(day=DAY + timedelta(days=1)))).outcome is Outcome.CLICK


@pytest.mark.parametrize(
    "url", ["https://a.example/p?token=1#x", "https://a.example/p#token=1?", "https://a.example/p"]
)
def test_a_redacted_link_is_recorded_without_its_query(url: str) -> None:
    """A login link's secret reaches its visitor and no event."""
    answered = ask(path_to(link(url, redact=True)))

    assert dict(answered.http.headers)["Location"] == url
    assert isinstance(answered.record, Click)
    assert answered.record.url == "https://a.example/p"


@pytest.mark.parametrize("keep, kept", [("truncated", "203.0.113.0"), ("full", "203.0.113.77"), ("none", "")])
def test_the_address_is_reduced_before_anything_is_written(keep: str, kept: str) -> None:
    """`record_address`: the record never holds more."""
    record = ask(path_to(pixel()), record_address=keep).record

    assert record is not None
    assert record.hit.address == kept


def test_a_network_is_recognised_although_its_address_is_not_kept() -> None:
    """The verdict's signs are drawn from the whole address first."""
    record = ask(path_to(pixel()), peer="40.92.1.2", record_address="none").record

    assert record is not None
    assert record.hit.address == ""
    assert "net_scanner:microsoft" in record.hit.signals


def test_a_trusted_proxys_word_is_believed_and_a_strangers_is_not() -> None:
    """X-Forwarded-For from anyone but a proxy of ours is an invention."""
    proxies = (ip_network("127.0.0.0/8"),)
    told = ask(
        path_to(pixel()),
        peer="127.0.0.1",
        forwarded_for=("198.51.100.9",),
        trusted_proxies=proxies,
        record_address="full",
    ).record
    invented = ask(path_to(pixel()), forwarded_for=("198.51.100.9",), record_address="full").record

    assert told is not None
    assert told.hit.address == "198.51.100.9"
    assert invented is not None
    assert invented.hit.address == "203.0.113.77"


def test_a_user_agent_is_512_characters_that_can_be_shown() -> None:
    """It ends up in journals, terminals and pages: no control character, no broken UTF-8, no megabyte."""
    record = ask(path_to(pixel()), headers={"User-Agent": "A\x1b[31m\x00\udcff\u202e" + "é" * 9000}).record

    assert record is not None
    assert record.hit.user_agent == ("A[31m" + "é" * 9000)[:512]


@pytest.mark.parametrize("payload", [link(), pixel()])
def test_no_answer_sets_a_cookie(payload: TokenPayload) -> None:
    """Cookies are never set."""
    for path in (path_to(payload), "/i/x", "/l/x", "/"):
        assert not any(name.lower() == "set-cookie" for name, _ in ask(path).http.headers)
