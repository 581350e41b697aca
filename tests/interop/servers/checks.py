"""What is asked of every server: each check sends through Mailwake and looks at what arrived, and at the events."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from email import message_from_bytes, policy
from typing import Final

from tests.acceptance.service import Event, Events, by_type, wait_until
from tests.interop import mail
from tests.interop.outcome import NotOfferedError
from tests.interop.relay import REFERENCE, Relay
from tests.interop.servers.server import PASSWORD, REFUSED, USER, Running

_LIMIT_S: Final = 15.0
_ANA: Final = "ana@client.example"
_SAME: Final = "arrived once, equal to the maildir copy but for tokens and trace fields; one Send, one Delivery"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A server that runs, the relay before it, and its name for the subjects."""

    server: Running
    relay: Relay
    name: str

    def arrived(self, subject: str) -> bytes:
        """Return the one message of a subject that the server took; more than one is a failure."""
        found = wait_until(lambda: [raw for raw in self.server.taken() if mail.is_of(subject, raw)], bool, _LIMIT_S)
        assert len(found) == 1, f"{len(found)} copies of {subject} arrived"
        return found[0]

    def reference(self, subject: str) -> bytes:
        """Return the one copy of a subject that the maildir got."""
        found = wait_until(lambda: [raw for raw in self.relay.delivered() if mail.is_of(subject, raw)], bool, _LIMIT_S)
        assert len(found) == 1, f"{len(found)} copies of {subject} in the maildir"
        return found[0]


def tables(server: Running, authority: object) -> dict[str, str]:
    """Return the lines of each `[upstream.NAME]` that the checks use."""
    trust = f'tls_ca = "{authority}"'
    login = f'username = "{USER}"\npassword = "{PASSWORD}"'
    more = {"starttls": trust, "tls": trust, "login": f"{trust}\n{login}"}
    found = {name: f'url = "{url}"\n{more.get(name, "")}' for name, url in server.urls.items()}
    if "login" in server.urls:
        found["wrong"] = f'url = "{server.urls["login"]}"\n{trust}\nusername = "{USER}"\npassword = "wrong"'
    if "starttls" in server.urls:
        found["untrusted"] = f'url = "{server.urls["starttls"]}"'
    return found


def _same(scene: Scene, through: str, make: Callable[..., bytes], **sender: str) -> bytes:
    """Send one message to the server and to the maildir; return what the server took, having compared them."""
    _needs(scene, through)
    subject = f"{scene.name.lower()}-{through}-{make.__name__}"
    recipient = "çelik@client.example" if sender else _ANA
    outcome = scene.relay.outcome(scene.relay.submit(through, make(subject, **sender), recipient, **sender))
    _expect(outcome, Send=1, Delivery=1)
    scene.relay.outcome(scene.relay.submit(REFERENCE, make(subject, **sender), recipient, **sender))
    taken, reference = scene.arrived(subject), scene.reference(subject)
    assert mail.canonical(taken) == mail.canonical(reference), mail.difference(
        mail.canonical(reference), mail.canonical(taken)
    )
    return taken


def tracked(scene: Scene) -> str:
    """A tracked message of two parts."""
    taken = _same(scene, "plain", mail.tracked_html)
    assert b"/l/" in taken and b"/i/" in taken, "no link or no pixel in the copy"  # noqa: PT018 - one thought
    return _SAME + "; a link and the pixel in it"


def eight_bit(scene: Scene) -> str:
    """A message in eight bits."""
    taken = _same(scene, "plain", mail.eight_bit)
    assert "灯".encode() in taken, "the octets above 127 were changed"
    return _SAME + "; still in eight bits"


def attachment(scene: Scene) -> str:
    """A large attachment."""
    _same(scene, "plain", mail.with_attachment)
    return _SAME + "; 2 MiB of every octet"


def international(scene: Scene) -> str:
    """Addresses and a header in UTF-8."""
    if (why := scene.server.not_offered.get("smtputf8")) is None:
        _same(scene, "plain", mail.international, sender="jürg@shop.example")
        return _SAME + "; addresses and header in UTF-8"
    subject = f"{scene.name.lower()}-international"
    message = mail.international(subject)
    outcome = scene.relay.outcome(
        scene.relay.submit("plain", message, "çelik@client.example", sender="jürg@shop.example")
    )
    _expect(outcome, Send=1, Bounce=1)
    (bounce,) = by_type(outcome, "Bounce")
    assert "5.6.7" in str(bounce), bounce
    raise NotOfferedError(f"{why}; Mailwake bounced with 5.6.7 and sent nothing")


def refused(scene: Scene) -> str:
    """One recipient of two is refused."""
    subject = f"{scene.name.lower()}-refused"
    outcome = scene.relay.outcome(scene.relay.submit("plain", mail.tracked_html(subject), _ANA, REFUSED), recipients=2)
    _expect(outcome, Send=2, Delivery=1, Bounce=1)
    (bounce,) = by_type(outcome, "Bounce")
    assert bounce["mail"]["destination"] == [REFUSED], bounce
    assert "550" in str(bounce), bounce
    scene.arrived(subject)
    report = wait_until(
        lambda: [raw for raw in scene.server.taken() if REFUSED.encode() in raw and b"delivery-status" in raw],
        bool,
        _LIMIT_S,
        scene.relay.log,
    )
    assert len(report) == 1, f"{len(report)} reports"
    parsed = message_from_bytes(report[0], policy=policy.default)
    assert parsed.get_content_type() == "multipart/report", parsed.get_content_type()
    return "two Sends, one Delivery, one Bounce that names the refused one with its 550; one report to the sender"


def starttls(scene: Scene) -> str:
    """STARTTLS with a certificate that verifies."""
    taken = _same(scene, "starttls", mail.tracked_html)
    return f"{_SAME}; the server's Received has {_protocol(taken, b'ESMTPS')}"


def implicit_tls(scene: Scene) -> str:
    """TLS from the first octet."""
    taken = _same(scene, "tls", mail.tracked_html)
    return f"{_SAME}; the server's Received has {_protocol(taken, b'ESMTPS')}"


def login(scene: Scene) -> str:
    """AUTH behind STARTTLS."""
    taken = _same(scene, "login", mail.tracked_html)
    return f"{_SAME}; the server's Received has {_protocol(taken, b'ESMTPSA')}"


def seven_bit(scene: Scene) -> str:
    """Eight bits for a server that does not offer 8BITMIME."""
    _needs(scene, "seven_bit")
    subject = f"{scene.name.lower()}-seven_bit"
    outcome = scene.relay.outcome(scene.relay.submit("seven_bit", mail.eight_bit(subject), _ANA))
    _expect(outcome, Send=1, Delivery=1)
    taken = scene.arrived(subject)
    assert mail.without_trace(taken).isascii(), "octets above 127 were sent to a server without 8BITMIME"
    text = message_from_bytes(taken, policy=policy.default).get_content()
    assert "Grüße, 灯" in text, text
    assert "/l/" in text, "the link is not tracked any more"
    return "arrived once, in ASCII; decoded, the text and the tracked link are those of the message"


def wrong_password(scene: Scene) -> str:
    """A password that the server refuses is the upstream's condition."""
    _needs(scene, "login")
    return _waits(scene, "wrong", "535")


def untrusted(scene: Scene) -> str:
    """A certificate that does not verify stops the mail, not the message."""
    _needs(scene, "starttls")
    return _waits(scene, "untrusted", "certificate")


def _waits(scene: Scene, through: str, sign: str) -> str:
    subject = f"{scene.name.lower()}-{through}"
    message_id = scene.relay.submit(through, mail.tracked_html(subject), _ANA)
    wait_until(
        scene.relay.log,
        lambda log: any("upstream_troubled" in line and through in line and sign in line for line in log.splitlines()),
        _LIMIT_S,
    )
    events = wait_until(
        lambda: [event for event in scene.relay.events() if event["mail"]["messageId"] == message_id], bool, _LIMIT_S
    )
    _expect(events, Send=1)
    assert not any(mail.is_of(subject, raw) for raw in scene.server.taken()), "it arrived all the same"
    return f"nothing was sent, nothing bounced, the message waits; the log says why ({sign})"


CHECKS: Final[dict[str, Callable[[Scene], str]]] = {
    "tracked HTML": tracked,
    "8-bit": eight_bit,
    "attachment": attachment,
    "SMTPUTF8": international,
    "refused recipient": refused,
    "STARTTLS, verified": starttls,
    "implicit TLS": implicit_tls,
    "AUTH": login,
    "8-bit without 8BITMIME": seven_bit,
    "wrong password": wrong_password,
    "unknown authority": untrusted,
}


def _needs(scene: Scene, through: str) -> None:
    if through not in scene.server.urls:
        raise NotOfferedError(scene.server.not_offered[through])


def _protocol(raw: bytes, least: bytes) -> str:
    trace = mail.trace_of(raw)
    found = re.search(rb" with ((?:UTF8|E)?SMTP\w*)", trace, re.IGNORECASE)
    assert found is not None, trace
    assert found[1].upper().startswith(least), f"{least.decode()} is not in {trace.decode(errors='replace')}"
    return found[1].decode()


def _expect(events: Events, **counts: int) -> None:
    found: dict[str, int] = {}
    for event in events:
        found[str(event["eventType"])] = found.get(str(event["eventType"]), 0) + 1
    assert found == counts, f"{found} instead of {counts}: {_shortened(events)}"


def _shortened(events: Events) -> list[Event]:
    return [{name: value for name, value in event.items() if name != "mail"} for event in events]
