"""SIGKILL in the middle: no mail that got 250 is lost, and each outcome has one event. Of hits: `test_kill_hits.py`."""

import random
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.acceptance.kills import Kills, hastened, settle
from tests.acceptance.scripted_upstream import DROP, NO_REASON, Fate, Upstream, came_again
from tests.acceptance.senders import Crowd, compose, damage_of
from tests.acceptance.service import Service, by_type, wait_until
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
