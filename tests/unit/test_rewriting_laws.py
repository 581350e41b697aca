"""The laws of rewriting, each on generated messages: any structure, encoding and charset, with and without links.

Their parts have laws of their own: `test_mime.py` (spans tile the input), `test_html_laws.py`, `test_text.py`,
`test_quoted_printable.py`; that work is linear is tested beside each, and for the whole in `test_hostile.py`.
"""

import base64
import binascii
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import witness
from relay.core import lineends, mime, plan
from relay.core.mime import Part
from tests.unit import proofs
from tests.unit.proofs import EVERY_LINK, MINT
from tests.unit.rewriting import NOTHING, FixedMint, joined, options

_HTML = st.lists(
    st.sampled_from(
        [
            '<a href="https://shop.example/?a=1&amp;b=2">Lämpchen</a>',
            "<A\r\nHREF=http://a.example>x</A>",
            "<a ses:no-track href='http://no.example/'>x</a>",
            '<a ses:tags="a:b" href="http://a.example">x</a>',
            "<p>é 世 &amp; text</p>",
            "<!--[if mso]><v:rect href='http://a.example'></v:rect><![endif]-->",
            "<!-- <a href=http://no.example> -->",
            "<td style='" + "x" * 1100 + "'>",
            "</body></html>",
            "\r\n",
        ]
    ),
    max_size=6,
).map("".join)
_TEXT = st.lists(
    st.sampled_from(
        [
            "https://shop.example/?a=1&b=2",
            "<http://a.example/>",
            "(see www.a.example)",
            "> http://quoted.example",
            "-- ",
            "é 世 text ",
            "x" * 1100,
            "\r\n",
            " ",
        ]
    ),
    max_size=8,
).map("".join)
_CHARSETS = st.sampled_from(["us-ascii", "utf-8", "iso-8859-1", "koi8-r", "shift_jis", "iso-2022-jp", "no-such"])
_ENCODINGS = st.sampled_from(["7bit", "8bit", "binary", "quoted-printable", "base64", "x-unknown"])


@st.composite
def _leaves(draw: st.DrawFn) -> bytes:
    kind = draw(st.sampled_from(["html", "html", "plain", "plain; format=flowed", "calendar"]))
    charset, encoding = draw(_CHARSETS), draw(_ENCODINGS)
    text = draw(_HTML if kind == "html" else _TEXT)
    raw = text.encode("utf-8" if charset == "no-such" else charset, "xmlcharrefreplace")
    if encoding == "quoted-printable":
        raw = binascii.b2a_qp(raw, istext=True)
    elif encoding == "base64":
        raw = base64.encodebytes(raw).replace(b"\n", b"\r\n")
    fields = draw(
        st.sampled_from(["", "Content-Disposition: attachment\r\n", "Content-MD5: x\r\nX-Folded: a\r\n\tb\r\n"])
    )
    head = f"Content-Type: text/{kind}; charset={charset}\r\nContent-Transfer-Encoding: {encoding}\r\n{fields}\r\n"
    return head.encode() + raw


@st.composite
def _multiparts(draw: st.DrawFn, inner: st.SearchStrategy[bytes]) -> bytes:
    parts = draw(st.lists(inner, min_size=1, max_size=3))
    kind = draw(st.sampled_from(["mixed", "alternative", "related", "signed", "digest"]))
    boundary = draw(st.sampled_from([b"a", b"b", b"longer"]))
    lines = [b"Content-Type: multipart/%b; boundary=%b" % (kind.encode(), boundary), b""]
    lines += draw(st.sampled_from([[], [b"preamble"], [b""]]))
    for part in parts:
        lines += [b"--" + boundary, part]
    lines += draw(st.sampled_from([[b"--%b--" % boundary], [b"--%b--" % boundary, b"epilogue", b""], []]))
    return b"\r\n".join(lines)


_MESSAGES = st.builds(
    lambda fields, entity: fields + entity,
    st.sampled_from(
        [
            b"",
            b"From: a@b.example\r\nTo: c@d.example\r\nMIME-Version: 1.0\r\n",
            b"List-Unsubscribe: <http://a.example>\r\n",
            b"From x\r\nSubject: mbox\r\n",
            b"DKIM-Signature: v=1\r\n b=x\r\nSubject: x\r\n",
            b"Content-Length: 7\r\n",
        ]
    ),
    st.recursive(_leaves(), _multiparts, max_leaves=5),
).map(lineends.settle)
"""Settled messages: a LineEndFault is never among them."""


@given(_MESSAGES)
def test_a_plan_without_edits_renders_the_message_itself(message: bytes) -> None:
    """Byte for byte; and where nothing is to be tracked there is nothing but our own marks to take out."""
    for chosen in (options(), NOTHING):
        made = plan.make(message, chosen)
        assert made.parts or joined(made) == message
    made = plan.make(message, NOTHING)
    assert (made.links, made.pixel) == ((), False)
    if b"ses:" not in message and b"base64" not in message:
        assert made.parts == ()


@given(_MESSAGES)
def test_every_byte_outside_an_edit_is_unchanged(message: bytes) -> None:
    """Outside the edited parts as it stands, inside one after decoding."""
    made = plan.make(message, EVERY_LINK)

    proofs.assert_only_edits_differ(message, joined(made, MINT), made)


@given(_MESSAGES, st.integers(24, 400))
def test_rendering_twice_gives_the_same_bytes(message: bytes, token_characters: int) -> None:
    """Of the same plan and of a plan made again: a retry is the same mail."""
    mint = FixedMint(token_characters=token_characters)
    made = plan.make(message, EVERY_LINK)

    assert joined(made, mint) == joined(made, mint)
    assert joined(plan.make(message, EVERY_LINK), mint) == joined(made, mint)


@given(_MESSAGES)
def test_a_plan_of_a_copy_has_no_links(message: bytes) -> None:
    """What is wrapped is ours, and what was left is left again."""
    made = plan.make(message, EVERY_LINK)

    assert proofs.links_of_a_second_pass(made, joined(made, MINT), EVERY_LINK) == []


@given(_MESSAGES, st.booleans())
def test_the_witness_agrees(message: bytes, resign: bool) -> None:
    """The parsers of others see a copy that differs in nothing but what the plan says."""
    made = plan.make(message, replace(EVERY_LINK, resign=resign))

    assert witness.check(message, joined(made, MINT), made, MINT) == []


@given(_MESSAGES)
def test_a_copy_has_the_tree_of_its_message(message: bytes) -> None:
    """The same parts, of the same types, in the same places."""
    copy = joined(plan.make(message, EVERY_LINK), MINT)
    before, after = mime.scan(message), mime.scan(copy)

    assert isinstance(before, Part)
    assert isinstance(after, Part)
    assert [(part.section, part.type) for part in after.walk()] == [(part.section, part.type) for part in before.walk()]


_PROVEN = (
    b"Subject: x\r\nContent-Type: multipart/mixed; boundary=a\r\n\r\npreamble\r\n--a\r\nContent-Type: text/html\r\n\r\n"
    b"<p title='x'><a href=http://a.example>link</a> and <i>text</i>\r\n--a\r\n\r\nhttp://b.example\r\n--a--\r\nend\r\n"
)


@pytest.mark.parametrize(
    ("there", "instead"),
    [
        (b"Subject: x", b"Subject: y"),
        (b"preamble", b"preamble "),
        (b"end\r\n", b"end"),
        (b"title='x'", b'title="x"'),
        (b"</i>", b"</I>"),
        (b" and ", b"  and "),
        (b"/l/c1-html-0-", b"/l/c2-html-0-"),
        (b"/l/c1-text-1-", b"/l/c1-html-0-"),
    ],
)
def test_the_comparison_of_bytes_sees_one_that_changed(there: bytes, instead: bytes) -> None:
    """A proof must be able to fail."""
    made, copy = proofs.prove(_PROVEN)
    assert copy.count(there) == 1

    with pytest.raises(AssertionError):
        proofs.assert_only_edits_differ(_PROVEN, copy.replace(there, instead), made)
