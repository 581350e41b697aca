"""Spool, runner and real peers together: what was accepted arrives."""

import asyncio
import getpass
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from aiosmtpd import smtp

from relay.smtp.pool import make_upstream
from relay.smtp.upstreams import MaildirTarget, Security, SmtpTarget, Target, UpstreamOptions
from relay.spool.files import Spool
from relay.spool.lane import UpstreamLimits
from relay.spool.reporter import ReportOptions
from relay.spool.runner import Runner, RunnerOptions
from tests.integration.smtp_script import Script
from tests.integration.test_upstream import transaction
from tests.unit.spooling import MESSAGE, make_entry
from tracker.contract.events import Bounce, Delivery, JournalRecord


class Journal:
    """An event sink in memory."""

    def __init__(self) -> None:
        self.records: list[JournalRecord] = []

    async def emit(self, records: Sequence[JournalRecord]) -> None:
        self.records.extend(records)


class Mailbox:
    """The handler of a real aiosmtpd."""

    def __init__(self) -> None:
        self.messages: list[smtp.Envelope] = []

    async def handle_DATA(self, server: smtp.SMTP, session: smtp.Session, envelope: smtp.Envelope) -> str:
        self.messages.append(envelope)
        return "250 2.0.0 taken"


def smtp_target(port: int) -> SmtpTarget:
    """A server on loopback."""
    return SmtpTarget("127.0.0.1", port, Security.WHEN_OFFERED)


@asynccontextmanager
async def relay(target: Target, directory: Path) -> AsyncIterator[tuple[Spool, Runner, Journal]]:
    """A spool and a runner that deliver to an upstream."""
    upstream = make_upstream(UpstreamOptions(name="default", target=target, hostname="relay.example.com"))
    spool, journal = Spool(directory), Journal()
    spool.open()
    runner = Runner(
        spools=[spool],
        upstreams={"default": UpstreamLimits(max_connections=4, final=isinstance(target, MaildirTarget))},
        send=lambda _, transaction: upstream.send(transaction),
        copy_of=lambda entry, message, index, form: [memoryview(message)],
        sink=journal,
        options=RunnerOptions(reports=ReportOptions(hostname="relay.example.com")),
        clock=lambda: datetime.now(UTC),
        entropy=bytes,
    )
    task = asyncio.create_task(runner.run())
    try:
        yield spool, runner, journal
    finally:
        await runner.drain(5)
        await task
        await upstream.close()
        spool.close()


async def _deliver(target: Target, directory: Path, count: int) -> list[JournalRecord]:
    now = datetime.now(UTC)
    async with relay(target, directory) as (spool, runner, journal), asyncio.timeout(20):
        for number in range(count):
            entry = make_entry(number, "a@x.example", "b@y.example", at=now)
            await spool.put(entry, MESSAGE)
            runner.notify(entry)
        while runner.waiting:  # noqa: ASYNC110 - files are removed in threads
            await asyncio.sleep(0.002)
    return journal.records


async def test_mail_reaches_a_real_aiosmtpd(tmp_path: Path) -> None:
    """Every message once, as it is, with both recipients; two records each."""
    mailbox = Mailbox()
    server = await asyncio.get_running_loop().create_server(
        lambda: smtp.SMTP(mailbox, hostname="mx.example", enable_SMTPUTF8=True), "127.0.0.1", 0
    )
    async with server:
        port = server.sockets[0].getsockname()[1]
        records = await _deliver(smtp_target(port), tmp_path / "00", 30)

    assert len(mailbox.messages) == 30
    assert {envelope.content for envelope in mailbox.messages} == {MESSAGE}
    assert all(envelope.rcpt_tos == ["a@x.example", "b@y.example"] for envelope in mailbox.messages)
    assert len(records) == 30 * 3


async def test_mail_reaches_postfix_smtp_sink(tmp_path: Path, require_tool: Callable[[str], str]) -> None:
    """A peer in C that is not ours."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    sink = subprocess.Popen(
        [require_tool("smtp-sink"), "-u", getpass.getuser(), f"127.0.0.1:{port}", "100"],
        cwd=tmp_path,
        stderr=subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(10):
            while not await _listens(port):  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.02)
        records = await _deliver(smtp_target(port), tmp_path / "00", 30)
    finally:
        sink.terminate()
        sink.wait()

    assert sum(isinstance(record, Delivery) for record in records) == 60


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


async def test_a_maildir_gets_one_file_a_recipient_and_a_repetition_is_the_same_file(tmp_path: Path) -> None:
    """contract: Return-Path and Delivered-To are prepended, all else are the bytes as they were sent."""
    upstream = make_upstream(
        UpstreamOptions(name="default", target=MaildirTarget(tmp_path / "mail"), hostname="relay.example.com")
    )
    records = await _deliver(MaildirTarget(tmp_path / "mail"), tmp_path / "00", 1)
    again = transaction("a@x.example", "b@y.example")
    copies = tuple(record.copy for record in records if isinstance(record, Delivery))
    await upstream.send(replace(again, copies=tuple(sorted(copies))))
    files = sorted((tmp_path / "mail" / "new").iterdir())

    assert [path.read_bytes() for path in files] == [
        b"Return-Path: <shop@shop.example>\r\nDelivered-To: " + recipient + b"\r\n" + MESSAGE
        for recipient in (b"a@x.example", b"b@y.example")
    ]
    deliveries = [record for record in records if isinstance(record, Delivery)]
    assert [path.name for path in files] == sorted(str(delivery.copy) for delivery in deliveries)
    assert all(delivery.final for delivery in deliveries)


async def test_no_recipient_is_ever_neither_finished_nor_in_the_spool(tmp_path: Path) -> None:
    """The upstream drops, refuses and defers at random places; every recipient has an outcome or a row."""
    replies = {f"rcpt:{name}@x.example": reply for name, reply in {
        "ok": "250 ok", "no": "550 5.1.1 no", "later": "451 4.3.0 later", "drop": "drop",
    }.items()}  # fmt: skip
    now = datetime.now(UTC)
    names = ("ok", "no", "later", "ok", "drop", "no")
    async with Script(replies=replies) as server:
        async with relay(smtp_target(server.port), tmp_path / "00") as (spool, runner, journal):
            for number, name in enumerate(names):
                entry = make_entry(number, f"{name}@x.example", at=now, reverse_path="")
                await spool.put(entry, MESSAGE)
                runner.notify(entry)
            async with asyncio.timeout(20):
                while runner.waiting > 2 or len(journal.records) < 6 + 6:  # noqa: ASYNC110 - told by the peer
                    await asyncio.sleep(0.002)
        left = {path.name for path in (tmp_path / "00" / "q").iterdir()}

    outcomes = [record for record in journal.records if isinstance(record, Delivery | Bounce)]
    finished = {str(record.copy.message) for record in outcomes}
    assert left == {str(make_entry(number, at=now).id) for number in (2, 4)}
    assert finished | left == {str(make_entry(number, at=now).id) for number in range(6)}
    assert not finished & left
