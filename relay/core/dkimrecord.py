"""The record in DNS that a DKIM signature is verified with: what is wrong with it, and the line to add.

Does not ask DNS: the texts are handed in, as the strings of each TXT record joined.

Standards: RFC 6376 §3.2 (tags), §3.6.1 (the record), §3.6.2.2 (of several records the outcome is undefined); RFC 8463
§4 (`k=ed25519`); RFC 1035 §3.3.14 (strings of at most 255 octets).
"""

import binascii
import re
from base64 import b64decode
from collections.abc import Sequence
from typing import Final

from relay.core.dkim import Algorithm

MAX_STRING: Final = 255
"""Octets of one string of a TXT record."""

_FOLDS: Final = re.compile(r"\s+")


def fault_of(texts: Sequence[str], algorithm: Algorithm, public: bytes) -> str | None:
    """Say why signatures would not verify, as the end of a sentence; None where the record is the key's.

    `public` is the public key as `p=` holds it, decoded.
    """
    if not texts:
        return "there is no TXT record"
    if len(texts) > 1:
        return f"there are {len(texts)} TXT records where one belongs"
    tags = _read(texts[0])
    if tags is None or tags.get("v", "DKIM1") != "DKIM1":
        return "the TXT record is none of DKIM"
    kind = algorithm.partition("-")[0]
    if "p" not in tags:
        return "the record has no p="
    if not tags["p"]:
        return "the key was revoked: p= is empty"
    if tags.get("k", "rsa") != kind:
        return f"the record is for another kind of key: k={tags.get('k', 'rsa')}, and the key here is of kind {kind}"
    try:
        published = b64decode(tags["p"], validate=True)
    except binascii.Error:
        return "p= of the record is no base64"
    if published != public:
        return "the record has another key"
    if "h" in tags and "sha256" not in tags["h"].split(":"):
        return f"the record does not allow SHA-256: h={tags['h']}"
    if "s" in tags and not {"*", "email"} & set(tags["s"].split(":")):
        return f"the record is not for mail: s={tags['s']}"
    if "y" in tags.get("t", "").split(":"):
        return "the record says that it is a test (t=y), so verifiers take signed mail for unsigned mail"
    return None


def zone_line(name: str, text: str) -> str:
    """Return the line of a zone file: `mw1._domainkey.shop.example. IN TXT "v=DKIM1; …" "…"`."""
    strings = (text[start : start + MAX_STRING] for start in range(0, len(text), MAX_STRING))
    return f"{name}. IN TXT " + " ".join(f'"{string}"' for string in strings)


def _read(text: str) -> dict[str, str] | None:
    """Read a list of tags; None where it is none, or has one twice."""
    tags: dict[str, str] = {}
    for number, part in enumerate(text.split(";")):
        name, separator, value = part.partition("=")
        name = name.strip()
        if not name and not separator:
            continue  # behind the last semicolon
        if not separator or name in tags or (name == "v" and number):
            return None
        tags[name] = _FOLDS.sub("", value)
    return tags or None
