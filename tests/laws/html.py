"""Laws of `html.find` on any bytes, and html5lib, an independent reader, on what both must see alike."""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from html5lib import _tokenizer as html5lib_tokenizer
from html5lib.constants import tokenTypes

from relay.core import charrefs, charsets, html
from relay.core.html import HtmlLink, HtmlScan

_RAW_TEXT = {
    **dict.fromkeys(["title", "textarea"], "rcdataState"),
    **dict.fromkeys(["style", "xmp", "iframe", "noembed", "noframes"], "rawtextState"),
    "script": "scriptDataState",
    "plaintext": "plaintextState",
}
_STRIPPED = "".join(map(chr, range(0x21)))
_HINT = b"<i data-no-track></i>"  # on no link
# html5lib knows nothing of Outlook's comments, and its tokenizer alone nothing of foreign content; it replaces NUL
# and what is no UTF-8, and turns CR into LF before it looks.
_C1 = re.compile(r"[\x7f-\x9f]")
_INCOMPARABLE = re.compile(r"<!--\[if|<svg|<math|\0|\r|\ufffd", re.IGNORECASE)


def spans_are_sound(body: bytes, charset: str) -> None:
    """Whatever the bytes and the charset: spans are in order, apart and inside, and what stands there means the URL."""
    scan = html.find(body, charset=charset)
    spans = _spans(scan)
    assert all(0 <= start < end <= len(body) for start, end in spans)
    assert all(one[1] <= other[0] for one, other in pairwise(spans))
    assert [link.value for link in scan.links] == sorted(link.value for link in scan.links)
    assert list(scan.removals) == sorted(scan.removals)
    assert scan.pixel_at is None or 0 <= scan.pixel_at <= len(body)
    assert scan.pixel_at is None or not any(start < scan.pixel_at < end for start, end in spans)
    for link in scan.links:
        _link_is_sound(body, link, charset)


def wrapped_links_are_found_again(body: bytes) -> None:
    """Splicing in new values, taking out what is ours and adding a pixel changes nothing else of what is found."""
    scan = html.find(body)
    urls = [f"https://t.example/l/{number}?a&copy=<\">'" for number in range(len(scan.links))]

    edits = [(link.value, html.quote(url)) for link, url in zip(scan.links, urls, strict=True)]
    edits += [(span, b"") for span in scan.removals]
    low = body.lower()
    if scan.pixel_at is not None and b"<svg" not in low and b"<math" not in low:  # an <img> ends them
        edits.append(((scan.pixel_at, scan.pixel_at), b'<img src="https://t.example/i/">'))
    edited = spliced(body, edits)

    again = html.find(edited)
    assert [link.url for link in again.links] == urls
    assert [(link.tag, link.text) for link in again.links] == [(link.tag, link.text) for link in scan.links]
    assert (again.pixel_at is None) == (scan.pixel_at is None)


def the_quick_walk_finds_what_the_thorough_one_finds(body: bytes) -> None:
    """A body without opt-outs is not walked tag by tag; a hint in front makes it so, and nothing else may change."""
    if html.find(body).removals:
        return
    quick, thorough = html.find(body), html.find(_HINT + body)
    assert [(link.value, link.url, link.text) for link in quick.links] == [
        ((link.value[0] - len(_HINT), link.value[1] - len(_HINT)), link.url, link.text) for link in thorough.links
    ]


def the_tokenizers_agree_on_every_link(body: str) -> None:
    """Tags, attributes, comments, raw text and character references, in any order and however broken."""
    if not _INCOMPARABLE.search(body):
        assert our_links(body) == list(html5lib_links(body))


def a_quoted_url_decodes_to_itself(url: str) -> None:
    """`quote` is the inverse of reading an attribute, for whatever is put in but C1 controls, which HTML renames."""
    if _C1.search(url):
        return
    quoted = html.quote(url)
    assert quoted.isascii()
    assert charrefs.decode_attribute(quoted[1:-1].decode()) == url


def our_links(body: str) -> list[tuple[str, str]]:
    """Return tag and URL of the links that `html.find` finds, without the empty ones."""
    return [(link.tag, link.url) for link in html.find(body.encode()).links if link.url and ":" not in link.tag]


def html5lib_links(body: str) -> Iterator[tuple[str, str]]:
    """Run html5lib's tokenizer, switched into raw text as its parser does; yield tag and URL of each link."""
    tokenizer: Any = html5lib_tokenizer.HTMLTokenizer(body)
    for token in tokenizer:
        if token["type"] != tokenTypes["StartTag"] and token["type"] != tokenTypes["EmptyTag"]:
            continue
        if token["name"] in _RAW_TEXT:
            tokenizer.state = getattr(tokenizer, _RAW_TEXT[token["name"]])
        if token["name"] in {"a", "area"}:
            url = as_url(_first_href(token["data"]))
            if url:
                yield token["name"], url


def as_url(value: str) -> str:
    """Strip what a browser strips of an attribute that is a URL (URL Standard §4.4)."""
    return value.translate({9: None, 10: None, 13: None}).strip(_STRIPPED)


def spliced(body: bytes, edits: list[tuple[tuple[int, int], bytes]]) -> bytes:
    """Put new bytes in the places of spans."""
    for (start, end), new in sorted(edits, reverse=True):
        body = body[:start] + new + body[end:]
    return body


def _first_href(data: Mapping[str, str] | Sequence[Sequence[str]]) -> str:
    """Attributes are a list of pairs, or, once html5lib has put them together, a mapping of the first ones."""
    pairs = data.items() if isinstance(data, Mapping) else data
    return next((value for name, value in pairs if name == "href"), "")


def _link_is_sound(body: bytes, link: HtmlLink, charset: str) -> None:
    value = body[slice(*link.value)]
    if value[:1] in {b'"', b"'"}:
        assert value[-1:] == value[:1]
        value = value[1:-1]
    text = charrefs.decode_attribute(charsets.decode(value, charsets.codec(charset)))
    assert as_url(text.replace("\0", "\ufffd")) == link.url
    assert len(link.text) <= 200
    assert link.text == " ".join(link.text.split())


def _spans(scan: HtmlScan) -> list[tuple[int, int]]:
    return sorted([*(link.value for link in scan.links), *scan.removals, *scan.open_trackers])
