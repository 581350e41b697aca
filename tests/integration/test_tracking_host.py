"""The tracking host over real sockets: the contract's table, and the journal behind it."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from tests.integration.tracking import FIELDS, KEY, Host, parse, run_host
from tests.unit.hits import BROWSER, SETTINGS, path_to
from tests.unit.tokens import URL, link, pixel
from tracker.contract.events import Click, Open, Probe
from tracker.core import challenge
from tracker.core.hit import PIXEL, HitRecord
from tracker.journal.group import Kept, Tell
from tracker.web.app import TrackingHost

_YEARS_AHEAD = "Fri, 01 Jan 2038 00:00:00 GMT"


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    """Run a host."""
    async with run_host(tmp_path) as running:
        yield running


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """What a stranger sends is never an error, nor worth a line of the library's."""
    yield
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_pixel_is_answered_and_recorded(host: Host) -> None:
    """Row 1, and the record is in the file before the answer is out."""
    answer = await host.ask(path_to(pixel()))

    assert (answer.status, answer.body) == (200, PIXEL)
    assert answer.fields["content-type"] == "image/gif"
    assert answer.fields["content-length"] == "43"
    assert answer.fields["cache-control"] == "no-store, no-cache, must-revalidate, private"
    (record,) = host.records()
    assert isinstance(record, Open)
    assert record.hit.address == "127.0.0.0"
    assert record.hit.user_agent == BROWSER["User-Agent"]
    assert record.hit.signals == ()


@pytest.mark.parametrize(
    "url",
    [
        URL,
        "https://shop.example:443/../%2f%2F?x#y",
        "HTTPS://Shop.Example?x",
        "https://shop.example/a[]|{}/é?q= ü",
        "https://shop.example/" + "x" * 2900,
    ],
)
async def test_a_link_redirects_to_exactly_the_authors_url(host: Host, url: str) -> None:
    """Row 2, over the wire: the library must not touch it."""
    from tracker.core.location import location

    answer = await host.ask(path_to(link(url)))

    assert answer.status == 302
    assert answer.fields["location"] == location(url)
    assert answer.fields["cache-control"] == "no-store"
    assert answer.fields["referrer-policy"] == "no-referrer"
    assert answer.fields["x-robots-tag"] == "noindex, nofollow"
    assert answer.body == b""
    (record,) = host.records()
    assert isinstance(record, Click)
    assert record.url == url


@pytest.mark.parametrize(
    "rest",
    [
        "?utm=1&x=[]|{}",
        ".",
        ")",
        ">",
        "=",
        '"',
        "'",
        "\\",
        "%",
        "%zz",
        "/../../x",
        ";a",
        "=3D",
        "=3D=3D",
        "&utm_source=x&y=z",
        "?utm=1?utm=2",
        "%3E",
        "%0D%0A",
        ").",
        '">',
        "?=",
        "/",
    ],
)
async def test_what_clients_append_is_ignored(host: Host, rest: str) -> None:
    """Whatever the library thinks of such a path."""
    assert (await host.ask(path_to(link()) + rest)).fields.get("location") == URL


async def test_a_forged_token_costs_no_write(host: Host) -> None:
    """A flood of them fills no disk."""
    for path in ("/l/x", "/i/x", path_to(link())[:-1], path_to(link()).lower(), path_to(pixel()).replace("/i/", "/l/")):
        answer = await host.ask(path)
        assert answer.status == (200 if path.startswith("/i/") else 404)
        assert "location" not in answer.fields

    assert host.records() == []
    assert sum(path.stat().st_size for path in host.root.rglob("*.mwj")) == 26


async def test_what_became_of_a_request_is_counted(host: Host) -> None:
    """An operator sees a flood of bad tokens although it leaves no record."""
    paths = {path_to(pixel()): "open", path_to(link()): "click", "/l/x": "bad_token", "/i/x": "bad_token"}
    for path, outcome in paths.items():
        before = REGISTRY.get_sample_value("mailwake_hits_total", {"outcome": outcome}) or 0
        await host.ask(path)
        assert REGISTRY.get_sample_value("mailwake_hits_total", {"outcome": outcome}) == before + 1


@pytest.mark.parametrize("field", ["Range: bytes=0-1", "If-None-Match: *", "If-Modified-Since: " + _YEARS_AHEAD])
async def test_a_part_or_a_condition_gets_the_whole_image(host: Host, field: str) -> None:
    """RFC 9110 §13.1, §14.2: no 304 and no 206, which would say that the image is kept somewhere; it is an open."""
    answer = await host.ask(path_to(pixel()), fields=f"{FIELDS}{field}\r\n")

    assert (answer.status, answer.body) == (200, PIXEL)
    assert not answer.fields.keys() & {"etag", "last-modified", "accept-ranges", "content-range"}
    assert [type(record) for record in host.records()] == [Open]


async def test_head_has_the_headers_and_no_body(host: Host) -> None:
    """RFC 9110 §9.3.2; recorded as a probe."""
    for path in (path_to(pixel()), path_to(link()), "/l/x", "/healthz"):
        head, get = await host.ask(path, method="HEAD"), await host.ask(path)
        assert head.body == b""
        assert head.status == get.status
        assert {**head.fields, "date": ""} == {**get.fields, "date": ""}

    assert [type(record) for record in host.records()] == [Probe, Open, Probe, Click]


@pytest.mark.parametrize("path", ["/i/x", "/l/x", "/healthz", "/readyz", "/.well-known/mailwake"])
async def test_other_methods_are_405(host: Host, path: str) -> None:
    """With what is allowed."""
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH", "PROPFIND"):
        answer = await host.ask(path, method=method)
        assert (answer.status, answer.fields["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("path", ["/", "/favicon.ico", "/I/x", "//l/x", "/healthz/", "/.well-known/", "/console"])
async def test_other_paths_are_404(host: Host, path: str) -> None:
    """There is nothing else, and no console."""
    answer = await host.ask(path)

    assert answer.status == 404
    assert path.encode() not in answer.body or path == "/"


async def test_no_answer_has_a_cookie_or_names_a_server(host: Host) -> None:
    """Neither what we are nor in which version."""
    for path in (
        path_to(pixel()),
        path_to(link()),
        "/l/x",
        "/i/x",
        "/",
        "/healthz",
        "/.well-known/mailwake?challenge=x",
    ):
        answer = await host.ask(path)
        assert "set-cookie" not in answer.fields
        assert answer.fields["server"] == "web"


async def test_the_verification_answer_is_the_hmac_of_the_nonce(host: Host) -> None:
    """On any host; the formula is that of `tracker.core.challenge`."""
    answer = await host.ask("/.well-known/mailwake?challenge=abcdefghijklmnop")

    assert (answer.status, answer.body.decode()) == (200, challenge.answer(KEY, "abcdefghijklmnop"))
    assert (await host.ask("/.well-known/mailwake")).status == 404
    assert (await host.ask("/.well-known/mailwake?x=1")).status == 404
    for query in ("challenge=", "challenge=short", "challenge=a%20b&challenge=c", "challenge=" + "a" * 129):
        assert (await host.ask(f"/.well-known/mailwake?{query}")).status == 400


async def test_it_says_whether_it_is_live_and_ready(host: Host) -> None:
    """For a balancer."""
    assert (await host.ask("/healthz")).status == 200
    assert (await host.ask("/readyz")).body == b"ready\n"
    host.not_ready = "no journal"
    answer = await host.ask("/readyz")
    assert (answer.status, answer.body) == (503, b"no journal\n")
    assert (await host.ask("/healthz")).status == 200


async def test_a_proxys_word_is_believed_from_all_its_lines(host: Host) -> None:
    """Some proxies add a line of their own behind a visitor's."""
    host.settings = replace(SETTINGS, trusted_proxies=(ip_network("127.0.0.0/8"),), record_address="full")
    fields = FIELDS + "X-Forwarded-For: 198.51.100.1\r\nX-Forwarded-For: 203.0.113.7, 127.0.0.9\r\n"

    await host.ask(path_to(pixel()), fields=fields)

    (record,) = host.records()
    assert isinstance(record, Open)
    assert record.hit.address == "203.0.113.7"


async def test_bytes_that_are_no_text_are_not_kept(host: Host) -> None:
    """A User-Agent in Latin-1 or with escape sequences."""
    await host.ask(path_to(pixel()), fields="User-Agent: caf\udce9 \u202eoff ok\r\n")

    (record,) = host.records()
    assert isinstance(record, Open)
    assert record.hit.user_agent == "caf off ok"


async def test_settings_are_taken_anew_for_each_hit(host: Host) -> None:
    """A reload is in force at once."""
    host.settings = replace(SETTINGS, record_address="none")
    await host.ask(path_to(pixel()))

    (record,) = host.records()
    assert isinstance(record, Open)
    assert record.hit.address == ""


async def test_a_journal_that_fails_stops_no_redirect(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever is wrong with it."""

    def fail(_: HitRecord) -> None:
        raise RuntimeError("broken")

    host.record = fail
    answer = await host.ask(path_to(link()))
    caplog.clear()

    assert (answer.status, answer.fields["location"]) == (302, URL)


@pytest.mark.parametrize(
    "kept, metric",
    [
        (Kept.WRITTEN, "mailwake_hits_answered_early_total"),
        (Kept.WAITING, "mailwake_hits_answered_unwritten_total"),
    ],
)
async def test_an_early_answer_is_counted(host: Host, kept: Kept, metric: str) -> None:
    """An operator sees that the disk does not keep up."""
    before = REGISTRY.get_sample_value(metric) or 0
    tracking = TrackingHost(settings=lambda: SETTINGS, post=lambda _, tell: tell(kept), verification_key=KEY)
    listening = socket.create_server(("127.0.0.1", 0))
    await tracking.start([listening])
    host.address = listening.getsockname()
    answer = await host.ask(path_to(link()))
    await tracking.drain()

    assert answer.status == 302
    assert REGISTRY.get_sample_value(metric) == before + 1


@pytest.mark.parametrize("version", ["1.1", "1.0"])
async def test_draining_answers_what_is_in_flight_and_closes_the_rest(version: str) -> None:
    """SIGTERM costs no visitor an answer, on the short way and on the long one."""
    arrived, waiting = asyncio.Event(), list[Tell]()

    def post(_: HitRecord, tell: Tell) -> None:
        arrived.set()
        waiting.append(tell)

    tracking = TrackingHost(settings=lambda: SETTINGS, post=post, verification_key=KEY)
    listening = socket.create_server(("127.0.0.1", 0))
    address = listening.getsockname()
    await tracking.start([listening])
    idle, idle_writer = await asyncio.open_connection(*address)
    reader, writer = await asyncio.open_connection(*address)
    writer.write(f"GET {path_to(link())} HTTP/{version}\r\nHost: x\r\n\r\n".encode())
    await arrived.wait()
    draining = asyncio.create_task(tracking.drain())
    assert await idle.read() == b""
    waiting[0](Kept.DURABLE)
    answer = await reader.read()
    await draining

    assert parse(answer).fields["location"] == URL
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(*address)
    for each in (writer, idle_writer):
        each.close()
        await each.wait_closed()


async def test_every_answered_hit_is_in_the_journal(host: Host) -> None:
    """Many visitors at once, each record once."""
    paths = [path_to(link(f"https://shop.example/{number}")) for number in range(60)]
    answers = await asyncio.gather(*(host.ask(path) for path in paths))

    assert {answer.status for answer in answers} == {302}
    records = host.records()
    assert sorted(record.url for record in records if isinstance(record, Click)) == sorted(
        f"https://shop.example/{number}" for number in range(60)
    )
    assert len({record.event for record in records if isinstance(record, Click)}) == 60
