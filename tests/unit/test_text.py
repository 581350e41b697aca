"""Links of plain text: what is inside of a URL and what is the sentence's (RFC 3986 appendix C, RFC 3676)."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core import text
from relay.core.reasons import SkipReason


def _urls(body: str, *, flowed: bool = False, delsp: bool = False) -> list[str]:
    return [link.url for link in text.find(body.encode(), flowed=flowed, delsp=delsp).links]


@pytest.mark.parametrize(
    ("body", "url"),
    [
        ("See https://a.example/b.", "https://a.example/b"),
        ("See https://a.example/b, or", "https://a.example/b"),
        ("Really https://a.example/b?!", "https://a.example/b"),
        ("(https://a.example/b)", "https://a.example/b"),
        ("(see https://a.example/b).", "https://a.example/b"),
        ("https://a.example/Foo_(bar)", "https://a.example/Foo_(bar)"),
        ("(https://a.example/Foo_(bar))", "https://a.example/Foo_(bar)"),
        ("[text](https://a.example/b) more", "https://a.example/b"),
        ("https://a.example/b/", "https://a.example/b/"),
        ("https://a.example/?k=abc=", "https://a.example/?k=abc="),
        ("https://a.example/b-", "https://a.example/b-"),
        ("https://a.example/b_ c", "https://a.example/b_"),
        ("https://a.example/?b&", "https://a.example/?b&"),
        ("https://a.example/#", "https://a.example/#"),
        ("<https://a.example/b>", "https://a.example/b"),
        ("<URL:https://a.example/b.>", "https://a.example/b."),
        ("<https://a.example/b\r\n  c/d>", "https://a.example/bc/d"),
        ('"https://a.example/b"', "https://a.example/b"),
        ("“https://a.example/b”", "https://a.example/b"),
        ("見よhttps://a.example/b。次", "https://a.example/b"),
        ("https://a.example/ä?ö", "https://a.example/ä?ö"),
        ("HTTP://A.example", "HTTP://A.example"),
        ("https://a.example/b\r\nnext", "https://a.example/b"),
        ("https://a.example/it's", "https://a.example/it's"),
        ("[t](https://a.example/b).Next", "https://a.example/b"),
        ("[https://a.example/b]c", "https://a.example/b"),
        ("{https://a.example/b}", "https://a.example/b"),
        ("**https://a.example/b**", "https://a.example/b"),
        ("|https://a.example/b|", "https://a.example/b"),
        ("https://a.example/b*", "https://a.example/b*"),
        ("https://[2001:db8::1]/", "https://[2001:db8::1]/"),
        ("<URL: https://a.example/b>", "https://a.example/b"),
        ("x<https://a.example/b>y", "https://a.example/b"),
        ("<https://a.example/b\r\n>", "https://a.example/b"),
        ("<https://a.example/b c>", "https://a.example/b"),
        ("<https://a.example/b\r\n\r\nc>", "https://a.example/b"),
        ("`https://a.example/b`", "https://a.example/b"),
        ("https://a.example/b\u200b", "https://a.example/b"),
        ("https://a.example/b…", "https://a.example/b"),
        ("https://a.example/b\u00a0c", "https://a.example/b"),
        ("view-source:https://a.example/b", "https://a.example/b"),
    ],
)
def test_a_url_is_delimited_as_a_reader_would(body: str, url: str) -> None:
    """Punctuation of the sentence stays outside; what may be the end of a secret stays inside."""
    assert _urls(body) == [url]


@pytest.mark.parametrize(
    "body",
    ["", "http://", "https://)", "xhttp://a.example", "ftp://a.example", "http:// a", "a.example", "http://..."],
)
def test_what_is_no_url_is_not_found(body: str) -> None:
    """Nothing is guessed."""
    assert text.find(body.encode()).links == ()


def test_a_deleted_space_joins_a_url_over_a_soft_break() -> None:
    """format=flowed; DelSp=yes: the space before the line break is not part of the text."""
    body = "Go https://a.example/long \r\n/path and \r\n on"

    assert _urls(body, flowed=True, delsp=True) == ["https://a.example/long/path"]
    assert _urls(body, flowed=True) == ["https://a.example/long"]
    assert _urls(body) == ["https://a.example/long"]


def test_other_peoples_links_are_left() -> None:
    """Quoted lines and the signature are somebody else's; `www.` has no scheme."""
    body = "www.a.example\r\n> https://b.example\r\nhttps://c.example\r\n-- \r\nhttps://d.example\r\n"

    scan = text.find(body.encode())

    assert [link.url for link in scan.links] == ["https://c.example"]
    assert [(url, reason) for _, url, reason in scan.left] == [
        ("www.a.example", SkipReason.NO_SCHEME),
        ("https://b.example", SkipReason.QUOTED_TEXT),
        ("https://d.example", SkipReason.SIGNATURE_TEXT),
    ]


@pytest.mark.parametrize(
    ("body", "url"),
    [
        ("https://a.example/{{ name }}/b", "https://a.example/{{"),
        ("https://a.example/<%= name %>", "https://a.example/"),
        ("https://a.example/*| NAME |*", "https://a.example/*|"),
    ],
)
def test_a_placeholder_with_a_space_in_it_does_not_cut_the_url(body: str, url: str) -> None:
    """Half of a URL must not be wrapped."""
    scan = text.find(body.encode())

    assert (scan.links, [entry[1:] for entry in scan.left]) == ((), [(url, SkipReason.PLACEHOLDER)])


def test_the_line_behind_a_folded_url_is_not_quoted() -> None:
    """Its `>` closes the bracket; what follows in the line is the author's."""
    assert _urls("<https://a.example/\r\n> and https://b.example/") == ["https://a.example/", "https://b.example/"]


def test_a_signature_separator_continues_no_url() -> None:
    """RFC 3676 §4.3: the line `-- ` is never joined to the one before."""
    assert _urls("https://a.example/b \r\n-- \r\nAna", flowed=True, delsp=True) == ["https://a.example/b"]
    assert _urls("https://a.example/b \r\n c. \r\n", flowed=True, delsp=True) == ["https://a.example/bc"]
    assert _urls("https://a.example/b \r\n> c \r\n", flowed=True, delsp=True) == ["https://a.example/b"]


def test_broken_bytes_do_not_cut_a_url() -> None:
    """The whole is found, so that it is left as a whole."""
    assert [link.url for link in text.find(b"https://a.example/\xe9/b c").links] == ["https://a.example/\udce9/b"]


def test_an_opt_out_behind_a_url_is_honoured_and_taken_away() -> None:
    """SparkPost writes it in double square brackets."""
    body = b'https://a.example/b[[data-msys-clicktrack="0"]] and https://a.example/c[[data-msys-clicktrack="1"]]'

    scan = text.find(body)

    assert [(link.url, link.opt_out) for link in scan.links] == [
        ("https://a.example/b", SkipReason.OPT_OUT),
        ("https://a.example/c", None),
    ]
    assert [body[start:end] for start, end in scan.removals] == [
        b'[[data-msys-clicktrack="0"]]',
        b'[[data-msys-clicktrack="1"]]',
    ]


def test_a_placeholder_for_the_pixel_is_found() -> None:
    """Text can have no pixel: users must not see the braces."""
    body = b"a {{ses:openTracker}} b"

    assert text.find(body).open_trackers == ((2, 21),)


def test_a_placeholder_for_the_pixel_ends_a_url() -> None:
    """It is taken away, so it cannot be part of where the link leads."""
    body = b"https://a.example/b{{ses:openTracker}} <https://a.example/c{{ses:openTracker}}>"

    scan = text.find(body)

    assert [link.url for link in scan.links] == ["https://a.example/b", "https://a.example/c"]
    assert [body[slice(*span)] for span in scan.open_trackers] == [b"{{ses:openTracker}}"] * 2


def test_a_url_in_another_charset_keeps_its_span() -> None:
    """The span is of bytes, whatever the charset."""
    body = "Größe: https://a.example/größe.".encode("latin-1")

    (link,) = text.find(body, charset="latin-1").links

    assert (link.url, body[slice(*link.span)].decode("latin-1")) == ("https://a.example/größe",) * 2


_PIECES = st.sampled_from(
    [
        "https://a.example/",
        "http://",
        "www.",
        "<",
        ">",
        "(",
        ")",
        ".",
        " \r\n",
        "\r\n",
        "> ",
        "-- ",
        "ä",
        "。",
        "[[data-msys-clicktrack=",
        "{{ses:openTracker}}",
        "x",
    ]
)


@given(st.lists(_PIECES, max_size=12).map("".join), st.booleans(), st.booleans())
def test_spans_are_ordered_disjoint_and_hold_their_url(body: str, flowed: bool, delsp: bool) -> None:
    """What is at a span, without folds, is the URL; every find is within the body."""
    raw = body.encode()

    scan = text.find(raw, flowed=flowed, delsp=delsp)

    spans = sorted([link.span for link in scan.links] + list(scan.removals) + list(scan.open_trackers))
    assert all(0 <= start < end <= len(raw) for start, end in spans)
    assert all(one[1] <= other[0] for one, other in pairwise(spans))
    for link in scan.links:
        assert "".join(raw[slice(*link.span)].decode().split()) == link.url


@given(st.binary(max_size=200), st.sampled_from(["utf-8", "shift_jis", "gb18030", "latin-1", "ascii"]))
def test_any_bytes_are_read_without_an_exception(body: bytes, charset: str) -> None:
    """Mail is hostile."""
    text.find(b"https://" + body + b" <http://" + body, charset=charset, flowed=True, delsp=True)


@pytest.mark.parametrize("piece", [b"http://", b"<http://", b"https://a.example/ \r\n", b"(", b"www.", b"<"])
def test_the_work_grows_with_the_body(piece: bytes) -> None:
    """A megabyte of the same again takes no more than its share: quadratic work would not end within the time limit."""
    text.find(b"https://a" + piece * (1_000_000 // len(piece)), flowed=True, delsp=True)
