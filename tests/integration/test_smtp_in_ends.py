"""Sessions that end early: clients that hang up, handlers that fail, a listener that stops."""

import asyncio
import errno

import pytest
from structlog.testing import capture_logs

from relay.core import reply as replies
from relay.core.reply import Reply
from relay.core.submission import Submission
from tests.integration.smtp_in import Inbox, dialing, serving


async def test_a_client_that_resets_does_not_stop_the_acceptance_of_its_message() -> None:
    """The put of a message is shielded: half a put would be worse than a duplicate."""
    inbox = Inbox()
    began, may_end, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def accept(_: Submission) -> Reply:
        began.set()
        await may_end.wait()
        ended.set()
        return replies.queued("1")

    inbox.answer = accept
    with capture_logs() as lines:
        async with serving(inbox) as service:
            async with dialing(service.port) as wire:
                await wire.open_data()
                wire.send(b"Hi\r\n.\r\n")
                await began.wait()
                wire.reset()
            await asyncio.wait_for(service.listener._all_left.wait(), 5)
            may_end.set()
            await asyncio.wait_for(ended.wait(), 5)

    assert ended.is_set()
    assert [line["event"] for line in lines] == ["client_left_during_acceptance"]


async def test_a_client_that_only_stops_sending_gets_its_reply() -> None:
    """RFC 1122 §4.2.2.13: a half-closed connection still carries our side, so `printf … | nc` works."""
    inbox = Inbox()

    async with serving(inbox) as service, dialing(service.port) as wire:
        await wire.open_data()
        wire.send(b"Hi\r\n.\r\nNOOP\r\n")
        wire.writer.write_eof()
        found = await wire.rest()

    assert [reply[:9] for reply in found] == ["250 2.0.0", "250 2.0.0"]
    assert len(inbox.mail) == 1


async def test_an_exception_of_the_handler_is_451_with_a_reference_and_no_detail() -> None:
    """Our fault is temporary, its text stays in our log, and the next transaction begins clean."""
    inbox = Inbox()

    async def fail(_: Submission) -> Reply:
        raise RuntimeError("What it fell over lies in /secret/place")

    inbox.answer = fail
    with capture_logs() as lines:
        async with serving(inbox) as service, dialing(service.port) as wire:
            await wire.open_data()
            failed = await wire.ask("Hi\r\n.")
            inbox.answer = None
            await wire.open_data()
            taken = await wire.ask("Hi\r\n.")

    assert failed.startswith("451 4.3.0 ")
    assert "secret" not in failed
    (line,) = lines
    assert line["event"] == "acceptance_failed"
    assert line["reference"] in failed
    assert taken.startswith("250 ")


@pytest.mark.parametrize(
    ("number", "code"), [(errno.ENOSPC, "452 4.3.1 "), (errno.EDQUOT, "452 4.3.1 "), (errno.EIO, "451 4.3.0 ")]
)
async def test_a_disk_that_does_not_take_a_message_is_4xx_and_one_line_of_the_log(number: int, code: str) -> None:
    """It is no fault of the program, so there is no traceback; the session goes on."""
    inbox = Inbox()

    async def fail(_: Submission) -> Reply:
        raise OSError(number, "of /secret/place")

    inbox.answer = fail
    with capture_logs() as lines:
        async with serving(inbox) as service, dialing(service.port) as wire:
            await wire.open_data()
            failed = await wire.ask("Hi\r\n.")
            inbox.answer = None
            await wire.open_data()
            taken = await wire.ask("Hi\r\n.")

    assert failed.startswith(code)
    assert "secret" not in failed
    assert [(line["event"], line["log_level"], "exc_info" in line) for line in lines] == [
        ("message_not_written", "error", False)
    ]
    assert taken.startswith("250 ")


async def test_an_exception_at_mail_is_451_too() -> None:
    """Whatever fails on our side, the client may try again in the same session."""
    inbox = Inbox()

    def fail() -> Reply | None:
        raise OSError(5, "statvfs failed")

    inbox.admit = fail  # type: ignore[method-assign]
    with capture_logs() as lines:
        async with serving(inbox) as service, dialing(service.port) as wire:
            failed = await wire.ask("MAIL FROM:<ana@shop.example>")
            next_command = await wire.ask("NOOP")

    assert failed.startswith("451 4.3.0 ")
    assert next_command.startswith("250 ")
    assert [line["event"] for line in lines] == ["command_failed"]


async def test_a_refusal_of_the_handler_is_passed_on() -> None:
    """What is wrong with a message is said at its final dot."""
    inbox = Inbox()
    refusal = Reply(code=550, enhanced="5.7.1", text="No\r\n250 injected")

    async def refuse(_: Submission) -> Reply:
        return refusal

    inbox.answer = refuse
    async with serving(inbox) as service, dialing(service.port) as wire:
        await wire.open_data()
        reply = await wire.ask("Hi\r\n.")

    assert reply == "550 5.7.1 No 250 injected"


async def test_a_drain_says_421_to_idle_sessions_and_takes_no_more() -> None:
    """A stop is announced: 421 4.3.2, then the connection ends; new ones are refused."""
    async with serving(Inbox()) as service, dialing(service.port) as idle, dialing(service.port) as in_transaction:
        await in_transaction.ask("MAIL FROM:<ana@shop.example>")
        await service.listener.drain(5)
        said = [await idle.rest(), await in_transaction.rest()]
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", service.port)

    assert said == [[replies.SHUTTING_DOWN.line()]] * 2


async def test_a_drain_lets_a_message_end() -> None:
    """A session in DATA may finish: its message is taken, its reply said, then 421."""
    inbox = Inbox()

    async with serving(inbox) as service, dialing(service.port) as wire:
        await wire.open_data()
        wire.send(b"Half of")
        drain = asyncio.ensure_future(service.listener.drain(5))
        await asyncio.sleep(0)
        wire.send(b" it\r\n.\r\n")
        found = await wire.rest()
        await drain

    assert [reply[:9] for reply in found] == ["250 2.0.0", "421 4.3.2"]
    assert inbox.mail[0].message == b"Half of it\r\n"


async def test_a_drain_cuts_what_does_not_end_in_time() -> None:
    """A message that is not whole when the time is up gets no reply, so its client keeps it."""
    inbox = Inbox()

    async with serving(inbox) as service, dialing(service.port) as wire:
        await wire.open_data()
        wire.send(b"Half of")
        await service.listener.drain(0.01)
        left = await wire.rest()

    assert left == []
    assert inbox.mail == []


async def test_a_drain_waits_for_an_acceptance_whose_client_has_left() -> None:
    """The message may be half on disk: the process must not end before it is whole."""
    inbox = Inbox()
    began, may_end = asyncio.Event(), asyncio.Event()

    async def accept(_: Submission) -> Reply:
        began.set()
        await may_end.wait()
        return replies.queued("1")

    inbox.answer = accept
    async with serving(inbox) as service:
        async with dialing(service.port) as wire:
            await wire.open_data()
            wire.send(b"Hi\r\n.\r\n")
            await began.wait()
            wire.reset()
        await asyncio.wait_for(service.listener._all_left.wait(), 5)
        drain = asyncio.ensure_future(service.listener.drain(5))
        await asyncio.sleep(0.05)
        is_waiting = not drain.done()
        may_end.set()
        await drain

    assert is_waiting
