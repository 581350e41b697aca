"""The witness sees every kind of damage: a test of it must be able to fail."""

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from msgspec import structs

from relay import witness
from relay.core import plan, quoted_printable
from relay.core.copies import CopyMint
from relay.testimony import Disagreement, Kind, promise_of, question_of
from tests.unit.rewriting import FixedMint, html_mail, joined, mail, options, text_mail
from tests.unit.submissions import NOW
from tracker.contract.ids import COPY_SUFFIX_BYTES, CopyId, MessageId
from tracker.contract.token import TokenKey, TokenKeys

_MAIL = mail(
    "Subject:  two\n  folds\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\nX-Last: y\n\npreamble\n"
    "--b  \nContent-Type: text/plain; format=flowed\n\nsee https://shop.example/t, or  \ncall <https://shop.example/\n"
    " folded>, twice: https://shop.example/t\n\nend  \n"
    "--b\nContent-Type: text/html\n\n<html><head><title>News</title></head><body><p class=a id=p>x &amp; y</p> \n"
    '<a ses:tags="k:v" href="https://shop.example/?a=1&copy=2">a</a> <a href="https://shop.example/b">b</a>\n'
    '<a href="https://shop.example/?a=1&copy=2" title=t title=u>again</a><map><area href="https://shop.example/m"></map>'
    '<a data-no-track href="https://shop.example/no">no</a><a href="mailto:x@shop.example">x</a><!-- note -->'
    "<pre> a  b </pre><script>var a = 1;</script>"
    '<!--[if mso]><v:rect href="https://shop.example/v"></v:rect><![endif]--></body></html>\n'
    "--b\nContent-Type: image/png\nContent-Disposition: attachment; filename=a.png\n"
    "Content-Transfer-Encoding: base64\n\nUE5H\nUE5H\n"
    "--b\nContent-Type: message/rfc822\n\nSubject: inner\n\nhttps://shop.example/t\n"
    "--b\nContent-Type: text/html\nContent-Disposition: attachment\n\n<a href='https://shop.example/b'>b</a>\n--b--\nepilogue\n"
)
_PIXEL = re.compile(rb'<img src="https://trace\.shop\.example/i/[^>]*>')


def _link(number: int) -> bytes:
    return FixedMint().link_url(plan.make(_MAIL, options()).links[number]).encode()


def _verdict(tamper: Callable[[bytes], bytes]) -> list[Disagreement]:
    made = plan.make(_MAIL, options())
    copy = joined(made)
    tampered = tamper(copy)
    assert tampered != copy
    return witness.check(_MAIL, tampered, made, FixedMint())


def _swapped(copy: bytes, one: bytes, other: bytes) -> bytes:
    return copy.replace(one, b"\0").replace(other, one).replace(b"\0", other)


def _moved_pixel(copy: bytes, before: bytes) -> bytes:
    pixel = _PIXEL.findall(copy)[0]
    return copy.replace(pixel, b"").replace(before, pixel + before, 1)


def test_an_honest_copy_is_agreed_to() -> None:
    """The character reference that `html.parser` decodes otherwise than browsers is no disagreement."""
    made = plan.make(_MAIL, options())

    assert len(made.links) == 8
    assert witness.check(_MAIL, joined(made), made, FixedMint()) == []


@pytest.mark.parametrize("spelling", ["a&amp;copy=2&region=3", "a&copy=2&amp;region=3", "a&amp;amp;b&times=4", "&para"])
def test_every_spelling_of_an_ampersand_is_agreed_to(spelling: str) -> None:
    """Each `&` by itself is written as it is or as a reference; `html.parser` misreads but the former."""
    message = html_mail(f'<a href="https://shop.example/?{spelling}">x</a>')
    made = plan.make(message, options())

    assert len(made.links) == 1
    assert witness.check(message, joined(made), made, FixedMint()) == []


@pytest.mark.parametrize("decoded_again", ["a&b&times=4", "a&amp;b&amp;times=4"])
def test_a_url_that_is_not_decoded_once_is_a_disagreement(decoded_again: str) -> None:
    """But twice, or never."""
    message = html_mail('<a href="https://shop.example/?a&amp;amp;b&times=4">x</a>')
    made = plan.make(message, options())
    (link,) = made.links
    wrong = replace(made, links=(structs.replace(link, url=f"https://shop.example/?{decoded_again}"),))

    assert witness.check(message, joined(made), made, FixedMint()) == []
    assert [found.kind for found in witness.check(message, joined(wrong), wrong, FixedMint())] == [Kind.MARKUP]


@pytest.mark.parametrize(
    ("kind", "old", "new"),
    [
        (Kind.BYTES, b"Subject:  two", b"Subject: two"),
        (Kind.BYTES, b"two\r\n  folds", b"two  folds"),
        (Kind.HEADER, b"X-Last: y", b"X-Last: z"),
        (Kind.HEADER, b"X-Last: y", b"X-Last: y\r\nX-More: z"),
        (Kind.HEADER, b"MIME-Version: 1.0\r\n", b""),
        (Kind.BYTES, b"--b  \r\n", b"--b\r\n"),
        (Kind.STRUCTURE, b"preamble", b"preambel"),
        (Kind.STRUCTURE, b"epilogue", b"epilog"),
        (Kind.STRUCTURE, b"--b\r\nContent-Type: image", b"--b\r\n\r\nmore\r\n--b\r\nContent-Type: image"),
        (Kind.PART, b"UE5H\r\nUE5H", b"UE5H\r\nUE5I"),
        (Kind.PART, b"UE5H\r\nUE5H", b"UE5HUE5H"),
        (Kind.HEADER, b"filename=a.png", b"filename=b.png"),
        (Kind.PART, b"inner\r\n\r\nhttps://shop.example/t", b"inner\r\n\r\n" + _link(5)),
        (Kind.HEADER, b"Subject: inner", b"Subject: other"),
        (Kind.PART, b"'https://shop.example/b'", b'"' + _link(1) + b'"'),
        (Kind.TEXT, b"see ", b"sea "),
        (Kind.TEXT, b", or  \r\n", b", or \r\n"),
        (Kind.TEXT, b", or  \r\n", b", or  \n"),
        (Kind.TEXT, b"\r\n\r\nend  ", b"\r\nend  "),
        (Kind.TEXT, b"end  \r\n", b"end\r\n"),
        (Kind.LINK, b"see " + _link(5), b"see https://shop.example/t"),
        (Kind.MARKUP, b"class=a", b"class=b"),
        (Kind.MARKUP, b" id=p", b""),
        (Kind.MARKUP, b" title=u", b" title=v"),
        (Kind.MARKUP, b" title=u", b""),
        (Kind.MARKUP, b"<p class", b"<p ses:tags=a class"),
        (Kind.MARKUP, b"&amp; y", b"&amp; z"),
        (Kind.MARKUP, b"</p> \r\n", b"</p>\r\n"),
        (Kind.MARKUP, b"</p> \r\n", b"</p> \n"),
        (Kind.MARKUP, b" a  b ", b" a b "),
        (Kind.MARKUP, b"<p ", b"<div "),
        (Kind.MARKUP, b"</html>", b"</html><b></b>"),
        (Kind.MARKUP, b"<!-- note -->", b""),
        (Kind.MARKUP, b"<!-- note -->", b"<!-- note --><!-- more -->"),
        (Kind.MARKUP, b"var a = 1", b"var a = 2"),
        (Kind.MARKUP, b"[if mso]", b"[if vml]"),
        (Kind.MARKUP, b">News<", b">Newz<"),
        (Kind.MARKUP, b"mailto:x@", b"mailto:y@"),
        (Kind.MARKUP, b"c1-html-0", b"c2-html-0"),
        (Kind.MARKUP, b'href="https://shop.example/no"', b'href="' + _link(1) + b'"'),
        (Kind.MARKUP, b'href="' + _link(1) + b'"', b'src="' + _link(1) + b'"'),
        (Kind.LINK, b'href="' + _link(1) + b'"', b'href="https://shop.example/b"'),
        (Kind.PIXEL, b"trace.shop.example/i/", b"trace.shop.example/j/"),
    ],
)
def test_a_change_that_was_not_promised_is_seen(kind: Kind, old: bytes, new: bytes) -> None:
    """Headers, structure, attachments, text, markup, link targets, the pixel."""
    assert kind in {found.kind for found in _verdict(lambda copy: copy.replace(old, new, 1))}


def test_links_that_changed_places_are_seen() -> None:
    """Each tracking URL stands where its own URL stood."""
    assert Kind.MARKUP in {found.kind for found in _verdict(lambda copy: _swapped(copy, _link(0), _link(1)))}


def test_equal_links_that_changed_places_are_seen() -> None:
    """Two links to one page are two links: the index that is counted must be that of the place."""
    html = {found.kind for found in _verdict(lambda copy: _swapped(copy, _link(0), _link(2)))}
    text = {found.kind for found in _verdict(lambda copy: _swapped(copy, _link(5), _link(7)))}

    assert (html, text) == ({Kind.LINK}, {Kind.LINK})


def test_a_link_in_two_places_is_seen() -> None:
    """A tracking URL stands as often as it was promised, not at least once."""
    assert Kind.LINK in {found.kind for found in _verdict(lambda copy: copy.replace(_link(2), _link(0)))}


@pytest.mark.parametrize(
    "before",
    [b"note -->", b"</title>", b"<title>", b"var a", b"<![endif]", b"<html>", b"<v:rect"],
)
def test_a_pixel_where_nobody_loads_it_is_seen(before: bytes) -> None:
    """In a comment, in one for Outlook, in text that is no markup, outside of the body."""
    assert Kind.PIXEL in {one.kind for one in _verdict(lambda copy: _moved_pixel(copy, before))}


def test_a_pixel_behind_the_body_is_seen() -> None:
    """`</body><img>`: most programs load it, and nobody promised it there."""
    found = _verdict(lambda copy: _moved_pixel(copy, b"</html>\r\n"))

    assert [one.kind for one in found] == [Kind.PIXEL]


def test_two_pixels_are_seen() -> None:
    """One message, one pixel."""
    found = _verdict(lambda copy: copy.replace(b"</pre>", b"</pre>" + _PIXEL.findall(copy)[0]))

    assert "there are 2 pixels" in [one.detail for one in found]


def test_a_promised_change_that_is_missing_is_seen() -> None:
    """The original is no copy of itself where the plan has edits."""
    made = plan.make(_MAIL, options())

    found = witness.check(_MAIL, _MAIL, made, FixedMint())

    assert [(one.kind, one.section) for one in found] == [(Kind.PART, "1"), (Kind.PART, "2"), (Kind.PIXEL, "")]


def test_a_change_of_a_message_that_was_to_stay_is_seen() -> None:
    """Nothing is promised of a signed message, and nothing is found."""
    message = html_mail("<p>x</p>", "DKIM-Signature: v=1")
    made = plan.make(message, options())

    assert witness.check(message, message, made, FixedMint()) == []
    assert Kind.BYTES in {one.kind for one in witness.check(message, message + b"\r\n", made, FixedMint())}


def test_signatures_that_leave_are_agreed_to_and_nothing_else_in_the_header() -> None:
    """With `resign`: all of them and only them, and a copy that keeps one is seen."""
    signatures = b"DKIM-Signature: v=1;\r\n b=x\r\n", b"ARC-Seal: i=1\r\n", b"ARC-Authentication-Results: i=1\r\n"
    message = b"".join(signatures) + html_mail("<a href='https://shop.example/a'>a</a>", "Subject: Hi")
    made = plan.make(message, options(resign=True))
    copy = joined(made)

    assert not any(name in copy for name in (b"DKIM-", b"ARC-"))
    assert witness.check(message, copy, made, FixedMint()) == []
    for wrong in (signatures[0] + copy, copy.replace(b"Subject: Hi\r\n", b"")):
        assert Kind.HEADER in {one.kind for one in witness.check(message, wrong, made, FixedMint())}


def test_lines_of_quoted_printable_that_no_edit_touches_keep_their_bytes() -> None:
    """Encoding a line again, to the same text, is a change where none was promised."""
    body = quoted_printable.encode("<p>grüße</p>\r\n<p>x</p>\r\n<a href='https://shop.example/a'>a</a>\r\n".encode())
    message = html_mail("", "Content-Transfer-Encoding: quoted-printable") + body
    made = plan.make(message, options())
    copy = joined(made)

    assert witness.check(message, copy, made, FixedMint()) == []
    found = witness.check(message, copy.replace(b"=C3=BC", b"=c3=bc"), made, FixedMint())
    assert [one.kind for one in found] == [Kind.BYTES]
    found = witness.check(message, copy.replace(b"=C3=BC", b"=C3=BD"), made, FixedMint())
    assert [one.kind for one in found] == [Kind.BYTES, Kind.MARKUP]


def test_broken_bytes_of_an_attachment_are_compared() -> None:
    """Bytes that are of no charset are bytes all the same."""
    message = mail(
        "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\nhttps://shop.example/a\n"
        "--b\nContent-Type: application/octet-stream\nContent-Transfer-Encoding: binary\n\n@\n--b--\n"
    ).replace(b"@", b"\xff\xfe")
    made = plan.make(message, options())
    copy = joined(made)

    assert witness.check(message, copy, made, FixedMint()) == []
    found = witness.check(message, copy.replace(b"\xfe", b"\xfd"), made, FixedMint())
    assert {one.kind for one in found} == {Kind.BYTES, Kind.PART}


def test_a_link_that_was_opted_out_must_not_be_wrapped() -> None:
    """Of two equal links, the wrong one was wrapped: the plan's count is right, and its author's wish is not."""
    message = html_mail('<a data-no-track href="https://shop.example/a">a</a><a href="https://shop.example/a">b</a>')
    made = plan.make(message, options())
    url = FixedMint().link_url(made.links[0])
    other = joined(made).replace(url.encode(), b"\0").replace(b"https://shop.example/a", url.encode())

    found = witness.check(message, other.replace(b"\0", b"https://shop.example/a"), made, FixedMint())

    assert [one.kind for one in found] == [Kind.LINK]


def test_the_field_of_a_copy_is_all_that_comes() -> None:
    """What is sent has X-Mailwake-Copy before the message's fields, with the id of the copy."""
    keys = TokenKeys([TokenKey(key_id=1, secret=bytes(32), mint_from=NOW)])
    copy = CopyId(MessageId.parse("01kb9xn8g0000000000000000m"), bytes(COPY_SUFFIX_BYTES))
    mint = CopyMint(keys=keys, key_id=1, base_url="https://trace.shop.example", copy=copy, day=NOW.date())
    question = question_of(plan.make(text_mail("https://shop.example/a\n"), options()), mint)

    assert b"X-Mailwake-Copy: " in question.copy
    assert witness.compare(question.message, question.copy, question.promise) == []
    without = question.copy.partition(b"\r\n")[2]
    assert Kind.HEADER in {one.kind for one in witness.compare(question.message, without, question.promise)}
    twice = question.promise.field + question.copy
    assert Kind.HEADER in {one.kind for one in witness.compare(question.message, twice, question.promise)}


def test_what_is_said_can_be_sent() -> None:
    """Text of broken mail crosses a pipe as UTF-8: lone surrogates are written as escapes."""
    message = text_mail("https://shop.example/a \n", "Content-Transfer-Encoding: 8bit").replace(b" \r\n", b" \xff\r\n")
    made = plan.make(message, options())

    found = witness.compare(message, joined(made).replace(b"\xff", b"\xfe\xed\xa0\x80"), promise_of(made, FixedMint()))

    assert found
    for one in found:
        one.detail.encode()


def test_no_more_is_said_than_anybody_reads() -> None:
    """A copy that is another message altogether does not give a thousand sentences."""
    parts = "".join(f"--b\nX-N: {number}\n\nhttps://shop.example/a\n" for number in range(100))
    message = mail(f"MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n{parts}--b--\n")
    made = plan.make(message, options())

    assert len(witness.check(message, message, made, FixedMint())) == witness.MAX_DISAGREEMENTS


def test_a_message_of_which_nothing_changed_is_not_parsed() -> None:
    """Parts nested deeper than the library can read are left alone, and that is seen without it."""
    opening = "".join(f"Content-Type: multipart/mixed; boundary=b{depth}\n\n--b{depth}\n" for depth in range(2000))
    message = mail(f"MIME-Version: 1.0\n{opening}Content-Type: text/html\n\n<a href='https://shop.example/a'>a</a>\n")
    made = plan.make(message, options())

    assert made.parts == ()
    assert witness.check(message, message, made, FixedMint()) == []


def test_latin_1_is_read_as_every_mail_client_reads_it() -> None:
    """Bytes 0x80 to 0x9F of a part labelled ISO-8859-1 are letters of windows-1252; a URL that has one agrees."""
    header = b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=iso-8859-1\r\n\r\n"
    message = header + b"see https://shop.example/h\x9cuvre now\r\n"
    made = plan.make(message, options())

    assert [link.url for link in made.links] == ["https://shop.example/h\u0153uvre"]
    assert witness.check(message, joined(made), made, FixedMint()) == []
