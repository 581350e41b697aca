"""Laws of `text.find` on any bytes: spans are sound, and hold their URL."""

from itertools import pairwise

from relay.core import charsets, text

_FOLDS = str.maketrans("", "", " \t\r\n")


def spans_are_ordered_and_hold_their_url(body: bytes, charset: str, *, flowed: bool, delsp: bool) -> None:
    """What is at a span, without folds and our placeholder, is the URL; all is within the body, apart from the rest."""
    scan = text.find(body, charset=charset, flowed=flowed, delsp=delsp)
    links = [(link.span, link.url) for link in scan.links]
    left = [(span, url) for span, url, _ in scan.left]
    addresses = sorted(span for span, _ in (*links, *left))
    edits = sorted((*(span for span, _ in links), *scan.removals, *scan.open_trackers))
    for spans in (addresses, edits):
        assert all(0 <= start < end <= len(body) for start, end in spans)
        assert all(one[1] <= other[0] for one, other in pairwise(spans))
    for span, url in (*links, *left):
        assert _decoded(body, span, charset).replace("{{ses:openTracker}}", "").translate(_FOLDS) == url
    assert all(url.lower().startswith(("http://", "https://")) for _, url in links)


def _decoded(body: bytes, span: tuple[int, int], charset: str) -> str:
    """Decode a piece as `text.find` does: where there is another way to write the body, what is not ASCII is broken."""
    codec = charsets.codec(charset)
    whole = charsets.decode(body, codec)
    if whole.encode(codec, "surrogateescape") != body:
        codec = "ascii"
    return body[slice(*span)].decode(codec, "surrogateescape")
