"""Large messages, and a process that is short of memory: files instead of memory, a wait, then a refusal."""

import asyncio
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from relay.core import reply as replies
from relay.core.reply import Reply
from relay.core.submission import Submission
from relay.smtp import incoming, memory
from tests.integration.smtp_in import OPTIONS, Inbox, dialing, serving

LARGE = b".\r\n" + b"0123456789\r\n" * 200_000
ROOMY = replace(OPTIONS, max_message_bytes=1 << 22)


def _stuffed(message: bytes) -> bytes:
    return (b"\r\n" + message).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n"


@pytest.mark.parametrize("hold_bytes", [0, 1 << 24])
async def test_a_message_that_went_through_a_file_is_the_same(hold_bytes: int) -> None:
    """Beyond 1 MiB, and from the first octet where no memory is left; dots unstuffed across the blocks."""
    inbox = Inbox()

    async with serving(inbox, ROOMY, hold_bytes=hold_bytes) as service, dialing(service.port) as wire:
        for message in (LARGE, b"Hi\r\n"):
            await wire.open_data()
            wire.send(_stuffed(message))
            assert (await wire.reply()).startswith("250 ")

    assert [mail.message for mail in inbox.mail] == [LARGE, b"Hi\r\n"]


async def test_a_large_message_waits_for_room_and_is_then_put_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is loaded takes turns; who waited in vain gets 451, and the session goes on. Small mail never waits."""
    monkeypatch.setattr(memory, "WAIT_S", 0.05)
    monkeypatch.setattr(memory, "ACCEPTANCE_FACTOR", 40)  # one is more than there is: it is alone
    inbox = Inbox()
    began, may_end = asyncio.Event(), asyncio.Event()

    async def accept(submission: Submission) -> Reply:
        if len(submission.message) > incoming.IN_MEMORY_BYTES:
            began.set()
            await may_end.wait()
        return replies.queued("1")

    inbox.answer = accept
    with capture_logs() as lines:
        async with (
            serving(inbox, ROOMY) as service,
            dialing(service.port) as first,
            dialing(service.port) as second,
        ):
            await first.open_data()
            first.send(_stuffed(LARGE))
            await began.wait()
            await second.open_data()
            second.send(_stuffed(LARGE))
            late = await second.reply()
            await second.open_data()
            small = await second.ask("Hi\r\n.")
            may_end.set()
            taken = await first.reply()
            await second.open_data()
            second.send(_stuffed(LARGE))
            again = await second.reply()

    assert late == replies.TOO_MUCH_AT_A_TIME.line()
    assert [reply[:3] for reply in (small, taken, again)] == ["250", "250", "250"]
    assert [line["event"] for line in lines] == ["message_found_no_room"]


async def test_a_process_that_is_short_of_memory_takes_no_message() -> None:
    """451 at DATA, before anything is read; the transaction stays, so DATA may be tried again."""
    inbox = Inbox()

    async with serving(inbox) as service, dialing(service.port) as wire:
        await wire.ask("MAIL FROM:<ana@shop.example>")
        await wire.ask("RCPT TO:<bo@home.example>")
        inbox.is_short = True
        refused = await wire.ask("DATA")
        async with dialing(service.port, hello=False) as newcomer:
            turned_away = await newcomer.rest()
        inbox.is_short = False
        going_on = await wire.ask("DATA")
        taken = await wire.ask("Hi\r\n.")

    assert refused == replies.NO_MEMORY.line()
    assert turned_away == [replies.NO_MEMORY_TO_CONNECT.line()]
    assert (going_on[:3], taken[:3]) == ("354", "250")


async def test_a_client_that_leaves_in_a_large_message_leaves_nothing() -> None:
    """File and memory are let go of, so the next one has all of them."""
    inbox = Inbox()

    async with serving(inbox, ROOMY, hold_bytes=1 << 21) as service:
        async with dialing(service.port) as wire:
            await wire.open_data()
            (session,) = service.listener._sessions
            wire.send(b"x" + LARGE)
            async with asyncio.timeout(5):
                while session._received_bytes < len(LARGE):  # noqa: ASYNC110 - the session has no event for it
                    await asyncio.sleep(0)
            wire.reset()
        await asyncio.wait_for(service.listener._all_left.wait(), 5)
        async with asyncio.timeout(5):
            while not service.listener._memory.try_hold(1 << 21):  # noqa: ASYNC110 - nor has the memory
                await asyncio.sleep(0)

    assert inbox.mail == []
