"""Webhooks: what is posted, what each answer means, and what a hostile receiver can do to us (nothing)."""

import asyncio
import gzip
import json
import socket
import ssl
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest

from tests.certificates import make_certificate
from tests.integration.endpoint import Answer, endless, never, receiving, reset_after, status, webhook
from tracker.core.visitor import IPAddress
from tracker.publish.guard import Guard
from tracker.publish.outcome import Dead, Delivered, Disabled, Outcome, TryAgain
from tracker.publish.webhook import WebhookWriter, retry_after, shown
from tracker.store.publishing import LogEntry

NOON = datetime(2026, 11, 3, 12, tzinfo=UTC)


def _entries(*numbers: int) -> list[LogEntry]:
    return [
        LogEntry(
            seq=number,
            event_id=f"EVENT{number}",
            type="open",
            configuration_set="promo",
            agent_class="human",
            body=json.dumps({"eventType": "Open", "mailwake": {"eventId": f"EVENT{number}"}}),
        )
        for number in numbers
    ]


async def _answered(*answers: Answer, limit_s: float = 5) -> Outcome:
    """Post one event to a receiver that gives the answers, and return what came of the last request."""
    async with receiving(*answers) as endpoint:
        writer = WebhookWriter(webhook(endpoint.url), limit_s=limit_s)
        outcome = await writer.write(_entries(1), NOON)
        for _ in answers[1:]:
            outcome = await writer.write(_entries(1), NOON)
        await writer.close()
        return outcome


async def test_each_event_is_one_signed_post_in_order() -> None:
    """Standard Webhooks: the id is the event's, the content JSON; nothing invites a compressed answer."""
    async with receiving() as endpoint:
        writer = WebhookWriter(webhook(endpoint.url))
        assert await writer.write(_entries(1, 2, 3), NOON) == Delivered()
        await writer.close()

    assert [request.id for request in endpoint.requests] == ["EVENT1", "EVENT2", "EVENT3"]
    assert [request.events for request in endpoint.requests] == [["EVENT1"], ["EVENT2"], ["EVENT3"]]
    first = endpoint.requests[0].headers
    assert first["webhook-timestamp"] == str(int(NOON.timestamp()))
    assert first["webhook-signature"].startswith("v1,")
    assert first["content-type"] == "application/json"
    assert first["accept-encoding"] == "identity"
    assert first["user-agent"].startswith("Mailwake/")
    assert endpoint.connections == 1


async def test_a_batch_is_a_list_and_a_retried_one_is_the_same() -> None:
    """What came meanwhile is not added: the receiver knows the batch by its id."""
    async with receiving(status(500), status(204)) as endpoint:
        writer = WebhookWriter(webhook(endpoint.url, batch=3))
        assert isinstance(await writer.write(_entries(1, 2), NOON), TryAgain)
        assert await writer.write(_entries(1, 2, 3, 4, 5), NOON) == Delivered()
        await writer.close()

    assert [len(request.events) for request in endpoint.requests] == [2, 2, 3]
    first, again, last = endpoint.requests
    assert first.id == again.id != last.id
    assert first.body == again.body
    assert first.id.startswith("batch_")


@pytest.mark.parametrize(
    "answer, outcome",
    [
        (status(200, body=b"thanks"), Delivered()),
        (status(202), Delivered()),
        (status(410), Disabled(reason="HTTP 410")),
        (status(413), Dead(reason="HTTP 413")),
        (status(422, body=b"no such field"), Dead(reason="HTTP 422: no such field")),
        (status(400), TryAgain(reason="HTTP 400")),
        (status(401), TryAgain(reason="HTTP 401")),
        (status(404), TryAgain(reason="HTTP 404")),
        (
            status(500, body=b"\x1b[31mdown\r\n for ana@client.example"),
            TryAgain(reason="HTTP 500: [31mdown for (address)"),
        ),
        (status(302, "Location: /elsewhere"), TryAgain(reason="HTTP 302")),
        (status(429, "Retry-After: 90"), TryAgain(reason="HTTP 429", after=timedelta(seconds=90))),
        (
            status(503, "Retry-After: Tue, 03 Nov 2026 12:10:00 GMT"),
            TryAgain(reason="HTTP 503", after=timedelta(minutes=10)),
        ),
    ],
    ids=lambda value: str(value.reason) if hasattr(value, "reason") else None,
)
async def test_an_answer_means_what_its_status_says(answer: Answer, outcome: Outcome) -> None:
    """2xx alone is a success; what a receiver says of itself is not held against the event."""
    assert await _answered(answer) == outcome


async def test_bad_request_is_a_refusal_when_it_is_said_three_times() -> None:
    """Receivers answer 400 to a signature that they do not know yet, too: a rotation must not cost events."""
    assert isinstance(await _answered(status(400), status(400)), TryAgain)
    assert await _answered(status(400), status(400), status(400)) == Dead(reason="HTTP 400")


async def test_of_a_refused_batch_only_the_event_that_is_refused_is_dead() -> None:
    """Each is posted alone then."""
    async with receiving(status(422), status(204), status(422), status(204)) as endpoint:
        writer = WebhookWriter(webhook(endpoint.url, batch=3))
        assert await writer.write(_entries(1, 2, 3), NOON) == Dead(reason="HTTP 422", delivered=1)
        assert await writer.write(_entries(3), NOON) == Delivered()
        await writer.close()

    assert [request.events for request in endpoint.requests] == [
        ["EVENT1", "EVENT2", "EVENT3"],
        ["EVENT1"],
        ["EVENT2"],
        ["EVENT3"],
    ]


async def test_what_a_request_achieved_is_told_with_its_failure() -> None:
    """The worker moves its cursor that far."""
    async with receiving(status(204), status(204), status(500)) as endpoint:
        writer = WebhookWriter(webhook(endpoint.url))
        outcome = await writer.write(_entries(1, 2, 3, 4), NOON)
        await writer.close()

    assert outcome == TryAgain(reason="HTTP 500", delivered=2)


async def test_a_redirect_is_not_followed() -> None:
    """Whoever answers would choose where our events go."""
    async with receiving() as elsewhere, receiving(status(307, f"Location: {elsewhere.url}")) as endpoint:
        writer = WebhookWriter(webhook(endpoint.url))
        assert isinstance(await writer.write(_entries(1), NOON), TryAgain)
        await writer.close()

        assert elsewhere.connections == 0


@pytest.mark.parametrize("code", [200, 500])
async def test_an_answer_without_an_end_is_read_for_64_kilobytes(code: int) -> None:
    """The rest is not asked for: the connection is closed, and nothing of it stays in memory."""
    sent: list[int] = []
    async with receiving(endless(code, b"x" * 65536, sent), status(204)) as endpoint:
        writer = WebhookWriter(webhook(endpoint.url))
        tracemalloc.start()
        try:
            outcome = await writer.write(_entries(1), NOON)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert isinstance(outcome, Delivered if code == 200 else TryAgain)
        assert await writer.write(_entries(2), NOON) == Delivered()
        await writer.close()

    assert sum(sent) < 20_000_000  # what both sides' kernels hold
    assert peak < 20_000_000
    assert endpoint.connections == 2


async def test_a_compressed_answer_stays_compressed() -> None:
    """A megabyte of zeros is a kilobyte: nobody makes it a megabyte again here."""
    bomb = gzip.compress(b"boom " * 10_000_000)
    tracemalloc.start()
    try:
        outcome = await _answered(status(500, "Content-Encoding: gzip", body=bomb))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert isinstance(outcome, TryAgain)
    assert outcome.reason.startswith("HTTP 500: ")
    assert "boom" not in outcome.reason
    assert peak < 20_000_000


async def test_a_receiver_that_says_nothing_is_given_up_after_the_limit() -> None:
    """The limit is for everything together; a success whose text never ends is one all the same."""
    assert await _answered(never, limit_s=0.1) == TryAgain(reason="no answer within 0.1 s")
    drip = reset_after(b"HTTP/1.1 2")
    assert isinstance(await _answered(drip), TryAgain)

    async def half(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab")
        await never(writer)

    assert await _answered(half, limit_s=0.3) == Delivered()


async def test_a_connection_that_breaks_is_judged_by_the_status_that_came() -> None:
    """Before it there is no answer, behind it there is one."""
    assert isinstance(await _answered(reset_after(b"")), TryAgain)
    broken = reset_after(b"HTTP/1.1 500 Oh\r\nContent-Length: 100\r\n\r\nhalf")
    assert (await _answered(broken)).reason.startswith("HTTP 500")  # type: ignore[union-attr]
    assert await _answered(reset_after(b"HTTP/1.1 200 Fine\r\nContent-Length: 100\r\n\r\nhalf")) == Delivered()
    assert isinstance(await _answered(reset_after(b"SSH-2.0-OpenSSH\r\n")), TryAgain)
    assert isinstance(await _answered(reset_after(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000)), TryAgain)


async def test_a_receiver_that_is_not_there_is_tried_again() -> None:
    """Nobody listens on the port."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        writer = WebhookWriter(webhook(f"http://127.0.0.1:{nobody.getsockname()[1]}/"))
        outcome = await writer.write(_entries(1), NOON)
        await writer.close()

    assert isinstance(outcome, TryAgain)
    assert "refused" in outcome.reason


async def test_a_certificate_is_verified(tmp_path: Path) -> None:
    """Of a stranger's authority it is as good as none."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*make_certificate(tmp_path))
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    writer = WebhookWriter(webhook(f"https://127.0.0.1:{port}/"))
    outcome = await writer.write(_entries(1), NOON)
    await writer.close()
    server.close()

    assert isinstance(outcome, TryAgain)
    assert "certificate" in outcome.reason.lower()


# --- private addresses --------------------------------------------------------------------------------------------


class _Names:
    """A name server whose answers alternate."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def __call__(self, host: str) -> Sequence[str]:
        self.asked += 1
        return self.answers[(self.asked - 1) % len(self.answers)]


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "2130706433", "0x7f000001", "0x7f.1", "017700000001", "0177.0.0.1", "127.1", "0", "0.0.0.0",
        "[::1]", "[::ffff:127.0.0.1]", "[::127.0.0.1]", "[::]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "localhost",
        "LOCALHOST.", "169.254.169.254", "[fe80::1]", "[fd00::1]",
    ],
)  # fmt: skip
async def test_no_spelling_leads_to_a_private_address(host: str) -> None:
    """The configuration refuses most of these; the connection refuses all."""
    async with receiving() as private:
        writer = WebhookWriter(webhook(f"https://{host}:{private.port}/", allow_private=False))
        outcome = await writer.write(_entries(1), NOON)
        await writer.close()

        assert isinstance(outcome, TryAgain)
        assert private.connections == 0


@pytest.mark.soak
async def test_a_name_that_alternates_never_leads_to_a_private_address(
    count_of: Callable[[int, int], int], record_soak: Callable[[str, Mapping[str, object]], None]
) -> None:
    """DNS rebinding: public when it is looked at, private when it is connected to. Here both are one.

    127.0.0.2 stands for a public address, so that the test stays on this machine.
    """

    def refusal(address: IPAddress) -> str | None:
        return None if address == ip_address("127.0.0.2") else f"{address} is a private address"

    async with receiving(host="127.0.0.1") as private, receiving(host="127.0.0.2", port=private.port) as public:
        names = _Names(["127.0.0.2"], ["127.0.0.1"], ["127.0.0.2", "127.0.0.1"], ["127.0.0.1", "127.0.0.2"])
        url = f"http://receiver.example:{private.port}/"
        outcomes = []
        count = count_of(40, 4000)
        for number in range(count):
            writer = WebhookWriter(webhook(url), guard=Guard(refusal, names))  # a connection of its own
            outcomes.append(await writer.write(_entries(number), NOON))
            await writer.close()

        assert private.connections == 0
        assert public.connections == count // 4
        assert [isinstance(outcome, Delivered) for outcome in outcomes] == [True, False, False, False] * (count // 4)
        assert outcomes[1] == TryAgain(reason="127.0.0.1 is a private address")
        found = {"posts": count, "to_the_private_address": private.connections, "to_the_public": public.connections}
        record_soak("webhook-addresses", found)


async def test_a_private_receiver_is_posted_to_where_that_is_allowed() -> None:
    """By http: too; a public one never by http:, also where a name alternates."""
    async with receiving() as endpoint:
        writer = WebhookWriter(webhook(f"http://localhost:{endpoint.port}/"))
        assert await writer.write(_entries(1), NOON) == Delivered()
        await writer.close()
    guard = WebhookWriter(webhook("http://receiver.example/"))._guard
    with pytest.raises(OSError, match="http: is for private ones"):
        await guard.addresses("192.88.98.1")


# --- small readers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value, seconds",
    [
        ("0", 0), (" 120 ", 120), ("Tue, 03 Nov 2026 12:00:30 GMT", 30), ("Tue, 03 Nov 2026 11:00:00 GMT", 0),
        ("", None), ("soon", None), ("-1", None), ("1e9", None), ("9" * 400, None), ("Tue, 99 Nov 2026 12:00:30", None),
    ],
)  # fmt: skip
def test_retry_after_is_seconds_or_a_date(value: str, seconds: int | None) -> None:
    """RFC 9110 §10.2.3; nonsense is as if nothing were said."""
    assert retry_after(value, NOON) == (None if seconds is None else timedelta(seconds=seconds))


async def test_a_retry_after_of_no_calendar_changes_nothing() -> None:
    """The status decides: a year that no date can have is as if nothing were said."""
    nonsense = "Retry-After: Mon, 01 Jan 99999999999999999999 00:00:00 GMT"
    assert await _answered(status(204, nonsense)) == Delivered()
    assert await _answered(status(503, nonsense)) == TryAgain(reason="HTTP 503")


async def test_what_is_no_http_is_told_without_the_url() -> None:
    """The library quotes the whole URL, and its query may be what the receiver knows us by."""
    async with receiving(reset_after(b"NONSENSE\r\n\r\n")) as endpoint:
        writer = WebhookWriter(webhook(f"{endpoint.url}?token=hidden"))
        outcome = await writer.write(_entries(1), NOON)
        await writer.close()

    assert isinstance(outcome, TryAgain)
    assert outcome.reason
    assert "hidden" not in outcome.reason


def test_what_a_stranger_says_is_cut_and_made_printable() -> None:
    """Logs and terminals show it."""
    assert shown("a\x1b]0;x\x07b\n\n  c\u202e ana@client.example, <b@c.example>") == "a ]0;x b c (address) <(address)>"
    assert len(shown("x" * 10_000)) == 200
