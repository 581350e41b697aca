"""What the listener knows of TLS and logins: who may send, and how they say who they are.

Every session looks here when it needs it, so what is replaced here is in force for the sessions that are open, too.
"""

from dataclasses import dataclass

from relay.smtp.auth import Gate
from relay.smtp.guessing import Guesses
from tracker.runtime.tls import ServerTls


@dataclass(slots=True, kw_only=True)
class Access:
    """`tls` is None where no certificate is set; `require_tls` refuses AUTH and MAIL in clear."""

    gate: Gate
    guesses: Guesses
    tls: ServerTls | None = None
    require_tls: bool = False
