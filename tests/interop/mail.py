"""The messages of a run, and how what arrived is compared with what was sent."""

import base64
import re
from typing import Final

URL: Final = "https://shop.example/lamp?id=7&ref=mail"
_TRACE: Final = re.compile(
    rb"\A(?:X-Mailwake-Copy|Received|Return-Path|Delivered-To|X-Original-To|Envelope-To|Delivery-Date"
    rb"|Authentication-Results):[^\r]*(?:\r\n[ \t][^\r]*)*\r\n",
    re.IGNORECASE,
)
_TOKEN: Final = re.compile(rb"/[il]/((?:[A-Za-z0-9_-]|=\r\n)+)")
_ATTACHMENT: Final = base64.encodebytes(bytes(range(256)) * 8192).replace(b"\n", b"\r\n")  # 2 MiB of every octet


def tracked_html(subject: str, *, sender: str = "news@shop.example", extra: str = "") -> bytes:
    """Return plain text and HTML in quoted-printable, with a link in each."""
    html = URL.replace("&", "&amp;").replace("=", "=3D")
    body = (
        '--b1\r\nContent-Type: text/plain; charset=3D"utf-8"\r\n'.replace("=3D", "=")
        + f"Content-Transfer-Encoding: quoted-printable\r\n\r\nSee {URL.replace('=', '=3D')} now.\r\n.\r\n..\r\n"
        "--b1\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
        f'<html><body><p>Gr=C3=BC=C3=9Fe <a href=3D"{html}">Lamp</a></p></body></html>\r\n--b1--\r\n'
    )
    return (_head(subject, sender, extra) + "Content-Type: multipart/alternative; boundary=b1\r\n\r\n" + body).encode()


def eight_bit(subject: str, *, sender: str = "news@shop.example", extra: str = "") -> bytes:
    """Return HTML in UTF-8 as it is, in eight bits."""
    head = _head(subject, sender, extra) + "Content-Type: text/html; charset=utf-8\r\n"
    body = f'<html><body><p>Grüße, 灯 <a href="{URL.replace("&", "&amp;")}">Lampe</a></p></body></html>\r\n'
    return (head + "Content-Transfer-Encoding: 8bit\r\n\r\n" + body).encode()


def with_attachment(subject: str, *, sender: str = "news@shop.example", extra: str = "") -> bytes:
    """Return HTML and 2 MiB of binary data in base64."""
    head = _head(subject, sender, extra) + "Content-Type: multipart/mixed; boundary=b2\r\n\r\n"
    html = f'<p><a href="{URL.replace("&", "&amp;")}">Lamp</a></p>'
    parts = (
        f"--b2\r\nContent-Type: text/html; charset=us-ascii\r\n\r\n{html}\r\n--b2\r\n"
        'Content-Type: application/octet-stream\r\nContent-Disposition: attachment; filename="list.bin"\r\n'
        "Content-Transfer-Encoding: base64\r\n\r\n"
    )
    return (head + parts).encode() + _ATTACHMENT + b"--b2--\r\n"


def international(subject: str, *, sender: str = "jürg@shop.example", extra: str = "") -> bytes:
    """Return a message whose header is UTF-8 as it is (RFC 6532)."""
    return eight_bit(f"{subject} für Çelik", sender=sender, extra=extra)


def plain(subject: str, *, sender: str = "news@shop.example", extra: str = "") -> bytes:
    """Return text with lines that a careless client breaks: dots, `From `, a long one, white ends."""
    head = _head(subject, sender, extra) + "Content-Type: text/plain; charset=us-ascii\r\n\r\n"
    return (head + f".\r\n..\r\n.x\r\nFrom here\r\n\r\n{'long ' * 190}\r\nend  \r\n").encode()


def is_of(subject: str, raw: bytes) -> bool:
    """Say whether this is the message of a subject; a report about it is not."""
    return re.search(rb"^Subject: " + re.escape(subject.encode()) + rb"\b", head_of(raw), re.MULTILINE) is not None


def head_of(raw: bytes) -> bytes:
    """Return the header of a message, as bytes."""
    return crlf(raw).partition(b"\r\n\r\n")[0]


def crlf(raw: bytes) -> bytes:
    """Return a message with the line ends of the wire: on disk most servers keep bare LF."""
    return re.sub(rb"\r?\n", b"\r\n", raw)


def without_trace(raw: bytes) -> bytes:
    """Return a message without the fields that each server puts on top."""
    raw = crlf(raw)
    while (field := _TRACE.match(raw)) is not None:
        raw = raw[field.end() :]
    return raw


def canonical(raw: bytes) -> bytes:
    """Return a copy without trace fields and with every token blanked: two copies of a message are equal then.

    A token of another message has other letters, but as many, so soft line breaks stay where they are.
    """
    return _TOKEN.sub(lambda found: found[0][:3] + re.sub(rb"[A-Za-z0-9_-]", b"x", found[1]), without_trace(raw))


def trace_of(raw: bytes) -> bytes:
    """Return the newest Received field, unfolded: what the last server says of the connection."""
    found = re.search(rb"^Received:([^\r]*(?:\r\n[ \t][^\r]*)*)", crlf(raw), re.MULTILINE)
    return re.sub(rb"\s+", b" ", found[1]) if found else b""


def difference(sent: bytes, arrived: bytes) -> str:
    """Say where two messages part."""
    lengths = min(len(sent), len(arrived))
    at = next((i for i in range(lengths) if sent[i] != arrived[i]), lengths)
    around = slice(max(at - 40, 0), at + 60)
    return f"differs at octet {at}: {sent[around]!r} became {arrived[around]!r}"


def _head(subject: str, sender: str, extra: str) -> str:
    return (
        f"From: Shop <{sender}>\r\nTo: ana@client.example\r\nSubject: {subject}\r\n"
        f"Message-ID: <{subject.partition(' ')[0]}@shop.example>\r\n"
        f"Date: Sun, 22 Nov 2026 10:00:00 +0000\r\n{extra}MIME-Version: 1.0\r\n"
    )
