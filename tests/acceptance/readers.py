"""Readers of mail: many hits at a steady pace over connections that stay open, and what came of each.

Every hit has a user agent of its own, `reader 17`, so that its event can be told from all others.
"""

import contextlib
import http.client
import threading
import time
from dataclasses import dataclass, field
from typing import Final, Self
from urllib.parse import urlsplit

from tests.acceptance.senders import RECIPIENTS, send_until_accepted
from tests.acceptance.service import Events, Service, body_of, by_type, links_of, pixel_of, wait_until

DESTINATION: Final = "https://shop.example/lamp"
_TIMEOUT_S: Final = 20.0
_THREADS: Final = 8
_HEADERS: Final = {"Accept": "text/html", "Accept-Language": "en"}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a hit got, and how long after it was asked for."""

    reader: str
    status: int
    location: str | None
    took_s: float
    at_s: float


@dataclass
class Readers:
    """So many hits at a pace, in threads; a hit that is not answered is asked for again, until `stop` is set."""

    service: Service
    urls: tuple[str, ...]
    hits: int
    per_s: float
    answers: list[Answer] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._begin_s = time.monotonic()
        self._numbers = iter(range(self.hits))
        self._lock = threading.Lock()
        self._given_up = threading.Event()
        self._threads = [threading.Thread(target=self._work) for _ in range(_THREADS)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            self._given_up.set()
        for thread in self._threads:
            thread.join(600)

    def answered(self) -> int:
        """Return how many were answered by now."""
        return len(self.answers)

    def wrong(self) -> list[Answer]:
        """Return the answers that are neither the image nor the redirect to where the author's link leads."""
        return [
            answer
            for answer in self.answers
            if (answer.status, answer.location) not in {(200, None), (302, DESTINATION)}
        ]

    def percentile_ms(self, percent: float) -> float:
        """Return the time that so many of the answers took at most."""
        times = sorted(answer.took_s for answer in self.answers)
        return round(times[min(len(times) - 1, int(len(times) * percent / 100))] * 1000, 1)

    def _work(self) -> None:
        connection: http.client.HTTPConnection | None = None
        while not self._given_up.is_set():
            with self._lock:
                number = next(self._numbers, None)
            if number is None:
                break
            due_s = self._begin_s + number / self.per_s
            self._given_up.wait(max(0.0, due_s - time.monotonic()))
            answer = None
            while answer is None and not self._given_up.is_set():
                if connection is None:
                    connection = http.client.HTTPConnection(*self.service.addresses["tracker"], timeout=_TIMEOUT_S)
                answer = self._ask(connection, number)
                if answer is None:
                    connection.close()
                    connection = None
                    self._given_up.wait(0.01)
            if answer is not None:
                self.answers.append(answer)
        if connection is not None:
            connection.close()

    def _ask(self, connection: http.client.HTTPConnection, number: int) -> Answer | None:
        """Ask once; None where there was no whole answer."""
        reader = f"reader {number}"
        began_s = time.monotonic()
        with contextlib.suppress(OSError, http.client.HTTPException):
            path = urlsplit(self.urls[number % len(self.urls)]).path
            connection.request(
                "GET", path, headers={"User-Agent": reader, "Accept": "text/html", "Accept-Language": "en"}
            )
            answer = connection.getresponse()
            answer.read()
            now_s = time.monotonic()
            return Answer(reader, answer.status, answer.getheader("Location"), now_s - began_s, now_s)
        return None


def first_mail(service: Service) -> tuple[str, ...]:
    """Have a message delivered; return the pixel and the first link of each of its copies."""
    assert send_until_accepted(service, "hits", threading.Event(), link=DESTINATION)
    copies = wait_until(service.delivered, lambda found: len(found) == len(RECIPIENTS), 30, service.log_end)
    bodies = [body_of(copy, "text/html") for copy in copies]
    return tuple(url for html in bodies for url in (pixel_of(html), links_of(html)[0]))


def seen(events: Events) -> list[str]:
    """Return the readers that events tell of, once for each event."""
    return [str(event[name.lower()]["userAgent"]) for name in ("Open", "Click") for event in by_type(events, name)]
