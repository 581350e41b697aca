"""Mail in 8 bits for an upstream that takes 7: the same mail, encoded."""

import email
import email.message
from email import policy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.downgrade import to_seven_bit

_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\x00"), max_size=120)
_LINES = st.lists(_TEXT, max_size=6).map("\r\n".join)


def _part(kind: str, body: str, encoding: str | None) -> bytes:
    label = f"Content-Transfer-Encoding: {encoding}\r\n" if encoding else ""
    return f"Content-Type: {kind}\r\n{label}\r\n{body}".encode()


def _multipart(parts: list[bytes], head: bytes = b"", boundary: bytes = b"b_1") -> bytes:
    body = b"".join(b"--" + boundary + b"\r\n" + part + b"\r\n" for part in parts)
    return (
        head + b'Content-Type: multipart/mixed; boundary="' + boundary + b'"\r\nContent-Transfer-Encoding: 8bit\r\n\r\n'
        b"pr\xc3\xa9amble\r\n" + body + b"--" + boundary + b"--\r\n"
    )


_KINDS = st.sampled_from(["text/plain; charset=utf-8", "text/html; charset=utf-8", "application/octet-stream"])
_PARTS = st.builds(_part, _KINDS, _LINES, st.sampled_from([None, "8bit", "binary", "7bit"]))
_HEAD = b"From: a@x.example\r\nSubject: x\r\nMIME-Version: 1.0\r\n"


def _leaves(raw: bytes) -> list[tuple[str, bytes]]:
    message = email.message_from_bytes(raw, policy=policy.compat32)
    return [
        (part.get_content_type(), part.get_payload(decode=True))  # type: ignore[misc]
        for part in message.walk()
        if not part.is_multipart()
    ]


@given(st.lists(_PARTS, min_size=1, max_size=4))
def test_every_part_decodes_to_what_it_was(parts: list[bytes]) -> None:
    """Read by another reader; no byte above 127 is left, and no line is too long that was not."""
    raw = _multipart(parts, _HEAD)
    made = to_seven_bit(raw)

    assert made is not None
    assert made.isascii()
    assert _leaves(made) == _leaves(raw)
    assert made.startswith(_HEAD)


@given(st.lists(_PARTS, min_size=1, max_size=3))
def test_messages_within_messages_are_encoded_inside(parts: list[bytes]) -> None:
    """A message/rfc822 has no encoding of its own but 7bit."""
    inner = b"Subject: inner\r\nMIME-Version: 1.0\r\n" + _multipart(parts, boundary=b"in_2")
    raw = _multipart([b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + inner], _HEAD)
    made = to_seven_bit(raw)

    assert made is not None
    assert made.isascii()
    assert _leaves(made) == _leaves(raw)


@given(_LINES)
def test_a_plain_message_says_its_encoding(text: str) -> None:
    """With MIME-Version, where it had none (RFC 2045 §4)."""
    raw = b"Subject: x\r\n\r\n" + text.encode() + b"\r\n"
    made = to_seven_bit(raw)

    assert made is not None
    assert _leaves(made) == _leaves(raw)
    if not raw.isascii():
        assert b"\r\nMIME-Version: 1.0\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n" in made


def test_what_is_ascii_keeps_its_bytes() -> None:
    """A part, and a whole message."""
    ascii_part = b"Content-Type: text/plain\r\n\r\nplain =  \r\n"
    raw = _multipart([ascii_part, _part("text/plain; charset=utf-8", "Grüße", "8bit")], _HEAD)
    made = to_seven_bit(raw)

    assert made is not None
    assert ascii_part in made
    assert to_seven_bit(ascii_part) is ascii_part


def test_text_of_wide_characters_is_base64() -> None:
    """Its line ends are not the bytes CR and LF: quoted-printable would break it."""
    body = "Grüße\r\n".encode("utf-16-le")
    made = to_seven_bit(
        b"Content-Type: text/plain; charset=utf-16le\r\nContent-Transfer-Encoding: binary\r\n\r\n" + body
    )

    assert made is not None
    assert made.isascii()
    assert b"\r\nContent-Transfer-Encoding: base64\r\n\r\nRwBy" in made


def test_header_fields_in_8_bits_stay_as_they_are() -> None:
    """Their charset is not said: an encoded word would be a guess."""
    raw = "Subject: Grüße\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nÄ\r\n".encode()
    made = to_seven_bit(raw)

    assert made is not None
    assert made.startswith("Subject: Grüße\r\n".encode())
    assert made.endswith(b"\r\n\r\n=C3=84\r\n")


@pytest.mark.parametrize(
    "raw",
    [
        b"DKIM-Signature: v=1\r\n\r\n\xc3\xa4\r\n",
        b"Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\n\xc3\xa4\r\n--b\r\n\r\nx\r\n--b--\r\n",
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\nno parts \xc3\xa4\r\n",
        b"Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\n\xc3\xa4\r\n",
        b"Content-Type: message/partial\r\n\r\n\xc3\xa4\r\n",
        b"Content-Transfer-Encoding: x-own\r\n\r\n\xc3\xa4\r\n",
    ],
    ids=["dkim", "signed", "no-parts", "claims-base64", "partial", "unknown-encoding"],
)
def test_what_must_not_change_or_is_in_doubt_has_no_such_form(raw: bytes) -> None:
    """It is refused with 5.6.3: a mail that arrives broken is worse."""
    assert to_seven_bit(raw) is None


@given(st.binary(max_size=300))
def test_any_bytes_are_ascii_or_have_no_form(junk: bytes) -> None:
    """Total: it raises for nothing, and never gives a body that is not ASCII."""
    settled = junk.replace(b"\r", b"").replace(b"\n", b"\r\n").replace(b"\x00", b"")
    made = to_seven_bit(b"Subject: x\r\n\r\n" + settled)

    assert made is None or made.partition(b"\r\n\r\n")[2].isascii()
