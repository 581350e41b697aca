"""A service whose webhooks are dead, slow, lying and flooding, all at once: its memory, and the one that is well."""

import asyncio
import gzip
import json
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from datetime import datetime
from pathlib import Path

import pytest

from tests.integration.endpoint import SECRET, Endpoint, endless, never, receiving, reset_after, status
from tests.integration.serving import CONFIG, LIMIT_S, Server, configure, send, serving

MESSAGE = b"From: news@shop.example\r\nTo: ana@client.example\r\nSubject: list\r\n\r\nhello\r\n"
WARM_UP = 5
ROOM_KB = 20_000
# Zeros, compressed to a thousandth; ten times over it would be ten gigabytes for whoever asks for all of it.
BOMB = gzip.compress(bytes(50_000_000)) * 200


def _config(folder: Path, urls: Mapping[str, str]) -> Path:
    tables = [
        f'[event_destination.{name}]\ntype = "webhook"\nurl = "{url}"\nsecret = "{SECRET}"\nallow_private = true\n'
        for name, url in urls.items()
    ]
    named = json.dumps([*urls, "archive"])
    return configure(folder, CONFIG.replace('["archive"]', named) + "".join(tables))


def _rss_kb(server: Server) -> int:
    lines = Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


def _lag_s(endpoint: Endpoint, arrived_at: float) -> float:
    """How old the last event was when it came."""
    record = json.loads(endpoint.requests[-1].body)
    happened = record.get("delivery", record["mail"])["timestamp"]
    return arrived_at - datetime.fromisoformat(happened).timestamp()


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(8 * LIMIT_S):  # the soak's two floods pass through this process
        while not condition():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.02)


@pytest.mark.soak
@pytest.mark.timeout(300)
async def test_hostile_receivers_cost_no_memory_and_delay_nobody(
    tmp_path: Path,
    count_of: Callable[[int, int], int],
    record_soak: Callable[[str, Mapping[str, object]], None],
) -> None:
    """Each is answered as it is meant to be, while the good one gets every event in order."""
    count = count_of(5, 500)
    flood: list[int] = []
    bad = {
        "slow": never,
        "redirects": status(302, "Location: http://127.0.0.1:1/"),
        "endless": endless(200, b"x" * 65536, flood),
        "endless_error": endless(500, b"x" * 65536, flood),
        "bomb": status(500, "Content-Encoding: gzip", body=BOMB),
        "throttles": status(429, "Retry-After: 3600"),
        "gone": status(410),
        "resets": reset_after(b"HTTP/1.1 500 Oh\r\nContent-Length: 100\r\n\r\nhalf"),
        "refuses": status(422),
    }
    lags_s: list[float] = []

    async def note(writer: asyncio.StreamWriter) -> None:
        lags_s.append(_lag_s(good, time.time()))
        await status(204)(writer)

    async with AsyncExitStack() as stack:
        endpoints = {name: await stack.enter_async_context(receiving()) for name in bad}
        good = await stack.enter_async_context(receiving(note))
        dead = stack.enter_context(socket.socket())
        dead.bind(("127.0.0.1", 0))
        urls = {name: endpoint.url for name, endpoint in endpoints.items()}
        urls |= {"good": good.url, "dead": f"http://127.0.0.1:{dead.getsockname()[1]}/"}
        server = stack.enter_context(serving(_config(tmp_path, urls)))
        relay = server.address("relay")
        for _ in range(WARM_UP):
            await asyncio.to_thread(send, relay, MESSAGE)
        await _until(lambda: all(len(one.requests) == 2 * WARM_UP for one in (*endpoints.values(), good)))
        before_kb = peak_kb = _rss_kb(server)
        for name, answer in bad.items():
            endpoints[name].answers = [answer]
        lags_s.clear()

        for _ in range(count):
            await asyncio.to_thread(send, relay, MESSAGE)
            peak_kb = max(peak_kb, _rss_kb(server))
        sent = 2 * (count + WARM_UP)
        await _until(lambda: len(good.requests) == sent)
        await _until(lambda: all(len(endpoint.requests) > 2 * WARM_UP for endpoint in endpoints.values()))
        await _until(lambda: len(endpoints["endless"].requests) == sent)
        await _until(lambda: len(endpoints["refuses"].requests) == sent)
        peak_kb = max(peak_kb, _rss_kb(server))
        tried = {name: len(endpoint.requests) - 2 * WARM_UP for name, endpoint in endpoints.items()}
        rows = {row["name"]: row for row in json.loads(server.run("destinations", "list", "--json").output)}

    assert peak_kb - before_kb < ROOM_KB
    order = [request.events[0] for request in good.requests]
    assert len(set(order)) == len(order) == sent
    states = {name: (row["state"], row["dead_letters"]) for name, row in rows.items()}
    assert states.pop("slow")[1] == 0
    assert states == {
        "archive": ("ok", 0),
        "good": ("ok", 0),
        "endless": ("ok", 0),
        "refuses": ("ok", 2 * count),
        "gone": ("disabled", 0),
        "dead": ("failing", 0),
        **dict.fromkeys(("redirects", "endless_error", "bomb", "throttles", "resets"), ("failing", 0)),
    }
    assert rows["good"]["behind"] == 0
    assert tried["throttles"] == tried["gone"] == 1
    lags_s.sort()
    assert lags_s[-1] < count_of(15, 2)  # the slow one has 15 seconds for each of its requests
    record_soak(
        "webhook",
        {
            "messages": count,
            "events_at_the_good_receiver": sent,
            "lag_of_the_good_receiver": {
                "p50_s": round(lags_s[len(lags_s) // 2], 3),
                "p99_s": round(lags_s[len(lags_s) * 99 // 100], 3),
                "max_s": round(lags_s[-1], 3),
            },
            "memory_before_kb": before_kb,
            "memory_peak_kb": peak_kb,
            "bytes_flooded_by_two_endless_answers": sum(flood),
            "bytes_of_the_gzip_bomb": {"sent": len(BOMB), "decompressed": 50_000_000 * 200},
            "requests": tried,
            "states": {name: row["state"] for name, row in rows.items()},
        },
    )
