"""`docs/reference/token.md`: its vectors are ours, and whoever follows its text can open them."""

import base64
import json
import struct
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tests.machine import ROOT
from tracker.contract import urls
from tracker.contract.ids import CopyId
from tracker.contract.token import BodyPart, LinkPayload, Purpose, TokenKey, TokenKeys, TokenPayload

_BASE = "https://trace.shop.example"
_PAGE = (ROOT / "docs" / "reference" / "token.md").read_text(encoding="utf-8")
_VECTORS: list[dict[str, Any]] = json.loads(_PAGE.partition("```json\n")[2].partition("```")[0])


def _keys(vector: dict[str, Any]) -> TokenKeys:
    secret = bytes.fromhex(vector["secret"])
    return TokenKeys([TokenKey(key_id=vector["key_id"], secret=secret, mint_from=datetime(2026, 1, 1, tzinfo=UTC))])


def _payload(vector: dict[str, Any]) -> TokenPayload:
    link = vector["link"]
    return TokenPayload(
        copy=CopyId.parse(vector["copy"]),
        day=date.fromisoformat(vector["day"]),
        sample=vector["sample"],
        redact=vector["redact"],
        configuration_set=vector.get("configuration_set", ""),
        from_domain=vector.get("from_domain", ""),
        link=link and LinkPayload(index=link["index"], part=BodyPart[link["part"].upper()], url=link["url"]),
    )


def test_there_is_a_vector_of_each_kind() -> None:
    """Pixel and link, HTML and text, each flag, three keys, the ends of the ranges."""
    assert {vector["link"] is None for vector in _VECTORS} == {True, False}
    assert {vector["link"]["part"] for vector in _VECTORS if vector["link"]} == {"html", "text"}
    assert {(vector["sample"], vector["redact"]) for vector in _VECTORS} >= {
        (True, True),
        (False, True),
        (False, False),
    }
    assert {("configuration_set" in vector, vector["link"] is None) for vector in _VECTORS} == {
        (True, True),
        (True, False),
        (False, True),
        (False, False),
    }
    assert len({vector["key_id"] for vector in _VECTORS}) == 3


@pytest.mark.parametrize("vector", _VECTORS)
def test_a_vector_is_sealed_and_read_by_our_code(vector: dict[str, Any]) -> None:
    """If this fails, links that are in mail no longer work: the code is wrong, never the vector."""
    keys, payload = _keys(vector), _payload(vector)
    purpose, token = urls.split(vector["tracking_url"].removeprefix(_BASE)) or (Purpose.OPEN, "")

    assert urls.make(_BASE, payload.purpose, keys.seal(payload, vector["key_id"])) == vector["tracking_url"]
    assert keys.read(token, purpose) == payload


@pytest.mark.parametrize("vector", _VECTORS)
def test_a_vector_is_opened_by_the_text_alone(vector: dict[str, Any]) -> None:
    """Nothing of our code: the page says all that one needs."""
    letter, token = vector["tracking_url"].removeprefix(_BASE)[1], vector["tracking_url"].rpartition("/")[2]
    raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    version, key_id, purpose, length = struct.unpack(">BHBH", raw[:6])
    key = HKDF(algorithm=SHA256(), length=64, salt=None, info=b"mailwake token v1").derive(
        bytes.fromhex(vector["secret"])
    )
    plain = AESSIV(key).decrypt(raw[6:], [raw[:6]])

    assert (version, key_id, chr(purpose), length) == (1, vector["key_id"], letter, len(raw) - 6)
    assert plain[0] == vector["sample"] + 2 * vector["redact"] + 4 * ("configuration_set" in vector)
    assert _base32(plain[1:17]) + "-" + plain[17:23].hex() == vector["copy"]
    days = int.from_bytes(plain[23:25], "big")
    assert date(1970, 1, 1) + timedelta(days=days) == date.fromisoformat(vector["day"])
    link = vector["link"]
    rest = plain[25:] if link is None else plain[28:]
    for label in ("configuration_set", "from_domain") if "configuration_set" in vector else ():
        assert rest[1 : 1 + rest[0]].decode("ascii") == vector[label]
        rest = rest[1 + rest[0] :]
    if link is None:
        assert not rest
    else:
        assert (int.from_bytes(plain[25:27], "big"), ["html", "text"][plain[27]]) == (link["index"], link["part"])
        assert rest.decode() == link["url"]


def _base32(raw: bytes) -> str:
    """Write 128 bits in Crockford's alphabet."""
    bits = "00" + "".join(f"{byte:08b}" for byte in raw)
    return "".join(
        "0123456789abcdefghjkmnpqrstvwxyz"[int(bits[place : place + 5], 2)] for place in range(0, len(bits), 5)
    )
