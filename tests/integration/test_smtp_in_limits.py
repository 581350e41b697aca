"""Clients that are too many, too slow, too talkative or not ours: each is told why, and costs little."""

import asyncio
import socket
import time
from dataclasses import replace
from ipaddress import ip_network

import pytest

from relay.core import reply as replies
from relay.smtp.data import Pace
from tests.integration.smtp_in import OPTIONS, Inbox, dialing, serving

STRANGERS = replace(OPTIONS, allow_networks=(ip_network("192.0.2.0/24"),))


async def test_a_stranger_may_talk_but_not_send() -> None:
    """No open relay: outside allow_networks MAIL is refused, from loopback too."""
    inbox = Inbox()

    async with serving(inbox, STRANGERS) as service, dialing(service.port) as wire:
        refused = await wire.ask("MAIL FROM:<ana@shop.example>")
        recipient = await wire.ask("RCPT TO:<bo@home.example>")
        data = await wire.ask("DATA")

    assert refused == replies.AUTHENTICATION_REQUIRED.line()
    assert (recipient[:9], data[:9]) == ("503 5.5.1", "503 5.5.1")
    assert inbox.mail == []


async def test_a_full_spool_refuses_mail_and_nothing_else() -> None:
    """The refusal comes at MAIL, so that whoever watches the port still sees it answer."""
    inbox = Inbox(refusal=replies.SPOOL_FULL)

    async with serving(inbox) as service, dialing(service.port) as wire:
        refused = await wire.ask("MAIL FROM:<ana@shop.example>")
        inbox.refusal = None
        taken = await wire.ask("MAIL FROM:<ana@shop.example>")

    assert refused.startswith("452 4.3.1 ")
    assert taken.startswith("250 ")


async def test_connections_beyond_the_limit_get_421() -> None:
    """The door refuses; who is inside goes on, and who leaves makes room."""
    async with serving(Inbox(), replace(OPTIONS, max_connections=2)) as service, dialing(service.port) as inside:
        async with dialing(service.port), dialing(service.port, hello=False) as outside:
            refused = await outside.rest()
        assert (await inside.ask("NOOP")).startswith("250 ")
        while True:  # until the listener has seen the second one leave
            async with dialing(service.port, hello=False) as newcomer:
                if (await newcomer.reply()).startswith("220 "):
                    break

    assert refused == [replies.TOO_MANY_CONNECTIONS.line()]


async def test_loopback_is_not_bound_by_the_limit_of_an_address() -> None:
    """Programs on the machine itself are many behind one address."""
    options = replace(STRANGERS, max_connections_per_address=1)

    async with serving(Inbox(), options) as service, dialing(service.port), dialing(service.port) as second:
        reply = await second.ask("NOOP")

    assert reply.startswith("250 ")


async def test_recipients_beyond_the_limit_wait_for_the_next_transaction() -> None:
    """RFC 5321 §4.5.3.1.10: 452, and those before it are served."""
    inbox = Inbox()

    async with serving(inbox) as service, dialing(service.port) as wire:
        await wire.ask("MAIL FROM:<ana@shop.example>")
        found = [await wire.ask(f"RCPT TO:<r{number}@home.example>") for number in range(7)]
        again = await wire.ask("RCPT TO:<r0@home.example>")
        await wire.ask("DATA")
        await wire.ask("Hi\r\n.")

    assert [reply[:9] for reply in found] == ["250 2.1.5"] * 5 + ["452 4.5.3"] * 2
    assert again.startswith("250 ")
    assert len(inbox.mail[0].envelope.recipients) == 5


async def test_a_client_that_does_not_heed_the_limit_of_recipients_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thousand are answered, here three; then each is an error."""
    monkeypatch.setattr("relay.smtp.dialogue.MAX_RECIPIENT_OVERSHOOT", 3)
    options = replace(OPTIONS, max_recipients=1, max_errors=2)
    async with serving(Inbox(), options) as service, dialing(service.port) as wire:
        await wire.ask("MAIL FROM:<ana@shop.example>")
        found = [(await wire.ask(f"RCPT TO:<r{number}@home.example>"))[:9] for number in range(6)]

    assert found == ["250 2.1.5", *["452 4.5.3"] * 4, "421 4.7.0"]


async def test_a_recipient_named_twice_gets_one_copy() -> None:
    """Both commands are answered 250, and the envelope holds the recipient once."""
    inbox = Inbox()

    async with serving(inbox) as service, dialing(service.port) as wire:
        await wire.open_data("<ana@shop.example>", "<bo@home.example>", "<cy@home.example>", "<bo@HOME.example>")
        await wire.ask("Hi\r\n.")

    assert [str(recipient) for recipient in inbox.mail[0].envelope.recipients] == ["bo@home.example", "cy@home.example"]


@pytest.mark.parametrize(
    "talk",
    [
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1:2525\r\n\r\n",
        b"POST /x HTTP/1.1\r\nContent-Length: 99\r\n\r\nEHLO x\r\nMAIL FROM:<eve@bank.example>\r\n",
    ],
)
async def test_a_browser_is_shown_the_door(talk: bytes) -> None:
    """A web page can make a browser post SMTP commands to a port of its own machine: they are never read."""
    inbox = Inbox()

    async with serving(inbox) as service, dialing(service.port, hello=False) as wire:
        await wire.reply()
        wire.send(talk)
        found = await wire.rest()

    assert found == [replies.NOT_SMTP.line()]


async def test_commands_that_came_with_the_connection_are_refused() -> None:
    """A client that talks before the greeting does not listen: 554 in place of it."""
    async with serving(Inbox()) as service:
        with socket.create_connection(("127.0.0.1", service.port)) as sock:
            sock.sendall(b"EHLO x\r\nMAIL FROM:<eve@bank.example>\r\n")  # in the kernel before our loop turns
            reader, writer = await asyncio.open_connection(sock=sock)
            said = await reader.read()
            writer.close()

    assert said == replies.OUT_OF_STEP.line().encode() + b"\r\n"


@pytest.mark.parametrize("hello", [b"EHLO", b"helo"])
async def test_commands_behind_ehlo_are_refused(hello: bytes) -> None:
    """RFC 2920 §3.1: what EHLO offers is known only from its reply."""
    async with serving(Inbox()) as service, dialing(service.port, hello=False) as wire:
        await wire.reply()
        wire.send(hello + b" x\r\nMAIL FROM:<eve@bank.example>\r\n")
        found = await wire.rest()

    assert found == [replies.OUT_OF_STEP.line()]


async def test_the_twentieth_error_ends_the_session() -> None:
    """Whoever guesses commands gets 421 in the end."""
    async with serving(Inbox()) as service, dialing(service.port) as wire:
        found = [await wire.ask("NONSENSE") for _ in range(OPTIONS.max_errors)]
        left = await wire.rest()

    assert [reply[:9] for reply in found] == ["500 5.5.2"] * (OPTIONS.max_errors - 1) + ["421 4.7.0"]
    assert left == []


async def test_commands_that_bring_no_mail_end_the_session() -> None:
    """A hundred are patience enough; a message in between begins the count again."""
    async with serving(Inbox()) as service, dialing(service.port) as wire:
        before = [await wire.ask("NOOP") for _ in range(80)]
        await wire.open_data()
        await wire.ask("Hi\r\n.")
        after = [await wire.ask("NOOP") for _ in range(OPTIONS.max_junk_commands + 1)]

    assert {reply[:3] for reply in [*before, *after[:-1]]} == {"250"}
    assert after[-1].startswith("421 4.7.0 ")


async def test_an_idle_client_gets_421() -> None:
    """RFC 5321 §4.5.3.2.7; one that sends a command octet by octet is as idle."""
    async with (
        serving(Inbox(), replace(OPTIONS, command_timeout_s=0.1)) as service,
        dialing(service.port) as wire,
    ):
        wire.send(b"NO")
        found = await wire.rest()

    assert found == [replies.TIMED_OUT.line()]


async def test_a_stranger_is_waited_for_less_long() -> None:
    """Who may not send yet holds a connection for a shorter time."""
    options = replace(STRANGERS, stranger_timeout_s=0.1)

    async with serving(Inbox(), options) as service, dialing(service.port) as wire:
        found = await wire.rest()

    assert found == [replies.TIMED_OUT.line()]


async def test_a_stranger_has_a_time_to_log_in_however_busy_it_is() -> None:
    """Else a thousand of them, who say NOOP now and then, would have all places for an hour."""
    options = replace(STRANGERS, stranger_timeout_s=0.3, max_junk_commands=1_000_000)

    async with serving(Inbox(), options) as service, dialing(service.port) as wire:
        async with asyncio.timeout(10):
            while (reply := await wire.ask("NOOP")).startswith("250 "):
                pass
        left = await wire.rest()

    assert reply == replies.TIMED_OUT.line()
    assert left == []


async def test_a_trickle_of_data_ends_the_session() -> None:
    """Less than 500 octets a second is an attack on our connections, not a slow line."""
    inbox = Inbox()

    async with serving(inbox, replace(OPTIONS, data_window_s=0.1)) as service, dialing(service.port) as wire:
        await wire.open_data()
        wire.send(b"x")
        found = await wire.rest()

    assert found == [replies.TIMED_OUT.line()]
    assert inbox.mail == []


async def test_an_octet_that_comes_when_the_time_is_up_saves_no_trickle() -> None:
    """Both in one turn of the loop: a client that hits the moment must not hold its connection for ever."""
    loop, reader = asyncio.get_running_loop(), asyncio.StreamReader()

    async def read() -> None:
        async with Pace(lambda: 0, replace(OPTIONS, data_window_s=0.02)):
            await reader.readuntil(b"\r\n.\r\n")

    reading = asyncio.create_task(read())
    await asyncio.sleep(0)  # it waits now
    loop.call_later(0.01, reader.feed_data, b"x")
    loop.call_soon(time.sleep, 0.05)  # then both timers are due, in the next turn
    done, _ = await asyncio.wait({reading}, timeout=5)

    assert done
    assert isinstance(reading.exception(), TimeoutError)


async def test_data_without_end_end_the_session() -> None:
    """A client that keeps the least rate for ever is stopped all the same."""
    options = replace(OPTIONS, data_window_s=0.05, data_timeout_s=0.2)

    async with serving(Inbox(), options) as service, dialing(service.port) as wire:
        await wire.open_data()

        async def babble() -> None:
            while not wire.reader.at_eof():
                wire.send(b"x" * 1000)
                await asyncio.sleep(0.01)

        babbling = asyncio.ensure_future(babble())
        found = await wire.reply()
        babbling.cancel()

    assert found == replies.TIMED_OUT.line()


async def test_the_time_of_data_may_be_shorter_than_the_window_of_its_rate() -> None:
    """Ten seconds for a message are ten seconds, though the rate is looked at each minute."""
    options = replace(OPTIONS, data_timeout_s=0.1)

    async with serving(Inbox(), options) as service, dialing(service.port) as wire:
        await wire.open_data()
        wire.send(b"x" * 100_000)
        found = await wire.rest()

    assert found == [replies.TIMED_OUT.line()]


async def test_a_session_ends_in_time_however_busy_it_is() -> None:
    """A client that says something whenever it is about to be dropped would hold its connection for ever."""
    options = replace(OPTIONS, session_timeout_s=0.2, max_junk_commands=1_000_000)

    async with serving(Inbox(), options) as service, dialing(service.port) as wire:
        async with asyncio.timeout(10):
            while (reply := await wire.ask("NOOP")).startswith("250 "):
                pass
        left = await wire.rest()

    assert reply == replies.TIMED_OUT.line()
    assert left == []


async def test_who_is_told_that_the_time_is_over_can_read_it() -> None:
    """Commands that we did not read any more would reset the connection, and the 421 would be lost with it."""
    options = replace(OPTIONS, session_timeout_s=0.2, max_junk_commands=1_000_000)

    async with serving(Inbox(), options) as service, dialing(service.port) as wire:
        wire.send(b"NOOP\r\n" * 100)
        while (reply := await wire.reply())[:3] == "250":
            wire.send(b"NOOP\r\n")
        wire.send(b"NOOP\r\n" * 100)
        left = await wire.rest()

    assert reply == replies.TIMED_OUT.line()
    assert left == []


async def test_a_message_under_way_ends_behind_the_end_of_its_session() -> None:
    """The session's time is looked at where a command is awaited: what was begun is not thrown away."""
    inbox = Inbox()

    async def accept(_: object) -> replies.Reply:
        await asyncio.sleep(0.3)
        return replies.queued("1")

    inbox.answer = accept
    async with serving(inbox, replace(OPTIONS, session_timeout_s=0.2)) as service, dialing(service.port) as wire:
        await wire.open_data()
        wire.send(b"Hi\r\n.\r\n")
        found = await wire.rest()

    assert [reply[:9] for reply in found] == ["250 2.0.0", "421 4.4.2"]


async def test_a_flood_of_pipelined_commands_lets_others_have_their_turn() -> None:
    """One client's thousands of commands that were sent at once are answered in turn with everybody's."""
    async with serving(Inbox()) as service, dialing(service.port) as flood, dialing(service.port) as other:
        await flood.ask("MAIL FROM:<ana@shop.example>")
        before = service.listener._sessions.copy()
        flood.send(b"RCPT TO:<bo@home.example>\r\n" * 4000)
        answered = 0
        other.send(b"NOOP\r\n")
        reply = asyncio.ensure_future(other.reply())
        while not reply.done():
            await flood.reply()
            answered += 1

    assert (await reply).startswith("250 ")
    assert answered < 4000
    assert len(before) == 2


async def test_a_slow_acceptance_is_not_cut() -> None:
    """The limits are on the client's time; the library's timer would cut the handler."""
    inbox = Inbox()

    async def accept(_: object) -> replies.Reply:
        await asyncio.sleep(0.3)
        return replies.queued("1")

    inbox.answer = accept
    options = replace(OPTIONS, command_timeout_s=0.1, data_window_s=0.1, data_timeout_s=0.1)
    async with serving(inbox, options) as service, dialing(service.port) as wire:
        await wire.open_data()
        reply = await wire.ask("x" * 100 + "\r\n.")

    assert reply.startswith("250 ")


async def test_the_timer_of_the_library_is_disarmed() -> None:
    """Five minutes after the connection it would cut whatever is going on, an acceptance too."""
    async with serving(Inbox()) as service, dialing(service.port):
        (session,) = service.listener._sessions

        assert session._timeout_handle is not None
        assert session._timeout_handle.cancelled()


async def test_a_client_that_reads_no_replies_is_dropped() -> None:
    """Replies that nobody reads must not pile up: the session stops reading commands, waits a little, then ends."""
    loop = asyncio.get_running_loop()
    largest = 0

    async with serving(Inbox(), replace(OPTIONS, command_timeout_s=0.3), send_buffer_bytes=4096) as service:
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.setblocking(False)
            await loop.sock_connect(sock, ("127.0.0.1", service.port))
            for command in (b"", b"EHLO client.example\r\n", b"MAIL FROM:<ana@shop.example>\r\n"):
                await loop.sock_sendall(sock, command)
                await loop.sock_recv(sock, 1000)
            (session,) = service.listener._sessions

            async def flood() -> None:
                while True:
                    await loop.sock_sendall(sock, b"RCPT TO:<bo@home.example>\r\n" * 100)

            flooding = asyncio.ensure_future(flood())
            async with asyncio.timeout(20):
                while not flooding.done():
                    largest = max(largest, session._writer.transport.get_write_buffer_size())
                    await asyncio.sleep(0.01)
            assert isinstance(flooding.exception(), ConnectionResetError | BrokenPipeError)

    assert 0 < largest < 200_000
