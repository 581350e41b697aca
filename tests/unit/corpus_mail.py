"""Mail made of the bodies of the corpus: each in any transfer encoding and charset, as a real newsletter carries it."""

import base64
import binascii
import re
from collections.abc import Iterator
from itertools import count, product
from pathlib import Path
from typing import Final

from relay.core import lineends

ENCODINGS: Final = ("quoted-printable", "base64", "8bit", "binary")

GREETINGS: Final = {
    "utf-8": "Grüße, Привет, 世界, 🎈",
    "windows-1252": "„Grüße“ – 5 € für Zoë",
    "koi8-r": "Привет, мир — ═╬═",
    "shift_jis": "ソ表予十 こんにちは、世界｡ｱ",
    "iso-2022-jp": "こんにちは、世界。ソ表",
    "utf-16": "Grüße, Привет, 世界, 🎈, ਊ, 〼",
}
"""For each charset, text that makes use of it: of some characters a byte looks like ASCII."""

_BODY: Final = re.compile(r"<body[^>]*>", re.IGNORECASE)
_DUMMY: Final = re.compile(r"href=([\"'])#?\1", re.IGNORECASE)
_URL: Final = re.compile(r"https?://[^\s\"'<>]+")


def bodies(corpus: Path) -> list[Path]:
    """Return the files of HTML, in a fixed order."""
    return sorted((corpus / "html").glob("*.html"))


def newsletters(corpus: Path, step: int) -> Iterator[tuple[str, str, str, bytes]]:
    """Yield `(name, encoding, charset, message)` of every step-th of all bodies in all encodings and charsets.

    A step that shares no factor with the 24 ways to write a body takes each of them in turn.
    """
    for path, encoding, charset in list(product(bodies(corpus), ENCODINGS, GREETINGS))[::step]:
        yield path.name, encoding, charset, newsletter(read(path), encoding=encoding, charset=charset)


def read(path: Path) -> str:
    """Return a body as text with CRLF line ends; a `#` that its designer left in place of a link is filled in."""
    raw = lineends.settle(path.read_bytes())
    assert isinstance(raw, bytes)
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = raw.decode("windows-1252", "replace")
    numbers = count()
    return _DUMMY.sub(lambda match: f"href={match[1]}https://shop.example/{next(numbers)}?a=1&amp;b={match[1]}", text)


def newsletter(body: str, *, encoding: str, charset: str) -> bytes:
    """Return a message of a text part, an HTML part and a picture, in CRLF.

    What the charset cannot express becomes a numeric reference, as mail programs do it.
    """
    greeting = GREETINGS[charset]
    first = _BODY.search(body)
    at = first.end() if first else 0
    html = f"{body[:at]}<p>{greeting}</p>{body[at:]}"
    text = "\r\n".join([greeting, *_URL.findall(body)[:20], ""])
    return b"\r\n".join(
        [
            b"From: Shop <news@shop.example>",
            b"Subject: news",
            b"MIME-Version: 1.0",
            b"Content-Type: multipart/mixed; boundary=out",
            b"",
            b"--out",
            b"Content-Type: multipart/alternative; boundary=in",
            b"",
            b"--in",
            *_part("plain", text, encoding, charset),
            b"--in",
            *_part("html", html, encoding, charset),
            b"--in--",
            b"--out",
            b"Content-Type: image/png; name=a.png",
            b"Content-Disposition: attachment",
            b"Content-Transfer-Encoding: base64",
            b"",
            b"iVBORw0KGgo=",
            b"--out--",
            b"",
        ]
    )


def _part(kind: str, text: str, encoding: str, charset: str) -> list[bytes]:
    raw = text.encode(charset, "xmlcharrefreplace")
    label = "7bit" if encoding == "8bit" and raw.isascii() else encoding
    return [
        f"Content-Type: text/{kind}; charset={charset}".encode(),
        f"Content-Transfer-Encoding: {label}".encode(),
        b"",
        _encode(raw, encoding, is_text=charset != "utf-16"),
    ]


def _encode(raw: bytes, encoding: str, *, is_text: bool) -> bytes:
    """Encode with the standard library; line ends of UTF-16 are no line ends of quoted-printable."""
    if encoding == "quoted-printable":
        encoded = binascii.b2a_qp(raw, istext=is_text)
        return re.sub(rb"\r?\n", b"\r\n", encoded)
    if encoding == "base64":
        return base64.encodebytes(raw).replace(b"\n", b"\r\n")
    return raw
