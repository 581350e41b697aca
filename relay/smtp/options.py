"""What the SMTP listener is told: its limits, and the two questions it asks of whoever wires it.

The limits that no setting changes have their origin beside them.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import Final

from relay.core.reply import Reply
from relay.core.submission import Submission
from relay.smtp.ourselves import Sign

Accept = Callable[[Submission], Awaitable[Reply]]
"""Takes a message and returns the reply to the final dot; a positive one means that the message is safe on disk."""

Admit = Callable[[], Reply | None]
"""Asked at MAIL: the reply that refuses every message now (452 when the spool is full), or None."""

MAX_COMMAND_BYTES: Final = (
    2048  # RFC 5321 §4.5.3.1.4: 512, and what each extension adds; Postfix: line_length_limit 2048
)
MAX_RECIPIENT_OVERSHOOT: Final = 1000  # Postfix: smtpd_recipient_overshoot_limit
LINGER_S: Final = 2.0  # after our last reply, so that a client that is still sending reads it before the reset


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerOptions:
    """The settings of the listener, from `[relay]`, where each has its reason.

    `hostname` is our name in the greeting; sizes are in octets. `max_connections_per_address` does not bind loopback
    and `allow_networks`, the peers that may send without AUTH. `dsn`: reports are made, so EHLO may offer them. `sign`
    is what our own client knows this relay by. The times are limits on one command line: from a peer that may send
    (RFC 5321 §4.5.3.2.7: at least 5 minutes) and from any other; on the whole of DATA, in which each `data_window_s`
    must bring the least rate; and on the session, which ends behind it where a command is awaited.
    """

    hostname: str
    max_message_bytes: int
    max_recipients: int
    max_connections: int
    max_connections_per_address: int
    allow_networks: tuple[IPv4Network | IPv6Network, ...]
    dsn: bool = True
    sign: Sign | None = None
    max_errors: int = 20
    max_junk_commands: int = 100
    command_timeout_s: float = 300.0
    stranger_timeout_s: float = 60.0
    session_timeout_s: float = 3600.0
    data_timeout_s: float = 1800.0
    data_window_s: float = 60.0
    min_data_bytes_per_s: int = 500
