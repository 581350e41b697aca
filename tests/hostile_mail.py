"""Mail that is built to cost time or memory: one beginning repeated, one structure nested, one line without an end.

Each is a function of its size in bytes, so that growth can be judged too. What becomes of each of them is said by
`tests/unit/test_hostile.py`, what it costs by `bench/hostile.py`.
"""

import base64
import quopri
from collections.abc import Callable, Mapping
from typing import Final

MB: Final = 1_000_000

Make = Callable[[int], bytes]

LINK: Final = b'<a href="https://shop.example/lamp">Lamp</a>'
"""Stands first in every body, so that there is something to edit."""

_PART: Final = b"--b\r\nContent-Type: text/html\r\n\r\n" + LINK + b"\r\n"

_UNITS: Final = {
    "anchors begun": b"<a ",
    "attributes": b"<a a=a ",
    "declarations": b"<!",
    "comments begun": b"<!--",
    "end tags begun": b"</",
    "references begun": b"&#",
    "angles": b"<",
    "double quotes": b'"',
    "single quotes": b"'",
    "equal signs": b"=",
    "anchors": b"<a href=x>",
    "links": b'<a href="https://shop.example/">',
    "buttons": b'<v:rect href="https://shop.example/"/>',
    "conditions": b"<!--[if mso]>",
    "downlevel conditions": b"<![if mso]>",
    "conditions closed": b"<!--[if mso]><![endif]-->",
    "placeholders": b"{{ses:openTracker}}",
    "placeholders begun": b"{{",
    "schemes": b"http://",
    "addresses": b"https://a.example/ ",
    "balanced addresses": b"http://a.example/((",
    "angle addresses": b"<http://a.example/",
    "opt-outs": b"<a ses:no-track>",
    "opt-outs on blocks": b"<div data-no-track>",
    "tags": b'<a href=http://a.example/ ses:tags="a:b;c:d">',
    "blocks": b"<div>",
    "drawings": b"<svg>",
    "formulas": b"<math>",
    "drawings and blocks": b"<svg><p>",
    "character data": b"<svg><![CDATA[",
    "scripts": b"<script>",
    "escaped scripts": b"<script><!--<script>",
    "titles closed badly": b"<title></titl",
    "tables": b"<table><tr><td>",
    "bodies closed": b"</body>",
    "misnested": b"<b><i></b></i>",
    "entities": b"&amp;",
    "entities begun": b"&amp",
    "parentheses": b"(",
    "brackets": b"[",
    "quoted lines": b">\r\n",
    "lines": b"\r\n",
    "soft breaks": b"=\r\n",
    "words": b"a ",
    "control characters": b"\x01",
    "high bytes": b"\xff",
    "surrogates": b"\xed\xa0\x80",
    "signatures": b"-- \r\n",
}


def _body(kind: str, encoding: str, body: bytes, *fields: bytes) -> bytes:
    head = [
        b"From: Shop <news@shop.example>",
        b"To: ana@client.example",
        b"MIME-Version: 1.0",
        b"Content-Type: " + kind.encode() + b"; charset=utf-8",
        b"Content-Transfer-Encoding: " + encoding.encode(),
        *fields,
    ]
    return b"\r\n".join([*head, b"", body, b""])


def _html(unit: bytes) -> Make:
    return lambda size: _body("text/html", "8bit", LINK + unit * (size // len(unit)))


def _attribute(unit: bytes) -> Make:
    return lambda size: _body("text/html", "8bit", LINK + b'<a href="' + unit * (size // len(unit)) + b'">')


def _text(unit: bytes) -> Make:
    return lambda size: _body("text/plain", "8bit", b"https://shop.example/lamp " + unit * (size // len(unit)))


def _quoted(unit: bytes) -> Make:
    """As a quoted-printable body that holds the unit as it is, whether or not it is well encoded."""
    return lambda size: _body("text/html", "quoted-printable", LINK.replace(b"=", b"=3D") + unit * (size // len(unit)))


def _encoded(unit: bytes) -> Make:
    """As a well encoded quoted-printable body of which every line may have an edit."""
    return lambda size: _body(
        "text/html",
        "quoted-printable",
        quopri.encodestring(LINK + unit * (size // len(unit))).replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"),
    )


def _in_base64(unit: bytes) -> Make:
    def make(size: int) -> bytes:
        raw = base64.encodebytes(LINK + unit * (size // len(unit))).replace(b"\n", b"\r\n")
        return _body("text/html", "base64", raw)

    return make


def _field(name: bytes, before: bytes, unit: bytes, *, fold: int = 0) -> Make:
    """One field of which the value is the unit repeated, folded every `fold` bytes where that is set."""

    def make(size: int) -> bytes:
        value = unit * (size // len(unit))
        if fold:
            value = b"\r\n ".join(value[start : start + fold] for start in range(0, len(value), fold))
        return name + b": " + before + value + b"\r\nSubject: x\r\n\r\n" + LINK

    return make


def _multipart(size: int, part: bytes, close: bytes = b"--b--\r\n") -> bytes:
    head = b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
    return head + part * (size // len(part)) + close


def _nested(size: int) -> bytes:
    """Multiparts in multiparts, each with a boundary of its own: `size` is the depth times 100."""
    depth = max(size // 100, 1)
    openings = [
        b"Content-Type: multipart/mixed; boundary=b%05d\r\n\r\n--b%05d\r\n" % (level, level) for level in range(depth)
    ]
    closings = [b"\r\n--b%05d--" % level for level in reversed(range(depth))]
    return b"MIME-Version: 1.0\r\n" + b"".join([*openings, b"Content-Type: text/html\r\n\r\n", LINK, *closings])


def _same_boundary(size: int) -> bytes:
    level = b"--b\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
    return b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n" + level * (size // len(level))


def _forwards(size: int) -> bytes:
    return b"Content-Type: message/rfc822\r\n\r\n" * (size // 32) + LINK


def _one_line(kind: bytes) -> Make:
    """A base64 body in one line."""

    def make(size: int) -> bytes:
        head = b"MIME-Version: 1.0\r\nContent-Type: " + kind + b"\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        return head + base64.b64encode(LINK * (size // len(LINK) * 3 // 4)) + b"\r\n"

    return make


def _attached(size: int) -> bytes:
    """A base64 line as attachment beside an HTML part that is edited."""
    return (
        b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/html\r\n\r\n"
        + LINK
        + b"\r\n--b\r\nContent-Type: application/pdf; name=a.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        + base64.b64encode(bytes(size * 3 // 4))
        + b"\r\n--b--\r\n"
    )


def _addressed(size: int) -> bytes:
    """Every field that is a list of addresses, long."""
    value = b"Ana <ana@client.example>, " * (size // 26 // 4)
    return b"".join(b"%b: %b\r\n" % (name, value) for name in (b"From", b"To", b"Cc", b"Reply-To")) + b"\r\n" + LINK


def _dashes(size: int) -> bytes:
    return b'Content-Type: multipart/mixed; boundary="-"\r\n\r\n' + b"\r\n---" * (size // 5)


def _large_parts(size: int) -> bytes:
    body = LINK + b"<p>text of a paragraph, without a link</p>\r\n" * 22_000
    return _multipart(size, b"--b\r\nContent-Type: text/html\r\n\r\n" + body + b"\r\n")


_BODIES: Final = {
    f"{place}: {name}": wrap(unit)
    for place, wrap in {
        "html": _html,
        "attribute": _attribute,
        "text": _text,
        "quoted-printable as it is": _quoted,
        "quoted-printable": _encoded,
        "base64": _in_base64,
    }.items()
    for name, unit in _UNITS.items()
}

_FIELDS: Final = {
    "Content-Type: semicolons": _field(b"Content-Type", b"text/html", b";"),
    "Content-Type: semicolons, folded": _field(b"Content-Type", b"text/html", b";", fold=70),
    "Content-Type: parameters": _field(b"Content-Type", b"text/html", b"; a*1*=x"),
    "Content-Type: open quotes": _field(b"Content-Type", b"text/html", b'; a="\\'),
    "Content-Type: comments": _field(b"Content-Type", b"text/html ", b"("),
    "Content-Type: white space": _field(b"Content-Type", b"text/html; ", b" "),
    "To: commas": _field(b"To", b"", b","),
    "To: addresses": _field(b"To", b"", b"a@b.example,"),
    "To: parentheses": _field(b"To", b"", b"("),
    "To: angles": _field(b"To", b"", b"<"),
    "To: quotes": _field(b"To", b"", b'"'),
    "To: backslashes": _field(b"To", b'"', b"\\"),
    "To: groups": _field(b"To", b"", b"a:b;"),
    "To: addresses, folded": _field(b"To", b"", b"a@b.example,", fold=72),
    "From: parentheses": _field(b"From", b"", b"("),
    "From: angles": _field(b"From", b"", b"<"),
    "From: quoted angles": _field(b"From", b"", b'<"'),
    "From: commas": _field(b"From", b"", b","),
    "Subject: encoded words begun": _field(b"Subject", b"", b"=?utf-8?q?"),
    "Subject: encoded words": _field(b"Subject", b"", b"=?utf-8?q?=C3=A4?= "),
    "Subject: encoded words, folded": _field(b"Subject", b"", b"=?utf-8?q?=C3=A4?= ", fold=76),
    "List-Unsubscribe: angles": _field(b"List-Unsubscribe", b"", b"<"),
    "List-Unsubscribe: targets": _field(b"List-Unsubscribe", b"", b"<https://a.example/>,"),
    "X-SES-MESSAGE-TAGS: commas": _field(b"X-SES-MESSAGE-TAGS", b"", b","),
    "X-SES-MESSAGE-TAGS: pairs": _field(b"X-SES-MESSAGE-TAGS", b"", b"a=b,"),
    "X-Mailwake-Track: semicolons": _field(b"X-Mailwake-Track", b"opens", b";"),
    "X-Mailwake-Track: recipients": _field(b"X-Mailwake-Track", b"opens", b"; rcpt=a@b.example"),
    "X-SMTPAPI: arrays": _field(b"X-SMTPAPI", b"", b"["),
    "X-SMTPAPI: objects": _field(b"X-SMTPAPI", b"", b'{"a":'),
    "Received: fields": lambda size: b"Received: x\r\n" * (size // 13) + b"\r\n" + LINK,
    "fields of one letter": lambda size: b"a:\r\n" * (size // 4) + b"\r\n" + LINK,
    "fields of every address": _addressed,
    "a name without a colon": lambda size: b"a" + b" " * size + b"b\r\n\r\n" + LINK,
    "no header": lambda size: b"a" * size,
    "a preface": lambda size: b" a\r\n" * (size // 4) + b"\r\n" + LINK,
}

_STRUCTURES: Final[Mapping[str, tuple[Make, int]]] = {
    "20,000 parts": (lambda size: _multipart(size, _PART), 20_000 * len(_PART)),
    "20,000 empty parts": (lambda size: _multipart(size, b"--b\r\n\r\n"), 20_000 * 7),
    "1,000 parts": (lambda size: _multipart(size, _PART), 999 * len(_PART)),
    "depth 5,000": (_nested, 5_000 * 100),
    "depth 5,000, one boundary": (_same_boundary, 5_000 * 49),
    "messages in messages": (_forwards, MB),
    "near boundaries": (lambda size: _multipart(size, b"--bb\r\n"), 10 * MB),
    "boundaries with white space": (lambda size: _multipart(size, b"--b" + b" " * 99 + b"x\r\n"), 10 * MB),
    "a boundary of one dash": (_dashes, 10 * MB),
    "10 MB of header": (lambda size: b"X-A: %b\r\n" % (b"x" * 70) * (size // 77) + b"\r\n" + LINK, 10 * MB),
    "10 MB of short fields": (lambda size: b"a:\r\n" * (size // 4) + b"\r\n" + LINK, 10 * MB),
    "10 MB of a part's header": (lambda size: _multipart(7, b"--b\r\n", b"a:\r\n" * (size // 4)), 10 * MB),
    "10 MB of header before Bcc": (
        lambda size: b"X-A: %b\r\n" % (b"x" * 70) * (size // 77) + b"Bcc: a@b.example\r\n\r\n" + LINK,
        10 * MB,
    ),
    "one field of 10 MB": (lambda size: b"X-A: " + b"x" * size + b"\r\n\r\n" + LINK, 10 * MB),
    "one field of 10 MB, folded": (lambda size: b"X-A: x" + b"\r\n x" * (size // 4) + b"\r\n\r\n" + LINK, 10 * MB),
    "one field of 10 MB: Content-Type": (_field(b"Content-Type", b"text/html", b"; a=b"), 10 * MB),
    "one field of 10 MB: To": (_field(b"To", b"", b"a@b.example,"), 10 * MB),
    "one field of 10 MB: From": (_field(b"From", b"", b"("), 10 * MB),
    "one field of 10 MB: Subject": (_field(b"Subject", b"", b"=?utf-8?q?a?= "), 10 * MB),
    "20 MB of base64 in one line": (_one_line(b"text/html"), 20 * MB),
    "1 MB of base64 in one line": (_one_line(b"text/html"), 1_300_000),
    "20 MB of base64 in one line, attached": (_attached, 20 * MB),
    "20 MB of base64 in one line, a picture": (_one_line(b"image/png"), 20 * MB),
    "25 MB of line ends": (lambda size: b"\r\n" * (size // 2), 25 * MB),
    "25 MB of line ends in text": (lambda size: b"Subject: x\r\n\r\n" + b"\r\n" * (size // 2), 25 * MB),
    "10 MB of bare line ends": (lambda size: b"Subject: x\r\n\r\n" + b"\n" * size, 10 * MB),
    "10 MB of bare carriage returns": (lambda size: b"Subject: x\r\n\r\n" + b"\r" * size, 10 * MB),
    "10 MB of mixed line ends": (lambda size: b"Subject: x\r\n\r\n" + b"\r\n\n\r" * (size // 4), 10 * MB),
    "25 MB of text": (lambda size: _body("text/html", "8bit", LINK + b"a" * size), 25 * MB),
    "3 MB of quoted-printable": (lambda size: _body("text/html", "quoted-printable", b"=41" * (size // 3)), 3_100_000),
    "25 parts of 1 MB": (_large_parts, 25 * MB),
}

_FIELDS_WITHIN: Final = {f"{name}, within the limit": (make, 120_000) for name, make in _FIELDS.items()}

MAIL: Final[Mapping[str, tuple[Make, int]]] = {
    **{name: (make, MB) for name, make in {**_BODIES, **_FIELDS}.items()},
    **_FIELDS_WITHIN,
    **_STRUCTURES,
}
"""By name: how it is made, and its full size in bytes."""

BODIES: Final = tuple(_BODIES)
FIELDS: Final = (*_FIELDS, *_FIELDS_WITHIN)
STRUCTURES: Final = tuple(_STRUCTURES)
