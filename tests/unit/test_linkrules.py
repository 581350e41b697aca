"""May this URL be tracked? Every reason code of a link, and what is wrapped for all its looks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.linkrules import LinkRules, LinkVerdict, is_sensitive, judge, storable
from relay.core.reasons import SkipReason
from tests.growth import is_linear
from tests.laws import links as laws

_RULES = LinkRules(
    own_hosts=frozenset({"trace.shop.example", "127.0.0.1:8080"}),
    skip_hosts=("*.bank.example", "Pay.Example", "*.xn--bcher-kva.example"),
    untouchable=frozenset({"https://shop.example/leave?id=1"}),
)


@pytest.mark.parametrize(
    "url",
    [
        "https://shop.example",
        "HTTPS://Shop.Example/a",
        "http://shop.example:8080/a?b=c&d=e#f",
        "https://[2001:db8::1]:443/",
        "https://bücher.example/ä",
        "https://shop.example./",
        "https://shop.example/a b|c{d}",
        "https://shop.example/?u=mailto:ana@client.example",
        "https://shop.example/100%%",
        "https://shop.example/{}",
        "http://127.0.0.1:9999/",
        "https://shop.example/leave?id=2",
        "https://shop.example/leave?id=1&x",
        "https://shop.example/Leave?id=1",
        "https://shop.example:8443/leave?id=1",
        "https://bank.example/",
        "https://notrace.shop.example/",
        "https://shop.example/@ana?to=ana@client.example#a@b",
        'https://shop.example/?q={"a":{"b":{}}}',
        "https://shop.example/?p=[[1,2],[3,4]]&a[]=1",
        "https://shop.example/%20?discount=50%",
        "https://shop.example/$5|6*7",
        "https://☃.example/",
        "https://shop.example:0080/",
    ],
)
def test_a_web_link_is_wrapped_as_it_stands(url: str) -> None:
    """Ports, literals, IDN, fragments and characters that RFC 3986 does not allow are all the author's business."""
    assert judge(url, _RULES) == LinkVerdict(wrap=True)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("mailto:ana@client.example", SkipReason.SCHEME),
        ("tel:+123", SkipReason.SCHEME),
        ("javascript:alert(1)", SkipReason.SCHEME),
        ("ftp://shop.example/", SkipReason.SCHEME),
        ("shop-app://open", SkipReason.SCHEME),
        ("", SkipReason.RELATIVE),
        ("#top", SkipReason.RELATIVE),
        ("//shop.example/a", SkipReason.RELATIVE),
        ("a/b", SkipReason.RELATIVE),
        ("www.shop.example", SkipReason.RELATIVE),
        ("https:", SkipReason.NO_HOST),
        ("https:///a", SkipReason.NO_HOST),
        ("https://?x", SkipReason.NO_HOST),
        ("https://shop.example:99999/", SkipReason.NO_HOST),
        ("https://shop.example:a/", SkipReason.NO_HOST),
        ("https://[::1/", SkipReason.NO_HOST),
        ("https://sh op.example/", SkipReason.NO_HOST),
        ("https:\\\\shop.example\\", SkipReason.NO_HOST),
        ("http:/shop.example", SkipReason.NO_HOST),
        ("https://...", SkipReason.NO_HOST),
        ("https://%ff.example/", SkipReason.NO_HOST),
        ("https://xn--é.example/", SkipReason.NO_HOST),
        ("https://a%2fb.example/", SkipReason.NO_HOST),
        ("https://\u202eshop.example/", SkipReason.NO_HOST),
        ("https://[1.2.3.4]/", SkipReason.NO_HOST),
        ("https://[::1%eth0]/", SkipReason.NO_HOST),
        ("https://user:pass@shop.example/", SkipReason.USERINFO),
        ("https:\\\\user:pass@shop.example/", SkipReason.USERINFO),
        ("https:///user:pass@shop.example/", SkipReason.USERINFO),
        ("HTTP:/user:pass@shop.example/", SkipReason.USERINFO),
        ("http:user:pass@shop.example", SkipReason.USERINFO),
        ("//user:pass@shop.example", SkipReason.USERINFO),
        ("https://a@b", SkipReason.USERINFO),
        ("https://user:{{name}}@shop.example/", SkipReason.USERINFO),
        ("https://shop.example\\@evil.example/", None),
        ("https://shop.example@evil.example/", SkipReason.USERINFO),
        ("https://shop.example/\r\nX: y", SkipReason.CONTROL_CHARACTER),
        ("https://shop.example/\udcff", SkipReason.CONTROL_CHARACTER),
        ("{{link}}", SkipReason.PLACEHOLDER),
        ("https://shop.example/?n={{name}}", SkipReason.PLACEHOLDER),
        ("https://shop.example/*|ID|*", SkipReason.PLACEHOLDER),
        ("https://shop.example/%%id%%", SkipReason.PLACEHOLDER),
        ("https://shop.example/{% url %}", SkipReason.PLACEHOLDER),
        ("https://shop.example/<%= id %>", SkipReason.PLACEHOLDER),
        ("https://shop.example/[[id]]", SkipReason.PLACEHOLDER),
        ("https://shop.example/${id}", SkipReason.PLACEHOLDER),
        ("https://trace.shop.example/l/x", SkipReason.OWN_HOST),
        ("https://TRACE.shop.example.:443/l/x", SkipReason.OWN_HOST),
        ("http://127.0.0.1:8080/l/x", SkipReason.OWN_HOST),
        ("http://127.0.0.1:08080/l/x", SkipReason.OWN_HOST),
        ("https://trace。shop。example/l/x", SkipReason.OWN_HOST),
        ("https://a.bank.example/", SkipReason.EXCLUDED_HOST),
        ("https://pay.example/", SkipReason.EXCLUDED_HOST),
        ("https://PAY.example.:443/", SkipReason.EXCLUDED_HOST),
        ("https://www.b\u00fccher.example/", SkipReason.EXCLUDED_HOST),
        ("https://%70ay.example/", SkipReason.EXCLUDED_HOST),
        ("https://ｐａｙ.example/", SkipReason.EXCLUDED_HOST),
        ("https://p\u00aday.example/", SkipReason.EXCLUDED_HOST),
        ("https://shop.example/leave?id=1", SkipReason.LIST_UNSUBSCRIBE),
        ("https://SHOP.example/leave?id=1#top", SkipReason.LIST_UNSUBSCRIBE),
        ("http://shop.example./leave?id=1", SkipReason.LIST_UNSUBSCRIBE),
    ],
)
def test_a_link_that_must_not_be_wrapped_is_left_with_its_reason(url: str, reason: SkipReason | None) -> None:
    """One stable code each."""
    assert judge(url, _RULES).reason == reason


@pytest.mark.parametrize("pattern", ["*.bücher.example", "*.xn--bcher-kva.example", "*.BÜCHER.example"])
@pytest.mark.parametrize("host", ["www.bücher.example", "www.xn--bcher-kva.example", "WWW.B%C3%9Ccher.example."])
def test_an_internationalized_host_is_excluded_in_any_spelling(pattern: str, host: str) -> None:
    """U-label or A-label, in the set as in the mail."""
    rules = LinkRules(skip_hosts=(pattern,))

    assert judge(f"https://{host}/", rules).reason is SkipReason.EXCLUDED_HOST
    assert judge(f"https://{host.partition('.')[2]}/", rules).wrap


@pytest.mark.parametrize(
    ("target", "url"),
    [
        ("https://bücher.example/u", "https://xn--bcher-kva.example/u"),
        ("https://shop.example", "https://shop.example/"),
        ("HTTPS://SHOP.EXAMPLE/u?x#y", "https://shop.example/u?x"),
    ],
)
def test_a_target_of_list_unsubscribe_is_left_in_another_spelling(target: str, url: str) -> None:
    """Case and script of the host and the fragment make no other address."""
    assert judge(url, LinkRules(untouchable=frozenset({target, "mailto:x", ""}))).reason is SkipReason.LIST_UNSUBSCRIBE


@pytest.mark.parametrize(
    "unit", ["{{", "[[", "[", "%%", "*|", "${", "/", "\\", "@", ":", ".", "%41", "é.", "&reset", "a", "#", "[[a"]
)
def test_hostile_urls_are_judged_in_linear_time(unit: str) -> None:
    """A URL may be as long as the body it stands in."""
    rules = LinkRules(
        skip_url_text=True, skip_hosts=("*.bank.example",), untouchable=frozenset({"https://shop.example"})
    )

    def judged(size: int) -> None:
        url = "https://" + unit * (size // len(unit))
        judge(url, rules, text=url)
        storable(url)
        judge(f"https://shop.example/{url}", rules, text=url)

    assert is_linear(judged, 30_000)


def test_an_opt_out_comes_before_any_other_reason_but_two() -> None:
    """What must not be stored as it stands is named as such."""
    for url in ("mailto:x", "https://shop.example/", "https://trace.shop.example/", ""):
        assert judge(url, _RULES, opt_out=SkipReason.OPT_OUT).reason is SkipReason.OPT_OUT
    assert judge("https://u:p@shop.example/", _RULES, opt_out=SkipReason.OPT_OUT).reason is SkipReason.USERINFO
    assert judge("https://a\0", _RULES, opt_out=SkipReason.OPT_OUT).reason is SkipReason.CONTROL_CHARACTER


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://shop.example/a?b=c#d", "https://shop.example/a?b=c#d"),
        ("https://shop.example/?mail=ana@client.example", "https://shop.example/?mail=ana@client.example"),
        ("mailto:ana@client.example", "mailto:ana@client.example"),
        ("https://user:pass@shop.example/", None),
        ("//user:pass@shop.example/", None),
        ("ftp://user:pass@shop.example/", None),
        ("https:\\\\user:pass@shop.example/", None),
        ("https:///user:pass@shop.example/", None),
        ("http:/user:pass@shop.example/", None),
        ("http:user:pass@shop.example/", None),
        ("\\\\user:pass@shop.example/", None),
        ("/@user", "/@user"),
        ("https://shop.example/\udcff", None),
        ("https://shop.example/reset/a?token=1#b", "https://shop.example/reset/a"),
        ("https://shop.example/#access_token=1", "https://shop.example/"),
        ("", ""),
    ],
)
def test_of_a_link_that_is_left_no_secret_is_kept(url: str, kept: str | None) -> None:
    """Whatever the reason was: credentials and tokens end up in no event."""
    assert storable(url) == kept


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("https://shop.example/a", True),
        ("www.shop.example/a", True),
        ("shop.example", True),
        ("Other.example.", True),
        ("Node.js", False),
        ("3.14", False),
        ("Read https://shop.example/a", False),
        ("trace.shop.example", False),
    ],
)
def test_a_link_whose_text_is_a_url_may_be_left(text: str, left: bool) -> None:
    """Only where the set says `skip_url_text`."""
    rules = LinkRules(skip_url_text=True, own_hosts=_RULES.own_hosts)

    assert (judge("https://shop.example/a", rules, text=text).reason is SkipReason.URL_TEXT) == left
    assert judge("https://shop.example/a", LinkRules(), text=text).wrap


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://shop.example/reset/abc", True),
        ("https://shop.example/user/password-reset?x=1", True),
        ("https://shop.example/Sign-In", True),
        ("https://shop.example/a?access_token=1", True),
        ("https://shop.example/a?b=1&OTP=2", True),
        ("https://shop.example/a?b=1;code=2", True),
        ("https://reset.example/a", False),
        ("https://shop.example/presets", False),
        ("https://shop.example/a?b=token", False),
        ("https://shop.example/a#access_token=1", True),
        ("https://shop.example/?zipcode=1", False),
    ],
)
def test_sensitive_links_are_known_by_words_behind_the_host(url: str, expected: bool) -> None:
    """Whole words, not parts of them; the host says nothing. Some services put the token in the fragment."""
    assert is_sensitive(url) == expected


def test_a_sensitive_link_is_redacted_skipped_or_tracked() -> None:
    """As the set says."""
    url = "https://shop.example/reset?token=1"

    assert judge(url, LinkRules()) == LinkVerdict(wrap=True, redact=True)
    assert judge(url, LinkRules(sensitive="skip")).reason is SkipReason.SENSITIVE
    assert judge(url, LinkRules(sensitive="track")) == LinkVerdict(wrap=True)


@given(st.text(max_size=80) | st.text(alphabet="htps:/\\@[]%{}*|<>?#.&=;a1 é", max_size=80).map("https://".__add__))
def test_judging_is_total(url: str) -> None:
    """Any text gets a verdict; what is wrapped is http or https with a host, and the redirect has a place to go."""
    laws.judging_is_total(url, _RULES)
