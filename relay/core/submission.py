"""What a client hands over: who it is, the envelope, the message. Values of the SMTP session, free of the library.

Standards: RFC 5321 §2.3.1 (envelope and content), RFC 6152 (8BITMIME), RFC 6531 (SMTPUTF8), RFC 1870 (SIZE),
RFC 3461 (DSN).
"""

from dataclasses import dataclass
from datetime import datetime

from relay.core.dsnrequest import NO_REQUEST, DsnRequest
from tracker.contract.address import Address, ReversePath
from tracker.contract.credentials import Permission


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """The client's connection, as far as a message and its Received field need it.

    `client_address` is an IP address, an IPv4 one never mapped into IPv6 (`"192.0.2.1"`, `"2001:db8::1"`); `helo` is
    the checked argument of EHLO or HELO, safe in a header (`"mail.shop.example"`, `"[192.0.2.1]"`); `esmtp` tells EHLO
    from HELO; `caller` is the name of the credential, empty when unauthenticated, and `permission` what it may send;
    `trusted` says that the address is in `allow_networks`. ValueError: a caller without permission, or the reverse.
    """

    client_address: str
    helo: str
    esmtp: bool
    tls: bool
    caller: str
    trusted: bool
    permission: Permission | None = None

    def __post_init__(self) -> None:
        if bool(self.caller) != (self.permission is not None):
            raise ValueError("a caller and what it may send belong together")


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """Sender and recipients of one transaction; each recipient stands once, in the order of RCPT.

    `body_8bit` is `BODY=8BITMIME`; `declared_size` is the value of `SIZE=` in octets, None where there was none; `dsn`
    is what was asked of delivery reports.
    """

    reverse_path: ReversePath
    recipients: tuple[Address, ...]
    body_8bit: bool
    smtputf8: bool
    declared_size: int | None
    dsn: DsnRequest = NO_REQUEST


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """One message with all we know of its arrival.

    `message` has its dots unstuffed and is else as received: its line ends are not yet settled (bare CR and LF may be
    in it). `received_at` is the moment the final dot was read.
    """

    session: Session
    envelope: Envelope
    message: bytes
    received_at: datetime
