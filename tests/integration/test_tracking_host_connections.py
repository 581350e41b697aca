"""Connections of the tracking host: both ways, order, slowness, floods, and what is not believed."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from tests.integration.tracking import FIELDS, Answer, Host, parse, run_host
from tests.unit.hits import SETTINGS, path_to
from tests.unit.tokens import URL, link, pixel
from tracker.contract.events import Click, Open, Probe
from tracker.web import connection


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    """Run a host."""
    async with run_host(tmp_path) as running:
        yield running


def _request(target: str, *, method: str = "GET", fields: str = FIELDS) -> bytes:
    return f"{method} {target} HTTP/1.1\r\nHost: any.example\r\n{fields}\r\n".encode()


async def _read(reader: asyncio.StreamReader, *, has_body: bool = True) -> Answer:
    """Read one answer of a connection that is kept."""
    answer = parse(await reader.readuntil(b"\r\n\r\n"))
    if has_body:
        answer.body = await reader.readexactly(int(answer.fields["content-length"]))
    return answer


async def _ask_on_one(host: Host, *requests: bytes) -> list[Answer]:
    """Send all requests at once on one connection, and read their answers."""
    reader, writer = await asyncio.open_connection(*host.address)
    writer.write(b"".join(requests))
    answers = [await _read(reader, has_body=not request.startswith(b"HEAD")) for request in requests]
    writer.close()
    await writer.wait_closed()
    return answers


def _value(metric: str) -> float:
    return REGISTRY.get_sample_value(metric) or 0


@pytest.mark.parametrize("path", [path_to(pixel()), path_to(link()), "/l/x", "/i/x"])
async def test_the_short_way_and_the_long_one_answer_the_same(host: Host, path: str) -> None:
    """Nobody can tell them apart but by what says that the connection ends."""
    long = await host.ask(path)
    (short,) = await _ask_on_one(host, _request(path))

    assert (short.status, short.body) == (long.status, long.body)
    assert [(name, value) for name, value in long.headers if name not in {"Date", "Connection"}] == [
        (name, value) for name, value in short.headers if name != "Date"
    ]
    assert short.fields["date"].endswith(" GMT")
    assert {type(record) for record in host.records()} <= {Open, Click}
    assert len(host.records()) == (2 if path in {path_to(pixel()), path_to(link())} else 0)


async def test_answers_come_in_the_order_of_the_requests(host: Host) -> None:
    """Whichever way each of them takes."""
    paths = [path_to(pixel()), "/healthz", path_to(link()), "/l/x", path_to(pixel()), "/nothing", path_to(link())]
    head = _request(path_to(link()), method="HEAD")
    answers = await _ask_on_one(host, *map(_request, paths), head, _request(path_to(link())))

    assert [answer.status for answer in answers] == [200, 200, 302, 404, 200, 404, 302, 302, 302]
    assert [answer.fields["content-type"] for answer in answers[:2]] == ["image/gif", "text/plain; charset=utf-8"]
    assert [type(record) for record in host.records()] == [Open, Click, Open, Click, Probe, Click]


async def test_more_requests_at_once_than_the_library_takes_are_all_answered(host: Host) -> None:
    """It stops reading at 32 and goes on later."""
    paths = [path_to(link(f"https://shop.example/{number}")) for number in range(200)]
    answers = await _ask_on_one(host, *map(_request, paths))

    assert [answer.fields["location"] for answer in answers] == [
        f"https://shop.example/{number}" for number in range(200)
    ]


async def test_a_request_that_comes_in_pieces_is_answered(host: Host) -> None:
    """Byte by byte, the next one behind it."""
    reader, writer = await asyncio.open_connection(*host.address)
    for byte in _request(path_to(link())) + _request("/l/x"):
        writer.write(bytes([byte]))
        await writer.drain()
    answers = [await _read(reader), await _read(reader)]
    writer.close()
    await writer.wait_closed()

    assert [answer.status for answer in answers] == [302, 404]


@pytest.mark.parametrize("first", [b"", _request(path_to(pixel())), _request("/healthz")])
async def test_a_request_that_trickles_is_cut_off(host: Host, monkeypatch: pytest.MonkeyPatch, first: bytes) -> None:
    """It has the time of an idle connection, however it is spread."""
    monkeypatch.setattr(connection, "KEEPALIVE_S", 0.4)
    loop = asyncio.get_running_loop()
    reader, writer = await asyncio.open_connection(*host.address)
    if first:
        writer.write(first)
        await _read(reader)
    writer.write(b"GET /l/x HTTP/1.1\r\nHost: x\r\n")
    closed = asyncio.create_task(reader.read())
    began_s = loop.time()
    while not closed.done() and loop.time() < began_s + 20:
        writer.write(b"X: y\r\n")
        await asyncio.wait([closed], timeout=0.05)

    assert await closed == b""
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


async def test_the_connection_that_was_silent_longest_makes_room(host: Host) -> None:
    """Who holds many open keeps nobody out, and a visitor who asks now and then is not the one."""
    host.max_connections = 3
    before = _value("mailwake_http_closed_for_room_total")
    opened = [await asyncio.open_connection(*host.address)]
    opened[0][1].write(_request(path_to(pixel())))
    await _read(opened[0][0])
    opened += [await asyncio.open_connection(*host.address) for _ in range(2)]
    for reader, writer in (opened[0], opened[2]):
        writer.write(_request(path_to(pixel())))
        await _read(reader)

    (answer,) = await _ask_on_one(host, _request(path_to(link())))

    assert answer.status == 302
    assert _value("mailwake_http_closed_for_room_total") == before + 1
    assert await opened[1][0].read() == b""
    for reader, writer in (opened[0], opened[2]):
        writer.write(_request(path_to(pixel())))
        assert (await _read(reader)).status == 200
    for _, writer in opened:
        writer.close()
        await writer.wait_closed()


async def test_of_many_that_come_at_once_only_so_many_stay(host: Host) -> None:
    """The loop takes in a thousand in one turn, before it hears that the first of them are gone."""
    host.max_connections = 5
    opened = await asyncio.gather(*(asyncio.open_connection(*host.address) for _ in range(50)))
    ends = [asyncio.create_task(reader.read()) for reader, _ in opened]
    async with asyncio.timeout(20):
        while sum(end.done() for end in ends) < 45:
            await asyncio.wait([end for end in ends if not end.done()], return_when=asyncio.FIRST_COMPLETED)

    assert sum(end.done() for end in ends) == 45
    assert (await host.ask("/healthz")).status == 200
    for _, writer in opened:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
    assert set(await asyncio.gather(*ends)) == {b""}


async def test_who_asks_and_does_not_read_is_cut_off(host: Host) -> None:
    """Answers are not gathered without bound for somebody who wants none; others are answered meanwhile."""
    before = _value("mailwake_http_unread_total")
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(client, host.address)
    many = _request(path_to(link("https://shop.example/" + "x" * 2900))) * 20
    with pytest.raises(ConnectionError):
        for _ in range(2000):
            await asyncio.wait_for(loop.sock_sendall(client, many), 20)
    client.close()

    assert _value("mailwake_http_unread_total") == before + 1
    assert (await host.ask("/healthz")).status == 200


@pytest.mark.parametrize(
    "fields",
    [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "X-Folded: a\r\n b\r\n",
        "Host: other.example\r\n",
        "X" * 70_000 + ": y\r\n",
        "X: " + "y" * 70_000 + "\r\n",
    ],
)
async def test_what_two_servers_may_read_differently_is_refused_and_closed(host: Host, fields: str) -> None:
    """RFC 9112 §3.2, §5.2, §6.1: also on a connection that was fine so far; what follows is not looked at."""
    reader, writer = await asyncio.open_connection(*host.address)
    writer.write(_request(path_to(link())))
    assert (await _read(reader)).status == 302
    writer.write(_request(path_to(link()), fields=fields) + _request(path_to(pixel())))
    raw = await reader.read()
    writer.close()
    await writer.wait_closed()

    assert parse(raw).status == 400
    assert raw.count(b"HTTP/1.") == 1
    assert [type(record) for record in host.records()] == [Click]


async def test_a_header_of_60_kb_is_no_obstacle(host: Host) -> None:
    """Some companies' proxies send such ones."""
    (answer,) = await _ask_on_one(host, _request(path_to(link()), fields=f"X-Long: {'y' * 60_000}\r\n"))

    assert answer.status == 302


async def test_a_header_without_end_is_cut_off(host: Host) -> None:
    """Each line may be long, and there may be many: both together would be megabytes for each connection."""
    before = _value("mailwake_http_malformed_requests_total")
    reader, writer = await asyncio.open_connection(*host.address)
    with suppress(ConnectionError):
        writer.write(_request(path_to(link()), fields=f"X-Long: {'y' * 60_000}\r\n" * 20))
        await writer.drain()
        assert parse(await reader.read()).status == 400
    writer.close()

    assert _value("mailwake_http_malformed_requests_total") == before + 1
    assert (await host.ask(path_to(link()))).status == 302


async def test_a_cookie_is_neither_answered_nor_kept(host: Host) -> None:
    """Not even where a visitor sends one."""
    (answer,) = await _ask_on_one(host, _request(path_to(link()), fields=f"{FIELDS}Cookie: id=secret-of-mine\r\n"))

    assert "set-cookie" not in answer.fields
    assert all(b"secret-of-mine" not in path.read_bytes() for path in host.root.rglob("*.mwj"))


@pytest.mark.parametrize(
    "trusted, forwarded, address",
    [
        ((), "203.0.113.7", "127.0.0.1"),
        (("127.0.0.0/8",), "203.0.113.7", "203.0.113.7"),
        (("127.0.0.0/8",), "198.51.100.1, 203.0.113.7", "203.0.113.7"),
        (("127.0.0.0/8", "203.0.113.0/24"), "198.51.100.1, 203.0.113.7", "198.51.100.1"),
        (("10.0.0.0/8",), "203.0.113.7", "127.0.0.1"),
    ],
)
async def test_only_a_trusted_proxy_says_who_asks(
    host: Host, trusted: tuple[str, ...], forwarded: str, address: str
) -> None:
    """The right-most that is no proxy of ours, on a connection that is kept too."""
    networks = tuple(ip_network(network) for network in trusted)
    host.settings = replace(SETTINGS, trusted_proxies=networks, record_address="full")
    await _ask_on_one(host, _request(path_to(pixel()), fields=f"X-Forwarded-For: {forwarded}\r\n"))

    (record,) = host.records()
    assert isinstance(record, Open)
    assert record.hit.address == address


async def test_a_fault_of_ours_is_a_500_and_ends_the_connection_alone(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever comes next is answered."""
    settings, host.settings = host.settings, None  # type: ignore[assignment]
    raw = await host.send(_request(path_to(link())))
    caplog.clear()
    host.settings = settings

    assert raw.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
    assert (await host.ask(path_to(link()))).status == 302


async def test_a_visitor_who_leaves_is_recorded_all_the_same(host: Host) -> None:
    """The hit was; nobody hears the answer, and no error is made of it."""
    _, writer = await asyncio.open_connection(*host.address)
    writer.write(_request(path_to(link())))
    writer.close()
    await writer.wait_closed()
    async with asyncio.timeout(20):
        while not host.records():  # noqa: ASYNC110 - the journal is a file
            await asyncio.sleep(0.01)

    assert (await host.ask(path_to(pixel()))).status == 200


async def test_the_surplus_of_a_flood_is_one_record_once_the_host_drains(tmp_path: Path) -> None:
    """`max_hits`: all are answered, so many are kept, and one stands for the rest."""
    async with run_host(tmp_path) as host:
        host.max_hits = 5
        answers = await _ask_on_one(host, *[_request(path_to(link()))] * 30)
        assert {answer.fields["location"] for answer in answers} == {URL}
        assert len(host.records()) == 5
    counts = [record.hit.count for record in host.records() if isinstance(record, Click)]

    assert counts == [1] * 5 + [25]


async def test_header_fields_that_were_read_before_are_recorded_the_same(host: Host) -> None:
    """What is known of them by their bytes is what the parser read, whichever connection they come on."""
    request = _request(path_to(link()), fields="User-Agent: Known/1\r\nAccept-Language: en\r\n")
    for _ in range(3):
        await _ask_on_one(host, request)
    await _ask_on_one(host, request.replace(b"Known/1", b"Other/1"))

    agents = [record.hit.user_agent for record in host.records() if isinstance(record, Click)]
    assert agents == ["Known/1"] * 3 + ["Other/1"]
    assert len({record.hit.signals for record in host.records() if isinstance(record, Click)}) == 1


async def test_what_is_known_of_one_visitor_is_not_said_of_another_kind_of_request(host: Host) -> None:
    """A click shows other signs than an open by the same browser."""
    fields = "User-Agent: Known/1\r\n"
    for target in (path_to(pixel()), path_to(link()), path_to(pixel())):
        await _ask_on_one(host, _request(target, fields=fields))

    first, click, second = (record.hit.signals for record in host.records() if isinstance(record, Open | Click))
    assert first == second
    assert "accept_without_html" in click
    assert "accept_without_html" not in first


@pytest.mark.parametrize("cut", [1, 3, 10, 40, -30, -5, -3, -2, -1])
async def test_a_request_in_two_parts_is_answered_and_so_is_the_next(host: Host, cut: int) -> None:
    """Header fields that are known end no request that began before them, and none is lost behind it."""
    request = _request(path_to(pixel()), fields="User-Agent: Known/1\r\n")
    await _ask_on_one(host, request)
    reader, writer = await asyncio.open_connection(*host.address)
    for _ in range(2):
        writer.write(request[:cut])
        await writer.drain()
        await asyncio.wait_for(_has_been_read(host), 5)
        writer.write(request[cut:])
        assert (await _read(reader)).status == 200
        writer.write(request)
        assert (await _read(reader)).status == 200
    writer.close()
    await writer.wait_closed()

    assert len([record for record in host.records() if isinstance(record, Open)]) == 5


async def test_known_header_fields_within_a_request_that_has_begun_are_its_own(host: Host) -> None:
    """What would be a request, were it not the value of a field of another, is none: nobody smuggles by segments."""
    request = _request(path_to(pixel()), fields="User-Agent: Known/1\r\n")
    await _ask_on_one(host, request)
    reader, writer = await asyncio.open_connection(*host.address)
    for _ in range(2):
        writer.write(f"GET {path_to(link())} HTTP/1.1\r\nX-Before: ".encode())
        await writer.drain()
        await _has_been_read(host)
        writer.write(request)
        assert (await _read(reader)).fields["location"] == URL
    writer.close()
    await writer.wait_closed()

    assert [type(record) for record in host.records()] == [Open, Click, Click]


async def test_known_header_fields_within_a_body_are_no_request(host: Host) -> None:
    """What looks like a request in the body of another is read by nobody."""
    request = _request(path_to(pixel()), fields="User-Agent: Known/1\r\n")
    await _ask_on_one(host, request)
    reader, writer = await asyncio.open_connection(*host.address)
    writer.write(f"POST {path_to(pixel())} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(request)}\r\n\r\n".encode())
    await writer.drain()
    await _has_been_read(host)
    writer.write(request)
    assert parse(await reader.readuntil(b"\r\n\r\n")).status == 405
    await reader.read()
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()

    assert len([record for record in host.records() if isinstance(record, Open)]) == 1


async def _has_been_read(host: Host) -> None:
    """Return when the host has read what was sent before: a request of another connection was answered meanwhile."""
    await host.ask("/healthz")
