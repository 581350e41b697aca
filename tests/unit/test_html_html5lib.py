"""`html.find` against html5lib, an independent parser that follows the HTML standard, on what both must see alike."""

import html5lib
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.laws import html as laws

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
    laws.the_tokenizers_agree_on_every_link(body)


@pytest.mark.parametrize(
    "entity", ["&amp", "&lt", "&copy", "&reg", "&times", "&not", "&notin;", "&nosuch;", "&#65", "&#x41", "&#"]
)
@pytest.mark.parametrize("behind", ["", "=1", "a", "1", ";", " ", "&", "-", "é"])
def test_a_character_reference_in_a_url_is_what_html5lib_makes_of_it(entity: str, behind: str) -> None:
    """By the rule for attributes, in every neighbourhood."""
    body = f'<a href="http://x/?{entity}{behind}|">'

    assert laws.our_links(body) == list(laws.html5lib_links(body))


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
        (node.tag.removeprefix(_NAMESPACE), laws.as_url(node.attrib["href"]))
        for node in tree.iter()
        if node.tag in {f"{_NAMESPACE}a", f"{_NAMESPACE}area"} and "href" in node.attrib
    ]

    assert laws.our_links(body) == [(tag, url) for tag, url in expected if url]
