"""The proof that a host reaches this account's tracker: `GET /.well-known/mailwake?challenge=NONCE`.

Formula: the answer is HMAC-SHA256 (RFC 2104) under the account's verification key of the nonce's ASCII bytes, as 64
lower-case hexadecimal digits. Whoever verifies a tracking domain knows the key, draws a nonce, and compares; the Host
header plays no part, so it works behind a CDN, a proxy or a CNAME alike.

The key serves nothing else, since this answers whatever nonce a stranger chooses.
"""

import hmac
import re
from typing import Final

_NONCE: Final = re.compile(r"[A-Za-z0-9_-]{16,128}")


def answer(key: bytes, nonce: str) -> str | None:
    """Return the answer to a challenge; None where the nonce is not 16 to 128 characters of A-Z, a-z, 0-9, - and _."""
    if not _NONCE.fullmatch(nonce):
        return None
    return hmac.digest(key, nonce.encode("ascii"), "sha256").hex()
