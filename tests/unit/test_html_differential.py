"""Generated HTML, rewritten whole: html5lib's trees and the witness agree that nothing changed but what is promised.

The generators write what mail holds: links in every spelling, opt-outs and tags, blocks and tables, raw text, foreign
content, comments and conditional comments with what Outlook draws; well-formed, and with elements left open.
"""

import base64
import binascii
from email import message_from_bytes, policy

from hypothesis import given
from hypothesis import strategies as st

from relay.core import plan
from tests.unit import proofs, trees
from tests.unit.proofs import EVERY_LINK, MINT
from tests.unit.rewriting import joined

_WORDS = st.text("abc é世&;<>'\" .", max_size=8).map(
    lambda text: text.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
)
_URLS = st.sampled_from(
    [
        "http://a.example/",
        "https://shop.example/?a=1&amp;b=2",
        "https://shop.example/?a=1&b=2&copy=3",
        "https://shop.example/?x=&quot;&#x26;&eacute;",
        " https://a.example/b c ",
        "https://a.example/\r\n\tlong",
        "https://a.example/é",
        "HTTPS://A.EXAMPLE",
        "mailto:a@b.example",
        "#top",
        "",
        "{{unsubscribe}}",
        "cid:x@y",
        "//a.example/x",
    ]
)
_TAGS = st.sampled_from(
    [
        '<a href="{}">{}</a>',
        "<a class='x>y' href='{}'>{}</a>",
        '<A\r\nid=x HREF = "{}" >{}</A >',
        '<a title="a&quot;b" href="{}" href="http://second.example">{}</a>',
        '<a ses:no-track href="{}">{}</a>',
        '<a ses:tags="k:v;l:w" href="{}">{}</a>',
        '<a data-no-track="" href="{}"><b>{}</b></a>',
        '<div data-no-track><a href="{}">{}</a></div>',
        '<a clicktracking=off href="{}">{}</a>',
        '<map name=m><area shape=rect href="{}" alt="{}"></map>',
        '<link rel=x href="{}"><p>{}</p>',
    ]
)
_BARE = st.sampled_from(["<a href=http://a.example/?b&c>x</a>", "<a href=https://a.example>y</a >", "<a name=x>z</a>"])
_LEAVES = st.sampled_from(
    [
        '<img alt="<a href=no>" src=x>',
        "<br/>",
        "<!-- <a href='http://no.example'> -->",
        "<!---->",
        "<style>a[href] { b: '<a href=http://no.example>' }</style>",
        "<script>document.write('<a href=\"http://no.example\">')</script>",
        "<script><!-- <script> <a href=http://no.example> </script> --></script>",
        "<textarea><b>&amp;</b></textarea>",
        "<iframe><a href=http://no.example></iframe>",
        "<noembed><a href=http://no.example></noembed>",
        "<noframes><a href=http://no.example></noframes>",
        "<xmp><a href=http://no.example></xmp>",
        "{{ses:openTracker}}",
    ]
)
_FOREIGN = st.sampled_from(
    [
        "<svg><a href='http://a.example'><text>x</text></a></svg>",
        "<svg viewBox='0 0 1 1'><path d='M0'/><![CDATA[<a href=http://no.example>]]></svg>",
        "<svg><title><b>x</b></title><style><b>y</b></style></svg>",
        "<svg><foreignObject><a href=http://a.example/svg>x</a></foreignObject></svg>",
        "<math><mi>x</mi><annotation-xml encoding='text/html'><a href=http://a.example/m>y</a></annotation-xml></math>",
    ]
)
_CONDITIONS = st.sampled_from(
    [
        "<!--[if mso]>{}<![endif]-->",
        "<!--[if gte mso 9]><v:roundrect href='https://shop.example/?a=1&amp;b=2'>{}</v:roundrect><![endif]-->",
        "<!--[if !mso]><!-->{}<!--<![endif]-->",
        "<![if !mso]>{}<![endif]>",
    ]
)
_FRAMES = st.sampled_from(
    [
        "<div>{}</div>",
        "<p>{}",
        "<table><tr><td>{}</td></tr></table>",
        "<table><tbody><tr><td>{}",
        "<b>{}</b>",
        "<blockquote>{}</blockquote>",
        "<ul><li>{}</ul>",
        "<center>{}</center>",
    ]
)
_LINKS = st.builds(lambda tag, url, words: tag.format(url, words), _TAGS, _URLS, _WORDS) | _BARE
_ATOMS = _WORDS | _LINKS | _LEAVES | _FOREIGN
_HIDDEN = st.lists(_WORDS | _LINKS, max_size=2).map("".join)
_PIECES = st.recursive(
    _ATOMS | st.builds(str.format, _CONDITIONS, _HIDDEN),
    lambda inner: st.builds(lambda frame, pieces: frame.format("".join(pieces)), _FRAMES, st.lists(inner, max_size=3)),
    max_leaves=8,
)
_DOCUMENTS = st.builds(
    lambda head, pieces, end: head + "".join(pieces) + end,
    st.sampled_from(
        [
            "",
            "<!doctype html><html><head><title><a href=no>é</title></head><body>",
            "<!DOCTYPE html PUBLIC '-//W3C//DTD XHTML 1.0 Strict//EN' 'x'><html xmlns='x'><body style=''>",
        ]
    ),
    st.lists(_PIECES, max_size=5),
    st.sampled_from(["", "</body></html>", "</body></html>\r\n", "<!-- end --></body>", "<plaintext><a href=no>"]),
)
_WAYS = st.tuples(
    st.sampled_from(["quoted-printable", "base64", "8bit"]), st.sampled_from(["utf-8", "windows-1252", "iso-2022-jp"])
)


@given(_DOCUMENTS, _WAYS)
def test_a_rewritten_document_differs_in_nothing_but_what_is_promised(body: str, way: tuple[str, str]) -> None:
    """By its bytes, by the witness, by the tree; in any encoding."""
    message = _mail(body, *way)

    made, copy = proofs.prove(message)

    urls = {MINT.link_url(link): link.url for link in made.links}
    assert trees.differences(_html(message), _html(copy), urls, MINT.pixel_url()) == []
    assert made.pixel == (MINT.pixel_url() in _html(copy))


@given(_DOCUMENTS.filter(lambda body: "<svg" not in body and "<math" not in body))
def test_what_is_wrapped_is_what_the_tree_shows(body: str) -> None:
    """Every link that leads to the web, wherever a program would show one, and no other; or there is a reason."""
    message = _mail(body, "8bit", "utf-8")
    made = plan.make(message, EVERY_LINK)
    after = _html(joined(made, MINT))

    assert trees.shown_links(after) >= {MINT.link_url(link) for link in made.links}
    left = {skip.url for skip in made.skips}
    assert {url for url in trees.shown_links(after) if url.startswith("http")} <= {
        MINT.link_url(link) for link in made.links
    } | left


def _mail(body: str, encoding: str, charset: str) -> bytes:
    raw = body.encode(charset, "xmlcharrefreplace")
    if encoding == "quoted-printable":
        raw = binascii.b2a_qp(raw, istext=True)
    elif encoding == "base64":
        raw = base64.encodebytes(raw).replace(b"\n", b"\r\n")
    head = (
        f"MIME-Version: 1.0\r\nContent-Type: text/html; charset={charset}\r\nContent-Transfer-Encoding: {encoding}\r\n"
    )
    return head.encode() + b"\r\n" + raw + b"\r\n"


def _html(message: bytes) -> str:
    parsed = message_from_bytes(message, policy=policy.default)
    return str(parsed.get_content())
