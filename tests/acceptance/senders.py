"""Clients that do what the promise asks of them: send the same message again, until a 250 is read.

Each message has a part that tracking never changes: an attachment that follows from the message's number, so that
whoever gets a copy can tell whether it is whole.
"""

import base64
import contextlib
import hashlib
import re
import smtplib
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

from tests.acceptance.service import Service

RECIPIENTS: Final = ("ana@client.example", "bo@client.example", "cy@other.example")

_AGAIN_AFTER_S: Final = 0.02
_CLIENT_TIMEOUT_S: Final = 20.0
_QUEUED: Final = re.compile(rb"2\.0\.0 Ok: queued as (\w+)")
_SUBJECT: Final = re.compile(rb"^Subject: message ([0-9]+)\r$", re.MULTILINE)
_BOUNDARY: Final = "=_whole"


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message that a client has to send; `raw` has CRLF line ends."""

    number: int
    sender: str
    recipients: tuple[str, ...]
    raw: bytes


def send_until_accepted(
    service: Service, subject: str, stop: threading.Event, *, link: str = "https://shop.example/lamp"
) -> bool:
    """Send one small HTML message with a link, again and again until a 250 is read; False where it was stopped."""
    text = (
        f"From: news@shop.example\r\nTo: ana@client.example\r\nSubject: {subject}\r\nMIME-Version: 1.0\r\n"
        "Content-Type: text/html; charset=utf-8\r\n\r\n"
        f'<html><body><a href="{link.replace("&", "&amp;")}">Lamp</a></body></html>\r\n'
    )
    return _until_accepted(service, Outgoing(0, "news@shop.example", RECIPIENTS, text.encode()), stop) is not None


def compose(number: int, sender: str, recipients: Sequence[str]) -> Outgoing:
    """Make message `number`: HTML with a link, text with one, lines that begin with a dot, and the attachment."""
    head = (
        f"From: <{sender}>\r\nTo: <{recipients[0]}>\r\nSubject: message {number}\r\n"
        f"Message-ID: <{number}@shop.example>\r\nDate: Tue, 03 Nov 2026 08:15:00 +0000\r\nMIME-Version: 1.0\r\n"
        f'Content-Type: multipart/mixed; boundary="{_BOUNDARY}"\r\n\r\n'
        f"--{_BOUNDARY}\r\nContent-Type: text/html; charset=utf-8\r\n\r\n"
        f'<html><body><a href="https://shop.example/lamp?number={number}">Lamp</a></body></html>\r\n'
        f"--{_BOUNDARY}\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"
        f"See https://shop.example/chair?number={number}\r\n.\r\n..two dots\r\n"
    )
    return Outgoing(number, sender, tuple(recipients), head.encode() + untouched(number))


def untouched(number: int) -> bytes:
    """Return the end of message `number`, its attachment, as every copy must have it to the octet."""
    seed = f"attachment {number}".encode()
    octets = b"".join(hashlib.sha256(seed + bytes([block])).digest() for block in range(64))
    text = base64.encodebytes(octets).replace(b"\n", b"\r\n")
    return (
        f"--{_BOUNDARY}\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n"
        f"Content-Disposition: attachment\r\n\r\n"
    ).encode() + (text + f"--{_BOUNDARY}--\r\n".encode())


def damage_of(copy: bytes) -> str:
    """Say what of a copy is not as it was sent; "" where it is whole."""
    found = _SUBJECT.search(copy)
    if found is None:
        return "it has no subject of ours"
    number = int(found[1])
    if not copy.endswith(untouched(number)):
        return "its attachment is not the one that was sent"
    if f"\r\nMessage-ID: <{number}@shop.example>\r\n".encode() not in copy:
        return "its Message-ID is another's"
    if b"\r\n.\r\n..two dots\r\n" not in copy:
        return "its dots are not those that were sent"
    return "" if copy.count(b"http://127.0.0.1:8080/l/") == 2 else "its links are not wrapped"


class Crowd:
    """Clients that share a list of messages; `accepted` has the id of each that got its 250, by its number."""

    def __init__(self, service: Service, messages: Sequence[Outgoing], clients: int) -> None:
        """Start nothing yet."""
        self.accepted: dict[int, str] = {}
        self._service = service
        self._waiting = list(reversed(messages))
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._work) for _ in range(clients)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(2 * _CLIENT_TIMEOUT_S)

    def _work(self) -> None:
        while not self._stop.is_set():
            try:
                message = self._waiting.pop()
            except IndexError:
                return
            message_id = _until_accepted(self._service, message, self._stop)
            if message_id is not None:
                self.accepted[message.number] = message_id


def _until_accepted(service: Service, message: Outgoing, stop: threading.Event) -> str | None:
    """Return the id that the relay gave the message; None where it was stopped before."""
    while not stop.wait(_AGAIN_AFTER_S):
        with contextlib.suppress(OSError, smtplib.SMTPException):
            return submit(service.addresses["relay"], message)
    return None


def submit(address: tuple[str, int], message: Outgoing) -> str:
    """Send a message once and return the id it got. OSError, SMTPException: it is not known to be accepted."""
    client = smtplib.SMTP(*address, timeout=_CLIENT_TIMEOUT_S)
    try:
        client.ehlo()
        replies = [client.mail(message.sender), *(client.rcpt(recipient) for recipient in message.recipients)]
        refused = [reply for reply in replies if reply[0] // 100 != 2]
        if refused:
            raise smtplib.SMTPResponseException(*refused[0])
        code, text = client.data(message.raw)
        found = _QUEUED.match(text)
        if code != 250 or found is None:
            raise smtplib.SMTPResponseException(code, text)
        with contextlib.suppress(OSError, smtplib.SMTPException):
            client.quit()
        return found[1].decode()
    finally:
        client.close()
