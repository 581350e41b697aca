"""A copy is the message with its slots filled: the laws of rewriting, in every transfer encoding and charset."""

import base64
import binascii
import codecs
import quopri
from email import message_from_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import witness
from relay.core import plan, quoted_printable, render, transcoding
from relay.core.bodies import MAX_LINE_OCTETS, has_long_line
from relay.core.plan import RewritePlan
from tests.growth import is_linear
from tests.unit.rewriting import NOTHING, FixedMint, copy_of, html_mail, joined, mail, options, reasons

_LINK = '<a href="https://shop.example/a?b=1&amp;c=2">a</a>'
_ENCODINGS = ["7bit", "8bit", "binary", "quoted-printable", "base64"]


def _encoded(encoding: str, body: bytes, *, charset: str = "utf-8", type_: str = "html") -> bytes:
    if encoding == "base64":
        body = base64.encodebytes(body).replace(b"\n", b"\r\n")
    elif encoding == "quoted-printable":
        body = quoted_printable.encode(body)
    return (
        f"MIME-Version: 1.0\r\nContent-Type: text/{type_}; charset={charset}\r\n"
        f"Content-Transfer-Encoding: {encoding}\r\n\r\n"
    ).encode() + body


def _body(message: bytes) -> bytes:
    payload = message_from_bytes(message).get_payload(decode=True)
    assert isinstance(payload, bytes)
    return payload


def _agreed(message: bytes, chosen: plan.RewriteOptions, mint: FixedMint | None = None) -> tuple[RewritePlan, bytes]:
    """Plan, render, and let the witness and a second pass look at it."""
    mint = mint or FixedMint()
    made = plan.make(message, chosen)
    copy = joined(made, mint)
    assert witness.check(message, copy, made, mint) == []
    assert plan.make(copy, chosen).links == ()
    return made, copy


@pytest.mark.parametrize("token_characters", [30, 250, 4000])
@pytest.mark.parametrize("encoding", _ENCODINGS)
def test_links_are_wrapped_in_every_encoding(encoding: str, token_characters: int) -> None:
    """No line of the copy is beyond 998 octets, and what is no edit is the same after decoding."""
    body = f"<html>\r\n<body>\r\nGrüße {_LINK} = \r\n.\r\n{_LINK}</body>\r\n</html>\r\n".encode()
    mint = FixedMint(token_characters=token_characters)
    made, copy = _agreed(_encoded(encoding, body), options(), mint)
    expected = body
    for link in made.links:
        expected = expected.replace(b"https://shop.example/a?b=1&amp;c=2", mint.link_url(link).encode(), 1)
    pixel = b'<img src="' + mint.pixel_url().encode()
    before, _, after = _body(copy).partition(pixel)
    assert before + after.partition(b">")[2] == expected
    assert max(map(len, copy.split(b"\r\n"))) <= MAX_LINE_OCTETS


def test_a_part_whose_lines_become_too_long_changes_to_quoted_printable() -> None:
    """RFC 5321 §4.5.3.1.6: only then, and only its Content-Transfer-Encoding among the fields."""
    message = html_mail(f"<p>ä</p>{_LINK}", "Content-Transfer-Encoding:", "  8bit", "X-After: 1")
    short = copy_of(message, options(opens=False), FixedMint(token_characters=900))
    assert b"Content-Transfer-Encoding:\r\n  8bit\r\nX-After: 1\r\n\r\n<p>" in short
    long = copy_of(message, options(opens=False), FixedMint(token_characters=990))
    assert b"Content-Transfer-Encoding: quoted-printable\r\nX-After: 1\r\n\r\n<p>=C3=A4</p>" in long


def test_a_mail_without_mime_gets_what_quoted_printable_needs() -> None:
    """RFC 2045 §4: the encoding means nothing without MIME-Version."""
    copy = copy_of(mail("Subject: x\n\nhttps://shop.example/a\n"), None, FixedMint(token_characters=1200))
    assert copy.startswith(
        b"Subject: x\r\nMIME-Version: 1.0\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nhttps://trace"
    )


def test_lines_that_were_too_long_are_broken_in_a_part_that_is_edited_anyway() -> None:
    """They would be refused or broken on the way; an unedited part stays as it is."""
    message = html_mail(f"{'x' * 2000}\n{_LINK}")
    _, copy = _agreed(message, options(), FixedMint())
    assert b"Content-Transfer-Encoding: quoted-printable\r\n" in copy
    assert copy_of(html_mail("x" * 2000), options(opens=False)) == html_mail("x" * 2000)


@given(st.lists(st.sampled_from([0, 1, 2, 300, 996, 997, 998, 999, 1000, 1001, 2500]), max_size=8), st.booleans())
def test_a_line_over_998_octets_is_seen_wherever_it_stands(lengths: list[int], ends: bool) -> None:
    """The leaps from line end to line end miss none, and take none for longer than it is."""
    body = b"\r\n".join([b"x" * length for length in lengths]) + b"\r\n" * ends
    assert has_long_line(body) == any(length > MAX_LINE_OCTETS for length in lengths)


@pytest.mark.parametrize("charset", ["utf-8", "iso-2022-jp"])
@pytest.mark.parametrize("encoding", _ENCODINGS)
@pytest.mark.parametrize("body", ["{long}\r\n{link}\r\n", "{link}\r\n{long}", "{link}{long}", "<p>\r\n{long}"])
def test_no_line_of_an_edited_part_is_too_long(body: str, encoding: str, charset: str) -> None:
    """RFC 5322 §2.1.1, in whatever form the part came: also unfolded quoted-printable and base64."""
    text = body.format(link=_LINK, long="表" * 90 + "x" * 990)
    if encoding in {"quoted-printable", "base64"}:
        raw = text.encode(charset)
        encoded = binascii.b2a_base64(raw, newline=False) if encoding == "base64" else raw.replace(b"=", b"=3D")
        message = _encoded("7bit", encoded, charset=charset).replace(b"7bit", encoding.encode())
    else:
        message = _encoded(encoding, text.encode(charset), charset=charset)
    assert max(map(len, message.split(b"\r\n"))) > MAX_LINE_OCTETS
    made, copy = _agreed(message, options())
    assert made.pixel
    assert max(map(len, copy.split(b"\r\n"))) <= MAX_LINE_OCTETS
    assert text.partition(_LINK)[0] in _body(copy).decode(charset)


@pytest.mark.parametrize("encoding", ["quoted-printable", "base64"])
@pytest.mark.parametrize("charset", ["utf-16", "utf-16le", "utf-32be", "utf-7"])
def test_charsets_of_other_bytes_are_decoded_and_encoded_again(charset: str, encoding: str) -> None:
    """Decode, splice, encode in the same charset."""
    text = f"<html><body>Grüße 漢字 {_LINK}</body></html>"
    raw = text.encode(charset)
    made, copy = _agreed(_encoded(encoding, raw, charset=charset), options(opens=False), FixedMint())
    url = FixedMint().link_url(made.links[0])
    assert _body(copy).decode(charset) == text.replace("https://shop.example/a?b=1&amp;c=2", url)


@pytest.mark.parametrize("type_", ["html", "plain"])
@pytest.mark.parametrize("charset", ["iso-2022-jp", "shift_jis", "euc-jp", "gb18030", "hz", "big5", "johab"])
def test_east_asian_charsets_are_kept(charset: str, type_: str) -> None:
    """Shift states and second bytes that look like ASCII are no danger to the text around a link."""
    text = "表示 中文 https://shop.example/a 表" if type_ == "plain" else f"<p>表</p>{_LINK}<b>表</b>"
    made, copy = _agreed(
        _encoded("7bit", text.encode(charset), charset=charset, type_=type_), options(opens=False), FixedMint()
    )
    url = FixedMint().link_url(made.links[0])
    assert _body(copy).decode(charset) == text.replace("https://shop.example/a?b=1&amp;c=2", url).replace(
        "https://shop.example/a 表", f"{url} 表"
    )


@pytest.mark.parametrize(
    ("charset", "codec"),
    [
        ("utf-16", "utf-16be"),
        ("utf-16", "utf-16le"),
        ("utf-32", "utf-32be"),
        ("utf-16", "ascii"),
        ("utf-16be", "ascii"),
        ("utf-16le", "ascii"),
        ("utf-32be", "ascii"),
    ],
)
def test_text_that_is_not_surely_what_its_label_says_is_left(charset: str, codec: str) -> None:
    """UTF-16 without a mark is read in both orders; ASCII under its label reads as Chinese, and a pixel breaks it."""
    message = _encoded("base64", (_LINK * 2).encode(codec), charset=charset)
    made = plan.make(message, options())
    assert reasons(made) == {"1": "undecodable"}
    assert joined(made) == message


@pytest.mark.parametrize("charset", ["utf-16be", "utf-16le"])
def test_halves_of_characters_are_no_line_ends(charset: str) -> None:
    """RFC 2045 §6.7: bytes 0D 0A that are no line end are encoded; the letter here is U+0D0A, or ends and begins so."""
    text = f"<p>\u0d0a\u0d0a \u0d15\n</p>{_LINK}\u0d0a"
    encoded = b"".join(b"=%02X" % octet for octet in text.encode(charset))
    made, copy = _agreed(_encoded("7bit", encoded, charset=charset).replace(b"7bit", b"quoted-printable"), options())
    url = FixedMint().link_url(made.links[0])
    assert _body(copy).decode(charset).startswith(text[:-1].replace("https://shop.example/a?b=1&amp;c=2", url))
    assert all(line.endswith(b"=") for line in copy.partition(b"\r\n\r\n")[2].split(b"\r\n")[:-1])


def test_python_is_asked_for_no_charset_that_it_does_not_have() -> None:
    """It keeps every name that it was asked for, and looks for a module of each: a leak that a stranger can fill."""
    asked: list[str] = []
    codecs.register(asked.append)
    try:
        for label in ("x-never", "unknown-8bit", "os.path", "__init__", "aliases", "x" * 39, "ü", "a\0b", ""):
            transcoding.lookup(label)
    finally:
        codecs.unregister(asked.append)
    assert asked == []


@pytest.mark.parametrize("label", ["KOI8-U", "windows-874", "cp-850", "x-sjis", "ISO-8859-8-I", "macintosh", "utf8"])
def test_labels_are_known_as_mail_writes_them(label: str) -> None:
    """Old names and Microsoft's among them."""
    charset = transcoding.lookup(label)
    assert charset is not None
    assert charset.is_ascii_compatible


def test_mislabelled_text_keeps_its_bytes() -> None:
    """8-bit text labelled us-ascii, invalid UTF-8, NUL within base64: spliced as bytes."""
    body = b"\xff\xfe<p>\xc3\x28</p>\x00" + _LINK.encode()
    message = _encoded("base64", body, charset="us-ascii")
    copy = copy_of(message, options(opens=False))
    url = FixedMint().link_url(plan.make(message, options()).links[0]).encode()
    assert _body(copy) == body.replace(b"https://shop.example/a?b=1&amp;c=2", url)


def test_base64_keeps_its_line_length() -> None:
    """64 characters a line before, 64 after."""
    encoded = base64.b64encode(_LINK.encode() * 9)
    lines = b"\r\n".join(encoded[at : at + 64] for at in range(0, len(encoded), 64))
    message = (
        mail("MIME-Version: 1.0\nContent-Type: text/html\nContent-Transfer-Encoding: base64\n\n") + lines + b"\r\n\r\n"
    )
    copied = copy_of(message).partition(b"\r\n\r\n")[2]
    assert {len(line) for line in copied.rstrip().split(b"\r\n")[:-1]} == {64}
    assert copied.endswith(b"\r\n\r\n")


def test_fields_that_a_change_makes_untrue_are_removed() -> None:
    """Content-MD5 and Content-Length of an edited part and of what is around it; nobody else's."""
    message = mail(
        "MIME-Version: 1.0\nContent-Length: 999\nContent-Type: multipart/mixed; boundary=b\n\n"
        f"--b\nContent-Type: text/html\nContent-MD5: Q2hlY2s=\n\n{_LINK}\n"
        "--b\nContent-Type: image/png\nContent-MD5: Q2hlY2s=\n\nPNG\n--b--\n"
    )
    made, copy = _agreed(message, options(), FixedMint())
    assert len(made.cuts) == 2
    assert copy.count(b"Content-MD5") == 1
    assert b"Content-Length" not in copy


def test_an_attachment_is_never_copied() -> None:
    """All copies share the bytes of the message."""
    blob = base64.encodebytes(b"\0" * 3_000_000).replace(b"\n", b"\r\n")
    message = mail(f"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/html\n\n{_LINK}\n--b\n") + (
        b"Content-Type: application/pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n" + blob + b"--b--\r\n"
    )
    chunks = render.render(plan.make(message, options()), FixedMint())
    shared = [chunk for chunk in chunks if isinstance(chunk, memoryview)]
    assert all(chunk.obj is message for chunk in shared)
    assert sum(map(len, chunks)) - sum(map(len, shared)) < 2000


def test_two_copies_differ_in_their_tokens_alone_and_a_retry_in_nothing() -> None:
    """Tokens are deterministic; every recipient has their own."""
    made = plan.make(_encoded("quoted-printable", _LINK.encode() * 20), options())
    one, other = FixedMint("c1"), FixedMint("c2")
    assert joined(made, one) == joined(made, one)
    assert joined(made, one) != joined(made, other)
    assert _body(joined(made, one)).replace(b"c1-", b"c2-") == _body(joined(made, other))


def test_a_url_cut_by_a_soft_break_is_found_and_lines_around_it_keep_their_bytes() -> None:
    """The classic broken link; odd but lawful spellings of other lines stay."""
    encoded = b'<p>=41=c3=A9 =\r\n</p>\r\n<a href=3D"https://shop.ex=\r\nample/a">x</a> =20\r\n</p>=\r\n\r\n<i></i>'
    message = (
        mail("MIME-Version: 1.0\nContent-Type: text/html\nContent-Transfer-Encoding: quoted-printable\n\n") + encoded
    )
    made, copy = _agreed(message, options(opens=False), FixedMint())
    assert [link.url for link in made.links] == ["https://shop.example/a"]
    before, url, after = encoded.partition(b"<a href")
    assert copy.partition(b"\r\n\r\n")[2].startswith(before + url)
    assert copy.endswith(after[after.index(b"\r\n</p>") :])


def test_an_xhtml_pixel_closes_itself() -> None:
    """Strict readers of XHTML refuse the other form."""
    doctype = (
        '<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Strict//EN" "http://www.w3.org/TR/xhtml1/DTD/xhtml1-strict.dtd">'
    )
    assert b'display:block" /></body>' in copy_of(html_mail(f"{doctype}<html><body></body></html>"))
    assert b'display:block"></body>' in copy_of(html_mail("<html><body>x</body></html>"))


_SNIPPETS = [
    *(
        "<p>",
        "</p>",
        "<body>",
        "</body>",
        "</html>",
        "<!--",
        "-->",
        "<title>",
        "<style>a{}",
        "</style>",
        "\r\n",
        " ",
        "=",
    ),
    *(
        "Grüße",
        "x" * 90,
        "https://shop.example/t",
        "<https://shop.example/u>",
        "www.shop.example",
        "{{ses:openTracker}}",
    ),
    *(
        _LINK,
        "<a href='https://shop.example/é'>",
        "<a href=https://shop.example/x ses:no-track>",
        "<a ses:tags='a:b'",
        ">",
    ),
    *(
        '<!--[if mso]><v:rect href="https://shop.example/v"></v:rect><![endif]-->',
        "mailto:a@b.example",
        "> ",
        "-- \r\n",
    ),
]
_BODIES = st.lists(st.sampled_from(_SNIPPETS), max_size=25).map("".join)


@given(_BODIES, st.sampled_from(_ENCODINGS), st.sampled_from(["html", "plain"]), st.integers(20, 1500))
def test_whatever_the_body_only_edits_change_it(body: str, encoding: str, type_: str, token_characters: int) -> None:
    """Taking our URLs and the pixel out of the decoded copy gives the decoded original without our attributes."""
    message = _encoded(encoding, body.encode(), type_=type_)
    made = plan.make(message, options())
    mint = FixedMint(token_characters=token_characters)
    copy = joined(made, mint)
    kept = _body(copy)
    assert (copy == message) == (not made.parts)
    assert not made.parts or max(map(len, copy.split(b"\r\n"))) <= MAX_LINE_OCTETS
    for link in made.links:
        assert mint.link_url(link).encode() in kept
    assert kept.count(mint.pixel_url().encode()) == made.pixel
    assert joined(plan.make(message, NOTHING), mint).count(b"trace.shop.example") == 0
    assert joined(made, mint) == copy
    if "ses:no-track" not in body:  # what says so is removed, and cannot be known a second time
        assert plan.make(copy, options()).links == ()


_STRUCTURE = [
    *(b"--b\r\n", b"--b--\r\n", b"\r\n", b"Content-Type: text/html\r\n", b"https://a.example/\r\n", b" \r\n"),
    *(b"Content-Type: multipart/mixed; boundary=b\r\n", b"Content-Type: multipart/alternative; boundary=c\r\n"),
    *(b"--c\r\n", b"Content-Transfer-Encoding: base64\r\n", b"PGEgaHJlZj0iaHR0cHM6Ly9hLmV4YW1wbGUvIj4=\r\n"),
    *(b'<a href="https://a.example/">\r\n', b"Content-Transfer-Encoding: quoted-printable\r\n", b"=\r\n"),
    *(
        b"Content-Type: text/html; charset=%b\r\n" % charset
        for charset in (b"utf-16le", b"hz", b"iso-2022-jp", b"utf-7")
    ),
    *(b"=00<=00p=00>", b"=0D=0A=\r\n", b"~{", b"~}", b"\x1b$B", b"\x1b(B", b"+AGE-", b"\xd8\xff", b"x" * 999),
]


@given(st.lists(st.sampled_from(_STRUCTURE), max_size=30))
def test_whatever_the_structure_a_copy_can_be_made(pieces: list[bytes]) -> None:
    """Plan and render never raise, and a plan without edits renders the message itself."""
    message = b"".join(pieces)
    made = plan.make(message, options())
    copy = joined(made)
    if not made.parts:
        assert copy == message
    if max(map(len, message.split(b"\r\n"))) <= MAX_LINE_OCTETS:
        assert max(map(len, copy.split(b"\r\n"))) <= MAX_LINE_OCTETS
    assert plan.make(copy, options()).links == ()


def test_decoders_of_others_read_what_we_encode() -> None:
    """Quoted-printable and base64 as the standard library has them."""
    made = plan.make(_encoded("quoted-printable", (_LINK + "é \r\n").encode() * 5), options())
    body = joined(made).partition(b"\r\n\r\n")[2]
    assert quopri.decodestring(body) == binascii.a2b_qp(body)


_HOSTILE = {
    "marks on lines": lambda n: b"<p ses:no-track>\r\n" * n,
    "marks on one line": lambda n: b"<p ses:no-track>" * n,
    "placeholders": lambda n: b"{{ses:openTracker}}" * n,
    "links": lambda n: b"<a href=https://shop.example/>" * n,
    "buttons": lambda n: b"<!--[if mso]><v:rect href=https://shop.example/></v:rect><![endif]-->" * n,
    "equal signs": lambda n: b"=3D<a ses:no-track>=20\r\n" * n,
}


@pytest.mark.parametrize("encoding", ["quoted-printable", "7bit"])
@pytest.mark.parametrize("name", sorted(_HOSTILE))
def test_time_is_linear_in_hostile_bodies(name: str, encoding: str) -> None:
    """Eight times the edits take no more than some thirty times the time; a quadratic splice needs 64 times."""

    def copy(size: int) -> bytes:
        message = _encoded("7bit", _HOSTILE[name](size)).replace(b": 7bit", b": " + encoding.encode(), 1)
        return joined(plan.make(message, options(max_links=10_000)))

    assert is_linear(copy, 500)
