"""Seams S15 and S22: the parsers at hand can be kept busy for seconds by a few KB, so the mail path has its own.

Compared by processor time, far from the bounds: four times the input takes a quadratic parser sixteen times as long.
"""

from collections.abc import Callable
from email import message_from_bytes, policy
from html.parser import HTMLParser

import pytest
from bs4 import BeautifulSoup

from relay.core import html, mime
from tests.growth import cpu_s, is_linear


def _cost(work: Callable[[], object]) -> float:
    return max(min(cpu_s(work) for _ in range(3)), 1e-6)


def _growth(work: Callable[[int], object], size: int) -> float:
    return _cost(lambda: work(4 * size)) / _cost(lambda: work(size))


def _parse_with_html_parser(size: int) -> None:
    parser = HTMLParser()
    parser.feed("<a " * size)
    parser.close()


def test_html_parser_is_quadratic_and_ours_is_not() -> None:
    """S15: a hostile body of a few KB takes seconds; the witness rests on it, and runs in a process apart (S22)."""
    assert _growth(_parse_with_html_parser, 250) > 7
    assert _growth(lambda size: BeautifulSoup("<a " * size, "html.parser"), 250) > 7
    assert is_linear(lambda size: html.find(b"<a " * size), 15_000)


def test_email_reads_a_long_content_type_a_hundred_times_slower() -> None:
    """S15: seconds for a field of 20 KB, and header fields may have 128."""
    raw = b"Content-Type: text/html" + b"; a*0*=x" * 300 + b"\r\n\r\n"
    slow = _cost(lambda: message_from_bytes(raw, policy=policy.default)["Content-Type"])
    assert slow > 30 * _cost(lambda: mime.scan(raw))


def test_email_dies_of_nested_parts_and_ours_does_not() -> None:
    """S15: 300 levels are parsed and cannot be written again; ours names the limit."""
    raw = b"Content-Type: text/plain\r\n\r\nx"
    for level in range(300):
        raw = b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n%b\r\n--b%d--" % (level, level, raw, level)
    parsed = message_from_bytes(raw)
    with pytest.raises(RecursionError):
        parsed.as_bytes()
    assert mime.scan(raw) == "too_deep"
