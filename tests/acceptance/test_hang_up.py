"""Clients that leave at the worst moment: nothing is lost by it, and every answer is that to its own command.

The upstream's connections are few, so that each carries many copies, and it gives every copy an answer of its own: one
that is taken for another copy's shows in the events.
"""

import contextlib
import re
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.acceptance.scripted_upstream import Upstream, came_again
from tests.acceptance.senders import Outgoing, compose, damage_of
from tests.acceptance.service import Service, by_type, wait_until

EACH = 12
CONNECTIONS = 2

_QUEUED = re.compile(rb"^250 2\.0\.0 Ok: queued as (\w+)\r$", re.MULTILINE)


class _Client:
    """A session by hand, up to and without the reply to the final dot."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, timeout=20)
        self.file = self.socket.makefile("rb")
        assert self.file.readline().startswith(b"220 ")
        self.say(b"HELO client.example")

    def say(self, command: bytes) -> bytes:
        self.socket.sendall(command + b"\r\n")
        return self.file.readline()

    def submit(self, message: Outgoing) -> None:
        """Send a message and its dot, and read nothing of what is said to it."""
        assert self.say(f"MAIL FROM:<{message.sender}>".encode()).startswith(b"250 ")
        for recipient in message.recipients:
            assert self.say(f"RCPT TO:<{recipient}>".encode()).startswith(b"250 ")
        assert self.say(b"DATA").startswith(b"354 ")
        self.socket.sendall((b"\r\n" + message.raw).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n")

    def close(self) -> None:
        self.file.close()
        self.socket.close()


Leave = Callable[[_Client], bytes]
"""Ends a session after the dot; returns what was read of the reply."""


def _waits(client: _Client) -> bytes:
    return client.file.readline()


def _closes(client: _Client) -> bytes:
    client.close()
    return b""


def _resets(client: _Client) -> bytes:
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return _closes(client)


def _half_closes(client: _Client) -> bytes:
    client.socket.shutdown(socket.SHUT_WR)
    return client.file.read()


def _gives_up(client: _Client) -> bytes:
    """Time out before the answer can be there, as far as the machine's speed allows, and hang up."""
    client.socket.settimeout(0.002)
    with contextlib.suppress(TimeoutError):
        return client.socket.recv(1000)
    client.close()
    return b""


def _quits_at_once(client: _Client) -> bytes:
    """Say QUIT behind the dot without waiting, and hang up: the reply finds nobody."""
    client.socket.sendall(b"QUIT\r\n")
    return _closes(client)


LEAVING: tuple[Leave, ...] = (_waits, _closes, _resets, _half_closes, _gives_up, _quits_at_once)


@pytest.mark.parametrize("inline_wait", ["0s", "2s"])
def test_who_hangs_up_loses_nothing_and_puts_no_answer_out_of_step(
    installed_mailwake: Path, tmp_path: Path, inline_wait: str
) -> None:
    """Also where the client's reply waits for the upstream's: its leaving must not cut a dialogue in the middle."""
    settings = {
        "RELAY__INLINE_WAIT": inline_wait,
        "UPSTREAM__DEFAULT__MAX_CONNECTIONS": str(CONNECTIONS),
        "UPSTREAM__DEFAULT__MAX_MESSAGES_PER_CONNECTION": "1000",
    }
    answered: dict[int, str] = {}

    with (
        Upstream(inspect=damage_of, delay_s=lambda: 0.005) as upstream,
        Service(installed_mailwake, tmp_path, upstream=upstream.url, settings=settings) as service,
    ):

        def work(kind: int) -> None:
            for turn in range(EACH):
                number = kind * EACH + turn
                message = compose(number, "news@shop.example", [f"{who}.{number}@client.example" for who in ("a", "b")])
                client = _Client(service.addresses["relay"])
                client.submit(message)
                found = _QUEUED.search(LEAVING[kind](client))
                client.close()
                if found is not None:
                    answered[number] = found[1].decode()

        threads = [threading.Thread(target=work, args=(kind,)) for kind in range(len(LEAVING))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        wait_until(service.spooled, lambda left: not left, 30, service.log_end)
        events = service.wait_for_events(
            lambda events: len(by_type(events, "Delivery")) == len(by_type(events, "Send")) >= 2 * len(answered)
        )
        assert service.stop() == 0

    taken = upstream.taken()
    arrived = {(copy.partition("-")[0], times[0].recipients[0]) for copy, times in taken.items()}
    times_of = Counter(recipient for _, recipient in arrived)
    whole_replies = [kind for kind, leave in enumerate(LEAVING) if leave in (_waits, _half_closes)]
    for kind in whole_replies:
        assert {number for number in answered if number // EACH == kind} == set(range(kind * EACH, (kind + 1) * EACH))
    for number, message in answered.items():
        assert {(message, f"{who}.{number}@client.example") for who in ("a", "b")} <= arrived
    assert set(times_of.values()) == {1}
    assert upstream.faults == []
    assert not came_again(taken)
    assert len(upstream.lines) <= CONNECTIONS
    for event in by_type(events, "Delivery"):
        copy = event["mailwake"]["copyId"]
        assert event["mailwake"]["upstreamMessageId"] == taken[copy][0].answer
        assert event["mailwake"]["recipient"] == taken[copy][0].recipients[0]
