"""Hundreds of clients that hold connections and send next to nothing: a normal one is served as if they were not."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from tests.acceptance.load import Client
from tests.acceptance.service import Service
from tests.certificates import make_certificate

MESSAGE = "From: news@shop.example\r\nTo: ana@client.example\r\nSubject: Hello\r\n\r\nHello\r\n."
KINDS = ("idle", "command", "data", "handshake")
OF_A_SESSION = 20
OFTEN_S = 1.0  # an octet of a trickle


class Slow:
    """One that holds a connection; `end` is how it ended, as the first line of the last reply says."""

    def __init__(self, service: Service, number: int) -> None:
        """Take an address of its own, and one of the kinds in turn."""
        self.kind = KINDS[number % len(KINDS)]
        port = service.smtp_ports[self.kind == "handshake"]
        self.client = Client("127.0.0.1", port, source=f"127.0.{1 + number // 250}.{1 + number % 250}")
        self.end = ""
        self.held_s = 0.0
        self.is_holding = False

    async def run(self) -> None:
        """Hold it until the service has enough."""
        began_s = time.monotonic()
        if self.kind == "handshake":
            await self.client.connect()
            self.client.writer.write(b"\x16\x03\x01\x02")  # the hello of TLS, its length still to come
        else:
            await self.client.open()
        if self.kind == "data":
            await self.client.ask("MAIL FROM:<news@shop.example>")
            await self.client.ask("RCPT TO:<ana@client.example>")
            await self.client.ask("DATA", b"354")
        self.is_holding = True
        trickling = asyncio.create_task(self._trickle())
        with suppress(ConnectionError):  # an octet that comes after the end of the connection is answered by a reset
            self.end = (await self.client.reader.readline()).decode("latin-1")[:9]
            await self.client.reader.read()
        self.held_s = time.monotonic() - began_s
        trickling.cancel()
        self.client.writer.close()

    async def _trickle(self) -> None:
        while self.kind in ("command", "data"):
            await asyncio.sleep(OFTEN_S)
            self.client.writer.write(b"x")


async def normal(service: Service, messages: int) -> tuple[list[float], list[float]]:
    """Send messages, a connection for every so many; return the times of replies and of connections."""
    waits_s: list[float] = []
    opened_s: list[float] = []
    for _ in range(messages // OF_A_SESSION):
        client = Client("127.0.0.1", service.smtp_ports[False])
        began_s = time.monotonic()
        await client.open()
        opened_s.append(time.monotonic() - began_s)
        for _ in range(OF_A_SESSION):
            await client.send(MESSAGE)
            await asyncio.sleep(0.01)
        waits_s += client.waits_s
        await client.close()
    return sorted(waits_s), sorted(opened_s)


def shown(waits_s: list[float]) -> dict[str, float]:
    """Return a median and a 99th percentile in milliseconds."""
    return {
        name: round(waits_s[int(len(waits_s) * share)] * 1000, 2) for name, share in (("p50_ms", 0.5), ("p99_ms", 0.99))
    }


@pytest.mark.timeout(180)
def test_slow_clients_take_nothing_from_a_normal_one(
    installed_mailwake: Path,
    tmp_path: Path,
    count_of: Callable[[int, int], int],
    record_soak: Callable[[str, Mapping[str, object]], None],
) -> None:
    """Idle, a command or DATA octet by octet, half a TLS handshake: their limits end all of them; it never waits."""
    slow, messages, limit_s = count_of(80, 400), count_of(60, 1000), count_of(4, 60)
    certificate, key = make_certificate(tmp_path)
    service = Service(installed_mailwake, tmp_path)
    limits = "".join(f'{name} = "{limit_s}s"\n' for name in ("command_timeout", "login_timeout", "data_timeout"))
    text = service.config.read_text()
    text = text.replace('listen = ["127.0.0.1:0"]\n', f'listen = ["127.0.0.1:0", "smtps://127.0.0.1:0"]\n{limits}', 1)
    service.config.write_text(f'{text}\n[relay.tls]\ncertificate = "{certificate}"\nkey = "{key}"\n')

    async def scenario() -> tuple[list[Slow], list[float], list[list[float]]]:
        alone = await normal(service, messages)
        clients = [Slow(service, number) for number in range(slow)]
        holding = [asyncio.create_task(client.run()) for client in clients]
        async with asyncio.timeout(60):
            while not all(client.is_holding for client in clients):  # noqa: ASYNC110 - told by another party
                await asyncio.sleep(0.01)
        beside = await normal(service, messages)
        held = [service.metric("mailwake_smtp_open_connections")]
        _, endless = await asyncio.wait(holding, timeout=limit_s * 3 + 30)
        assert not endless, Counter(client.kind for client in clients if not client.held_s)
        await asyncio.gather(*holding)
        return clients, held, [*alone, *beside]

    with service:
        clients, held, (alone, opened_alone, beside, opened_beside) = asyncio.run(scenario())
        assert service.stop() == 0

    ends = Counter((client.kind, client.end) for client in clients)
    figures = {
        "slow_connections": slow,
        "still_held_after_the_measurement": int(held[0]),
        "messages": messages,
        "replies_alone": shown(alone),
        "replies_beside": shown(beside),
        "connections_alone": shown(opened_alone),
        "connections_beside": shown(opened_beside),
        "limit_s": limit_s,
        "longest_held_s": round(max(client.held_s for client in clients), 1),
        "ends": {f"{kind} {end}".strip(): number for (kind, end), number in ends.items()},
    }
    record_soak("slow-clients", figures)
    print(figures)
    assert Counter(client.kind for client in clients) == Counter(dict.fromkeys(KINDS, slow // len(KINDS)))
    assert {end for kind, end in ends if kind == "idle"} == {"421 4.4.2"}
    assert {end for kind, end in ends if kind in ("command", "data")} <= {"421 4.4.2", ""}
    assert {end for kind, end in ends if kind == "handshake"} == {""}
    assert max(client.held_s for client in clients) < limit_s * 2 + 10
