"""Opt-outs, `ses:tags` and `{{ses:openTracker}}`: who is meant by them, and what leaves the body."""

import pytest

from relay.core import html
from relay.core.openelements import MAX_OPEN, OpenElements
from tests.growth import is_linear


def _opted_out(body: str) -> list[bool]:
    return [link.opt_out is not None for link in html.find(body.encode()).links]


def _without_removals(body: str) -> str:
    raw = body.encode()
    for start, end in reversed(html.find(raw).removals):
        raw = raw[:start] + raw[end:]
    return raw.decode()


@pytest.mark.parametrize(
    "attribute",
    [
        "ses:no-track",
        "SES:NO-TRACK",
        'ses:no-track=""',
        "ses:no-track=no-track",
        "data-no-track",
        "clicktracking=off",
        'clicktracking="OFF"',
        "data-pm-no-track",
        'data-msys-clicktrack="0"',
        "disable-tracking=true",
        "disable-tracking",
        "mc:disable-tracking",
        "mc:disable-tracking=true",
        "data-msys-clicktrack=0",
        "data-msys-clicktrack",
        "DATA-MSYS-CLICKTRACK=' 0 '",
        "mautic:disable-tracking",
        'mautic:disable-tracking="true"',
        'data-mautic-disable-tracking="true"',
        "mb_dontconvertlink",
        "MB_DontConvertLink",
        'HsTracking="false"',
        'autotrack="false"',
        'ecm:tracking="false"',
        "konvey-notrack",
        "class=untracked",
        'class="button untracked"',
        "class='mktNoTrack\tbutton'",
        'class="inf-track-no"',
    ],
)
def test_the_opt_out_of_every_vendor_is_honoured(attribute: str) -> None:
    """On the link, in any case and with any quotes, on an element around it, and on a VML shape."""
    assert _opted_out(f"<a href=x {attribute}>") == [True]
    assert _opted_out(f"<a {attribute} href=x>") == [True]
    assert _opted_out(f"<div {attribute}><p><a href=x></a></p></div><a href=y>") == [True, False]
    assert _opted_out(f"<!--[if mso]><v:rect href=x {attribute}></v:rect><![endif]-->") == [True]


@pytest.mark.parametrize(
    "attribute",
    [
        "clicktracking=on",
        "data-msys-clicktrack=1",
        "disable-tracking=false",
        "data-no-tracking",
        'title="ses:no-track data-no-track clicktracking=off"',
        "clicktracking=on clicktracking=off",
        "clicktracking",
        "data-mautic-disable-tracking=false",
        'HsTracking="true"',
        "autotrack",
        "ecm:tracking=true",
        'class="not-untracked untracked2 mktNoTracks mktNoTok"',
        'class="inf-track-12"',
        "class=a class=untracked",
        'id="untracked"',
        'data-class="untracked"',
        'data-href="x" title=mb_dontconvertlink',
    ],
)
def test_what_is_no_opt_out_does_not_count(attribute: str) -> None:
    """Other values, other names, text within a value, and the second of two."""
    assert _opted_out(f"<a href=x {attribute}>") == [False]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("<p data-no-track>x<p><a href=1>", [False]),
        ("<ul><li data-no-track><a href=1><li><a href=2></ul>", [True, False]),
        ("<table><tr data-no-track><td><a href=1><td><a href=2><tr><td><a href=3></table>", [True, True, False]),
        ("<table><tr><td data-no-track><a href=1><td><a href=2></table>", [True, False]),
        ("<table data-no-track><tr><td></table><a href=1>", [False]),
        ("<table data-no-track><tr><td></td></tr></div></span><tr><td><a href=1>", [True]),
        ("<div data-no-track><table><tr><td></div><a href=1></table><a href=2></div><a href=3>", [True, True, False]),
        ("<table data-no-track><tr><td><table><tr><td></table><a href=1></table><a href=2>", [True, False]),
        ("<div data-no-track><div></div><a href=1></div><a href=2>", [True, False]),
        ("<div data-no-track><b></div><a href=1>", [False]),
        ("<img data-no-track><br data-no-track><a href=1>", [False]),
        ("<body data-no-track><p>x</p></body></html><a href=1>", [True]),
        ("<!-- <div data-no-track> --><style><div data-no-track></style><a href=1>", [False]),
        ("</table></td><div data-no-track></table></td><a href=1></div>", [True]),
        ("<span data-no-track><span></span><a href=1></span><a href=2>", [True, False]),
        ("<a data-no-track href=1>x<a href=2>", [True, False]),
        ("<v:rect data-no-track href=1><a href=2></v:rect><a href=3>", [True, True, False]),
        ("<a ses:no-track href=1>x</a><p title=data-no-track><a href=2>", [True, False]),
        ("<select><option data-no-track>x<option></select><a href=1>", [False]),
    ],
)
def test_an_opt_out_ends_with_its_element(body: str, expected: list[bool]) -> None:
    """Approximately as browsers see elements end, with and without their end tags."""
    assert _opted_out(body) == expected


def test_elements_without_end_are_bounded() -> None:
    """Beyond a depth that no browser reaches either, links are left alone rather than tracked by mistake."""
    elements = OpenElements()
    for _ in range(MAX_OPEN):
        elements.start(b"div", opted_out=False)
    assert not elements.opted_out

    elements.start(b"div", opted_out=False)

    assert elements.opted_out


@pytest.mark.parametrize(
    ("body", "left"),
    [
        ("<a ses:no-track href=x>", "<a href=x>"),
        ("<a href=x ses:no-track>", "<a href=x>"),
        ("<a href=x\r\n   ses:no-track>", "<a href=x>"),
        ("<a href=x ses:no-track/>", "<a href=x />"),
        ("<a href=x ses:no-track />", "<a href=x />"),
        ("<a ses:no-track ses:tags='a:b' data-no-track href=x>", "<a href=x>"),
        ('<a id=y ses:tags="a:b"href=x>', "<a id=y href=x>"),
        ('<a id="y"ses:tags="a:b"href=x>', '<a id="y"href=x>'),
        ("<a/ses:no-track/href=x>", "<a//href=x>"),
        ('<a id ses:tags="a" ="b" href=x>', '<a id ses:tags="a" ="b" href=x>'),
        ("<p SES:Tags = 'a:b' >x", "<p >x"),
        ("<a href=x ses:no-track ses:no-track>", "<a href=x>"),
        ("<svg ses:no-track></svg>", "<svg></svg>"),
        ("<a href=x data-pm-no-track clicktracking=off>", "<a href=x data-pm-no-track clicktracking=off>"),
        ("<!-- <a ses:no-track> --><style ses:no-track>ses:no-track</style>", None),
        ("<!--[if mso]><v:rect ses:no-track href=x><![endif]-->", "<!--[if mso]><v:rect href=x><![endif]-->"),
    ],
)
def test_our_attributes_leave_and_their_neighbours_stay_what_they_are(body: str, left: str | None) -> None:
    """With the white space before them, unless an attribute would then run into the next one."""
    if left is None:
        left = "<!-- <a ses:no-track> --><style>ses:no-track</style>"
    assert _without_removals(body) == left
    assert [link.url for link in html.find(left.encode()).links] == [
        link.url for link in html.find(body.encode()).links
    ]


@pytest.mark.parametrize(
    ("body", "left", "opted_out"),
    [
        ("<a href=https+notrack://a.example/>", "<a href=https://a.example/>", True),
        ("<a href=' HTTP+NoTrack://a.example/'>", "<a href=' HTTP://a.example/'>", True),
        ('<area href="\nhttps+notrack://u:p@a.example/">', '<area href="\nhttps://u:p@a.example/">', True),
        ("<a href='https://a.example/?https+notrack://b.example/'>", None, False),
        ("<a href=ftp+notrack://a.example/>", None, False),
        ("<a href=https+notrack:a.example>", None, False),
        ("<a href=xhttps+notrack://a.example/>", None, False),
        ("<a title=https+notrack://b.example/ href=https://a.example/>", None, False),
        ("<a href=x href=https+notrack://a.example/>", None, False),
    ],
)
def test_an_opt_out_in_the_scheme_leaves_it(body: str, left: str | None, *, opted_out: bool) -> None:
    """Postal's `https+notrack://` is no scheme that a program knows; what is left of it is the author's URL."""
    assert _opted_out(body) == [opted_out]
    assert _without_removals(body) == (left or body)
    assert html.find(body.encode()).links[0].url == html.find((left or body).encode()).links[0].url


@pytest.mark.parametrize(
    ("value", "tags"),
    [
        ("product:book", (("product", "book"),)),
        ("product:book; season : winter ;", (("product", "book"), ("season", "winter"))),
        ("a:b:c;ok:1", (("ok", "1"),)),
        (";;a;:b;c:;d:e f;ä:b", ()),
        ("a&colon;b", (("a", "b"),)),
        ("", ()),
        (f"a:{'x' * 256};b:{'x' * 257}", (("a", "x" * 256),)),
    ],
)
def test_link_tags_are_parsed_as_amazon_ses_does(value: str, tags: tuple[tuple[str, str], ...]) -> None:
    """Pairs of letters, digits, `_` and `-`, split at the first colon; what is none of that is left out."""
    assert html.find(f'<a ses:tags="{value}" href=x>'.encode()).links[0].tags == tags


def test_link_tags_are_bounded() -> None:
    """They stand in every event of the link."""
    value = ";".join(f"k{number}:v" for number in range(1000))

    assert len(html.find(f"<a ses:tags={value} href=x>".encode()).links[0].tags) == 50


def test_a_tracker_placeholder_counts_in_text_only() -> None:
    """One in Outlook's comment or in a quoted value is removed: nobody must see its braces. Others are nobody's."""
    name = "{{ses:openTracker}}"
    body = (
        f"{name}<p title='{name}'><!-- {name} --><style>{name}</style><!--[if mso]>{name}<![endif]-->"
        f"<a href=https://a.example/{name}>{name}</a>< {name}"
    )

    scan = html.find(body.encode())

    assert [start for start, _ in scan.open_trackers] == [
        0,
        body.index(f">{name}</a>") + 1,
        body.rindex(name),
    ]
    assert [start for start, _ in scan.removals] == [
        body.index(f"'{name}'") + 1,
        body.index(f"mso]>{name}") + 5,
    ]


@pytest.mark.parametrize(
    "unit",
    [
        b"no-track ",
        b"<a href=x class=untracked>",
        b"<p class=untracked>",
        b"<a ses:no-track data-no-track ",
        b"<a ses:tags='a:b;' href=x>",
        b"mb_dontconvertlink<",
        b"https+notrack://",
    ],
)
def test_names_of_opt_outs_are_found_in_linear_time(unit: bytes) -> None:
    """Each of them asks for a closer look, so that thousands of them must not ask for thousands of looks at all."""
    assert is_linear(lambda size: html.find(unit * (size // len(unit))), 20_000)
    value = b"<a href=x ses:tags='%b' class='%b'>"
    assert is_linear(lambda size: html.find(value % (b"a:b;" * (size // 4), b"untracked " * (size // 10))), 20_000)
