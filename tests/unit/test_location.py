"""Where a redirect leads: the author's URL to the byte, or encoded as browsers do."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.laws import links as laws
from tracker.core.location import location

_VALUE = re.compile(r"https?://[!-~]+", re.IGNORECASE)


@pytest.mark.parametrize(
    "url",
    [
        "https://shop.example",
        "https://shop.example?",
        "https://shop.example#",
        "HTTPS://Shop.Example:443/../a/./%2f%2F?x=%20&y=a+b#frag?ment",
        "http://[2001:db8::1]:8080/x",
        "http://192.0.2.1:/",
        "http://user:pa%20ss@shop.example/",
        "https://shop.example/a;b=c,d!$&'()*+@:-._~?/?:@!$&'()*+,;=",
        "https://shop.example./",
        "https://ex%C3%A9mple.example/",
        "https://a_b.example//double//slash",
    ],
)
def test_a_valid_uri_is_left_to_the_byte(url: str) -> None:
    """RFC 3986: nothing is normalised, resolved, dropped or added."""
    assert location(url) == url


@pytest.mark.parametrize(
    "url, expected",
    [
        ("https://shop.example/a b", "https://shop.example/a%20b"),
        ("https://shop.example/é/ü", "https://shop.example/%C3%A9/%C3%BC"),
        ('https://shop.example/a|b{c}^`<d>"', "https://shop.example/a%7Cb%7Bc%7D%5E%60%3Cd%3E%22"),
        ("https://shop.example/?q=a b<c>\"d'é", "https://shop.example/?q=a%20b%3Cc%3E%22d%27%C3%A9"),
        ("https://shop.example/?a[]=1&b={x}|y", "https://shop.example/?a[]=1&b={x}|y"),
        ("https://shop.example/#a b`é", "https://shop.example/#a%20b%60%C3%A9"),
        ("https://shop.example/100%/a b", "https://shop.example/100%/a%20b"),
        ("https://shop.example/%20 %zz", "https://shop.example/%20%20%zz"),
        ("https://Bücher.example/", "https://xn--bcher-kva.example/"),
        ("https://faß.example/", "https://xn--fa-hia.example/"),
        ("https://☃.example", "https://xn--n3h.example"),
        ("https://www．shop。example/", "https://www.shop.example/"),
        ("https://EXÄMPLE.example:8080/X", "https://xn--exmple-cua.example:8080/X"),
        ("http://us er:p:w@d@shop.example/é", "http://us%20er:p%3Aw%40d@shop.example/%C3%A9"),
        ("  https://shop.example/a\tb\nc\r\n ", "https://shop.example/abc"),
        ("https:\\\\shop.example\\a\\b?c\\d", "https://shop.example/a/b?c\\d"),
        ("https:shop.example/é", "https://shop.example/%C3%A9"),
        ("https://[::1]/é", "https://[::1]/%C3%A9"),
        ("https://shop.example./é", "https://shop.example./%C3%A9"),
        ("HTTPS://Shop.Example/A é", "HTTPS://Shop.Example/A%20%C3%A9"),
        (
            "https://例え。例/日本?日=本#語",
            "https://xn--r8jz45g.xn--fsq/%E6%97%A5%E6%9C%AC?%E6%97%A5=%E6%9C%AC#%E8%AA%9E",
        ),
        ("https://ｓｈｏｐ.example/", "https://shop.example/"),
        ("https://b%C3%BCcher.example/é", "https://xn--bcher-kva.example/%C3%A9"),
        ("https://p\u00aday.example/", "https://pay.example/"),
        ("https://shop.example/x|y^z{a}`b'c\"<d>[e]", "https://shop.example/x%7Cy%5Ez%7Ba%7D%60b'c%22%3Cd%3E[e]"),
        ("https://shop.example/?x|y^z{a}`b'c\"<d>[e]\\", "https://shop.example/?x|y^z{a}`b%27c%22%3Cd%3E[e]\\"),
        ("https://shop.example/#x|y^z{a}`b'c\"<d>[e]\\", "https://shop.example/#x|y^z{a}%60b'c%22%3Cd%3E[e]\\"),
        ("https://shop.example/\u00a0\ufffd", "https://shop.example/%C2%A0%EF%BF%BD"),
        ("https://shop.example\\@evil.example/", "https://shop.example/@evil.example/"),
        ("https:///shop.example/é", "https://shop.example/%C3%A9"),
        ("https://shop.example/\x00\x7f\u2028", "https://shop.example/%00%7F%E2%80%A8"),
    ],
)
def test_what_is_no_uri_is_encoded_as_browsers_do(url: str, expected: str) -> None:
    """The URL Standard's percent-encode sets and UTS 46, compared with Chromium 156; a `%` is never encoded again."""
    assert location(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        "",
        "shop.example",
        "//shop.example/",
        "/path",
        "ftp://shop.example/",
        "javascript:alert(1)//https://shop.example",
        "javascript://shop.example/%0aalert(1)",
        "data:text/html,https://shop.example",
        "https://",
        "https:///",
        "https://?x",
        "https://:80/",
        "https://user@/",
        "https://a b.example/",
        "https://a<b.example/",
        "https://shop.example:port/é",
        "https://shop.example:123456/é",
        "https://[::1/é",
        "https://.../é",
        "https://a%00b.example/é",
        "https://\u00ad/",
        "https://xn--é.example/",
        "https://\u202eshop.example/",
        "https://%ff.example/é",
    ],
)
def test_what_leads_nowhere_is_no_location(url: str) -> None:
    """No host, a host that cannot be, or another scheme: 404 is more use than a header that lies."""
    assert location(url) is None


_HOSTILE = st.text(st.sampled_from("ab/\\?#@:[]%|{}<>\"'^` \t\r\n\0\x7fé☃\u2028\ud800\U0010ffff.") | st.characters())


@given(_HOSTILE | _HOSTILE.map("https://".__add__) | _HOSTILE.map("http://shop.example/".__add__))
def test_a_location_is_always_a_header_value_of_http(url: str) -> None:
    """No response splitting and no script, whatever was sealed."""
    laws.a_location_is_a_header_value_of_http(url)


@given(_HOSTILE.map("https://shop.example/é".__add__))
def test_a_location_is_its_own_location_in_the_end(url: str) -> None:
    """Nothing is encoded twice."""
    laws.a_location_is_its_own_location(url)


@given(_HOSTILE.map("https://".__add__) | st.from_regex(r"http://[0-9a-fxA-FX.%]{1,20}", fullmatch=True))
def test_a_host_has_one_spelling(url: str) -> None:
    """Else a block would be of one spelling, and the link of another."""
    laws.a_host_has_one_spelling(url)
