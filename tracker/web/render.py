"""Answers as bytes and as responses of aiohttp: the two have the same fields in the same order.

Standards: RFC 9112 §4 (status line), RFC 9110 §6.6.1 (Date: an answer has one), §8.6 (Content-Length).
"""

from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Final

from aiohttp import web
from multidict import CIMultiDict

from tracker.core.hit import NOT_FOUND, PIXEL_ANSWER, REDIRECT_FIELDS, HttpAnswer

SERVER: Final = "web"  # says neither what nor which version; aiohttp would say both


def respond(http: HttpAnswer) -> web.Response:
    """Make the response. A plain one: the library's redirects parse and rewrite their Location."""
    headers = CIMultiDict(http.headers)
    headers["Server"] = SERVER
    headers["Content-Length"] = str(len(http.body))  # of a HEAD too, which the library leaves out where it is 0
    return web.Response(status=http.status, headers=headers, body=http.body)


def render(http: HttpAnswer, *, unix_s: int) -> bytes:
    """Write the answer to a GET of HTTP/1.1 whose connection is kept.

    ValueError: a field has a character that no field may have, a broken contract of whoever made the answer.
    """
    head = _HEADS.get(id(http))
    if head is None:
        head = _redirect_head(http.headers[0][1]) if http.headers[1:] == REDIRECT_FIELDS else _head(http)
    return head + _date(unix_s) + http.body


def _head(http: HttpAnswer) -> bytes:
    fields = "".join([f"{name}: {value}\r\n" for name, value in http.headers])
    lines = f"HTTP/1.1 {_STATUS[http.status]}\r\n{fields}Server: {SERVER}\r\nContent-Length: {len(http.body)}\r\n"
    if not lines.replace("\r\n", "").isprintable() or lines.count("\r\n") != len(http.headers) + 3:
        raise ValueError("a field of the answer has a character that no field may have")
    return lines.encode("ascii")


def _redirect_head(location: str) -> bytes:
    """Do as `_head` for a redirect: only what differs from the last one is put together."""
    if not location.isprintable():
        raise ValueError("a location has a character that no field may have")
    return _REDIRECT_BEGINS + location.encode("ascii") + _REDIRECT_ENDS


@lru_cache(maxsize=2)
def _date(unix_s: int) -> bytes:
    return f"Date: {formatdate(unix_s, usegmt=True)}\r\n\r\n".encode("ascii")


_STATUS: Final = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}
_HEADS: Final = {id(http): _head(http) for http in (PIXEL_ANSWER, NOT_FOUND)}  # constants: their ids are theirs alone
_REDIRECT_BEGINS, _REDIRECT_ENDS = _head(
    HttpAnswer(status=302, headers=(("Location", "http://x"), *REDIRECT_FIELDS))
).split(b"http://x")
