"""The order of steps for one message, with the disk and the queue as plain lists."""

import asyncio
import itertools
import json
import quopri
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from relay.core import reply
from relay.core.attempt import CopyForm, UpstreamReply
from relay.core.prepare import BARE_LINE_END, LOOP, NUL, Site
from relay.core.reply import Reply
from relay.pipeline import Pipeline, Ports
from relay.spool.entry import SpoolEntry, decode, encode
from tests.unit.submissions import HTML, NOW, settings, submission
from tracker.contract import urls
from tracker.contract.ids import MessageId
from tracker.contract.settings import ConfigurationSet, Settings
from tracker.contract.token import Purpose, TokenKey, TokenKeys, room_for_url

_KEYS = TokenKeys([TokenKey(key_id=1, secret=bytes(32), mint_from=NOW)])


class _Relay:
    """A pipeline whose spool is a list."""

    def __init__(
        self,
        where: Settings | None = None,
        site: Site | None = None,
        *,
        verdict: Callable[[SpoolEntry], Awaitable[UpstreamReply | None]] | None = None,
        deadline_s: float = 60.0,
    ) -> None:
        counter = itertools.count(1)
        self.kept: list[tuple[SpoolEntry, bytes]] = []
        self.queued: list[SpoolEntry] = []
        self.fault: OSError | None = None
        self.kept_fault: OSError | None = None
        self.disk = asyncio.Event()
        self.disk.set()
        self.settings = where or settings()
        self.keys, self.now = _KEYS, NOW
        ports = Ports(
            settings=lambda: self.settings,
            keys=lambda: self.keys,
            put=self._put,
            take_out=self._take_out,
            queue=self.queued.append,
            clock=lambda: self.now,
            entropy=lambda size: next(counter).to_bytes(size, "big"),
            verdict=verdict,
            accept_deadline_s=deadline_s,
        )
        self.pipeline = Pipeline(site or Site(hostname="relay.example.com", instance="relay1"), ports)

    async def _put(self, entry: SpoolEntry, message: bytes) -> None:
        await self.disk.wait()
        if self.fault is not None:
            raise self.fault
        self.kept.append((decode(encode(entry)), message))

    async def _take_out(self, message: MessageId) -> None:
        if self.kept_fault is not None:
            raise self.kept_fault
        self.kept = [kept for kept in self.kept if kept[0].id != message]

    async def accept(self, message: bytes, *recipients: str, sender: str = "news@shop.example") -> Reply:
        return await self.pipeline.accept(submission(message, *recipients, sender=sender))

    def copies(self) -> list[bytes]:
        ((entry, message),) = self.kept
        return [
            b"".join(self.pipeline.copy_of(entry, message, row, CopyForm(upstream="default")) or ())
            for row in range(len(entry.recipients))
        ]


def _tokens(copy: bytes, purpose: Purpose) -> list[str]:
    base = urls.make("https://trace.shop.example", purpose, "").encode()
    return [piece.split(b'"')[0].decode() for piece in copy.split(base)[1:]]


async def test_every_recipient_gets_a_copy_with_tokens_of_their_own() -> None:
    """The tokens of a copy name that copy; the header bears its id; a second rendering is the same."""
    relay = _Relay()

    reply = await relay.accept(HTML, "ana@client.example", "bo@client.example")

    entry = relay.kept[0][0]
    assert (reply.code, reply.text) == (250, f"Ok: queued as {entry.id}")
    copies = relay.copies()
    assert copies == relay.copies()
    for copy, facts in zip(copies, entry.accepted.copies, strict=True):
        assert copy.startswith(f"X-Mailwake-Copy: {facts.copy}\r\nReceived: from client.example ".encode())
        (pixel,), clicks = _tokens(copy, Purpose.OPEN), _tokens(copy, Purpose.CLICK)
        assert _KEYS.read(pixel, Purpose.OPEN).copy == facts.copy
        read = [_KEYS.read(click, Purpose.CLICK) for click in clicks]
        assert [payload.link.url for payload in read if payload.link] == [
            "https://shop.example/lamp",
            "https://shop.example/login?token=secret",
        ]
        assert [payload.redact for payload in read] == [False, True]
        assert {payload.day for payload in read} == {NOW.date()}
        labelled = [*read, _KEYS.read(pixel, Purpose.OPEN)]
        assert {(payload.configuration_set, payload.from_domain) for payload in labelled} == {
            ("default", "shop.example")
        }


async def test_mail_of_a_release_without_labels_keeps_its_tokens() -> None:
    """A retry of a copy is the same mail, whatever was installed meanwhile; a URL that just fitted still does."""
    relay = _Relay()
    longest = "https://shop.example/" + "a" * (room_for_url("", "") - 21)
    await relay.accept(HTML.replace(b"https://shop.example/lamp", longest.encode()), "ana@client.example")
    ((entry, message),) = relay.kept
    assert entry.rewrite is not None
    envelope = json.loads(encode(entry))
    for name in ("configuration_set", "from_domain"):
        del envelope["rewrite"][name]
    relay.kept = [(decode(json.dumps(envelope).encode()), message)]
    (copy,) = relay.copies()

    read = [_KEYS.read(token, Purpose.CLICK) for token in _tokens(quopri.decodestring(copy), Purpose.CLICK)]
    assert [payload.link.url for payload in read if payload.link][:1] == [longest]
    assert {(payload.configuration_set, payload.from_domain) for payload in read} == {("", "")}


async def test_a_retry_uses_the_key_of_the_acceptance() -> None:
    """A rotation between two attempts changes nothing of a copy; mail that is accepted later has the new key."""
    relay = _Relay()
    await relay.accept(HTML, "ana@client.example")
    before = relay.copies()
    another = TokenKey(key_id=2, secret=b"2" * 32, mint_from=NOW + timedelta(minutes=10))
    relay.keys = TokenKeys([*_KEYS.keys, another])
    relay.now = NOW + timedelta(minutes=11)

    assert relay.copies() == before
    await relay.pipeline.accept(replace(submission(HTML), received_at=relay.now))
    assert [entry.key_id for entry, _ in relay.kept] == [1, 2]


@pytest.mark.parametrize("subject, needed", [("Hi", False), ("Grüße", True)])
async def test_smtputf8_is_kept_only_where_the_header_needs_it(subject: str, needed: bool) -> None:
    """Go's net/smtp asks for it with every message: such mail must not bounce at an upstream that lacks it."""
    relay = _Relay()

    await relay.pipeline.accept(submission(f"Subject: {subject}\r\n\r\nhï\r\n".encode(), smtputf8=True))

    assert relay.kept[0][0].smtputf8 is needed


@pytest.mark.parametrize(
    "later, opens, clicks",
    [
        (settings(enabled=False), False, False),
        (settings(ConfigurationSet(name="default", open_tracking=False)), False, True),
        (settings(ConfigurationSet(name="default", html_links=False, text_links=False)), True, False),
        (settings(ConfigurationSet(name="another", open_tracking=False)), True, True),
    ],
    ids=["tracking off", "opens off", "clicks off", "the set has gone"],
)
async def test_tracking_that_is_switched_off_leaves_mail_that_waits(later: Settings, opens: bool, clicks: bool) -> None:
    """Later settings may only take away: a copy of yesterday must not track whom nobody may track today."""
    relay = _Relay()
    await relay.accept(HTML, "ana@client.example")
    relay.settings = later
    (copy,) = relay.copies()

    assert bool(_tokens(copy, Purpose.OPEN)) is opens
    assert bool(_tokens(copy, Purpose.CLICK)) is clicks
    assert copy.startswith(b"X-Mailwake-Copy: ")


async def test_settings_of_later_give_no_tracking_to_mail_that_waits() -> None:
    """It was accepted without; the events of its acceptance say so."""
    relay = _Relay(settings(ConfigurationSet(name="default", open_tracking=False)))
    await relay.accept(HTML, "ana@client.example")
    relay.settings = settings()

    assert _tokens(relay.copies()[0], Purpose.OPEN) == []


async def test_the_facts_are_kept_with_the_message() -> None:
    """Subject decoded, tags, links with the query of a sensitive one taken away; no Bcc, though it was sent."""
    relay = _Relay()
    headers = b"X-SES-MESSAGE-TAGS: campaign=nov\r\nBcc: hidden@client.example\r\n"

    await relay.accept(headers + HTML)

    entry, message = relay.kept[0]
    facts = entry.accepted.facts
    assert (facts.subject, facts.from_domain, facts.configuration_set) == ("Grüße", "shop.example", "default")
    assert facts.tags == (("campaign", "nov"),)
    assert [link.url for link in facts.links] == ["https://shop.example/lamp", "https://shop.example/login"]
    assert "X-SES-MESSAGE-TAGS" in {field.name for field in facts.headers}
    assert b"hidden" not in encode(entry)
    assert b"X-SES-MESSAGE-TAGS" not in message
    assert b"Bcc" not in message


async def test_a_recipient_may_be_left_out_of_tracking() -> None:
    """That copy has neither pixel nor wrapped links, and its facts say so; the other's are as ever."""
    relay = _Relay()

    await relay.accept(
        b"X-Mailwake-Track: none; rcpt=bo@client.example\r\n" + HTML, "ana@client.example", "bo@client.example"
    )

    entry = relay.kept[0][0]
    ana, bo = relay.copies()
    assert [(facts.opens, facts.clicks) for facts in entry.accepted.copies] == [(True, True), (False, False)]
    assert len(_tokens(ana, Purpose.CLICK)) == 2
    assert b"trace.shop.example" not in bo
    assert HTML.partition(b"\r\n\r\n")[2] in bo


async def test_an_untouched_message_is_the_same_for_all() -> None:
    """Only Received comes; control headers leave."""
    relay = _Relay(settings(enabled=False))

    await relay.accept(b"X-Mailwake-Track: opens\r\n" + HTML, "ana@client.example", "bo@client.example")

    ((entry, message),) = relay.kept
    assert entry.rewrite is None
    assert relay.copies() == [message, message]
    received, rest = message[: -len(HTML)], message[-len(HTML) :]
    assert rest == HTML
    assert received.startswith(b"Received: ")
    assert [skip.reason for skip in entry.accepted.facts.skipped] == ["not_enabled"]


async def test_a_report_is_copied_and_not_changed() -> None:
    """The null sender's message gets its copy header and nothing else."""
    relay = _Relay()

    await relay.accept(HTML, sender="")

    (copy,) = relay.copies()
    assert copy.endswith(HTML)
    assert [skip.reason for skip in relay.kept[0][0].accepted.facts.skipped] == ["null_sender"]


@pytest.mark.parametrize(
    ("message", "site", "expected"),
    [
        (HTML + b"\0", None, NUL),
        (HTML + b"a\nb", Site(hostname="h", instance="relay1", bare_line_ends="reject"), BARE_LINE_END),
        (b"Received: x\r\n" * 51 + HTML, None, LOOP),
        (b"Received: by h (Mailwake relay1) with ESMTP\r\n" * 3 + HTML, None, LOOP),
    ],
)
async def test_a_message_that_cannot_be_relayed_is_refused(message: bytes, site: Site | None, expected: Reply) -> None:
    """Nothing of it is kept."""
    relay = _Relay(site=site)

    assert await relay.accept(message) == expected
    assert not relay.kept
    assert not relay.queued


async def test_a_stray_line_end_is_settled_before_anything_else() -> None:
    """What is stored has CRLF only, whatever came."""
    relay = _Relay()

    await relay.accept(HTML + b"x\ny\rz\r\n")

    message = relay.kept[0][1]
    assert message.count(b"\n") == message.count(b"\r") == message.count(b"\r\n")


async def test_nothing_is_queued_when_the_disk_fails() -> None:
    """The error reaches the session, which answers 451; the client keeps the message."""
    relay = _Relay()
    relay.fault = OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        await relay.accept(HTML)

    assert relay.queued == []


async def test_what_stands_before_the_header_stays_there() -> None:
    """An mbox line is no field: ours go behind it."""
    relay = _Relay()

    await relay.accept(b"From ana Sun Nov 22 10:00:00 2026\r\n" + HTML)

    (copy,) = relay.copies()
    assert copy.split(b"\r\n")[1].startswith(b"X-Mailwake-Copy: ")


async def test_a_large_message_is_prepared_off_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same outcome, by a thread."""
    calls: list[Callable[[], object]] = []
    to_thread = asyncio.to_thread

    async def spy(work: Callable[[], object]) -> object:
        calls.append(work)
        return await to_thread(work)

    monkeypatch.setattr(asyncio, "to_thread", spy)
    relay = _Relay(settings(ConfigurationSet(name="default")))

    assert (await relay.accept(HTML + b"x\r\n" * 100_000)).code == 250
    assert len(calls) == 1


async def test_a_message_that_is_not_safe_in_time_is_refused_and_taken_out_again() -> None:
    """Its client has given up and sends again: were it kept, it would be there twice."""
    relay = _Relay(deadline_s=0.2)
    relay.disk.clear()

    assert await relay.accept(b"Subject: x\r\n\r\nhi\r\n", "ana@client.example") is reply.TOO_LATE
    relay.disk.set()
    await relay.pipeline.settled()

    assert relay.kept == []
    assert relay.queued == []


async def test_a_message_that_comes_too_late_to_the_spool_is_not_put_there() -> None:
    """The time before counts: waiting for memory, and planning."""
    relay = _Relay(deadline_s=0.0)

    assert await relay.accept(b"Subject: x\r\n\r\nhi\r\n", "ana@client.example") is reply.TOO_LATE
    assert relay.kept == []


async def test_a_late_message_that_cannot_be_taken_out_is_delivered() -> None:
    """The disk keeps it, so the next start would find it: twice is better than never, and now better than then."""
    relay = _Relay(deadline_s=0.2)
    relay.disk.clear()
    assert await relay.accept(b"Subject: x\r\n\r\nhi\r\n", "ana@client.example") is reply.TOO_LATE
    relay.kept_fault = OSError(5, "Input/output error")
    relay.disk.set()
    await relay.pipeline.settled()

    assert [entry.id for entry in relay.queued] == [relay.kept[0][0].id]


@pytest.mark.parametrize(
    "said, line",
    [
        (UpstreamReply(550, "5.1.1 no such user"), "550 5.1.1 no such user"),
        (UpstreamReply(552, "too big"), "552 5.0.0 too big"),
        (UpstreamReply(550, "4.1.1 contradiction"), "550 5.0.0 contradiction"),
        (UpstreamReply(599, "5.9.9"), "554 5.9.9 The upstream refused the message"),
        (None, "250 2.0.0 Ok: queued as "),
    ],
)
async def test_the_upstreams_refusal_of_all_recipients_is_passed_on(said: UpstreamReply | None, line: str) -> None:
    """Its code and its text, made fit for a reply of ours; anything else is 250."""

    async def verdict(entry: SpoolEntry) -> UpstreamReply | None:
        return said

    answer = await _Relay(verdict=verdict).accept(b"Subject: x\r\n\r\nhi\r\n", "ana@client.example")

    assert answer.line().startswith(line)
