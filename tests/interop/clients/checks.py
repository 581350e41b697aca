"""What is asked of every client: each check sends one message through Mailwake into the maildir and looks at it."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from tests.acceptance.service import by_type, fetch, wait_until
from tests.interop import mail
from tests.interop.clients.client import Client, Order, RefusedError, Security
from tests.interop.relay import Relay

USER: Final = "tester"
PASSWORD: Final = "correct-horse-7"
UNTRACKED: Final = "X-Mailwake-Track: none\r\n"

_LIMIT_S: Final = 20.0
_OURS: Final = re.compile(
    rb"\AReturn-Path: [^\r]*\r\nDelivered-To: [^\r]*\r\nX-Mailwake-Copy: [^\r]*\r\n"
    rb"(Received:[^\r]*(?:\r\n[ \t][^\r]*)*)\r\n"
)
_FIELD: Final = re.compile(rb"\AReceived:[^\r]*(?:\r\n[ \t][^\r]*)*\r\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A client; a relay that trusts loopback (`trusting`) and one that wants a login (`strict`); a folder."""

    client: Client
    trusting: Relay
    strict: Relay
    authority: Path
    folder: Path

    def send(self, name: str, message: bytes, order: Callable[[Order], Order], *, login: bool = False) -> bytes:
        """Send and return the one copy that arrived."""
        relay = self.strict if login else self.trusting
        subject = f"{self.client.name.split()[0].lower()}-{name}"
        made = self.order(relay, subject, message, order)
        self.client.send(made)
        found = wait_until(
            lambda: [raw for raw in relay.delivered() if mail.is_of(subject, raw)], bool, _LIMIT_S, relay.log
        )
        assert len(found) == 1, f"{len(found)} copies of {subject} arrived"
        return found[0]

    def order(self, relay: Relay, subject: str, message: bytes, change: Callable[[Order], Order]) -> Order:
        """Make the order: a message in a folder of its own, addressed to the listener that its security needs."""
        folder = self.folder / subject
        folder.mkdir()
        path = folder / "message.eml"
        path.write_bytes(message.replace(b"SUBJECT", subject.encode()))
        order = change(
            Order(
                host="localhost",
                port=0,
                security=Security.NONE,
                authority=self.authority,
                message=path,
                sender="news@shop.example",
                recipient="ana@client.example",
                folder=folder,
            )
        )
        return replace(order, port=relay.smtp_ports[order.security is Security.IMPLICIT])


def plain(scene: Scene) -> str:
    """No TLS, no login."""
    _same(scene, "plain", lambda order: order, protocol=b"ESMTP")
    return "arrived once, equal to the octet; Received says ESMTP"


def starttls(scene: Scene) -> str:
    """STARTTLS, certificate verified."""
    _same(scene, "starttls", lambda order: replace(order, security=Security.STARTTLS), protocol=b"ESMTPS")
    return "arrived once, equal to the octet; Received says ESMTPS"


def implicit_tls(scene: Scene) -> str:
    """TLS from the first octet."""
    _same(scene, "tls", lambda order: replace(order, security=Security.IMPLICIT), protocol=b"ESMTPS")
    return "arrived once, equal to the octet; Received says ESMTPS"


def auth_plain(scene: Scene) -> str:
    """AUTH PLAIN behind STARTTLS."""
    return _login(scene, "PLAIN", Security.STARTTLS)


def auth_login(scene: Scene) -> str:
    """AUTH LOGIN over implicit TLS."""
    return _login(scene, "LOGIN", Security.IMPLICIT)


def wrong_password(scene: Scene) -> str:
    """A wrong password, which the client must report."""
    return _is_refused(scene, "wrong", "535", lambda order: replace(_as(order), password="wrong"))


def foreign_sender(scene: Scene) -> str:
    """A login that may not send from this domain."""
    return _is_refused(scene, "foreign", "550", lambda order: replace(_as(order), sender="ceo@bank.example"))


def no_login(scene: Scene) -> str:
    """No login where one is required."""
    return _is_refused(scene, "stranger", "530", lambda order: replace(order, security=Security.STARTTLS))


def eight_bit(scene: Scene) -> str:
    """Eight bits."""
    message = mail.eight_bit("SUBJECT", extra=UNTRACKED)
    _same(scene, "8bit", lambda order: order, protocol=b"ESMTP", message=message)
    return "arrived once, equal to the octet"


def international(scene: Scene) -> str:
    """Addresses and a header in UTF-8."""
    message = mail.international("SUBJECT", extra=UNTRACKED)

    def change(order: Order) -> Order:
        return replace(order, sender="jürg@shop.example", recipient="çelik@client.example")

    _same(scene, "smtputf8", change, protocol=b"UTF8SMTP", message=message)
    return "arrived once, equal to the octet; Received says UTF8SMTP"


def tracked(scene: Scene) -> str:
    """A message that is tracked: the link in the copy redirects, and is recorded."""
    copy = mail.crlf(scene.send("tracked", mail.tracked_html("SUBJECT"), lambda order: order)).replace(b"=\r\n", b"")
    link = re.search(rb"http://127\.0\.0\.1:8080/l/[A-Za-z0-9_-]+", copy)
    assert link is not None, "no link of ours in the copy"
    assert b"/i/" in copy, "no pixel in the copy"
    status, headers, _ = fetch(scene.trusting.local(link[0].decode()))
    assert (status, headers["Location"]) == (302, mail.URL), (status, headers["Location"])
    subject = f"{scene.client.name.split()[0].lower()}-tracked"
    events = wait_until(
        lambda: [
            event for event in scene.trusting.events() if event["mail"]["commonHeaders"].get("subject") == subject
        ],
        lambda found: by_type(found, "Click"),
        _LIMIT_S,
    )
    found = sorted(str(event["eventType"]) for event in events)
    assert found == ["Click", "Delivery", "Send"], found
    return "arrived once; its link redirects to the original; one Send, one Delivery, one Click"


CHECKS: Final[dict[str, Callable[[Scene], str]]] = {
    "plain": plain,
    "STARTTLS, verified": starttls,
    "implicit TLS": implicit_tls,
    "AUTH PLAIN": auth_plain,
    "AUTH LOGIN": auth_login,
    "8-bit": eight_bit,
    "SMTPUTF8": international,
    "tracked HTML": tracked,
    "wrong password: 535": wrong_password,
    "sender of another domain: 550": foreign_sender,
    "no login: 530": no_login,
}


def _as(order: Order) -> Order:
    return replace(order, security=Security.STARTTLS, user=USER, password=PASSWORD)


def _login(scene: Scene, mechanism: str, security: Security) -> str:
    def change(order: Order) -> Order:
        return replace(_as(order), security=security, mechanism=mechanism)

    _same(scene, f"auth-{mechanism.lower()}", change, protocol=b"ESMTPSA", login=True)
    return "arrived once, equal to the octet, at a relay that takes nothing without a login; Received says ESMTPSA"


def _same(
    scene: Scene,
    name: str,
    change: Callable[[Order], Order],
    *,
    protocol: bytes,
    message: bytes = mail.plain("SUBJECT", extra=UNTRACKED),
    login: bool = False,
) -> None:
    """Send an untracked message: what arrives is what was sent, behind trace fields alone."""
    copy = scene.send(name, message, change, login=login)
    found = _OURS.match(copy)
    assert found is not None, f"the copy does not begin with our fields: {copy[:300]!r}"
    word = re.search(rb"\swith (\w+)", found[1])
    assert word is not None, found[1]
    assert word[1] == protocol, f"Received says {word[1].decode()}, not {protocol.decode()}"
    subject = f"{scene.client.name.split()[0].lower()}-{name}".encode()
    rest = copy[found.end() :]
    while (field := _FIELD.match(rest)) is not None:
        rest = rest[field.end() :]
    sent = message.replace(b"SUBJECT", subject).replace(UNTRACKED.encode(), b"")
    assert rest == sent, mail.difference(sent, rest)


def _is_refused(scene: Scene, name: str, code: str, change: Callable[[Order], Order]) -> str:
    subject = f"{scene.client.name.split()[0].lower()}-{name}"
    made = scene.order(scene.strict, subject, mail.plain("SUBJECT"), change)
    try:
        scene.client.send(made)
    except RefusedError as error:
        printed = str(error)
    else:
        raise AssertionError("the client says that it was sent")
    assert code in printed, f"refused, but without {code}: {printed}"
    assert not any(mail.is_of(subject, raw) for raw in scene.strict.delivered()), "it arrived all the same"
    return f"nothing arrived, and the client reports the {code}"
