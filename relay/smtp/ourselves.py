"""Whether an upstream is this relay itself: mail that is sent to oneself goes in a circle until it bounces.

The listener puts a sign into its answer to EHLO, `XMAILWAKE` and a value; the client looks for it in the answer of an
upstream, before it logs in or sends anything. Names and addresses cannot tell: two relays may have one host name, and
behind a load balancer a relay may reach another node or process in place of itself. The sign can: all processes and
nodes with one keys file know it, and nobody else.

Formula: the value is N || HMAC-SHA256(key, N) cut to 16 bytes, in base64url without padding; N are 12 random bytes. So
two answers have nothing in common that a stranger could see, and no other relay makes one by chance. An upstream that
sends back what it got from us gains what it has anyway: it gets no mail.

Standards: RFC 5321 §4.1.1.1 (a keyword that begins with X is between the two ends alone).
Limits: an upstream that is this relay behind one more server, which takes the mail before, is found out by the Received
fields alone (relay/core/headers.py).
"""

import base64
import binascii
import hmac
import secrets
from collections.abc import Mapping
from typing import Final

from relay.core.attempt import Deferred, Phase

KEYWORD: Final = "XMAILWAKE"
_NONCE_BYTES: Final = 12
_PROOF_BYTES: Final = 16

IS_OURSELVES: Final = Deferred(
    reply=None,
    phase=Phase.EHLO,
    of_upstream=True,
    detail="the upstream is this relay itself, or another with its keys file: name the next server on the way",
)
"""What such an upstream comes to: nothing is sent to it, and its mail waits."""


class Sign:
    """The sign of all relays with one keys file."""

    def __init__(self, key: bytes) -> None:
        """Take the key that serves this alone."""
        self._key = key

    def __repr__(self) -> str:
        return "Sign()"

    def line(self) -> str:
        """Return a line for the answer to EHLO, another one each time: `XMAILWAKE oxv…`."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return f"{KEYWORD} {base64.urlsafe_b64encode(nonce + self._proof(nonce)).rstrip(b'=').decode('ascii')}"

    def is_in(self, extensions: Mapping[str, str]) -> bool:
        """Say whether an answer to EHLO has it: `{"size": "9", "xmailwake": "oxv…"}`, keywords in lower case."""
        value = extensions.get(KEYWORD.lower(), "")
        try:
            raw = base64.b64decode(value.encode("ascii") + b"=" * (-len(value) % 4), altchars=b"-_", validate=True)
        except (UnicodeEncodeError, binascii.Error):
            return False
        return hmac.compare_digest(raw[_NONCE_BYTES:], self._proof(raw[:_NONCE_BYTES]))

    def _proof(self, nonce: bytes) -> bytes:
        return hmac.digest(self._key, nonce, "sha256")[:_PROOF_BYTES]
