"""Links of plain text: what is inside of a URL and what is the sentence's (RFC 3986 appendix C, RFC 3676)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core import plan, text
from relay.core.reasons import SkipReason
from tests.growth import is_linear
from tests.laws import text as laws
from tests.unit.rewriting import joined, mail, options, reasons, text_mail


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
        ("(https://a.example/b)und", "https://a.example/b"),
        ("(参见https://a.example/b)继续", "https://a.example/b"),
        ("[url=https://a.example/b]t[/url]", "https://a.example/b"),
        ("https://a.example/?q=:)&x=1", "https://a.example/?q=:)&x=1"),
        ("(on a line before\r\nhttps://a.example/b)c", "https://a.example/b)c"),
        ("|https://a.example/b|c|", "https://a.example/b"),
        ("https://a.example/?x=1|2", "https://a.example/?x=1|2"),
        ("'https://a.example/b', 'c'", "https://a.example/b"),
        ("'https://a.example/b','c'", "https://a.example/b"),
        ("‘https://a.example/b’)c", "https://a.example/b"),
        ("it's https://a.example/b's", "https://a.example/b's"),
        ("~~https://a.example/b~~", "https://a.example/b"),
        ("_https://a.example/b_", "https://a.example/b_"),
        ("https://a.example/b🔥👍🏽!", "https://a.example/b"),
        ("https://a.example/b👩\u200d💻", "https://a.example/b"),
        ("https://a.example/b❤\ufe0f", "https://a.example/b"),
        ("https://a.example/👩\u200d💻", "https://a.example/👩\u200d💻"),
        ("https://a.example/b→c", "https://a.example/b→c"),
        ("https://a.example/می\u200cخواهم", "https://a.example/می\u200cخواهم"),
        ("https://a.example/b\u200c\u00ad\u034f", "https://a.example/b"),
        ("https://a.example/b\u061c", "https://a.example/b"),
        ("https://a.example/b—", "https://a.example/b"),
        ("https://a.example/a–b", "https://a.example/a–b"),
        ("https://a.example/b۔", "https://a.example/b"),
        ("https://a.example/100€", "https://a.example/100€"),
        ("-https://a.example/b", "https://a.example/b"),
        ("1.https://a.example/b", "https://a.example/b"),
        ("Look.https://a.example/b", "https://a.example/b"),
        ("here-HTTPS://a.example/b", "HTTPS://a.example/b"),
        ("Mailto:https://a.example/b", "https://a.example/b"),
        ("https://a.example/?u=https://b.example/", "https://a.example/?u=https://b.example/"),
        ("<<https://a.example/b>>", "https://a.example/b"),
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


@pytest.mark.parametrize(
    "body, addresses",
    [
        ("ftp://a.example/b.", ["ftp://a.example/b"]),
        ("shop://open?u=https://a.example/b", ["shop://open?u=https://a.example/b"]),
        ("git+https://a.example/b herehttps://a.example", ["git+https://a.example/b", "herehttps://a.example"]),
        ("mailto:a@a.example?body=https://a.example/b", ["mailto:a@a.example?body=https://a.example/b"]),
        ("x" * 40 + "https://a.example", ["x" * 27 + "https://a.example"]),
        ("a:// :// ://a 1://a", []),
    ],
)
def test_an_address_of_another_scheme_is_left_whole(body: str, addresses: list[str]) -> None:
    """RFC 3986 §3.1: a URL inside of it is its parameter; wrapped, an app would get another."""
    scan = text.find(body.encode())

    assert (scan.links, [entry[1:] for entry in scan.left]) == ((), [(url, SkipReason.SCHEME) for url in addresses])


@pytest.mark.parametrize(
    "body, urls",
    [
        ("[https://a.example](https://b.example)", ["https://a.example", "https://b.example"]),
        ("[www.a.example](https://b.example)", ["https://b.example"]),
        ("(https://a.example)(https://b.example)", ["https://a.example", "https://b.example"]),
        ("|https://a.example|https://b.example|", ["https://a.example", "https://b.example"]),
        ("'https://a.example','https://b.example'", ["https://a.example", "https://b.example"]),
    ],
)
def test_links_without_a_space_between_them_are_two(body: str, urls: list[str]) -> None:
    """What ends a URL may be followed by another one."""
    assert _urls(body) == urls


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


def test_brackets_that_are_no_open_placeholder_are_judged_as_any_url() -> None:
    """Whether a closed one is a placeholder is for the rules to say: it may be a list of JSON."""
    urls = ["https://a.example/?x=[[1,2],[3,4]]", "https://a.example/{{name}}"]

    assert _urls(" ".join(urls)) == urls


def test_the_line_behind_a_folded_url_is_not_quoted() -> None:
    """Its `>` closes the bracket; what follows in the line is the author's."""
    assert _urls("<https://a.example/\r\n> and https://b.example/") == ["https://a.example/", "https://b.example/"]


def test_the_line_behind_a_folded_url_of_a_quotation_is_quoted() -> None:
    """Its `>` quotes; it closes no bracket of ours."""
    body = "> <https://a.example/\r\n> b> https://c.example/\r\nhttps://d.example/"

    assert _urls(body) == ["https://d.example/"]


def test_a_bracket_that_is_open_ends_a_url_behind_a_soft_break_too() -> None:
    """The two pieces are one URL."""
    body = "(https://a.example/x_(y) \r\n/b)c https://d.example"

    assert _urls(body, flowed=True, delsp=True) == ["https://a.example/x_(y)/b", "https://d.example"]


def test_a_signature_separator_continues_no_url() -> None:
    """RFC 3676 §4.3: the line `-- ` is never joined to the one before."""
    for end in ("\r\nAna", "", "\r\n"):
        assert _urls("https://a.example/b \r\n-- " + end, flowed=True, delsp=True) == ["https://a.example/b"]
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
        "ftp://",
        "'",
        "|",
        "[",
        "]",
        "🔥",
        "\u200d",
        "x",
    ]
)


@given(st.lists(_PIECES, max_size=12).map("".join), st.booleans(), st.booleans())
def test_spans_are_ordered_disjoint_and_hold_their_url(body: str, flowed: bool, delsp: bool) -> None:
    """What is at a span, without folds, is the URL; every find is within the body."""
    laws.spans_are_ordered_and_hold_their_url(body.encode(), "utf-8", flowed=flowed, delsp=delsp)


@given(st.binary(max_size=200), st.sampled_from(["utf-8", "shift_jis", "gb18030", "latin-1", "ascii"]))
def test_any_bytes_are_read_without_an_exception(body: bytes, charset: str) -> None:
    """Mail is hostile."""
    hostile = b"https://" + body + b" <http://" + body
    laws.spans_are_ordered_and_hold_their_url(hostile, charset, flowed=True, delsp=True)


@pytest.mark.parametrize(
    "piece",
    [
        b"http://",
        b"<http://",
        b"<https://a\n",
        b"https://a.example/ \r\n",
        b"(",
        b")",
        b"(http://a)",
        b"(http://",
        b"[http://a](www.b.example)",
        b"|http://a",
        b"'http://a',",
        b"www.",
        b"@www.",
        b"://",
        b"a",
        b"mailto:",
        b"<",
        b"http://a.",
        "http://a🔥".encode(),
        "\u200d🔥".encode(),
        b"http://a[[data-msys-clicktrack=",
        b"> http://a\n",
        b"-- \n",
        b"{{",
        b"*|x|*",
        b" \r\n",
    ],
)
def test_the_work_grows_with_the_body(piece: bytes) -> None:
    """Whatever is repeated; a piece that is looked at again from each of its places would be quadratic."""

    def find(size: int) -> None:
        body = b"https://a" + piece * (size // len(piece))
        text.find(body, flowed=True, delsp=True, max_addresses=size)

    assert is_linear(find, 20_000)


@pytest.mark.parametrize("piece", ["http://a ", "www.a.b ", "mailto:a ", "{{ses:openTracker}}"])
def test_a_part_with_too_many_addresses_is_left(piece: str) -> None:
    """A megabyte of them would take seconds; the limit is one for all parts of a message."""
    most = text.find((piece * text.MAX_ADDRESSES).encode())
    made = plan.make(text_mail(piece * (text.MAX_ADDRESSES + 1) + "\n"), options())
    parts = "\n".join(["--b", "", piece * (text.MAX_ADDRESSES - 1), "--b", "", f"{piece} {piece}", "--b--", ""])
    several = plan.make(mail(f"MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n{parts}"), options())

    assert (most.addresses, most.is_too_complex) == (text.MAX_ADDRESSES, False)
    assert reasons(made) == {"1": "too_complex"}
    assert joined(made) == made.message
    assert reasons(several) == {"2": "too_complex"}
