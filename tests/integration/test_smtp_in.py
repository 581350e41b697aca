"""Programs that are not ours send mail to the listener."""

import asyncio
import smtplib
from collections.abc import Callable
from email.message import EmailMessage

from tests.integration.smtp_in import NOW, Inbox, dialing, serving


def _message() -> EmailMessage:
    message = EmailMessage()
    message["From"] = "Ana <ana@shop.example>"
    message["To"] = "bo@home.example"
    message["Subject"] = "Hello"
    message.set_content("First line\n.\n..two dots\nLast line\n")
    return message


async def test_smtplib_hands_over_a_message() -> None:
    """The standard library's client: envelope, session and message arrive as they were sent."""
    inbox = Inbox()
    message = _message()

    def send(port: int) -> dict[str, tuple[int, bytes]]:
        with smtplib.SMTP("127.0.0.1", port, local_hostname="client.example") as client:
            return client.send_message(message, to_addrs=["bo@home.example", "cy@Home.Example"])

    async with serving(inbox) as service:
        refused = await asyncio.to_thread(send, service.port)

    assert refused == {}
    (mail,) = inbox.mail
    assert str(mail.envelope.reverse_path) == "ana@shop.example"
    assert [str(recipient) for recipient in mail.envelope.recipients] == ["bo@home.example", "cy@home.example"]
    assert mail.envelope.declared_size is not None
    assert mail.message == message.as_bytes().replace(b"\n", b"\r\n")
    assert (mail.session.client_address, mail.session.helo, mail.session.esmtp) == ("127.0.0.1", "client.example", True)
    assert (mail.session.trusted, mail.session.tls, mail.session.caller) == (True, False, "")
    assert mail.received_at == NOW


async def test_ten_messages_go_over_one_connection() -> None:
    """RFC 5321 §3.3: a session may hold many transactions."""
    inbox = Inbox()

    def send(port: int) -> None:
        with smtplib.SMTP("127.0.0.1", port) as client:
            for number in range(10):
                client.sendmail("ana@shop.example", [f"r{number}@home.example"], b"Subject: %d\r\n\r\nHi\r\n" % number)

    async with serving(inbox) as service:
        await asyncio.to_thread(send, service.port)

    assert [mail.message for mail in inbox.mail] == [b"Subject: %d\r\n\r\nHi\r\n" % number for number in range(10)]
    assert [str(mail.envelope.recipients[0]) for mail in inbox.mail] == [f"r{n}@home.example" for n in range(10)]


async def test_smtplib_sends_utf8_addresses_and_8bit_bodies() -> None:
    """RFC 6531 and RFC 6152, by a client that asks EHLO first."""
    inbox = Inbox()
    message = EmailMessage()
    message["From"] = "jösé@bücher.example"
    message["To"] = "bo@home.example"
    message.set_content("Grüße\n", cte="8bit")

    def send(port: int) -> None:
        with smtplib.SMTP("127.0.0.1", port) as client:
            client.send_message(message)

    async with serving(inbox) as service:
        await asyncio.to_thread(send, service.port)

    (mail,) = inbox.mail
    assert str(mail.envelope.reverse_path) == "jösé@xn--bcher-kva.example"
    assert (mail.envelope.smtputf8, mail.envelope.body_8bit) == (True, True)
    assert "Grüße".encode() in mail.message


async def test_the_null_sender_may_send() -> None:
    """RFC 5321 §4.5.5: reports have no return path."""
    inbox = Inbox()

    async with serving(inbox) as service, dialing(service.port) as wire:
        await wire.open_data("<>")
        reply = await wire.ask("Subject: report\r\n\r\nHi\r\n.")

    assert reply == "250 2.0.0 Ok: queued as 1"
    assert str(inbox.mail[0].envelope.reverse_path) == ""


async def test_ipv6_clients_are_known_by_their_address() -> None:
    """The address of a trusted network may be IPv6."""
    inbox = Inbox()

    async with serving(inbox, host="::1") as service, dialing(service.port, host="::1") as wire:
        await wire.open_data()
        await wire.ask("Hi\r\n.")

    assert (inbox.mail[0].session.client_address, inbox.mail[0].session.trusted) == ("::1", True)


async def test_swaks_hands_over_a_message(require_tool: Callable[[str], str]) -> None:
    """A client in Perl that checks each reply."""
    inbox = Inbox()

    async with serving(inbox) as service:
        arguments = ["--server", f"127.0.0.1:{service.port}", "--from", "ana@shop.example"]
        swaks = await asyncio.create_subprocess_exec(
            *[require_tool("swaks"), *arguments, "--to", "bo@home.example,cy@home.example", "--body", "Hi"],
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await asyncio.wait_for(swaks.communicate(), 30)

    assert swaks.returncode == 0, output
    assert len(inbox.mail[0].envelope.recipients) == 2


async def test_smtp_source_sends_on_parallel_sessions(require_tool: Callable[[str], str]) -> None:
    """Postfix's load generator: 5 sessions, 100 messages of 20 KB, all of them whole."""
    inbox = Inbox()

    async with serving(inbox) as service:
        source = await asyncio.create_subprocess_exec(
            *[require_tool("smtp-source"), "-s", "5", "-m", "100", "-l", "20480"],
            *["-f", "ana@shop.example", "-t", "bo@home.example", f"127.0.0.1:{service.port}"],
        )
        await asyncio.wait_for(source.wait(), 30)

    assert source.returncode == 0
    assert len(inbox.mail) == 100
    assert min(len(mail.message) for mail in inbox.mail) > 20_480
