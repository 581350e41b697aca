"""SIGKILL in the middle: no mail that got 250 is lost, no answered hit is missing, each outcome has one event."""

import contextlib
import smtplib
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from http.client import HTTPException
from pathlib import Path

import pytest

from tests.acceptance.service import Events, Service, body_of, by_type, fetch, links_of, pixel_of, wait_until
from tests.acceptance.upstream import Upstream, counting_upstream

RECIPIENTS = ("ana@client.example", "bo@client.example", "cy@other.example")
CONNECTIONS_IN_FLIGHT = 20  # max_connections of an upstream, by default

Count = Callable[[int, int], int]
Record = Callable[[str, Mapping[str, object]], None]


def send_until_accepted(
    service: Service, subject: str, stop: threading.Event, *, link: str = "https://shop.example/lamp"
) -> bool:
    """Do as a client that retries: the same message again until a 250 is read."""
    text = (
        f"From: news@shop.example\r\nTo: ana@client.example\r\nSubject: {subject}\r\nMIME-Version: 1.0\r\n"
        "Content-Type: text/html; charset=utf-8\r\n\r\n"
        f'<html><body><a href="{link.replace("&", "&amp;")}">Lamp</a></body></html>\r\n'
    )
    while not stop.wait(0.02):
        with (
            contextlib.suppress(OSError, smtplib.SMTPException),
            smtplib.SMTP(*service.addresses["relay"], timeout=20) as client,
        ):
            client.sendmail("news@shop.example", RECIPIENTS, text)
            return True
    return False


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_no_accepted_message_is_lost_and_each_outcome_has_one_event(
    installed_mailwake: Path, tmp_path: Path, count_of: Count, record_soak: Record
) -> None:
    """Messages of three recipients from clients that retry, with kills of the serving process in between."""
    messages, kills, clients = count_of(200, 2000), count_of(5, 24), 8
    stop = threading.Event()
    accepted: list[str] = []
    waiting = [f"message {number}" for number in range(messages)]

    with (
        counting_upstream() as upstream,
        Service(installed_mailwake, tmp_path, upstream=f"smtp://127.0.0.1:{upstream.port}") as service,
    ):

        def work() -> None:
            while not stop.is_set():
                try:
                    subject = waiting.pop()
                except IndexError:
                    return
                if send_until_accepted(service, subject, stop):
                    accepted.append(subject)

        threads = [threading.Thread(target=work) for _ in range(clients)]
        for thread in threads:
            thread.start()
        try:
            for number in range(kills):
                enough = messages * (number + 1) // (kills + 1)
                wait_until(lambda: len(accepted), enough.__le__, 120, service.log)
                service.kill()
                service.start()
            wait_until(lambda: len(accepted), lambda seen: seen == messages, 120, service.log)
        finally:
            stop.set()
            for thread in threads:
                thread.join(30)
        events = service.wait_for_events(lambda events: _settled(events, upstream, accepted), 180)
        assert service.stop() == 0

    twice = sum(times - 1 for times in upstream.taken.values())
    lost = [(subject, rcpt) for subject in accepted for rcpt in RECIPIENTS if not upstream.subjects[subject, rcpt]]
    deliveries = Counter(event["mailwake"]["copyId"] for event in by_type(events, "Delivery"))
    sends = Counter(event["mailwake"]["copyId"] for event in by_type(events, "Send"))
    record_soak(
        "kills",
        {
            "messages": messages,
            "recipients": len(RECIPIENTS),
            "kills": kills,
            "copies": len(upstream.taken),
            "lost": len(lost),
            "delivered_twice": twice,
            "bound": kills * CONNECTIONS_IN_FLIGHT,
        },
    )
    print(f"{messages} messages, {kills} kills: {len(lost)} lost, {twice} copies twice")

    assert lost == []
    assert twice <= kills * CONNECTIONS_IN_FLIGHT
    assert set(deliveries) == set(upstream.taken) == set(sends)
    assert set(deliveries.values()) == {1}
    assert set(sends.values()) == {1}


def _settled(events: Events, upstream: Upstream, accepted: list[str]) -> bool:
    """Tell whether every copy that the upstream took has its Delivery, and every accepted message arrived."""
    arrived = all(upstream.subjects[subject, rcpt] for subject in accepted for rcpt in RECIPIENTS)
    return arrived and len(by_type(events, "Delivery")) >= len(upstream.taken)


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_no_answered_hit_is_missing(
    installed_mailwake: Path, tmp_path: Path, count_of: Count, record_soak: Record
) -> None:
    """Hits from several readers with kills of the tracking host in between; each answered one is an event, once."""
    hits, kills = count_of(500, 20_000), count_of(3, 10)
    with Service(installed_mailwake, tmp_path) as service:
        assert send_until_accepted(service, "hits", threading.Event())
        copies = wait_until(service.delivered, lambda found: len(found) == len(RECIPIENTS), 30, service.log)
        html = body_of(copies[0], "text/html")
        urls = (pixel_of(html), links_of(html)[0])
        answered: list[str] = []
        waiting = list(range(hits))

        def work() -> None:
            while waiting:
                with contextlib.suppress(IndexError):
                    reader = f"reader {waiting.pop()}"
                    url = urls[len(answered) % 2]
                    while not _hit(service, url, reader):
                        pass
                    answered.append(reader)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for number in range(kills):
            enough = hits * (number + 1) // (kills + 1)
            wait_until(lambda: len(answered), enough.__le__, 120, service.log)
            service.kill()
            service.start()
        for thread in threads:
            thread.join(120)
        assert len(answered) == hits

        def seen(events: Events) -> set[str]:
            return {
                str(event[name.lower()]["userAgent"]) for name in ("Open", "Click") for event in by_type(events, name)
            }

        events = service.wait_for_events(lambda events: set(answered) <= seen(events), 120)
        assert service.stop() == 0

    ids = {event["mailwake"]["eventId"] for event in events}
    missing, twice = set(answered) - seen(events), len(events) - len(ids)
    record_soak("hits", {"hits": hits, "kills": kills, "missing": len(missing), "counted_twice": twice})
    assert not missing
    assert not twice


def _hit(service: Service, url: str, reader: str) -> bool:
    """Ask once; true when an answer was read to its end."""
    try:
        status, _, _ = fetch(service.local(url), user_agent=reader)
    except (OSError, HTTPException):  # nobody listens, or the answer was cut
        return False
    return status in (200, 302)
