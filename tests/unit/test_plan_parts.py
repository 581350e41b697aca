"""Which parts of a message are edited, where the pixel goes, and what keeps every byte."""

from dataclasses import replace

import pytest

from relay.core import plan
from relay.core.reasons import SkipReason
from tests.unit.rewriting import FixedMint, copy_of, html_mail, joined, mail, options, reasons, text_mail

_LINK = '<a href="https://shop.example/a">a</a>'
_PIXEL = FixedMint().pixel_url().encode()


def _parts(*parts: str, subtype: str = "mixed", header: str = "") -> bytes:
    bodies = "".join(f"--b\n{part}\n" for part in parts)
    return mail(f"MIME-Version: 1.0\n{header}Content-Type: multipart/{subtype}; boundary=b\n\n{bodies}--b--\n")


def _html(body: str = _LINK, *header: str) -> str:
    return "\n".join(["Content-Type: text/html; charset=utf-8", *header, "", body])


def _text(body: str = "see https://shop.example/a\n", *header: str) -> str:
    return "\n".join(["Content-Type: text/plain; charset=utf-8", *header, "", body])


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        (_html(_LINK, "Content-Disposition: attachment"), "attachment"),
        (_html(_LINK, "Content-Disposition: attachment; filename=a.html"), "attachment"),
        (_html(_LINK, "Content-Disposition: form-data"), "attachment"),
        (_html(_LINK, "Content-Disposition: inline; filename=a.html"), "attachment"),
        (_text("https://shop.example/a", "Content-Disposition: inline; filename*=utf-8''a.txt"), "attachment"),
        (f"Content-Type: text/html; name=a.html\n\n{_LINK}", "attachment"),
        (f"Content-Type: message/rfc822\n\nContent-Type: text/html\n\n{_LINK}", "message_part"),
        ("Content-Type: message/delivery-status\n\nReporting-MTA: dns; https://a.example", "message_part"),
        ("Content-Type: text/calendar; method=REQUEST\n\nURL:https://shop.example/a", "calendar"),
        ("Content-Type: text/x-vcard\n\nURL:https://shop.example/a", "other_text"),
        ("Content-Type: text/csv\n\nhttps://shop.example/a", "other_text"),
        (f"Content-Type: text/x-amp-html\n\n{_LINK}", "amp"),
        ("Content-Type: image/png\n\nhttps://shop.example/a", "not_text"),
        ("Content-Type: application/pkcs7-mime; smime-type=signed-data\n\nMIIx", "encrypted"),
        (f"Content-Type: multipart/signed; boundary=s\n\n--s\n{_html()}\n--s--", "signed"),
        (f"Content-Type: multipart/encrypted; boundary=s\n\n--s\n{_html()}\n--s--", "encrypted"),
        (f"Content-Type: multipart/report; boundary=s\n\n--s\n{_text()}\n--s--", "report"),
        (_text("-----BEGIN PGP SIGNED MESSAGE-----\n\nhttps://shop.example/a"), "signed"),
        (_text("-----BEGIN PGP MESSAGE-----\n\nhttps://shop.example/a"), "encrypted"),
        (_html(f"<pre>-----BEGIN PGP SIGNED MESSAGE-----</pre>{_LINK}"), "signed"),
        (f"Content-Type: text/html; charset=x-unknown\n\n{_LINK}", "unknown_charset"),
        (f"Content-Type: text/html; charset=unicode_escape\n\n{_LINK}", "unknown_charset"),
        (f"Content-Type: text/html; charset=utf-16\n\n{_LINK}x", "undecodable"),
        (_html(_LINK, "Content-Transfer-Encoding: base64"), "undecodable"),
        (_html(_LINK, "Content-Transfer-Encoding: x-gzip64"), "unknown_encoding"),
        (f"Content-Type: text\n\n{_LINK}", "malformed_content_type"),
        (f"Content-Type: text/html\n{_LINK}", "malformed_header"),
        (_html(_LINK + "x" * 1024 * 1024), "too_large"),
    ],
)
def test_a_part_that_is_left_keeps_every_byte_and_has_a_reason(part: str, reason: str) -> None:
    """The part is copied verbatim, and its neighbour is tracked all the same."""
    message = _parts(_html(), part)
    made = plan.make(message, options())
    assert reasons(made) == {"2": reason}
    assert len(made.links) == 1
    assert mail(part) in joined(made)


@pytest.mark.parametrize(
    "part",
    [
        _html(_LINK, "Content-Disposition: inline; filename=a.html"),
        _text("https://shop.example/a", "Content-Disposition: inline; filename=a.txt"),
    ],
)
def test_a_file_shown_inline_is_a_body_if_there_is_no_other(part: str) -> None:
    """Apple Mail sends such; two of them, or one beside a body, are documents."""
    image = "Content-Type: image/png\n\nPNG"
    assert len(plan.make(_parts(image, part), options()).links) == 1
    assert plan.make(_parts(part, part), options()).links == ()
    assert len(plan.make(_parts(_text("hi"), part), options()).links) == 0


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("DKIM-Signature: v=1; d=shop.example\n", SkipReason.DKIM_SIGNED),
        ("ARC-Seal: i=1\n", SkipReason.DKIM_SIGNED),
        ("Auto-Submitted: auto-replied; owner-email=a@b.example\n", SkipReason.AUTO_SUBMITTED),
        ("X-Autoreply: yes\n", SkipReason.AUTO_SUBMITTED),
        ("X-Autorespond: Away\n", SkipReason.AUTO_SUBMITTED),
        ("Precedence: auto_reply\n", SkipReason.AUTO_SUBMITTED),
        ("no field\n", SkipReason.MALFORMED_HEADER),
        ("X: " + "y" * 200_000 + "\n", SkipReason.HEADER_TOO_LARGE),
    ],
)
def test_some_messages_keep_every_byte(header: str, reason: SkipReason) -> None:
    """A broken signature, a loop between machines, a header read in two ways: worse than no statistics."""
    message = mail(header) + html_mail(_LINK)
    made = plan.make(message, options())
    assert (made.reason, made.links, made.pixel, made.parts) == (reason, (), False, ())
    assert joined(made) == message


@pytest.mark.parametrize("field", ["Auto-Submitted: No", "X-Autoreply: no", "Precedence: bulk", "Precedence: list"])
def test_a_message_that_is_no_answer_is_tracked(field: str) -> None:
    """RFC 3834 §5: `Auto-Submitted: no` is what a person sends; every newsletter is bulk."""
    assert len(plan.make(html_mail(_LINK, field), options()).links) == 1


def test_what_must_be_left_is_left_whatever_the_options_say() -> None:
    """A message that policy leaves (its null sender, its unreadable control header) is not even scanned."""
    made = plan.make(html_mail(_LINK), replace(options(), leave=SkipReason.AUTO_SUBMITTED))
    assert (made.reason, made.parts) == (SkipReason.AUTO_SUBMITTED, ())


@pytest.mark.parametrize("start", ["", '; start="<root@x>"', "; start=root@x", '; start=" root@x "'])
def test_only_the_root_of_a_related_is_edited(start: str) -> None:
    """RFC 2387 §3.2: the part that `start` names, also without brackets, else the first; the others are resources."""
    first = _html(_LINK, "Content-ID: <first@x>")
    named = _html(_LINK, "Content-ID: <root@x>")
    message = mail(
        f"MIME-Version: 1.0\nContent-Type: multipart/related; boundary=b{start}\n\n--b\n{first}\n--b\n{named}\n--b--\n"
    )
    made = plan.make(message, options())
    assert [link.section for link in made.links] == (["2"] if start else ["1"])
    assert reasons(made) == ({"1": "related_part"} if start else {"2": "related_part"})


def test_the_pixel_is_once_in_the_last_html_of_the_first_alternative() -> None:
    """A program shows the last alternative that it understands; links are wrapped in all of them."""
    alternative = f"Content-Type: multipart/alternative; boundary=c\n\n--c\n{_html()}\n--c\n{_html()}\n--c--"
    message = _parts(alternative, _html(), alternative.replace("=c", "=d").replace("--c", "--d"))
    made = plan.make(message, options())
    assert [link.section for link in made.links] == ["1.1", "1.2", "2", "3.1", "3.2"]
    copy = joined(made)
    assert copy.count(_PIXEL) == 1
    first, second, third, *_ = copy.split(b"Content-Type: text/html")[1:]
    assert [_PIXEL in part for part in (first, second, third)] == [False, True, False]


def test_without_an_alternative_the_pixel_is_in_the_last_html() -> None:
    """Apple's html, image, html in a multipart/mixed."""
    copy = copy_of(_parts(_html(), "Content-Type: image/png\n\nPNG", _html()))
    assert [_PIXEL in part for part in copy.split(b"Content-Type: ")] == [False, False, False, False, True]


@pytest.mark.parametrize("encoding", ["7bit", "quoted-printable"])
def test_a_copy_ends_with_a_line_end_as_its_message_does(encoding: str) -> None:
    """RFC 5321 §4.1.1.4: a pixel at the end of a fragment stands before its last line end."""
    message = html_mail("<p>x</p>\n", f"Content-Transfer-Encoding: {encoding}")
    assert copy_of(message).endswith(b'display:block">\r\n')


def test_a_mail_without_html_has_no_pixel() -> None:
    """No open is invented."""
    made = plan.make(text_mail("https://shop.example/a"), options())
    assert (made.pixel, len(made.links)) == (False, 1)


def test_html_is_counted_before_text_and_both_in_the_order_of_the_message() -> None:
    """`max_links`: HTML first, then text; the rest is left with a reason."""
    two = '<a href="https://shop.example/1">1</a><a href="https://shop.example/2">2</a>'
    message = _parts(_text("https://shop.example/t\n"), _html(two), _html(two), subtype="alternative")
    made = plan.make(message, options())
    assert [(link.index, link.part, link.section, link.url[-1]) for link in made.links] == [
        (0, "html", "2", "1"),
        (1, "html", "2", "2"),
        (2, "html", "3", "1"),
        (3, "html", "3", "2"),
        (4, "text", "1", "t"),
    ]
    made = plan.make(message, options(max_links=3))
    assert len(made.links) == 3
    assert [(skip.section, skip.url, skip.reason.value) for skip in made.skips] == [
        ("3", "https://shop.example/2", "max_links"),
        ("1", "https://shop.example/t", "max_links"),
    ]


def test_a_broken_multipart_is_left() -> None:
    """Nobody knows what its parts are."""
    message = mail(f"MIME-Version: 1.0\nContent-Type: multipart/mixed\n\n--b\n{_html()}\n--b--\n")
    made = plan.make(message, options())
    assert reasons(made) == {"": "malformed_multipart"}
    assert joined(made) == message
