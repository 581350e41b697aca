"""Laws of `html.find` on any bytes: it never raises, spans are sound, wrapping is stable, the work is linear."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.core import html
from tests.growth import is_linear
from tests.laws import html as laws

# What the states of the tokenizer turn on, and what the walk looks for.
_PIECES = [
    *("<", ">", "/", "=", '"', "'", " ", "\n", "\t", "!", "-", "?", "&", ";", "\0", "x", "ä", "[", "]"),
    *(
        "<a ",
        "<A\r\nHREF = ",
        "</a>",
        "<a href=",
        '<a href="',
        "<a href='",
        "<area ",
        ' href="http://x/?a&amp;b" ',
        "http://y",
    ),
    *("<!--", "-->", "--!>", "<!", "<?", "</", "<!doctype xhtml", "<![CDATA[", "]]>", "<!--[if mso]>", "<![endif]-->"),
    *(
        "<script>",
        "</script>",
        "<style>",
        "</style>",
        "<title>",
        "</title",
        "<plaintext>",
        "<svg>",
        "</svg>",
        "<p>",
        "</p>",
    ),
    *(
        "<v:rect ",
        "</v:rect>",
        "<body>",
        "</body>",
        "</html>",
        "<frameset>",
        "<table><td>",
        "</table>",
        "<div ",
        "</div>",
    ),
    *(
        " ses:no-track ",
        ' ses:tags="a:b" ',
        " data-no-track",
        " clicktracking=off",
        "{{ses:openTracker}}",
        "&#",
        "&copy=",
    ),
]

_noise = st.lists(st.sampled_from(_PIECES), max_size=4).map("".join)
_links = st.sampled_from(
    ["<a href=http://x/>", '<A HREF = "http://y">t</a>', "<area href='z'>", "<v:oval b='>' href=q c>"]
)
_soup = st.lists(st.tuples(_noise, _links, _noise).map("".join), max_size=6).map("".join).map(str.encode)
_bodies = _soup | st.binary(max_size=200) | st.tuples(_soup, st.binary(max_size=20), _soup).map(b"".join)


@given(
    _bodies, st.sampled_from(["utf-8", "us-ascii", "shift_jis", "gb18030", "koi8-r", "utf-7", "no such charset", "\0"])
)
def test_spans_are_in_order_apart_and_inside_the_body(body: bytes, charset: str) -> None:
    """Whatever the bytes and the charset: nothing is raised, and what stands at a span means its URL."""
    laws.spans_are_sound(body, charset)


@given(_bodies)
@example(b"<!--[if mso]><a href=http://x/>{{ses:openTracker}}<![endif]-->")
@example(b"<a href=http://x/><img alt='{{ses:openTracker}}'><img alt=t></a>")
@example(b"<area href=http://x/ alt='a {{ses:openTracker}}'>")
def test_wrapped_links_are_found_again_in_the_same_places(body: bytes) -> None:
    """Splicing in new values, taking out what is ours and adding a pixel changes nothing else of what is found."""
    laws.wrapped_links_are_found_again(body)


@given(_bodies)
def test_the_quick_walk_finds_what_the_thorough_one_finds(body: bytes) -> None:
    """A body without opt-outs is not walked tag by tag; a hint in front makes it so, and nothing else may change."""
    laws.the_quick_walk_finds_what_the_thorough_one_finds(body)


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=40))
def test_a_quoted_url_decodes_to_itself(url: str) -> None:
    """`quote` is the inverse of reading an attribute, for whatever is put in."""
    laws.a_quoted_url_decodes_to_itself(url)


_HOSTILE = [
    *(
        b"<",
        b"<a ",
        b"<a a=a ",
        b"<!",
        b"<!--",
        b"</",
        b"&#",
        b"<a href=",
        b"<script",
        b'"',
        b"<a href=x>",
        b"<a/",
        b"<b a='",
    ),
    *(
        b'="',
        b"<x><",
        b"<p x=y>",
        b"<!--x--!>",
        b"<!-->",
        b"<!--[if mso]>",
        b"<style></styl",
        b"<script><!--<script>",
        b"<?",
    ),
    *(
        b"<svg>",
        b"<math><svg>",
        b"</svg></math>",
        b"<svg><![CDATA[",
        b"<table data-no-track><td>",
        b"<b></i>",
        b"<i data-no-track>",
    ),
    *(
        b"<b><i data-no-track></u>",
        b"<a ses:tags=;;a:b>",
        b"{{ses:openTracker}}",
        b"<img alt=x>",
        b"<a href=x>&nbsp",
        b"clicktracking",
    ),
]
_FRAMES = [
    (b"", b""),
    (b"<a href=x>", b"</a></body>"),
    (b"<i data-no-track>{{ses:openTracker}}<!--[if mso]>", b"<![endif]-->"),
    (b'<a href="', b'">'),
]


@pytest.mark.parametrize("unit", _HOSTILE, ids=repr)
def test_the_work_grows_with_the_body_and_not_faster(unit: bytes) -> None:
    """Eight times the bytes take about eight times the processor time; quadratic work would take 64 times."""
    for before, behind in _FRAMES:
        assert is_linear(lambda size: html.find(before + unit * (size // len(unit)) + behind), 15_000)  # noqa: B023
