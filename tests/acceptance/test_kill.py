"""SIGKILL in the middle: no mail that got 250 is lost, no answered hit is missing, each outcome has one event."""

import contextlib
import random
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from http.client import HTTPException
from pathlib import Path

import pytest

from tests.acceptance.kills import Kills, hastened, settle
from tests.acceptance.scripted_upstream import DROP, NO_REASON, Fate, Upstream, came_again
from tests.acceptance.senders import RECIPIENTS, Crowd, compose, damage_of, send_until_accepted
from tests.acceptance.service import Events, Service, body_of, by_type, fetch, links_of, pixel_of, wait_until
from tests.conftest import IS_SOAK

CLIENTS = 16
CONNECTIONS_IN_FLIGHT = 20  # max_connections of an upstream, by default
RESTART_LIMIT_S = 3.0
SEED = 20261103
TOLD = {"Send", "Delivery", "DeliveryDelay"}

Count = Callable[[int, int], int]
Record = Callable[[str, Mapping[str, object]], None]


def _fates(key: str) -> list[Fate]:
    """Give 5 % of the copies a 451 once, at any phase, and 1 % no answer once although they are taken."""
    chance = random.Random(f"{SEED} {key}").random()
    if key.startswith("from:") or chance >= 0.06:
        return []
    phase = ("rcpt", "data", "dot")[int(chance * 100_000) % 3]
    return [Fate("dot", DROP) if chance >= 0.05 else Fate(phase, "451 4.3.0 Try later")]


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_no_accepted_message_is_lost_and_each_outcome_has_one_event(
    installed_mailwake: Path, tmp_path: Path, count_of: Count, record_soak: Record
) -> None:
    """Messages of three recipients from clients that retry, an upstream with bad days, kills at moments of chance."""
    messages, kills = count_of(150, 5000), count_of(3, 24)
    outgoing = [
        compose(number, "news@shop.example", [f"{who}.{number}@client.example" for who in ("ana", "bo", "cy")])
        for number in range(messages)
    ]
    delays = random.Random(SEED)

    with (
        Upstream(_fates, inspect=damage_of, delay_s=lambda: delays.uniform(0, 0.02)) as upstream,
        Service(installed_mailwake, tmp_path, upstream=upstream.url) as service,
    ):
        killing = Kills(service, upstream, kills=kills, copies=messages * 3 * 17 // 20, seed=SEED)
        with Crowd(service, outgoing, CLIENTS) as crowd:
            with hastened(service, count_of(3600, 15)):  # few messages must wait, or a kill finds none half delivered
                killing.carry_out()
            with hastened(service, 1):
                wait_until(lambda: len(crowd.accepted), messages.__eq__, 300, service.log_end)
                held = settle(service, 300)
        service.wait_for_events(lambda events: len(by_type(events, "Delivery")) >= len(upstream.copies), 180)
        assert service.stop() == 0
        events = service.events()

    taken = upstream.taken()
    arrived = {(copy.partition("-")[0], times[0].recipients[0]) for copy, times in taken.items()}
    lost = [
        (message.number, recipient)
        for message in outgoing
        for recipient in message.recipients
        if (crowd.accepted[message.number], recipient) not in arrived
    ]
    twice = sum(len(times) - 1 for times in taken.values())
    again = came_again(taken)
    figures = {
        "messages": messages,
        "recipients": 3,
        "clients": CLIENTS,
        **killing.figures(),
        "copies": len(taken),
        "put_off": len(by_type(events, "DeliveryDelay")),
        "answers_lost": upstream.withheld,
        "lost": len(lost),
        "corrupted": len(upstream.faults),
        "delivered_twice": twice,
        "delivered_twice_by_one_kill_max": max(again.values(), default=0),
        "accepted_twice": len(arrived) // 3 - messages,
        "connections_cut_by_kills": upstream.cut_lines(),
        "held_and_released": held,
        "bound": kills * CONNECTIONS_IN_FLIGHT + upstream.withheld,
    }
    record_soak("kills", figures)
    print(figures)

    assert lost == []
    assert upstream.faults == []
    assert service.quarantined() == []
    assert twice <= kills * CONNECTIONS_IN_FLIGHT + upstream.withheld
    assert again[NO_REASON] == 0
    assert max(again.values(), default=0) <= CONNECTIONS_IN_FLIGHT
    assert len(arrived) // 3 - messages <= kills * CLIENTS
    counts = {name: Counter(event["mailwake"]["copyId"] for event in by_type(events, name)) for name in TOLD}
    assert set(counts["Delivery"]) == set(counts["Send"]) == set(taken)
    assert all(set(times.values()) <= {1} for times in counts.values())
    assert {event["eventType"] for event in events} <= TOLD
    answers = {copy: {one.answer for one in times} for copy, times in taken.items()}
    for event in by_type(events, "Delivery"):
        assert event["mailwake"]["upstreamMessageId"] in answers[event["mailwake"]["copyId"]]
    if IS_SOAK:
        assert max(killing.restarts_s) < RESTART_LIMIT_S


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
