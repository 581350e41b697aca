"""Messages made of choices: a tree of parts, with headers, charsets, encodings and bodies that programs stumble over.

Most choices are sound, since a message that is broken at its first line is left alone at once; each may be broken. A
plain message has no broken mark-up in it, so that the parsers of the witness read it as browsers do.
"""

from binascii import b2a_base64
from typing import Final

from fuzz import words
from fuzz.choices import Choices, as_text
from relay.core import quoted_printable, transcoding

MAX_DEPTH: Final = 3

_CHARSETS: Final = (
    *("utf-8", "us-ascii", "iso-8859-1", "windows-1252", "koi8-r", "shift_jis", "gb18030", "big5", "euc-kr"),
    *("iso-2022-jp", "iso-2022-kr", "utf-16", "utf-16le", "utf-32", "utf-7", "hz", "shift_jis_2004", "x-unknown", ""),
)
_ENCODINGS: Final = ("7bit", "8bit", "quoted-printable", "base64", "binary", "", "Base64 (c)", "x-uuencode")
_PLAIN_ENCODINGS: Final = _ENCODINGS[:6]  # `email` does not decode a body whose encoding has a comment behind it
_TYPES: Final = (
    *("text/html", "text/plain", "text/html", "text/plain; format=flowed", "text/plain; format=flowed; delsp=yes"),
    *(
        "",
        "text/calendar",
        "text/x-amp-html",
        "image/png",
        "message/rfc822",
        "application/pkcs7-mime",
        "text",
        "te xt/x",
    ),
)
_MULTIPARTS: Final = ("mixed", "alternative", "related", "digest", "signed", "report", "encrypted", "parallel")
_BOUNDARIES: Final = ("a", "b", "ab", "=_a:b", "-", "a ", "ä", "")
_DISPOSITIONS: Final = ("", "", "", "inline", "attachment; filename=a.txt", "inline; filename=a.txt", "form-data", ";")
_FIELDS: Final = (
    *("From: Shop <news@shop.example>", "To: ana@client.example", "Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=", "X-Empty:"),
    *("MIME-Version: 1.0", "Received: from a by b (Mailwake relay1) with ESMTP id c; x", "Auto-Submitted: no"),
    *("Content-MD5: x", "Content-Length: 7", "Bcc: c@d.example\r\n , e@f.example", "X-SES-MESSAGE-TAGS: a=b, c=d"),
    *("List-Unsubscribe: <https://shop.example/leave>, <mailto:x@shop.example>", "X-SES-CONFIGURATION-SET: default"),
    *("Content-ID: <x@y>", "Return-Path: <a@b.example>", "Subject: " + "x" * 200, "X-Long: " + "y" * 1200),
)
_RESTRICTING: Final = (
    *("X-Mailwake-Track: opens", "X-Mailwake-Track: none; rcpt=ana@client.example", "X-PM-TrackLinks: TextOnly"),
    *('X-SMTPAPI: {"filters": {"opentrack": {"settings": {"enable": 0}}}}', "Auto-Submitted: auto-replied"),
    *("DKIM-Signature: v=1; a=x", "Content-Type: text/html", "X : y", "no field", "From x", " folded", "X-MC-Track: ?"),
)
_LINKS: Final = (
    *("https://shop.example/lamp", "http://shop.example/?a=1&copy=2", "https://bücher.example/ä", "mailto:a@b.example"),
    *(
        "https://shop.example/login?token=secret",
        "https://shop.example/leave",
        "https://trace.shop.example/l/x",
        "#top",
    ),
    *("https://u:p@shop.example/", "https://shop.example/{{name}}", "https://", "https://shop.example/" + "x" * 900),
    *("https://shop.example/a b|c", "HTTPS://SHOP.EXAMPLE", "https://shop.example/\udcff", "https://[::1]:80/"),
)
_HTML: Final = (
    *(
        '<a href="{}">t</a>',
        "<a href='{}' ses:no-track>t</a>",
        "<a href={} >t</a>",
        '<area href="{}">',
        '<A\r\nHREF = "{}">',
    ),
    *('<!--[if mso]><v:rect href="{}"></v:rect><![endif]-->', '<div data-no-track><a href="{}">t</a></div>', "<b {}>"),
    *('<a ses:tags="k:v" href="{}">t</a>', "<script>'{}'</script>", "<!-- {} -->", '<img src="{}">', "{}"),
)
_DOCUMENTS: Final = (
    *(
        ("<html><body>", "</body></html>\r\n"),
        ("", ""),
        ("<!DOCTYPE html><html><body>", "</body></html>"),
        ("<p>", "</p>"),
    ),
    *(("<html>", "</html>\r\n\r\n"), ("<!DOCTYPE html PUBLIC '-//W3C//DTD XHTML 1.0//EN'><html><body>\r\n", "</body>")),
)
_FILLING: Final = ("\r\n", " ", "é", "日本", "x" * 990, "<b>b</b>", "{{ses:openTracker}}", "&amp; y", "= ", ".\r\n")
_TEXT: Final = (
    "see {}, or",
    "<{}>",
    "({})",
    "> {}",
    "-- \r\n{}",
    '{}[[data-msys-clicktrack="0"]]',
    "[t]({}).",
    "{} \r\n{}",
)


def message(choices: Choices, *, plain: bool = False) -> bytes:
    """Make a message; every line end is CRLF, unless a body of raw bytes has others."""
    fields = [choices.one_of(_RESTRICTING if choices.number(8) == 7 else _FIELDS) for _ in range(choices.number(5))]
    head = "".join(f"{field}\r\n" for field in fields).encode()
    return head + _part(choices, MAX_DEPTH, plain=plain)


def _part(choices: Choices, depth: int, *, plain: bool) -> bytes:
    if depth and choices.number(3) == 1:
        return _multipart(choices, depth, plain=plain)
    encodings = _PLAIN_ENCODINGS if plain else _ENCODINGS
    kind, charset, encoding = choices.one_of(_TYPES), choices.one_of(_CHARSETS), choices.one_of(encodings)
    fields = [f"Content-Type: {kind}" + (f"; charset={charset}" if charset else "")] if kind else []
    fields += [f"Content-Transfer-Encoding: {encoding}"] if encoding else []
    fields += [f"Content-Disposition: {value}"] if (value := choices.one_of(_DISPOSITIONS)) else []
    fields += [as_text(choices.raw(8))] if not plain and choices.number(16) == 1 else []
    body = _body(choices, is_html="html" in kind, plain=plain)
    if plain:
        body = as_text(body.encode("utf-8", "replace"))  # what is no Unicode, each parser reads in a way of its own
    return "\r\n".join([*fields, "", ""]).encode("utf-8", "surrogateescape") + _encode(
        choices, body, charset, encoding, plain=plain
    )


def _multipart(choices: Choices, depth: int, *, plain: bool) -> bytes:
    boundary = choices.one_of(_BOUNDARIES)
    head = f'Content-Type: multipart/{choices.one_of(_MULTIPARTS)}; boundary="{boundary}"\r\n\r\n'
    parts = [_part(choices, depth - 1, plain=plain) for _ in range(choices.number(4))]
    delimiter = f"\r\n--{boundary}".encode()
    whole = head.encode() + choices.one_of((b"", b"preamble"))
    whole += b"".join(delimiter + b"\r\n" + part for part in parts)
    return whole + choices.one_of((delimiter + b"--\r\n", delimiter + b"--\r\nepilogue\r\n", b"", delimiter, b"\r\n"))


def _body(choices: Choices, *, is_html: bool, plain: bool) -> str:
    """Make a text of links in frames; if not plain, also words of the grammar and raw bytes."""
    frames, noise = (_HTML, words.HTML) if is_html else (_TEXT, words.TEXT)
    begin, end = choices.one_of(_DOCUMENTS) if is_html else ("", "")
    pieces: list[str] = []
    while choices.has_more and len(pieces) < 24:
        match choices.number(6):
            case 0:
                break
            case 1 | 2:
                link = choices.one_of(_LINKS)
                pieces.append(choices.one_of(frames).replace("{}", link))
            case 3 if not plain:
                pieces.append(choices.one_of(noise))
            case 4 if not plain:
                pieces.append(as_text(choices.raw(choices.number(12))))
            case _:
                pieces.append(choices.one_of(_FILLING))
    return "".join([begin, *pieces, end])


def _encode(choices: Choices, text: str, label: str, encoding: str, *, plain: bool) -> bytes:
    """Encode a body as its header says, or, now and then, if not plain, otherwise."""
    charset = transcoding.lookup(label or None)
    raw = text.encode("utf-8", "surrogateescape")
    if charset is not None and charset.codec != "utf-8" and (choices.number(8) != 1 or plain):
        raw = text.encode("utf-8", "replace").decode("utf-8").encode(charset.codec, "replace")
    if choices.number(16) == 1 and not plain:
        return raw
    if encoding == "quoted-printable":
        return quoted_printable.encode(raw) if choices.number(4) else _quoted_otherwise(raw, choices.number(60) + 16)
    if encoding.lower().startswith("base64"):
        octets = choices.one_of((76, 60, 4, 1000))
        line = b2a_base64(raw, newline=False)
        return b"\r\n".join(line[at : at + octets] for at in range(0, len(line), octets)) + choices.one_of(
            (b"", b"\r\n")
        )
    return raw


def _quoted_otherwise(raw: bytes, width: int) -> bytes:
    """Quote with soft breaks anywhere and codes where none are needed, as other programs do."""
    codes = [b"\r\n" if octet == 0x0A else b"" if octet == 0x0D else b"=%02x" % octet for octet in raw]
    plain = [bytes([octet]) if 0x3F <= octet < 0x7F else code for octet, code in zip(raw, codes, strict=True)]
    return b"=\r\n".join(b"".join(plain[at : at + width]) for at in range(0, len(plain), width))
