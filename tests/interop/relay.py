"""Mailwake under test: the installed command as a real process, with what came of each message."""

import json
import re
import smtplib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from argon2 import PasswordHasher

from tests.acceptance.service import Events, Service, by_type, wait_until
from tests.interop.certificates import Certificate

REFERENCE: Final = "reference"
"""The set whose upstream is a maildir: it says what a copy is."""

_LIMIT_S: Final = 15.0
_QUEUED: Final = re.compile(r"queued as (\w+)")
_BASE: Final = """
[relay]
listen = [{listen}]
hostname = "relay.example.com"
allow_networks = [{networks}]
{more}
[spool]
directory = "var/spool"
min_free = "1MiB"
[journal]
directory = "var/journal"
[tracker]
listen = ["127.0.0.1:0"]
public_url = "http://127.0.0.1:8080"
[console]
listen = ["127.0.0.1:0"]
[metrics]
listen = "127.0.0.1:0"
[storage]
url = "sqlite:var/mailwake.db"
[keys]
file = "var/keys.json"
[log]
addresses = true
[event_destination.archive]
type = "jsonl"
path = "var/events"
[tracking]
configuration_set = "reference"
[upstream.default]
url = "maildir:var/mail"
final = true
[configuration_set.reference]
destinations = ["archive"]
"""


class Relay(Service):
    """One `mailwake serve`. Every upstream has a configuration set of its name, which a message's header chooses."""

    def __init__(
        self,
        command: Path,
        folder: Path,
        *,
        listen: str = '"127.0.0.1:0"',
        networks: str = '"127.0.0.0/8"',
        more: str = "",
        upstreams: Mapping[str, str] | None = None,
    ) -> None:
        """Write the configuration. `upstreams` has the lines of each table, `more` those that follow `[relay]`."""
        folder.mkdir(parents=True)
        super().__init__(command, folder)
        text = _BASE.format(listen=listen, networks=networks, more=more)
        for name, lines in (upstreams or {}).items():
            text += f'[upstream.{name}]\nfinal = true\n{lines}\n[configuration_set.{name}]\nupstream = "{name}"\n'
            text += 'destinations = ["archive"]\n'
        self.config.write_text(text)
        self.config.chmod(0o600)  # passwords stand in it

    def submit(self, name: str, message: bytes, *recipients: str, sender: str = "news@shop.example") -> str:
        """Send a message through the set of a name; return our id of it."""
        host, port = self.addresses["relay"]
        options = ["BODY=8BITMIME"] if not message.isascii() else []
        if not all(path.isascii() for path in (sender, *recipients)):
            options.append("SMTPUTF8")
        with smtplib.SMTP(host, port, timeout=_LIMIT_S) as smtp:
            smtp.ehlo("client.example")
            for verb, reply in (
                ("MAIL", smtp.mail(sender, options)),
                *(("RCPT", smtp.rcpt(recipient)) for recipient in recipients),
                ("DATA", smtp.data(f"X-SES-CONFIGURATION-SET: {name}\r\n".encode() + message)),
            ):
                assert reply[0] // 100 == 2, f"{verb} was answered {reply}"
        found = _QUEUED.search(reply[1].decode())
        assert found is not None, reply
        return found[1]

    def events(self) -> Events:
        """Return every event, as the destination has them: quicker than asking the command."""
        found: Events = []
        for path in sorted((self.folder / "var" / "events").glob("*.jsonl")):
            found += [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
        return found

    def outcome(self, message_id: str, recipients: int = 1) -> Events:
        """Return the events of a message as soon as each of its recipients is finished."""

        def is_finished(events: Events) -> bool:
            return len(by_type(events, "Delivery")) + len(by_type(events, "Bounce")) >= recipients

        return wait_until(
            lambda: [event for event in self.events() if event["mail"]["messageId"] == message_id],
            is_finished,
            _LIMIT_S,
            lambda: self.log()[-600:],
        )


def secured(certificate: Certificate) -> str:
    """Return the lines of `[relay.tls]`."""
    return f'[relay.tls]\ncertificate = "{certificate.certificate}"\nkey = "{certificate.key}"\n'


def credential(name: str, password: str, domain: str) -> str:
    """Return the lines of a login that may send from one domain."""
    hashed = PasswordHasher(time_cost=2, memory_cost=19456, parallelism=1).hash(password)
    return f'[credential.{name}]\npassword_hash = "{hashed}"\nsender_domains = ["{domain}"]\n'
