"""The witness sees every kind of damage: a test of it must be able to fail."""

import pytest

from relay import witness
from relay.core import plan
from tests.unit.rewriting import FixedMint, joined, mail, options

_MAIL = mail(
    "Subject: x\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\npreamble\n"
    "--b\nContent-Type: text/plain\n\nsee https://shop.example/t, or\ncall\n"
    "--b\nContent-Type: text/html\n\n<html><body><p class=a>x &amp; y</p>"
    '<a ses:tags="k:v" href="https://shop.example/?a=1&copy=2">a</a>'
    '<!--[if mso]><v:rect href="https://shop.example/v"></v:rect><![endif]--></body></html>\n'
    "--b\nContent-Type: image/png\nContent-Disposition: attachment; filename=a.png\n"
    "Content-Transfer-Encoding: base64\n\nUE5H\n--b--\nepilogue\n"
)


def _verdict(old: bytes = b"", new: bytes = b"") -> list[str]:
    made = plan.make(_MAIL, options())
    copy = joined(made)
    assert old in copy
    return witness.check(_MAIL, copy.replace(old, new, 1) if old else copy, made, FixedMint())


def test_an_honest_copy_is_agreed_to() -> None:
    """The character reference that `html.parser` decodes otherwise than browsers is no disagreement."""
    assert _verdict() == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"Subject: x", b"Subject: y"),
        (b"preamble", b"preambel"),
        (b"epilogue", b"epilog"),
        (b"UE5H", b"UE5I"),
        (b"filename=a.png", b"filename=b.png"),
        (b"--b\r\nContent-Type: image", b"--b\r\n\r\n\r\n--b\r\nContent-Type: image"),
        (b"class=a", b"class=b"),
        (b"&amp; y", b"&amp; z"),
        (b"<p ", b"<div "),
        (b"</html>", b"</html><b></b>"),
        (b"c1-html-0", b"c1-html-1"),
        (b"https://trace.shop.example/l/c1-html-1", b"https://shop.example/v"),
        (b"https://trace.shop.example/l/c1-text", b"https://trace.shop.example/l/c2-text"),
        (b", or", b" or"),
        (b"trace.shop.example/i/", b"trace.shop.example/j/"),
    ],
)
def test_a_change_that_was_not_promised_is_seen(old: bytes, new: bytes) -> None:
    """Headers, structure, attachments, text, markup, link targets, the pixel."""
    assert _verdict(old, new) != []


def test_a_promised_change_that_is_missing_is_seen() -> None:
    """The original is no copy of itself where the plan has edits."""
    made = plan.make(_MAIL, options())
    found = witness.check(_MAIL, _MAIL, made, FixedMint())
    assert [text.startswith("no link leads to ") for text in found[:3]] == [True, True, True]
    assert found[3:] == ["there are 0 pixels", "0 parts are changed, 2 were to be"]


def test_two_pixels_are_seen() -> None:
    """One message, one pixel."""
    pixel = b'<img src="' + FixedMint().pixel_url().encode() + b'">'
    assert "there are 2 pixels" in _verdict(b"</body>", pixel + b"</body>")
