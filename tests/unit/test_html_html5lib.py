"""`html.find` against html5lib, an independent parser that follows the HTML standard, on what both must see alike."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import html5lib
import pytest
from html5lib import _tokenizer as html5lib_tokenizer
from html5lib.constants import tokenTypes
from hypothesis import given
from hypothesis import strategies as st

from relay.core import html

_RAW = {
    **dict.fromkeys(["title", "textarea"], "rcdataState"),
    **dict.fromkeys(["style", "xmp", "iframe", "noembed", "noframes"], "rawtextState"),
    "script": "scriptDataState",
    "plaintext": "plaintextState",
}
_STRIPPED = "".join(map(chr, range(0x21)))
_NAMESPACE = "{http://www.w3.org/1999/xhtml}"

# Everything that a tokenizer may stumble over, but no conditional comment and no foreign content.
_PIECES = [
    *("<", ">", "/", "=", '"', "'", " ", "\n", "\t", "\f", "!", "-", "?", "&", ";", "x", "ä", "]", "`"),
    *(
        "<a ",
        "<A HREF = ",
        "</a>",
        "<a href=",
        '<a href="',
        "<a href='",
        "<area ",
        ' href="http://x/?a&amp;b"',
        " href=y ",
        "<b ",
    ),
    *("<!--", "-->", "--!>", "<!", "<?", "</", "<!doctype html", "<![CDATA[", "]]>", "-", "--"),
    *(
        "<script>",
        "</script>",
        "<script ",
        "</script ",
        "<style>",
        "</style>",
        "<title>",
        "</title",
        "<textarea>",
        "</textarea>",
    ),
    *("<xmp>", "</xmp>", "<iframe>", "</iframe>", "<plaintext>", "<noscript>", "<p>", "<body>", "</body>", "<td>"),
    *(
        "&amp",
        "&copy=",
        "&copy;",
        "&not",
        "&notin",
        "&#x26",
        "&#38;",
        "&#128;",
        "&#0;",
        "&#1114112;",
        "&#xD800;",
        "&Aacute",
    ),
]


_noise = st.lists(st.sampled_from(_PIECES), max_size=4).map("".join)
_links = st.sampled_from(
    ["<a href=http://x/>", '<A HREF = "http://y">', "<area href='z'>", "<a b='>' href=q c>", "<a href=r/></a >"]
)
_soup = st.lists(st.tuples(_noise, _links), max_size=6).map(
    lambda pairs: "".join(noise + link for noise, link in pairs)
)


@given(_soup)
def test_the_tokenizers_agree_on_every_link(body: str) -> None:
    """Tags, attributes, comments, raw text and character references, in any order and however broken."""
    assert _ours(body) == list(_tokenized(body))


@pytest.mark.parametrize(
    "entity", ["&amp", "&lt", "&copy", "&reg", "&times", "&not", "&notin;", "&nosuch;", "&#65", "&#x41", "&#"]
)
@pytest.mark.parametrize("behind", ["", "=1", "a", "1", ";", " ", "&", "-", "é"])
def test_a_character_reference_in_a_url_is_what_html5lib_makes_of_it(entity: str, behind: str) -> None:
    """By the rule for attributes, in every neighbourhood."""
    body = f'<a href="http://x/?{entity}{behind}|">'

    assert _ours(body) == list(_tokenized(body))


_words = st.text("abc é&<>'", max_size=8)
_hrefs = st.text("htps:/.?&=;amp#x26copyé '", min_size=1, max_size=20).filter(str.strip)


@st.composite
def _elements(draw: st.DrawFn, depth: int = 3) -> str:
    """A well-formed piece of a mail: text, links, images, blocks, tables, comments."""
    text = draw(_words).replace("&", "&amp;").replace("<", "&lt;")
    href = draw(_hrefs).replace("&", draw(st.sampled_from(["&", "&amp;"])))
    link = draw(
        st.sampled_from(["<a href=\"{}\" class='x>y'>", '<A\nid=x HREF = "{}">', '<a title="a&quot;b" href="{}" >'])
    )
    if depth == 0:
        return draw(
            st.sampled_from(
                [
                    text,
                    f"{link.format(href)}{text}</a>",
                    f'<map name=m><area shape=rect href="{href}"></map>',
                    '<img alt="<a href=no>" src=x>',
                    f"<!-- {text.replace('-', '')} <a href=no> -->",
                ]
            )
        )
    children = "".join(draw(st.lists(_elements(depth=depth - 1), max_size=3)))
    frame = draw(
        st.sampled_from(
            [
                "<div>{}</div>",
                "<table><tr><td>{}</td></tr></table>",
                "<b>{}</b>",
                "<blockquote>{}</blockquote>",
                "<ul><li>{}</ul>",
            ]
        )
    )
    return frame.format(children)


@given(_elements())
def test_the_documents_have_the_same_links(element: str) -> None:
    """As a tree: every `a` and `area` with an href, in document order."""
    head = "<title><a href=no></title><style>a[href] {}</style>"
    body = f"<!doctype html><html><head>{head}</head><body>{element}</body></html>"
    tree = html5lib.parse(body)

    expected = [
        (node.tag.removeprefix(_NAMESPACE), _as_url(node.attrib["href"]))
        for node in tree.iter()
        if node.tag in {f"{_NAMESPACE}a", f"{_NAMESPACE}area"} and "href" in node.attrib
    ]

    assert _ours(body) == [(tag, url) for tag, url in expected if url]


def _ours(body: str) -> list[tuple[str, str]]:
    return [(link.tag, link.url) for link in html.find(body.encode()).links if link.url]


def _tokenized(body: str) -> Iterator[tuple[str, str]]:
    """Run html5lib's tokenizer, switched into raw text as its parser does."""
    tokenizer: Any = html5lib_tokenizer.HTMLTokenizer(body)
    for token in tokenizer:
        if token["type"] != tokenTypes["StartTag"] and token["type"] != tokenTypes["EmptyTag"]:
            continue
        if token["name"] in _RAW:
            tokenizer.state = getattr(tokenizer, _RAW[token["name"]])
        if token["name"] in {"a", "area"}:
            url = _as_url(_first_href(token["data"]))
            if url:
                yield token["name"], url


def _first_href(data: Mapping[str, str] | Sequence[Sequence[str]]) -> str:
    """Attributes are a list of pairs, or, once html5lib has put them together, a mapping of the first ones."""
    pairs = data.items() if isinstance(data, Mapping) else data
    return next((value for name, value in pairs if name == "href"), "")


def _as_url(value: str) -> str:
    return value.translate({9: None, 10: None, 13: None}).strip(_STRIPPED)
