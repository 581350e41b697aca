"""Which links are wrapped, under which number, and what is said of those that are not."""

from dataclasses import replace
from typing import Literal

import pytest

from relay.core import plan
from relay.core.copies import CopyMint
from relay.core.linkrules import LinkRules
from tests.unit import tokens
from tests.unit.rewriting import HOST, NOTHING, FixedMint, copy_of, html_mail, joined, mail, options, text_mail
from tracker.contract.token import MAX_TOKEN_CHARACTERS, MAX_URL_BYTES, Purpose, room_for_url


def test_a_button_for_outlook_is_the_same_link_as_its_anchor() -> None:
    """VML in a conditional comment, then the anchor that other programs show."""
    button = (
        '<!--[if mso]><v:roundrect href="https://shop.example/a"><center>A</center></v:roundrect><![endif]-->'
        '<!--[if !mso]><!--><a href="https://shop.example/a">A</a><!--<![endif]-->'
    )
    lone = '<!--[if mso]><v:rect href="https://shop.example/b"></v:rect><![endif]-->'
    made = plan.make(html_mail(f"<body>{button}{lone}{button}</body>"), options())
    assert [(link.index, link.url[-1]) for link in made.links] == [(0, "a"), (1, "b"), (2, "a")]
    assert made.links[0].text == "A"
    copy = joined(made)
    mint = FixedMint()
    assert [copy.count(mint.link_url(link).encode()) for link in made.links] == [2, 1, 2]


@pytest.mark.parametrize("is_anchor_first", [True, False])
@pytest.mark.parametrize("is_on_anchor", [True, False])
def test_an_opt_out_of_one_twin_is_that_of_both(*, is_anchor_first: bool, is_on_anchor: bool) -> None:
    """In Outlook as elsewhere: whoever opted out of the link did not mean one program only."""
    here, there = ("data-no-track ", "") if is_on_anchor else ("", "data-no-track ")
    anchor = f'<a {here}href="https://shop.example/a">A</a>'
    button = f'<!--[if mso]><v:rect {there}href="https://shop.example/a"></v:rect><![endif]-->'

    made = plan.make(html_mail(anchor + button if is_anchor_first else button + anchor), options())

    assert made.links == ()
    assert [skip.reason.value for skip in made.skips] == ["opt_out"]


def test_a_tracking_url_cannot_leave_the_quotes_of_its_author() -> None:
    """Single ones stay single, so that a `'` in a URL of ours is encoded too."""
    made = plan.make(html_mail("<a href='https://shop.example/a'>1</a>"), options(opens=False))

    assert joined(made, FixedMint(base="https://t.example/'\"<&")).endswith(
        b"\r\n\r\n<a href='https://t.example/&#39;&quot;&lt;&amp;/l/c1-html-0-xxxxxxxxxxxxxx'>1</a>"
    )


def test_the_same_url_twice_is_two_links() -> None:
    """The position in the mail is told apart; SES cannot."""
    made = plan.make(
        html_mail('<a href="https://shop.example/a">1</a><a href="https://shop.example/a">2</a>'), options()
    )
    assert [(link.index, link.text) for link in made.links] == [(0, "1"), (1, "2")]


@pytest.mark.parametrize("html_links", [True, False])
def test_a_url_that_is_opted_out_in_html_is_left_in_text(*, html_links: bool) -> None:
    """Postmark's rule, also where only text is tracked."""
    message = mail(
        "MIME-Version: 1.0\nContent-Type: multipart/alternative; boundary=b\n\n"
        "--b\nContent-Type: text/plain\n\nhttps://shop.example/a and https://shop.example/b\n"
        '--b\nContent-Type: text/html\n\n<a ses:no-track href="https://shop.example/a">a</a>\n--b--\n'
    )
    made = plan.make(message, options(html_links=html_links))
    assert [(link.part, link.url) for link in made.links] == [("text", "https://shop.example/b")]
    assert {(skip.section, skip.reason.value) for skip in made.skips} == (
        {("2", "opt_out"), ("1", "opt_out")} if html_links else {("1", "opt_out")}
    )
    assert b"ses:no-track" not in joined(made)


def test_the_targets_of_list_unsubscribe_are_never_wrapped() -> None:
    """RFC 8058: one click must reach the target, not a redirect; folded or not."""
    message = html_mail(
        '<a href="https://shop.example/u?x=1">off</a>',
        "List-Unsubscribe: <mailto:u@shop.example>,",
        " <https://shop.example/u",
        " ?x=1>",
        "List-Unsubscribe-Post: List-Unsubscribe=One-Click",
    )
    made = plan.make(message, options())
    assert [skip.reason.value for skip in made.skips] == ["list_unsubscribe"]
    assert joined(made).startswith(message[: message.index(b"\r\n\r\n")])


def test_a_url_too_long_for_a_token_is_left() -> None:
    """With the reason; the plan decides, so render always wraps what the plan says."""
    fits = "https://shop.example/" + "a" * (MAX_URL_BYTES - 21)
    made = plan.make(html_mail(f'<a href="{fits}">1</a><a href="{fits}b">2</a>'), options())
    assert [link.url for link in made.links] == [fits]
    assert [skip.reason.value for skip in made.skips] == ["too_long"]


@pytest.mark.parametrize(("name", "domain"), [("default", "shop.example"), ("s" * 64, "d" * 253), ("", "a.example")])
def test_labels_leave_less_room_for_a_url(name: str, domain: str) -> None:
    """What the plan wraps can be sealed, to the byte: by the same copy's mint."""
    fits = "https://shop.example/" + "a" * (room_for_url(name, domain) - 21)
    chosen = replace(options(), configuration_set=name, from_domain=domain)
    made = plan.make(html_mail(f'<a href="{fits}">1</a><a href="{fits}b">2</a>'), chosen)
    mint = CopyMint(
        keys=tokens.KEYS,
        key_id=1,
        base_url="",
        copy=tokens.COPY,
        day=tokens.DAY,
        configuration_set=name,
        from_domain=domain,
    )

    assert [link.url for link in made.links] == [fits]
    assert [skip.reason.value for skip in made.skips] == ["too_long"]
    assert len(mint.link_url(made.links[0])) == len("/l/") + MAX_TOKEN_CHARACTERS


@pytest.mark.parametrize(
    ("url", "is_wrapped"),
    [
        ("https://shop.example/?q=" + "é" * ((MAX_URL_BYTES - 24) // 2), True),
        ("https://shop.example/?q=" + "é" * ((MAX_URL_BYTES - 24) // 2 + 1), False),
        ("https://shop.example/" + "日" * ((MAX_URL_BYTES - 21) // 3), True),
        ("https://shop.example/" + "日" * 1400, False),
        ("https://shop.example/" + "a" * 3979, False),
    ],
    ids=["letters", "letters and one", "ideographs", "ideographs of 4,221 bytes", "4,000 characters"],
)
def test_the_length_of_a_url_is_counted_in_bytes(url: str, *, is_wrapped: bool) -> None:
    """What the token holds is UTF-8: a URL with letters beyond ASCII has fewer characters of room."""
    made = plan.make(html_mail(f'<a href="{url}">1</a>'), options())

    assert [link.url for link in made.links] == [url] * is_wrapped
    assert [skip.reason.value for skip in made.skips] == ["too_long"] * (not is_wrapped)
    if is_wrapped:
        token = tokens.KEYS.seal(tokens.link(url), 1)
        assert len(token) <= MAX_TOKEN_CHARACTERS
        assert tokens.KEYS.read(token, Purpose.CLICK) == tokens.link(url)


def test_links_beyond_the_limit_are_left_in_order() -> None:
    """All of the HTML comes before the text, though the text stands first in the message."""
    html_links = "".join(f'<a href="https://shop.example/{number}">{number}</a>\n' for number in range(251))
    message = mail(
        "MIME-Version: 1.0\nContent-Type: multipart/alternative; boundary=b\n\n"
        "--b\nContent-Type: text/plain\n\nhttps://shop.example/text\n"
        f"--b\nContent-Type: text/html\n\n{html_links}--b--\n"
    )

    made = plan.make(message, options(max_links=250))

    assert [link.url for link in made.links] == [f"https://shop.example/{number}" for number in range(250)]
    assert [(skip.reason.value, skip.url) for skip in made.skips] == [
        ("max_links", "https://shop.example/250"),
        ("max_links", "https://shop.example/text"),
    ]


def test_nul_in_an_address_is_what_browsers_make_of_it() -> None:
    """HTML §13.2.5.36: U+FFFD, at the ends of the value too; mail may hold NUL within quoted-printable or base64."""
    made = plan.make(html_mail('<a href="https://shop.example/\0a\0">1</a>'), options())

    assert [link.url for link in made.links] == ["https://shop.example/\ufffda\ufffd"]


@pytest.mark.parametrize(("sensitive", "redacts"), [("redact", [True, False]), ("track", [False, False])])
def test_a_sensitive_link_keeps_its_destination(sensitive: Literal["redact", "track"], redacts: list[bool]) -> None:
    """Redacted or not, the URL in the token is the author's; the mark says what events may hold."""
    body = '<a href="https://shop.example/reset?token=a&amp;b=c#d">1</a><a href="https://shop.example/?a=b">2</a>'
    rules = LinkRules(sensitive=sensitive, own_hosts=frozenset({HOST}))
    made = plan.make(html_mail(body), options(rules=rules))

    assert [link.url for link in made.links] == [
        "https://shop.example/reset?token=a&b=c#d",
        "https://shop.example/?a=b",
    ]
    assert [link.redact for link in made.links] == redacts


def test_a_password_in_a_url_is_not_kept() -> None:
    """Such a link is left and never stored; of a login link its query is not kept."""
    body = '<a href="https://u:secret@shop.example/">1</a><a href="https://shop.example/reset?token=secret">2</a>'
    rules = LinkRules(sensitive="skip", own_hosts=frozenset({HOST}))
    made = plan.make(html_mail(body), options(rules=rules))
    assert made.links == ()
    assert [(skip.url, skip.reason.value) for skip in made.skips] == [
        ("", "userinfo"),
        ("https://shop.example/reset", "sensitive"),
    ]


_PLACEHOLDERS = "{{ses:openTracker}}<p>x{{ses:openTracker}}</p>"


def test_the_first_placeholder_becomes_the_pixel_and_the_others_go() -> None:
    """SES-DOM2: where the author wants it, and nowhere else."""
    copy = copy_of(html_mail(f"<body>{_PLACEHOLDERS}</body>"))
    assert b"openTracker" not in copy
    assert copy.split(b"\r\n\r\n", 1)[1].startswith(b'<body><img src="https://trace.shop.example/i/c1-pixel-')
    assert copy.endswith(b"<p>x</p></body>")


@pytest.mark.parametrize("chosen", [NOTHING, options(opens=False)])
def test_without_open_tracking_every_placeholder_goes(chosen: plan.RewriteOptions) -> None:
    """A set that tracks nothing removes them all the same, else readers see braces."""
    made = plan.make(html_mail(f"<body>{_PLACEHOLDERS}</body>"), chosen)
    assert not made.pixel
    assert joined(made).endswith(b"<body><p>x</p></body>")
    assert copy_of(text_mail("a{{ses:openTracker}}b"), chosen).endswith(b"\r\n\r\nab")


def test_attributes_of_ours_are_removed_also_where_nothing_is_tracked() -> None:
    """Tags are kept for the events."""
    body = '<a ses:tags="k:v;" href="https://shop.example/a">a</a><b data-no-track>x</b>'
    left = b'<a href="https://shop.example/a">a</a><b>x</b>'
    made = plan.make(html_mail(body), NOTHING)
    assert (made.links, made.skips) == ((), ())
    assert joined(made).endswith(b"\r\n\r\n" + left)
    (link,) = plan.make(html_mail(body), options()).links
    assert link.tags == (("k", "v"),)


def test_nothing_to_do_is_no_plan() -> None:
    """A message without links, placeholder or HTML is copied as it is."""
    message = text_mail("hello")
    made = plan.make(message, options())
    assert (made.parts, made.skips, made.cuts) == ((), (), ())
    assert joined(made) == message


def test_an_already_rewritten_message_has_no_link_edits() -> None:
    """A second relay, or a reply that quotes us, must not lose the recipient."""
    body = '<a href="https://shop.example/a">a</a> <a href="https://shop.example/b">b</a>'
    copy = copy_of(html_mail(body))
    again = plan.make(copy, options(opens=False))
    assert (again.links, again.parts) == ((), ())
    assert {skip.reason.value for skip in again.skips} == {"own_host"}
