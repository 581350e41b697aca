"""A message from a file, taken through the same preparation as one that a client sends."""

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from relay.appconfig import Config
    from relay.core.copies import CopyMint
    from relay.core.plan import RewritePlan
    from relay.core.prepare import Prepared
    from tracker.contract.address import Address
    from tracker.contract.ids import MessageId
    from tracker.contract.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A message that was prepared. `size_bytes` is that of the file with the line ends of SMTP.

    `forced_bytes` is the length of the field that `--set` put before it.
    """

    message_id: "MessageId"
    prepared: "Prepared"
    size_bytes: int
    forced_bytes: int


class AddressType(click.ParamType["Address"]):
    """A mail address, `ana@client.example`."""

    name = "address"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> "Address":  # noqa: ANN401 - click's signature
        """Parse it; exit code 2 says what is wrong."""
        from tracker.contract.address import Address
        from tracker.contract.errors import AddressError

        try:
            return value if isinstance(value, Address) else Address.parse(str(value))
        except AddressError as error:
            self.fail(str(error), param, ctx)


def settings_in_force(config: "Config") -> "Settings":
    """Return the settings; links point to the running tracking host where the file leaves its port open."""
    from tracker.runtime import control
    from tracker.runtime.units import HTTPS, ListenAddress

    if config.tracker.public_url is None:
        for status in control.running(config.run_directory):
            for address in status.listening.get("tracker", []):
                return config.settings(ListenAddress.parse(address.removeprefix(HTTPS)))
    return config.settings()


def prepare_file(config: "Config", path: Path, *, recipient: "Address | None", set_name: str | None) -> Sample:
    """Prepare a file as if it had been sent to the recipient now; a refusal ends the command with exit code 1."""
    from relay.core import headers
    from relay.core.mailboxes import first_mailbox
    from relay.core.prepare import prepare
    from relay.core.reply import Reply
    from relay.core.submission import Envelope, Session, Submission
    from tracker.contract.address import Address
    from tracker.contract.ids import RANDOM_BYTES_OF_MESSAGE_ID, MessageId

    now = datetime.now(UTC)
    forced = b"" if set_name is None else b"X-SES-CONFIGURATION-SET: " + set_name.encode() + b"\r\n"
    raw = forced + path.read_bytes()
    values = headers.scan(raw).values("From")
    author = first_mailbox(values[0]) if values else None
    submission = Submission(
        session=Session(client_address="127.0.0.1", helo="localhost", esmtp=True, tls=False, caller="", trusted=True),
        envelope=Envelope(
            reverse_path=author or Address.parse("nobody@localhost"),
            recipients=(recipient or Address.parse("somebody@localhost"),),
            body_8bit=True,
            smtputf8=False,
            declared_size=None,
        ),
        message=raw,
        received_at=now,
    )
    message = MessageId.make(unix_ms=int(now.timestamp() * 1000), entropy=os.urandom(RANDOM_BYTES_OF_MESSAGE_ID))
    prepared = prepare(submission, site=config.site, settings=settings_in_force(config), message_id=message)
    if isinstance(prepared, Reply):
        click.echo(f"mailwake: the message would be refused: {prepared.line()}", err=True)
        raise SystemExit(1)
    size_bytes = len(prepared.original.raw) - len(forced)
    return Sample(message_id=message, prepared=prepared, size_bytes=size_bytes, forced_bytes=len(forced))


def consented(config: "Config", prepared: "Prepared", recipient: "Address") -> "RewritePlan":
    """Return the plan of the recipient's copy: nothing is tracked of who denied it, or has not allowed it and must.

    Where the storage cannot be read, nobody is known to have said anything.
    """
    from dataclasses import replace

    from relay.cli.storage import persons_of
    from relay.core import plan
    from relay.core.consent import Consents
    from relay.core.policy import Track
    from tracker.store import consent

    if prepared.plan is None or prepared.options is None or not isinstance(prepared.decision, Track):
        raise ValueError("a message that passes untouched has no plan")
    stored = consent.watched(config.storage.path)
    stored.look()
    consents = Consents(persons=persons_of(config), book=stored.found)
    objection = consents.objection(str(recipient), prepared.decision.configuration_set.consent)
    if objection is None:
        return prepared.plan
    options = replace(prepared.options, open_tracking=False, html_links=False, text_links=False)
    return plan.make(prepared.message, options)


def sample_mint(config: "Config", settings: "Settings", sample: Sample) -> "CopyMint":
    """Make sample links: they redirect, and are never recorded. Without a keys file, under a key of the moment."""
    from relay.core.copies import CopyMint
    from tracker.contract.ids import COPY_SUFFIX_BYTES, CopyId
    from tracker.contract.token import SECRET_BYTES, TokenKey, TokenKeys, day_of
    from tracker.runtime import secrets

    now = datetime.now(UTC)
    options = sample.prepared.options
    if config.keys.file.exists():
        keys = secrets.load(config.keys.file).tokens
    else:
        keys = TokenKeys([TokenKey(key_id=1, secret=os.urandom(SECRET_BYTES), mint_from=now)])
    return CopyMint(
        keys=keys,
        key_id=keys.minting(now),
        base_url=settings.base_url,
        copy=CopyId(sample.message_id, os.urandom(COPY_SUFFIX_BYTES)),
        day=day_of(now),
        configuration_set=options.configuration_set if options is not None else "",
        from_domain=options.from_domain if options is not None else "",
        sample=True,
    )
