"""Seam S13: what parsers write is not what they read, so nothing of ours is written by a parser."""

from email import message_from_bytes, policy

from bs4 import BeautifulSoup

_MAIL = (
    b"Subject:  two  blanks and a name that is longer than seventy-eight characters of one line\r\n"
    b"X-Folded: one,\r\n\ttwo\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nbody\r\n"
)


def test_email_refolds_headers_that_nobody_touched() -> None:
    """With the policy for SMTP, folding and white space of the original are lost."""
    written = message_from_bytes(_MAIL, policy=policy.SMTP).as_bytes()
    assert written != _MAIL
    assert b"\r\n\ttwo" not in written or b"characters of one line\r\n" not in written


def test_beautiful_soup_writes_another_document() -> None:
    """Names become lower case, entities characters, and line ends LF; downlevel conditions are lost."""
    written = str(BeautifulSoup("<P Class=b ID=a>a&nbsp;b\r\n<![if !mso]>x<![endif]></P>", "html.parser"))
    assert written.startswith('<p class="b" id="a">a\u00a0b')
    assert "&nbsp;" not in written
    assert "<![if !mso]>" not in written
