"""Submissions and settings for tests of the relay's pure core."""

from datetime import UTC, datetime

from relay.core.submission import Envelope, Session, Submission
from tracker.contract.address import NULL_SENDER, Address
from tracker.contract.settings import ConfigurationSet, Settings

NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)


def submission(
    message: bytes, *recipients: str, sender: str = "news@shop.example", smtputf8: bool = False
) -> Submission:
    """Return what a client on loopback hands over; an empty sender is the null sender."""
    return Submission(
        session=Session(
            client_address="127.0.0.1", helo="client.example", esmtp=True, tls=False, caller="", trusted=True
        ),
        envelope=Envelope(
            reverse_path=Address.parse(sender) if sender else NULL_SENDER,
            recipients=tuple(map(Address.parse, recipients or ("ana@client.example",))),
            body_8bit=False,
            smtputf8=smtputf8,
            declared_size=None,
        ),
        message=message,
        received_at=NOW,
    )


def settings(*sets: ConfigurationSet, **changes: object) -> Settings:
    """Return settings with these sets (else one, `default`), the first of them the account's."""
    chosen = sets or (ConfigurationSet(name="default"),)
    values: dict[str, object] = {
        "base_url": "https://trace.shop.example",
        "own_hosts": frozenset({"trace.shop.example"}),
        "account_set": chosen[0].name,
        "sets": {entry.name: entry for entry in chosen},
    }
    return Settings(**(values | changes))  # type: ignore[arg-type]


HTML = (
    b"From: Shop <news@shop.example>\r\nTo: ana@client.example\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n"
    b"MIME-Version: 1.0\r\nContent-Type: text/html; charset=utf-8\r\n\r\n"
    b'<html><body><a href="https://shop.example/lamp">Lamp</a> '
    b'<a href="https://shop.example/login?token=secret">In</a></body></html>\r\n'
)
