"""DKIM signatures: read back by a verifier that is written here from the RFC, letter by letter and slowly."""

import hashlib
import re
from base64 import b64decode, b64encode
from collections.abc import Sequence
from datetime import timedelta

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519, padding
from cryptography.hazmat.primitives.serialization import load_der_public_key
from hypothesis import given
from hypothesis import strategies as st

from relay import dkimkeys
from relay.core import dkim, headers
from relay.core.dkim import Signer
from relay.dkimkeys import DkimKey
from tests.unit.submissions import NOW

RSA, _ = dkimkeys.make("rsa-sha256")
ED25519, _ = dkimkeys.make("ed25519-sha256")
MESSAGE = (
    b"Received: from client.example\r\nFrom: Shop <news@shop.example>\r\nTo: ana@client.example\r\n"
    b"Subject: Lamps\r\n and  shades\r\nDate: Sun, 22 Nov 2026 10:00:00 +0000\r\nMIME-Version: 1.0\r\n"
    b"List-Unsubscribe: <https://shop.example/u>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n\r\n"
    b"Dear  Ana \r\n\r\n lamps\r\n\r\n\r\n"
)


def _signer(key: DkimKey) -> Signer:
    return key.signer("shop.example", "mw1")


def _sign(message: bytes, key: DkimKey = ED25519) -> bytes:
    field = dkim.signature([message], _signer(key), at=NOW)
    assert field is not None
    return field + message


# --- the verifier: RFC 6376 as it is written, a character at a time ---------------------------------------


def _slow_body(body: bytes) -> bytes:
    lines = body.split(b"\r\n")
    done = []
    for line in lines:
        kept = b""
        for character in (line[i : i + 1] for i in range(len(line))):
            if character in b" \t":
                kept += b"" if kept.endswith(b" ") else b" "
            else:
                kept += character
        done.append(kept.removesuffix(b" "))
    while done and done[-1] == b"":
        done.pop()
    return b"".join(line + b"\r\n" for line in done)


def _slow_field(field: bytes) -> bytes:
    name, _, value = field.partition(b":")
    value = value.replace(b"\r\n", b"").replace(b"\t", b" ")
    while b"  " in value:
        value = value.replace(b"  ", b" ")
    return name.strip(b" ").lower() + b":" + value.strip(b" ")


def _tags(field: bytes) -> dict[str, str]:
    value = field.partition(b":")[2].decode()
    pairs = (pair.partition("=") for pair in "".join(value.split()).rstrip(";").split(";"))
    return {name: text for name, _, text in pairs}


def _fields(message: bytes) -> tuple[list[bytes], bytes]:
    header, separator, body = message.partition(b"\r\n\r\n")
    assert separator
    return re.split(rb"\r\n(?![ \t])", header), body


def _verifies(message: bytes, key: DkimKey) -> bool:
    (signed, *others), body = _fields(message)
    tags = _tags(signed)
    if b64decode(tags["bh"]) != hashlib.sha256(_slow_body(body)).digest():
        return False
    hashed = b""
    left = list(others)
    for name in tags["h"].split(":"):
        for index in range(len(left) - 1, -1, -1):
            if left[index].partition(b":")[0].strip().lower() == name.encode():
                hashed += _slow_field(left.pop(index)) + b"\r\n"
                break
    hashed += _slow_field(re.sub(rb"\bb=[A-Za-z0-9+/=\s]*$", b"b=", signed))
    sent = b64decode(tags["b"])
    try:
        if tags["a"] == "rsa-sha256":
            public = load_der_public_key(key.public)
            public.verify(sent, hashed, padding.PKCS1v15(), hashes.SHA256())  # type: ignore[union-attr, call-arg, arg-type]
        else:
            ed25519.Ed25519PublicKey.from_public_bytes(key.public).verify(sent, hashlib.sha256(hashed).digest())
    except InvalidSignature:
        return False
    return True


# --- the signature ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [RSA, ED25519], ids=["rsa", "ed25519"])
def test_a_signature_verifies(key: DkimKey) -> None:
    """RFC 6376 §3.5: the tags; the signature is of the message behind it."""
    signed = _sign(MESSAGE, key)

    tags = _tags(_fields(signed)[0][0])
    assert (tags["v"], tags["a"], tags["c"]) == ("1", key.algorithm, "relaxed/relaxed")
    assert (tags["d"], tags["s"], tags["t"]) == ("shop.example", "mw1", str(int(NOW.timestamp())))
    assert tags.keys() == {"v", "a", "c", "d", "s", "t", "h", "bh", "b"}
    assert _verifies(signed, key)


@pytest.mark.parametrize("key", [RSA, ED25519], ids=["rsa", "ed25519"])
def test_the_same_message_has_the_same_signature(key: DkimKey) -> None:
    """A copy that is tried again is the same mail, whatever the clock says meanwhile."""
    assert _sign(MESSAGE, key) == _sign(MESSAGE, key)
    assert _sign(MESSAGE, key) != dkim.signature([MESSAGE], _signer(key), at=NOW + timedelta(seconds=1))


def test_the_field_is_folded() -> None:
    """RFC 5322 §2.1.1: 78 octets a line, whatever the number of fields."""
    field = dkim.signature([b"To: a@b.example\r\n" * 200 + MESSAGE], _signer(RSA), at=NOW)

    assert field is not None
    assert max(map(len, field.split(b"\r\n"))) <= 78
    assert re.fullmatch(rb"DKIM-Signature: [^\r\n]+\r\n(?: [^ \r\n][^\r\n]*\r\n)+", field)


def test_what_a_reader_goes_by_is_oversigned() -> None:
    """A second From or Reply-To in a copy that is sent on breaks the signature; so does a first one."""
    names = _tags(_fields(_sign(MESSAGE))[0][0])["h"].split(":")

    counts = {name: names.count(name) for name in names}
    assert counts == {
        "from": 2,
        "reply-to": 1,
        "subject": 2,
        "to": 2,
        "cc": 1,
        "date": 2,
        "mime-version": 2,
        "list-unsubscribe": 2,
        "list-unsubscribe-post": 2,
    }


@pytest.mark.parametrize(
    "field",
    ["From: evil@x.example", "Reply-To: evil@x.example", "Subject: Win", "List-Unsubscribe: <https://x.example>"],
)
@pytest.mark.parametrize("is_first", [True, False])
def test_an_added_field_breaks_the_signature(field: str, is_first: bool) -> None:
    """The same field again, above or below the signed one (RFC 6376 §8.15)."""
    signature, message = _sign(MESSAGE)[: -len(MESSAGE)], MESSAGE
    line = field.encode() + b"\r\n"
    header, _, body = message.partition(b"\r\n\r\n")
    changed = line + message if is_first else header + b"\r\n" + line + b"\r\n" + body

    assert _verifies(signature + message, ED25519)
    assert not _verifies(signature + changed, ED25519)


def test_trace_fields_and_those_of_the_upstream_may_change() -> None:
    """RFC 6376 §5.4.1: Received comes on every hop; what is meant for the upstream leaves there."""
    signature = _sign(MESSAGE)[: -len(MESSAGE)]
    changed = b"Received: from relay.example.com\r\nX-SES-CONFIGURATION-SET: x\r\n" + MESSAGE

    assert _verifies(signature + changed, ED25519)


def test_fields_that_the_next_server_writes_anew_are_left_out() -> None:
    """Amazon SES overrides Date and Message-ID: signed, they would break every signature."""
    field = dkim.signature([MESSAGE], _signer(ED25519), at=NOW, replaced=("Date", "Message-ID"))

    assert field is not None
    assert "date" not in _tags(field)["h"].split(":")
    assert _verifies(field + MESSAGE.replace(b"Date: Sun", b"Date: Mon"), ED25519)


def test_every_one_of_several_fields_is_signed() -> None:
    """RFC 6376 §5.4.2: from the last one upwards."""
    signed = _sign(
        b"From: a@shop.example\r\nSubject: one\r\nSubject: two\r\nReferences: <1>\r\nReferences: <2>\r\n\r\nx"
    )

    names = _tags(_fields(signed)[0][0])["h"].split(":")
    assert (names.count("subject"), names.count("references")) == (3, 2)
    assert _verifies(signed, ED25519)
    for value in (b"one", b"two", b"<1>", b"<2>"):
        assert not _verifies(signed.replace(value, b"other"), ED25519)


@pytest.mark.parametrize(
    "message",
    [
        b"To: ana@client.example\r\n\r\nx",
        b"From : a@shop.example\r\n\r\nx",
        b"From: a@shop.example\r\nno field\r\n\r\nx",
        b"From news@shop.example Sun\r\nFrom: a@shop.example\r\n\r\nx",
        b"From: a@shop.example\r\n" + b"X: y\r\n" * 1000 + b"\r\nx",
    ],
    ids=["no From", "white space before the colon", "a line that is no field", "an mbox line", "too large"],
)
def test_a_header_that_can_be_read_in_two_ways_is_not_signed(message: bytes) -> None:
    """A broken signature is worse than none."""
    assert dkim.signature([message], _signer(ED25519), at=NOW) is None


# --- canonicalisation -------------------------------------------------------------------------------------


def test_the_example_of_rfc_6376() -> None:
    """RFC 6376 §3.4.5 in relaxed form."""
    assert b"".join(dkim.relaxed_body([b" C \r\nD \t E\r\n\r\n\r\n"])) == b" C\r\nD E\r\n"
    assert dkim._canonical(b"A: X\r\n") == b"a:X"
    assert dkim._canonical(b"b: Y\t\r\n\tZ  \r\n") == b"b:Y Z"


def test_the_example_of_rfc_8463() -> None:
    """RFC 8463 Appendix A: the very signature of the document, from its key and message."""
    private = ed25519.Ed25519PrivateKey.from_private_bytes(b64decode("nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A="))
    key = DkimKey(private)
    message = (
        b"From: Joe SixPack <joe@football.example.com>\r\nTo: Suzie Q <suzie@shopping.example.net>\r\n"
        b"Subject: Is dinner ready?\r\nDate: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)\r\n"
        b"Message-ID: <20030712040037.46341.5F8J@football.example.com>\r\n\r\n"
        b"Hi.\r\n\r\nWe lost the game.  Are you hungry yet?\r\n\r\nJoe.\r\n"
    )
    field = (
        b"DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;\r\n d=football.example.com; "
        b"i=@football.example.com;\r\n q=dns/txt; s=brisbane; t=1528637909; "
        b"h=from : to :\r\n subject : date : message-id : from : subject : "
        b"date;\r\n bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n b="
    )
    names = ["from", "to", "subject", "date", "message-id", "from", "subject", "date"]
    block = headers.scan(message)

    assert key.record() == "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
    assert b64encode(dkim._body_digest([message[block.body :]])) == b"2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8="
    hashed = b"".join(dkim._canonical_fields(block, names)) + dkim._canonical(field)
    assert b64encode(key.sign_digest(hashlib.sha256(hashed).digest())).decode() == (
        "/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11BusFa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw=="
    )


_PIECES = st.sampled_from(
    [b" ", b"\t", b"\r\n", b"a", b"  \t", b"\r\n\r\n", b" \r\n", b"b c", b".", b"\xc3\xbc", b"\x0b"]
)
_BODIES = st.lists(_PIECES, max_size=30).map(b"".join)


def _cut(body: bytes, at: Sequence[int]) -> list[bytes | memoryview]:
    ends = sorted({position % (len(body) + 1) for position in at})
    return [memoryview(body)[start:end] for start, end in zip([0, *ends], [*ends, len(body)], strict=True)]


@given(body=_BODIES, at=st.lists(st.integers(0, 100), max_size=5), block_bytes=st.integers(1, 9))
def test_a_body_is_relaxed_as_the_rfc_says_however_it_is_cut(body: bytes, at: list[int], block_bytes: int) -> None:
    """RFC 6376 §3.4.4, with line ends and runs of white space across the borders of slices and blocks."""
    assert b"".join(dkim.relaxed_body(_cut(body, at), block_bytes)) == _slow_body(body)


_VALUES = st.text(st.sampled_from("ab \t:;=ü"), max_size=12).map(str.encode)
_NAMES = st.sampled_from([b"From", b"to", b"Subject", b"X-Other", b"LIST-ID", b"Received", b"Content-Type"])
_FIELDS = st.lists(st.tuples(_NAMES, st.lists(_VALUES, min_size=1, max_size=3)), max_size=8)


@given(fields=_FIELDS, body=_BODIES, at=st.lists(st.integers(0, 500), max_size=5))
def test_whatever_is_signed_verifies(fields: list[tuple[bytes, list[bytes]]], body: bytes, at: list[int]) -> None:
    """Duplicate, folded, empty fields; any body; any slices."""
    header = b"".join(name + b":" + b"\r\n ".join(lines) + b"\r\n" for name, lines in fields)
    message = b"From: a@shop.example\r\n" + header + b"\r\n" + body

    field = dkim.signature(_cut(message, at), _signer(ED25519), at=NOW)

    assert field is not None
    assert _verifies(field + message, ED25519)


@given(position=st.integers(0, len(MESSAGE) - 1), bit=st.integers(0, 7))
def test_a_flipped_bit_is_seen_or_does_not_count(position: int, bit: int) -> None:
    """Whatever changes the relaxed form of a signed field or of the body breaks the signature."""
    changed = bytearray(MESSAGE)
    changed[position] ^= 1 << bit
    signature = _sign(MESSAGE)[: -len(MESSAGE)]
    if b"\r\n\r\n" not in changed:
        return

    def form(message: bytes) -> tuple[list[bytes], bytes]:
        fields, body = _fields(message)
        names = {b"from", b"reply-to", b"subject", b"to", b"cc", b"date", b"mime-version"}
        names |= {b"list-unsubscribe", b"list-unsubscribe-post"}
        relaxed = sorted(map(_slow_field, fields))
        return [field for field in relaxed if field.partition(b":")[0] in names], _slow_body(body)

    assert _verifies(signature + bytes(changed), ED25519) == (form(bytes(changed)) == form(MESSAGE))


# --- alignment --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("signing", "author", "expected"),
    [
        ("shop.example", "shop.example", True),
        ("shop.example", "news.shop.example", True),
        ("news.shop.example", "shop.example", True),
        ("news.shop.example", "mail.shop.example", False),
        ("shop.example", "myshop.example", False),
        ("example", "shop.example", False),
        ("shop.example", "example", False),
        ("shop.example", "", False),
        ("localhost", "localhost", False),
    ],
)
def test_alignment(signing: str, author: str, expected: bool) -> None:
    """RFC 7489 §3.1.1, without the public suffix list: never more than that allows."""
    assert dkim.is_aligned(signing, author) is expected
