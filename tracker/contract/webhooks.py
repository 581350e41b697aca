"""What makes a request a Standard Webhook: its secrets, its id, its signatures.

Standards: Standard Webhooks 1.0 (github.com/standard-webhooks/standard-webhooks, spec/standard-webhooks.md).
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from datetime import datetime
from typing import Final

PREFIX: Final = "whsec_"
MIN_SECRET_BYTES: Final = 24  # both from the specification, "Signature scheme"
MAX_SECRET_BYTES: Final = 64


def fault_of_secret(secret: str) -> str | None:
    """Return what is wrong with a secret, without showing it; None where it can sign."""
    if not secret.startswith(PREFIX):
        return f"it does not begin with {PREFIX}"
    try:
        key = _key(secret)
    except (ValueError, binascii.Error):
        return f"what follows {PREFIX} is no base64"
    if not MIN_SECRET_BYTES <= len(key) <= MAX_SECRET_BYTES:
        return f"it has {len(key)} bytes, not {MIN_SECRET_BYTES} to {MAX_SECRET_BYTES}"
    return None


def signed_headers(secrets: Sequence[str], *, message_id: str, now: datetime, body: bytes) -> dict[str, str]:
    """Return the three header fields of a request; each secret signs, so that either end of a rotation verifies."""
    timestamp = str(int(now.timestamp()))
    signed = b".".join([message_id.encode(), timestamp.encode(), body])
    digests = [hmac.digest(_key(secret), signed, "sha256") for secret in secrets]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests),
    }


def batch_id(event_ids: Sequence[str]) -> str:
    """Return the id of a batch: the same one however often the same events are posted together."""
    return f"batch_{hashlib.sha256(' '.join(event_ids).encode()).hexdigest()[:32]}"


def _key(secret: str) -> bytes:
    return base64.b64decode(secret.removeprefix(PREFIX), validate=True)
