"""An upstream that refuses our login: nothing bounces, whoever looks is told, and all mail arrives in the end."""

import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.acceptance.load import offer
from tests.acceptance.service import Service, by_type, wait_until
from tests.acceptance.sink import Sink

Count = Callable[[int, int], int]
Record = Callable[[str, Mapping[str, object]], None]


def configured(command: Path, folder: Path, sink: Sink, password: str) -> Service:
    """Return a service that is to log in at the sink; it is not started yet."""
    service = Service(command, folder, upstream=sink.url)
    with_login(service, password)
    return service


def with_login(service: Service, password: str) -> None:
    """Give the upstream a login, in a file that nobody else reads."""
    kept = [line for line in service.config.read_text().splitlines() if not line.startswith(("username", "password"))]
    at = kept.index("[upstream.default]") + 1
    kept[at:at] = ['username = "apikey"', f'password = "{password}"']
    service.config.write_text("\n".join(kept))
    service.config.chmod(0o600)


def told_by_check(service: Service) -> str:
    """Return what `mailwake check` prints; it must find something."""
    command = [service.command, "check", "--config", str(service.config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout


def seen_to_be_refused(service: Service, waiting: int) -> None:
    """Look at all that tells of it."""
    wait_until(service.log, lambda text: '"upstream_login_refused"' in text, 20)
    wait_until(lambda: service.metric('mailwake_upstream_circuit_open{upstream="default"}'), lambda seen: seen == 1, 20)
    assert service.metric('mailwake_upstream_login_refused_total{upstream="default"}') >= 1
    assert service.metric("mailwake_spool_messages") == waiting
    told = told_by_check(service)
    assert "FAILED  upstream.default: auth: 535 5.7.8 Authentication credentials invalid" in told
    assert "mend username and password of [upstream.default]" in told


@pytest.mark.timeout(300)
def test_a_password_that_expires_loses_nothing(
    installed_mailwake: Path, tmp_path: Path, count_of: Count, record_soak: Record
) -> None:
    """The upstream changes its mind while mail comes in; when it takes the password again, all of it arrives, once."""
    count = count_of(40, 1000)
    with Sink(password="right") as sink, configured(installed_mailwake, tmp_path, sink, "right") as service:
        offer(service, ["before"], sessions=1)
        wait_until(lambda: len(sink.taken), lambda seen: seen == 1, 20, service.log)
        sink.password = "another"
        sink.hang_up()
        subjects = [f"message {number}" for number in range(count)]
        assert len(offer(service, subjects)) == count
        seen_to_be_refused(service, count)
        events = service.events()
        assert not by_type(events, "Bounce")
        assert not by_type(events, "DeliveryDelay")

        sink.password = "right"
        service.flush()
        everything = count + 1
        wait_until(lambda: len(sink.taken), lambda seen: seen == everything, 120, service.log)
        events = service.wait_for_events(lambda events: len(by_type(events, "Delivery")) == everything)
        assert service.metric('mailwake_upstream_circuit_open{upstream="default"}') == 0
        assert service.stop() == 0

    twice = sum(len(times) - 1 for times in sink.taken.values())
    bounced, delayed = (len(by_type(events, name)) for name in ("Bounce", "DeliveryDelay"))
    record_soak(
        "expired-password",
        {"waiting": count, "delivered": len(sink.taken) - 1, "twice": twice, "bounced": bounced, "delayed": delayed},
    )
    assert (twice, bounced, delayed) == (0, 0, 0)


@pytest.mark.timeout(300)
def test_a_wrong_password_is_mended_in_the_configuration(
    installed_mailwake: Path, tmp_path: Path, count_of: Count, record_soak: Record
) -> None:
    """What waited under the wrong one leaves under the right one at once, without a restart."""
    count = count_of(40, 1000)
    with Sink(password="right") as sink, configured(installed_mailwake, tmp_path, sink, "wrong") as service:
        offer(service, [f"message {number}" for number in range(count)])
        seen_to_be_refused(service, count)
        with_login(service, "right")
        assert service.run("reload") == "The configuration is in force.\n"
        wait_until(lambda: len(sink.taken), lambda seen: seen == count, 120, service.log)
        events = service.wait_for_events(lambda events: len(by_type(events, "Delivery")) == count)
        assert service.stop() == 0

    twice = sum(len(times) - 1 for times in sink.taken.values())
    bounced = len(by_type(events, "Bounce"))
    record_soak("wrong-password", {"waiting": count, "delivered": len(sink.taken), "twice": twice, "bounced": bounced})
    assert (twice, bounced) == (0, 0)
