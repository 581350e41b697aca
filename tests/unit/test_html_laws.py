"""Laws of `html.find` on any bytes: it never raises, spans are sound, wrapping is stable, the work is linear."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core import charrefs, charsets, html
from relay.core.html import HtmlScan
from tests.growth import is_linear

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
    scan = html.find(body, charset=charset)

    spans = _spans(scan)
    assert all(0 <= start < end <= len(body) for start, end in spans)
    assert all(one[1] <= other[0] for one, other in pairwise(spans))
    assert [link.value for link in scan.links] == sorted(link.value for link in scan.links)
    assert list(scan.removals) == sorted(scan.removals)
    assert scan.pixel_at is None or not any(start < scan.pixel_at < end for start, end in spans)
    for link in scan.links:
        value = body[slice(*link.value)]
        if value[:1] in {b'"', b"'"}:
            assert value[-1:] == value[:1]
            value = value[1:-1]
        text = charrefs.decode_attribute(charsets.decode(value, charsets.codec(charset)))
        assert text.translate({9: None, 10: None, 13: None}).strip("".join(map(chr, range(33)))) == link.url
        assert len(link.text) <= 200
        assert link.text == " ".join(link.text.split())


@given(_bodies)
def test_wrapped_links_are_found_again_in_the_same_places(body: bytes) -> None:
    """Splicing in new values, taking out what is ours and adding a pixel changes nothing else of what is found."""
    scan = html.find(body)
    urls = [f"https://t.example/l/{number}?a&copy=<\">'" for number in range(len(scan.links))]

    edits = [(link.value, html.quote(url)) for link, url in zip(scan.links, urls, strict=True)]
    edits += [(span, b"") for span in scan.removals]
    if scan.pixel_at is not None and b"<svg" not in body:  # which an <img> ends, where it never ended itself
        edits.append(((scan.pixel_at, scan.pixel_at), b'<img src="https://t.example/i/">'))
    edited = _splice(body, edits)

    again = html.find(edited)
    assert [link.url for link in again.links] == urls
    assert [(link.tag, link.text) for link in again.links] == [(link.tag, link.text) for link in scan.links]
    assert (again.pixel_at is None) == (scan.pixel_at is None)


@given(_bodies)
def test_the_quick_walk_finds_what_the_thorough_one_finds(body: bytes) -> None:
    """A body without opt-outs is not walked tag by tag; a hint in front makes it so, and nothing else may change."""
    hint = b"<i data-no-track></i>"  # on no link
    if html.find(body).removals:
        return

    quick, thorough = html.find(body), html.find(hint + body)

    assert [(link.value, link.url, link.text) for link in quick.links] == [
        ((link.value[0] - len(hint), link.value[1] - len(hint)), link.url, link.text) for link in thorough.links
    ]


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=40))
def test_a_quoted_url_decodes_to_itself(url: str) -> None:
    """`quote` is the inverse of reading an attribute, for whatever is put in."""
    quoted = html.quote(url)

    assert quoted.isascii()
    assert charrefs.decode_attribute(quoted[1:-1].decode()) == url


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


def _spans(scan: HtmlScan) -> list[tuple[int, int]]:
    return sorted([*(link.value for link in scan.links), *scan.removals, *scan.open_trackers])


def _splice(body: bytes, edits: list[tuple[tuple[int, int], bytes]]) -> bytes:
    for (start, end), new in sorted(edits, reverse=True):
        body = body[:start] + new + body[end:]
    return body
