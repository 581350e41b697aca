"""What a mail program would show of real mail: html5lib's tree before and after, but for what is promised the same."""

from collections import Counter
from collections.abc import Callable, Mapping
from email import message_from_bytes, policy
from pathlib import Path

import pytest

from relay.core import plan
from tests.unit import corpus_mail, trees
from tests.unit.proofs import EVERY_LINK, MINT
from tests.unit.rewriting import joined


def test_nothing_but_what_is_promised_changes_in_the_trees_of_the_corpus(
    corpus: Path, count_of: Callable[[int, int], int], record_soak: Callable[[str, Mapping[str, object]], None]
) -> None:
    """Over newsletters of real designers; each is written in another encoding and charset, and read by `email`."""
    ways = [(encoding, charset) for charset in corpus_mail.GREETINGS for encoding in corpus_mail.ENCODINGS[:3]]
    del ways[ways.index(("8bit", "utf-16"))]  # it would hold NUL
    step = count_of(13, 1)
    counts: Counter[str] = Counter()
    for number, path in list(enumerate(corpus_mail.bodies(corpus)))[::step]:
        encoding, charset = ways[number // step % len(ways)]
        message = corpus_mail.newsletter(corpus_mail.read(path), encoding=encoding, charset=charset)
        made = plan.make(message, EVERY_LINK)
        urls = {MINT.link_url(link): link.url for link in made.links if link.part == "html"}

        before, after = _html(message), _html(joined(made, MINT))

        assert trees.differences(before, after, urls, MINT.pixel_url()) == [], f"{path.name} in {encoding}, {charset}"
        assert after.count(MINT.pixel_url()) == 1, path.name
        counts += Counter({"bodies": 1, "links wrapped": len(urls), f"{encoding}, {charset}": 1})
    record_soak("corpus-trees", dict(sorted(counts.items())))
    assert counts["links wrapped"] > 10


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('<p><a href="http://a.example">x</a>', '<p><a href="http://b.example">x</a>'),
        ("<p>x", "<p>x "),
        ("<p>x", "<p>x<img src=http://pixel.example><img src=http://pixel.example>"),
        ("<p class=a>", "<p>"),
        ("<!-- a -->", "<!-- b -->"),
        ("<!--[if mso]><b><![endif]-->", "<!--[if mso]><i><![endif]-->"),
        ("<table><tr><td>x", "<table><tr><td>x</td></tr></table>y"),
    ],
)
def test_the_comparison_sees_what_is_not_promised(before: str, after: str) -> None:
    """A proof must be able to fail."""
    assert trees.differences(before, after, {}, "http://pixel.example")


def test_the_comparison_allows_what_is_promised() -> None:
    """A link, in a conditional comment as well, our own attributes and placeholder, and the pixel."""
    before = (
        "<a ses:no-track href=http://o.example>x</a><a ses:tags='a:b' href='http://a.example/?b&amp;c'>{{ses:openTracker}}x"
        "<!--[if mso]><v:rect data-no-track href=' http://a.example/?b&c '><![endif]-->"
    )
    after = (
        '<a href=http://o.example>x</a><a href="http://t.example"><img width=1 src="http://pixel.example">x'
        '<!--[if mso]><v:rect href="http://t.example"><![endif]-->'
    )
    urls = {"http://t.example": "http://a.example/?b&c"}

    assert trees.differences(before, after, urls, "http://pixel.example") == []


def _html(message: bytes) -> str:
    part = message_from_bytes(message, policy=policy.default).get_body(("html",))
    assert part is not None
    return str(part.get_content())
