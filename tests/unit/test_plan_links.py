"""Which links are wrapped, under which number, and what is said of those that are not."""

import pytest

from relay.core import plan
from relay.core.linkrules import LinkRules
from tests.unit.rewriting import HOST, NOTHING, FixedMint, copy_of, html_mail, joined, mail, options, text_mail
from tracker.contract.token import MAX_URL_BYTES


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
