"""Links of HTML: what is one, what only looks like one, and what it means (HTML §13.2.5)."""

import pytest

from relay.core import html
from relay.core.html import HtmlLink


def _find(body: str | bytes, charset: str = "utf-8") -> tuple[HtmlLink, ...]:
    return html.find(body.encode(charset) if isinstance(body, str) else body, charset=charset).links


def _urls(body: str | bytes) -> list[str]:
    return [link.url for link in _find(body)]


@pytest.mark.parametrize(
    ("tag", "value"),
    [
        ('<a href="https://a.example/">', '"https://a.example/"'),
        ("<a href='https://a.example/'>", "'https://a.example/'"),
        ("<a href=https://a.example/>", "https://a.example/"),
        ("<a href=https://a.example/ class=x>", "https://a.example/"),
        ('<A HREF="https://a.example/">', '"https://a.example/"'),
        ('<a\r\n\thref\n=\r\n"https://a.example/">', '"https://a.example/"'),
        ('<a href="https://a.ex\r\n ample/">', None),
        ('<a href=" https://a.example/\n">', '" https://a.example/\n"'),
        ('<a href="https://a.exam\r\n\tple/">', '"https://a.exam\r\n\tple/"'),
        ('<a href="https://a.example/" href="https://b.example/">', '"https://a.example/"'),
        ('<a class="x"href="https://a.example/">', '"https://a.example/"'),
        ('<a/href="https://a.example/"/>', '"https://a.example/"'),
        ('<a title="1 > 2" href="https://a.example/">', '"https://a.example/"'),
        ("<a title='<a href=\"https://b.example/\">' href=https://a.example/>", "https://a.example/"),
        ('<a = href="https://a.example/">', '"https://a.example/"'),
        ('<a data-href="https://b.example/" href="https://a.example/">', '"https://a.example/"'),
        ('<area shape=rect href="https://a.example/">', '"https://a.example/"'),
        ('<v:roundrect xmlns:v="urn:x" href="https://a.example/">', '"https://a.example/"'),
        ('<b <a href="https://b.example/"><a href="https://a.example/">', '"https://a.example/"'),
        ('<img alt="x="><a href="https://a.example/">', '"https://a.example/"'),
        ('it\'s <b>his\'</b> "<a href="https://a.example/">', '"https://a.example/"'),
        ("1 < 2 <a href=https://a.example/>", "https://a.example/"),
        ("</><a href=https://a.example/>", "https://a.example/"),
        ("</ <b><a href=https://a.example/>", "https://a.example/"),
    ],
)
def test_an_href_is_found_however_it_is_written(tag: str, value: str | None) -> None:
    """The span is that of the value with its quotes; the URL is without white space at its ends and line breaks."""
    links = _find(f"<p>{tag}x</a>")

    if value is None:
        assert [link.url for link in links] == ["https://a.ex ample/"]
        return
    assert [link.url for link in links] == ["https://a.example/"]
    start, end = links[0].value
    assert f"<p>{tag}x</a>"[start:end] == value


@pytest.mark.parametrize(
    "body",
    [
        "<a>x</a>",
        "<a href>x</a>",
        "<a href=>x</a>",
        '<a data-href="https://a.example/">x</a>',
        '<a name="x" xlink:href="https://a.example/">x</a>',
        '<abbr href="https://a.example/">',
        '<link href="https://a.example/"><base href="https://a.example/">',
        '<!-- <a href="https://a.example/"> -->',
        '<!--><a href="https://a.example/"-->'.replace("<!-->", "<!-- >"),
        '<!doctype html "<a href=https://a.example/">',
        "<?xml <a href=https://a.example/ ?",
        "<![CDATA[<a href=https://a.example/]]",
        '<script>"<a href=https://a.example/>"</script>',
        '<script><!-- <script> </script> <a href="https://a.example/"></script>',
        '<style>a::after { content: "<a href=https://a.example/>" }</style>',
        "<title><a href=https://a.example/></title>",
        "<textarea><a href=https://a.example/></textarea>",
        "<xmp><a href=https://a.example/></xmp>",
        "<iframe><a href=https://a.example/></iframe>",
        "<noembed><a href=https://a.example/></noembed>",
        "<noframes><a href=https://a.example/></noframes>",
        "<plaintext></plaintext><a href=https://a.example/>",
        '<img alt="<a href=https://a.example/>">',
        "<img alt='<a href=\"https://a.example/\">'>",
        '<p title="x" data-y="<a href=https://a.example/">',
        '<b <a href="https://a.example/">',
        '<b ="x y="z><a href=https://a.example/>">',
        "<b /='x y='z><a href=https://a.example/>'>",
        "<b x='\"><a href=https://a.example/>'>",
        "<b x=\"'><a href=https://a.example/>\" y='>'>",
        "<b x= '><a href=https://a.example/>'>",
        '</b title="><a href=https://a.example/>">',
        '<svg><a href="https://a.example/">x</a></svg>',
        '<math><mi><a href="https://a.example/">',
        '<svg><![CDATA[ > <p> ]]><a href="https://a.example/"></svg>',
        '<a href="https://a.example/',
        '<a href="https://a.example/"',
        '<script><a href="https://a.example/">',
        "< a href=https://a.example/>",
    ],
)
def test_what_only_looks_like_a_link_is_left(body: str) -> None:
    """Comments, raw text, values of other attributes, foreign content, and tags that never end."""
    assert _urls(body) == []


@pytest.mark.parametrize(
    "before",
    [
        "<!-- x -->",
        "<!-- x --!>",
        "<!-->",
        "<!--->",
        "<!---->",
        "<!x>",
        "<?xml version='1'?>",
        "<![CDATA[ x >",
        "<![if !mso]>",
        "<!--[if !mso]><!-->",
        "<!--[if mso]> x <![endif]-->",
        "<script>1</script >",
        "<SCRIPT>'</scriptx>'</SCRIPT>",
        "<script><!-- 1 --></script>",
        "<script><!--><script></script>",
        "<script><!-- <script> </script> --></script>",
        "<style></STYLE\n>",
        "<title>a</title x='>'>",
        "<title></titl></title>",
        "<noscript>",
        "<svg></svg>",
        "<svg/>",
        "<svg><svg></svg></svg>",
        "<svg><g><p>",
        "<svg><title>",  # foreign: no raw text, and unlike a browser, links wait for the end of the svg
        "\0",
    ],
)
def test_a_link_behind_it_is_found(before: str) -> None:
    """What ends is over: the walk goes on where a browser would."""
    expected = [] if before == "<svg><title>" else ["https://a.example/"]

    assert _urls(f"{before}<a href='https://a.example/'>") == expected


def test_what_outlook_reads_within_a_comment_is_found() -> None:
    """Its buttons are links of their own; other comments stay comments, and are never nested."""
    body = (
        b'<!--[if (gte mso 9)|(IE)]><v:roundrect href="https://vml.example/"><center>Buy &amp; go</center>'
        b"</v:roundrect><svg>"
        b'<!-- x <a href="https://anchor.example/">Buy</a> <![endif]-->'
        b'<!--[if gte vml 1]><v:shape href="https://shape.example/"></v:shape>'
        b'<v:fill href="https://no.example/"/><![endif]-->'
        b'<!--[if lt IE 9]><a href="https://no.example/">no</a><![endif]-->'
        b'<!--[if mso]><a href="https://no.example/">no</a> -->'
        b'<!-- [if mso]><a href="https://no.example/">no</a><![endif]-->'
        b'<a href="https://last.example/">'
    )

    links = html.find(body).links

    assert [(link.tag, link.url, link.text) for link in links] == [
        ("v:roundrect", "https://vml.example/", "Buy & go"),
        ("v:shape", "https://shape.example/", ""),
        ("a", "https://last.example/", ""),
    ]


def test_a_tag_cannot_leave_the_comment_that_it_stands_in() -> None:
    """A quote that is never closed ends with the mark-up of the comment, not with the next quote of the body."""
    body = b'<!--[if mso]><a href="https://a.example/<![endif]--><a href="https://b.example/">'

    assert [link.url for link in html.find(body).links] == ["https://b.example/"]


@pytest.mark.parametrize(
    ("source", "url"),
    [
        ("https://a.example/?a=1&amp;b=2", "https://a.example/?a=1&b=2"),
        ("https://a.example/?a=1&#38;b&#x26;c&#X26;d", "https://a.example/?a=1&b&c&d"),
        ("https://a.example/?a=1&copy=2&region=3&times=4", "https://a.example/?a=1&copy=2&region=3&times=4"),
        ("https://a.example/?&amp", "https://a.example/?&"),
        ("https://a.example/&Auml;&notit;&nosuch;", "https://a.example/Ä&notit;&nosuch;"),
        ("https://a.example/?q=%26amp;&amp;amp;", "https://a.example/?q=%26amp;&amp;"),
        ("https://a.example/&#10;b&Tab;c", "https://a.example/bc"),
        ("https://a.example/größe", "https://a.example/größe"),
    ],
)
def test_character_references_are_decoded_once_by_the_attribute_rule(source: str, url: str) -> None:
    """`&copy=` is a parameter: the commonest damage that link tracking does."""
    assert _urls(f'<a href="{source}">') == [url]


def test_a_url_is_decoded_from_the_charset_of_the_body() -> None:
    """Bytes that the charset does not know make it a broken one, not another one."""
    assert _find("<a href='https://a.example/ж'>", "koi8-r")[0].url == "https://a.example/ж"
    assert _find("<a href='https://a.example/表'>", "shift_jis")[0].url == "https://a.example/表"
    assert _find(b"<a href='https://a.example/\xff'>")[0].url == "https://a.example/\udcff"
    assert _find(b"<a href='https://a.example/\x80'>", "iso-8859-1")[0].url == "https://a.example/€"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("Buy now", "Buy now"),
        ("  Buy\r\n\t<b>n</b>ow ", "Buy now"),
        ("Buy<br>now", "Buy now"),
        ("<td>Buy<td>now", "Buy now"),
        ("Caf&eacute; &lt;b&gt;&nbsp;&#x263a;", "Café <b> ☺"),
        ("<!-- no --><style>no</style>yes<script>no", "yes"),
        ('<img src=x alt="Our\nlogo">', "Our logo"),
        ('<img alt="Our logo">text', "text"),
        ('<span title="no > no">yes</span>', "yes"),
        ("a < b", "a < b"),
        ("Buy{{ses:openTracker}} now", "Buy now"),
        ("a\0\x1b\u009fb", "ab"),
        ("x" * 300, "x" * 200),
        ("ä " * 300, ("ä " * 100).strip()),
        ("", ""),
        ('<img alt="never ends', ""),
    ],
)
def test_the_visible_text_of_a_link(content: str, text: str) -> None:
    """Folded, decoded, at most 200 characters, the alt of an image where there is nothing else."""
    assert _find(f"<a href=x>{content}</a> more")[0].text == text


def test_the_text_of_a_link_ends_where_the_next_one_begins() -> None:
    """A forgotten `</a>` does not swallow the document; an area has no text but its alt."""
    links = _find('<a href=x>one <a href=y>two</a> <area href=z alt="three">')

    assert [(link.url, link.text) for link in links] == [("x", "one"), ("y", "two"), ("z", "three")]


def test_a_wrapped_url_is_quoted_and_encoded() -> None:
    """Whatever a value was, the new one is ASCII in double quotes that a browser reads back."""
    assert html.quote('https://t.example/?a&copy=1<">ä') == b'"https://t.example/?a&amp;copy=1&lt;&quot;&gt;&#228;"'


@pytest.mark.parametrize(
    ("body", "before"),
    [
        ("<html><body>x</body></html>", "</body></html>"),
        ("<BODY>x</BODY ></HTML>", "</BODY ></HTML>"),
        ("x</body>y</body>z", "</body>z"),
        ("<body>x<!-- </body> --></html>", "</html>"),
        ("<body><script>'</body>'</script>x", ""),
        ('<body title="</body>">x', ""),
        ("<body>x<!--[if mso]></body><![endif]-->", ""),
        ("<p>x", ""),
        ("<p>x <!-- never ends", "<!-- never ends"),
        ("<p>x <style> p { }", "<style> p { }"),
        ("<p>x <a href='", "<a href='"),
        ("</body><style>", "</body><style>"),
    ],
)
def test_the_pixel_stands_where_it_is_loaded(body: str, before: str) -> None:
    """Before the last real end of the body, else of the document, else at the end, and never inside what hides it."""
    at = html.find(body.encode()).pixel_at

    assert at is not None
    assert body[at:] == before


@pytest.mark.parametrize("body", ["", " \r\n", "<frameset><frame src=x></frameset>"])
def test_where_nothing_is_shown_there_is_no_pixel(body: str) -> None:
    """An empty body, a frameset."""
    assert html.find(body.encode()).pixel_at is None


def test_a_frameset_within_a_body_is_none() -> None:
    """Browsers ignore it there."""
    assert html.find(b"<body>x<frameset>").pixel_at is not None


def test_a_doctype_of_xhtml_is_noticed() -> None:
    """Only a real one."""
    assert html.find(b'<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Strict//EN">x').is_xhtml
    assert not html.find(b'<!doctype html>x<!-- <!doctype xhtml> <p title="<!doctype xhtml>"> -->').is_xhtml
