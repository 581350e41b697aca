"""POST of events to a URL, by Standard Webhooks: signed, one request in flight, success is a 2xx and nothing else.

Owns one request at a time and what its answer means; the worker owns when it is made again.

    2xx                 the events are there, whatever becomes of the rest of the answer
    410                 the receiver wants nothing any more
    413, 422            it refuses these events: of a batch each is posted alone, and the one refused then is dead
    400, three times    the same; the first times it may be a signature that is not known there yet
    everything else     the receiver fails: redirects (not followed), 401, 404, 429, 5xx, no answer within the limit

Standards: Standard Webhooks 1.0; RFC 9110 §10.2.3 (Retry-After), §15.

Limits: a receiver that is reached only through a proxy cannot be posted to.
"""

import asyncio
import errno
import os
import re
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from typing import Final

import aiohttp
from yarl import URL

from tracker.contract.formats import sns_headers
from tracker.contract.settings import EventDestination
from tracker.contract.webhooks import batch_id, signed_headers
from tracker.publish.guard import Guard, guard_of
from tracker.publish.outcome import Dead, Delivered, Disabled, Outcome, TryAgain
from tracker.store.publishing import LogEntry

LIMIT_S: Final = 15.0  # the least that the specification advises, for connecting, posting and the answer together
MAX_ANSWER_BYTES: Final = 64 << 10
KEEP_ALIVE_S: Final = 4.0  # less than common servers keep an idle connection (5 s): else theirs closes under a POST
_SHOWN_CHARACTERS: Final = 200
_REFUSED: Final = (413, 422)
_DOUBTFUL: Final = 400
_DOUBTS: Final = 3
_GONE: Final = 410


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """What came of a request: `status` is None where no answer came."""

    status: int | None
    reason: str
    after: timedelta | None = None


class WebhookWriter:
    """Posts to the URL of a destination."""

    def __init__(self, destination: EventDestination, *, guard: Guard | None = None, limit_s: float = LIMIT_S) -> None:
        """Take the destination; `guard` replaces the one that resolves its host as this machine does."""
        self._destination = destination
        self._url = URL(destination.url)
        self._guard = guard or guard_of(self._url.scheme, allow_private=destination.allow_private)
        self._limit_s = limit_s
        self._session: aiohttp.ClientSession | None = None
        self._again: tuple[str, int] = ("", 0)  # first event and size of the request that failed: retried as it was
        self._alone: frozenset[str] = frozenset()  # events of a batch that was refused, to be posted one by one
        self._doubts: tuple[str, int] = ("", 0)  # id of a request that 400 was answered to, and how often

    async def write(self, entries: Sequence[LogEntry], now: datetime) -> Outcome:
        """Post the events, as many in a request as the destination wants, until one request fails."""
        done, began_s = 0, time.monotonic()
        while done < len(entries):
            request = entries[done : done + self._size(entries[done:])]
            answer = await self._post(request, now + timedelta(seconds=int(time.monotonic() - began_s)))
            if answer.status is not None and 200 <= answer.status < 300:
                done += len(request)
                self._again = self._doubts = ("", 0)
            elif answer.status == _GONE:
                return Disabled(reason=answer.reason, delivered=done)
            elif not self._is_refused(request, answer):
                self._again = (request[0].event_id, len(request))
                return TryAgain(reason=answer.reason, delivered=done, after=answer.after)
            elif len(request) == 1:
                self._again = self._doubts = ("", 0)
                return Dead(reason=answer.reason, delivered=done)
            else:
                self._again = self._doubts = ("", 0)
                self._alone = frozenset(entry.event_id for entry in request)
        return Delivered()

    async def tidy(self, now: datetime) -> None:
        """Do nothing: nothing is kept."""

    async def close(self) -> None:
        """Close the connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _size(self, entries: Sequence[LogEntry]) -> int:
        """Return how many events the next request has; a retried one has the same, and so the same id."""
        if entries[0].event_id in self._alone:
            return 1
        first, size = self._again
        return size if entries[0].event_id == first else self._destination.batch

    def _is_refused(self, request: Sequence[LogEntry], answer: _Answer) -> bool:
        if answer.status in _REFUSED:
            return True
        if answer.status != _DOUBTFUL:
            return False
        known, times = self._doubts
        self._doubts = (self._id(request), times + 1 if known == self._id(request) else 1)
        return self._doubts[1] >= _DOUBTS

    def _id(self, request: Sequence[LogEntry]) -> str:
        if self._destination.batch == 1:
            return request[0].event_id
        return batch_id([entry.event_id for entry in request])

    async def _post(self, request: Sequence[LogEntry], now: datetime) -> _Answer:
        text = request[0].body if self._destination.batch == 1 else f"[{','.join([one.body for one in request])}]"
        body = text.encode()
        headers = {
            "Content-Type": "application/json",
            **(sns_headers(request[0].event_id, self._destination.name) if self._destination.format == "sns" else {}),
            **signed_headers(self._destination.secrets, message_id=self._id(request), now=now, body=body),
        }
        answer: _Answer | None = None
        trouble = ""
        try:
            async with (
                asyncio.timeout(self._limit_s),
                self._open().post(self._url, data=body, headers=headers, allow_redirects=False) as response,
            ):
                after = retry_after(response.headers.get("Retry-After", ""), now)
                answer = _Answer(status=response.status, reason=f"HTTP {response.status}", after=after)
                text = shown((await _read_start(response)).decode("utf-8", "replace"))
                if text:
                    answer = replace(answer, reason=f"{answer.reason}: {text}")
        except TimeoutError:
            trouble = f"no answer within {self._limit_s:g} s"
        except aiohttp.ClientConnectorError as error:
            trouble = shown(_words(error.os_error))
        except aiohttp.ClientResponseError as error:  # its own words hold the URL, whose query may be a secret
            trouble = shown(f"{type(error).__name__}: {error.message}")
        except (aiohttp.ClientError, OSError, ValueError) as error:  # ValueError: a host that is no name in IDNA
            trouble = shown(f"{type(error).__name__}: {error}")
        # The status decides: what became of the text behind it changes nothing.
        return answer or _Answer(status=None, reason=trouble)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = _make_session(self._guard)
        return self._session


def shown(text: str) -> str:
    """Return the start of a stranger's text for logs and tables: printable, on one line, without mail addresses."""
    start = "".join([character if character.isprintable() else " " for character in text[: 4 * _SHOWN_CHARACTERS]])
    return re.sub(r"[^\s\"'<>]*@[^\s\"'<>]*", "(address)", " ".join(start.split()))[:_SHOWN_CHARACTERS]


def _words(error: OSError) -> str:
    """Return the system's words: the library's own hold the address once more."""
    has_number = error.errno in errno.errorcode and not isinstance(error, ssl.SSLError)  # those number otherwise
    return os.strerror(error.errno) if has_number and error.errno else str(error)


def retry_after(value: str, now: datetime) -> timedelta | None:
    """Read a Retry-After field, seconds or a date (RFC 9110 §10.2.3); None where it says nothing usable."""
    value = value.strip()
    if re.fullmatch(r"[0-9]{1,9}", value):
        return timedelta(seconds=int(value))
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, OverflowError):  # OverflowError: a number that no calendar has
        return None
    return max(date.replace(tzinfo=date.tzinfo or UTC) - now, timedelta())


async def _read_start(response: aiohttp.ClientResponse) -> bytes:
    """Read an answer, up to a limit; the library closes the connection of a longer one when it is let go."""
    pieces: list[bytes] = []
    room = MAX_ANSWER_BYTES
    while room and (piece := await response.content.read(room)):
        pieces.append(piece)
        room -= len(piece)
    return b"".join(pieces)


def _make_session(guard: Guard) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(
        resolver=guard,
        socket_factory=guard.socket,
        use_dns_cache=False,  # a name is looked at again at each connection
        limit=1,
        keepalive_timeout=KEEP_ALIVE_S,
    )
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None),  # ours is around it
        auto_decompress=False,  # a few bytes could become gigabytes
        trust_env=False,
        headers={"User-Agent": f"Mailwake/{version('mailwake')}", "Accept-Encoding": "identity"},
    )
