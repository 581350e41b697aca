"""Seam S14: the standard library decodes character references in attributes as if they stood in text; ours do not."""

from html import unescape
from html.parser import HTMLParser

import pytest

from relay.core import charrefs, html

_HREF = "https://a.example/?a=1&copy=2&region=3&times=4"


class _Parser(HTMLParser):
    href: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.href = dict(attrs)["href"]


def test_the_library_turns_parameters_into_characters() -> None:
    """If this fails, a release has mended `html.unescape`, and only the digits below are left of the seam."""
    assert unescape(_HREF) == "https://a.example/?a=1©=2®ion=3×=4"


def test_ours_keeps_them_as_browsers_do() -> None:
    """HTML §13.2.5.73: in an attribute, a reference without `;` before `=` or a letter is none."""
    assert charrefs.decode_attribute(_HREF) == _HREF
    assert html.find(f'<a href="{_HREF}">'.encode()).links[0].url == _HREF


def test_the_parser_of_the_library_has_either_rule() -> None:
    """Some releases of `html.parser` know the rule, some do not: what compares by it has to know that."""
    parser = _Parser()
    parser.feed(f'<a href="{_HREF}">')

    assert parser.href in {_HREF, unescape(_HREF)}


def test_the_library_raises_on_a_long_number() -> None:
    """The limit of `int` on digits is an exception in `html.unescape`: a visible text is decoded by ours."""
    reference = f"&#{'9' * 5000};"

    with pytest.raises(ValueError, match="digits"):
        unescape(reference)
    assert charrefs.decode_text(reference) == charrefs.decode_attribute(reference) == "\ufffd"
