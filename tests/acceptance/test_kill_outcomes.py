"""SIGKILL between outcomes of every kind: each refused recipient has one Bounce and one report, no other has any."""

import random
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.acceptance.kills import Kills, hastened, settle
from tests.acceptance.scripted_upstream import NO_REASON, Fate, Upstream, came_again
from tests.acceptance.senders import Crowd, compose, damage_of
from tests.acceptance.service import Service, by_type, parse, wait_until
from tests.conftest import IS_SOAK

CLIENTS = 8
CONNECTIONS_IN_FLIGHT = 20  # max_connections of an upstream, by default
SEED = 20261104
TOLD = {"Send", "Delivery", "DeliveryDelay", "Bounce"}

_REFUSALS = {"rcpt": "550 5.1.1 No such user", "dot": "550 5.7.1 Not wanted"}


def _fates(key: str) -> list[Fate]:
    """Defer 30 % once or twice, at any phase; then refuse one recipient in five, half at RCPT and half at the dot.

    An author, `from:` or `to:` as the reader of a report, is never refused, but deferred like others.
    """
    kind, _, address = key.partition(":")
    chance = random.Random(f"{SEED} {key}")
    phases = ("mail",) if kind == "from" else ("rcpt", "data", "dot")
    fates = []
    if chance.random() < 0.3:
        fates.append(Fate(chance.choice(phases), "451 4.3.0 Try later", chance.choice((1, 1, 2))))
    refusal = _refusal_of(address)
    if refusal:
        fates.append(Fate(refusal, _REFUSALS[refusal], -1))
    return fates


def _refusal_of(address: str) -> str:
    """Return the phase that a recipient is refused at, for ever; "" for those that are not."""
    if not address.startswith("to."):
        return ""
    return random.Random(f"{SEED} refused {address}").choices(("rcpt", "dot", ""), (1, 1, 8))[0]


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_each_refused_recipient_has_one_bounce_and_one_report_whatever_is_killed(
    installed_mailwake: Path,
    tmp_path: Path,
    count_of: Callable[[int, int], int],
    record_soak: Callable[[str, Mapping[str, object]], None],
) -> None:
    """One recipient in five is refused, many are put off first; the process is killed at moments of chance."""
    messages, kills = count_of(100, 3000), count_of(3, 16)
    authors = messages // 20  # a hundred reports an hour is what one address gets
    outgoing = [
        compose(
            number,
            f"author.{number % authors}@shop.example",
            [f"to.{who}.{number}@client.example" for who in ("a", "b", "c")],
        )
        for number in range(messages)
    ]
    delays = random.Random(SEED)

    with (
        Upstream(_fates, inspect=damage_of, delay_s=lambda: delays.uniform(0, 0.02)) as upstream,
        Service(installed_mailwake, tmp_path, upstream=upstream.url) as service,
    ):
        killing = Kills(service, upstream, kills=kills, copies=messages * 3 * 7 // 10, seed=SEED)
        with Crowd(service, outgoing, CLIENTS) as crowd, hastened(service, count_of(1, 10)):
            killing.carry_out()
            wait_until(lambda: len(crowd.accepted), messages.__eq__, 300, service.log_end)
            held = settle(service, 300)
        service.wait_for_events(
            lambda events: (
                len(by_type(events, "Delivery")) + len(by_type(events, "Bounce"))
                >= len(by_type(events, "Send"))
                >= 3 * messages
            ),
            180,
        )
        assert service.stop() == 0
        events = service.events()

    taken = upstream.taken()
    copies = {event["mailwake"]["copyId"]: event["mailwake"]["recipient"] for event in by_type(events, "Send")}
    authors_of = {event["mailwake"]["copyId"]: event["mail"]["source"] for event in by_type(events, "Send")}
    refused = {copy for copy, recipient in copies.items() if _refusal_of(recipient)}
    told = {name: Counter(event["mailwake"]["copyId"] for event in by_type(events, name)) for name in TOLD}
    again = came_again(taken | upstream.reports)
    came = sum(map(len, upstream.reports.values()))
    figures = {
        "messages": messages,
        "recipients": 3,
        "clients": CLIENTS,
        **killing.figures(),
        "copies": len(copies),
        "refused": len(refused),
        "put_off": len(told["DeliveryDelay"]),
        "delivered": len(taken),
        "delivered_twice": sum(len(times) - 1 for times in taken.values()),
        "bounces": sum(told["Bounce"].values()),
        "reports": len(upstream.reports),
        "reports_twice": came - len(upstream.reports),
        "held_and_released": held,
    }
    record_soak("kill-outcomes", figures)
    print(figures)

    accepted = {(crowd.accepted[message.number], recipient) for message in outgoing for recipient in message.recipients}
    assert accepted <= {(copy.partition("-")[0], recipient) for copy, recipient in copies.items()}
    assert upstream.faults == []
    assert service.quarantined() == []
    assert {event["eventType"] for event in events} <= TOLD
    assert all(set(times.values()) <= {1} for times in told.values())
    assert set(told["Bounce"]) == refused
    assert set(told["Delivery"]) == set(copies) - refused == set(taken)
    assert again[NO_REASON] == 0
    assert max(again.values(), default=0) <= CONNECTIONS_IN_FLIGHT
    assert _reported(upstream) == Counter((copies[copy], authors_of[copy]) for copy in refused)
    if IS_SOAK:  # a few kills may meet more; of many, most meet no report
        assert came - len(upstream.reports) <= kills


def _reported(upstream: Upstream) -> "Counter[tuple[str, str]]":
    """Return whom the reports are about and who got them, each report once; all of its deliveries are the same."""
    found: Counter[tuple[str, str]] = Counter()
    for times in upstream.reports.values():
        assert len({time.data for time in times}) == 1
        report = parse(times[0].data)
        assert report.get_content_type() == "multipart/report"
        _, status, returned = report.iter_parts()
        assert status.get_content_type() == "message/delivery-status"
        assert returned.get_content_type() == "text/rfc822-headers"
        _, about = status.iter_parts()
        recipient = str(about["Final-Recipient"]).removeprefix("rfc822; ")
        assert about["Action"] == "failed"
        assert about["Diagnostic-Code"] == f"smtp; {_REFUSALS[_refusal_of(recipient)]}"
        found[recipient, str(report["To"]).strip("<>")] += 1
    return found
