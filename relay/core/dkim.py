"""DKIM: the signature field of one message, over the bytes that leave.

Owns canonicalisation (relaxed for header and body), which fields are signed, and the text of the field. Does not own
keys: a `Signer` brings a callable that signs a digest. Does not read signatures, and does not remove those of others
(`plan.py`).

Standards: RFC 6376 §3.4.2, §3.4.4 (relaxed), §3.5 (the field), §5.4 (what is signed), §3.7 (what is hashed); RFC 8301
(SHA-256 alone); RFC 8463 §3 (Ed25519 signs the SHA-256 of the header); RFC 8058 §4 (List-Unsubscribe and -Post are
signed); RFC 7489 §3.1.1 (alignment).

Theory:
    A verifier takes the fields that `h=` names from the bottom of the header upwards. A name that stands in `h=` once
    more than there are such fields ("oversigned") says that there is no other one: whoever adds it to a copy of the
    mail, for a reader to see in place of the signed one, breaks the signature. Fields that change what a reader takes
    the mail for are always oversigned; those that a server on the way may add where they are missing (Date,
    Message-ID, MIME-Version …) only where they are there.
    Trace fields are not signed, nor is what is meant for the upstream: both change on the way (RFC 6376 §5.4).
    There is no `l=` (text could be added behind it) and no `x=` (mail may wait). `t=` is when the message was
    accepted, and both algorithms are deterministic, so a copy that is tried again has the same signature.

    The body is hashed in blocks. In each, white space between two other characters is collapsed in bulk; the white
    space at its two ends goes through a small state, for a line end or an empty line at the end may be cut by a block's
    border. So time is linear and memory is one block, also for 25 MB of empty lines.

Limits: a header that programs do not agree on (`HeaderBlock.is_sound`) or without a From is not signed: a broken
signature is worse than none. CR and LF stand together, which `lineends.py` has settled.
"""

import hashlib
import re
from base64 import b64encode
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from relay.core import headers
from relay.core.blocks import blocks
from relay.core.headers import HeaderBlock

Algorithm = Literal["rsa-sha256", "ed25519-sha256"]

SIGNATURE_FIELD: Final = "DKIM-Signature"

OVERSIGNED: Final = ("From", "Reply-To", "Subject", "To", "Cc")
"""Signed once more than they are there, even where they are not: nobody may add another."""
OVERSIGNED_WHERE_PRESENT: Final = (
    "Sender",
    "Date",
    "Message-ID",
    "MIME-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
    "Content-Disposition",
    "List-Unsubscribe",
    "List-Unsubscribe-Post",
)
"""The same where they are there. Where not, a server on the way may rightly add them."""
SIGNED: Final = (
    "In-Reply-To",
    "References",
    "Resent-Date",
    "Resent-From",
    "Resent-To",
    "Resent-Cc",
    "Resent-Message-ID",
    "List-Id",
    "List-Help",
    "List-Subscribe",
    "List-Post",
    "List-Owner",
    "List-Archive",
    "Auto-Submitted",
    "Feedback-ID",
    "X-Mailwake-Copy",
)
"""Signed as often as they are there. Feedback-ID counts for Gmail only where it is signed."""

_BLOCK_BYTES: Final = 256 * 1024
_HEAD_BYTES: Final = headers.MAX_BYTES + 4  # the largest header that is read, and the empty line behind it
_LINE_OCTETS: Final = 78  # RFC 5322 §2.1.1: should not be longer
_ENCODED_OCTETS: Final = 72
_WHITE: Final = b" \t\r\n"
_WSP: Final = re.compile(rb"[ \t]+")

Slice = bytes | memoryview


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """Who signs: `d=` and `s=` in A-labels, and a callable that signs the 32 bytes of a SHA-256 digest."""

    domain: str
    selector: str
    algorithm: Algorithm
    sign_digest: Callable[[bytes], bytes]


def signature(data: Sequence[Slice], signer: Signer, *, at: datetime, replaced: Collection[str] = ()) -> bytes | None:
    r"""Return the whole field, `b"DKIM-Signature: v=1; …\r\n"`, for a message whose slices are `data`.

    `at` is when the message was accepted. `replaced` are fields that the next server writes anew (any case): they are
    not signed. None: the header cannot be signed.
    """
    head, body = _split(data)
    block = headers.scan(head)
    if not block.is_sound or block.first or not block.has("From"):
        return None
    signed = _signed_names(block, {name.lower() for name in replaced})
    words = [
        "v=1;",
        f" a={signer.algorithm};",
        " c=relaxed/relaxed;",
        f" d={signer.domain};",
        f" s={signer.selector};",
        f" t={int(at.timestamp())};",
        *_joined(" h=", signed),
        f" bh={_base64(_body_digest([memoryview(head)[block.body :], *body]))};",
        " b=",
    ]
    unsigned = _fold(words)
    digest = hashlib.sha256(b"".join([*_canonical_fields(block, signed), _canonical(unsigned)])).digest()
    return _fold([*words, *_cut(_base64(signer.sign_digest(digest)))]) + b"\r\n"


def is_aligned(signing: str, author: str) -> bool:
    """Say whether a signature of one domain speaks for an author in another (lower-case A-labels).

    They are equal, or one is below the other and neither is a top-level domain. RFC 7489 §3.1.1 also takes two that are
    both below one organisational domain; which that is, only the public suffix list knows, and it is not asked.
    """
    shorter, longer = sorted((signing, author), key=len)
    return "." in shorter and (longer == shorter or longer.endswith("." + shorter))


def relaxed_body(slices: Iterable[Slice], block_bytes: int = _BLOCK_BYTES) -> Iterator[bytes]:
    """Yield the body in the relaxed form (RFC 6376 §3.4.4), in pieces."""
    blank = _Blank()
    is_empty = True
    for block in blocks(slices, block_bytes):
        middle = block.lstrip(_WHITE)
        blank.add(block[: len(block) - len(middle)])
        if not middle:
            continue
        yield from blank.take()
        is_empty = False
        text = middle.rstrip(_WHITE)
        blank.add(middle[len(text) :])
        yield _collapsed(text)
    if not is_empty:
        yield b"\r\n"


@dataclass(slots=True)
class _Blank:
    """White space that was read and not written: `line_ends`, and whether a space stands behind the last of them."""

    line_ends: int = 0
    has_space: bool = False

    def add(self, white: bytes) -> None:
        if b"\n" in white:
            self.line_ends += white.count(b"\n")
            self.has_space = white.endswith((b" ", b"\t"))
        elif b" " in white or b"\t" in white:
            self.has_space = True

    def take(self) -> Iterator[bytes]:
        while self.line_ends:
            count = min(self.line_ends, _BLOCK_BYTES)
            yield b"\r\n" * count
            self.line_ends -= count
        if self.has_space:
            yield b" "
        self.has_space = False


def _collapsed(text: bytes) -> bytes:
    """Collapse white space inside of a text that neither begins nor ends with any. Each pass halves what is left."""
    text = text.replace(b"\t", b" ")
    while b"  " in text:
        text = text.replace(b"  ", b" ")
    return text.replace(b" \r\n", b"\r\n")


def _body_digest(slices: Iterable[Slice]) -> bytes:
    digest = hashlib.sha256()
    for piece in relaxed_body(slices):
        digest.update(piece)
    return digest.digest()


def _split(data: Sequence[Slice]) -> tuple[bytes, list[Slice]]:
    """Return the first bytes of a message, enough for the largest header that is read, and the slices behind them."""
    head: list[Slice] = []
    rest: list[Slice] = []
    missing = _HEAD_BYTES
    for piece in data:
        view = memoryview(piece)
        if missing:
            head.append(view[:missing])
        if len(view) > missing:
            rest.append(view[missing:])
        missing = max(missing - len(view), 0)
    return b"".join(head), rest


def _signed_names(block: HeaderBlock, replaced: Collection[str]) -> list[str]:
    """Return the names of `h=` in lower case, each as often as it stands there."""
    names: list[str] = []
    for group, extra, extra_where_absent in ((OVERSIGNED, 1, 1), (OVERSIGNED_WHERE_PRESENT, 1, 0), (SIGNED, 0, 0)):
        for name in map(str.lower, group):
            if name not in replaced:
                count = sum(1 for _ in block.find(name))
                names += [name] * (count + (extra if count else extra_where_absent))
    return names


def _canonical_fields(block: HeaderBlock, names: Iterable[str]) -> Iterator[bytes]:
    """Yield the signed fields in the relaxed form: of one name the last first; nothing for one that is not there."""
    found: dict[bytes, list[headers.Field]] = {}
    for field in block.fields:
        found.setdefault(field.name, []).append(field)
    for name in names:
        fields = found.get(name.encode())
        if fields:
            field = fields.pop()
            yield _canonical(field.name + b":" + block.raw[field.value : field.end]) + b"\r\n"


def _canonical(field: bytes) -> bytes:
    """Return a field in the relaxed form (RFC 6376 §3.4.2), without its line end."""
    name, _, value = field.partition(b":")
    return name.lower() + b":" + _WSP.sub(b" ", value.replace(b"\r\n", b"")).strip(b" ")


def _fold(words: Iterable[str]) -> bytes:
    """Put the words of the field into lines; one that begins a line loses the space that it brings."""
    lines = [f"{SIGNATURE_FIELD}: "]
    for word in words:
        if len(lines[-1]) + len(word) > _LINE_OCTETS:
            lines.append(" ")
            word = word.lstrip()
        lines[-1] += word
    return "\r\n".join(lines).encode("ascii")


def _joined(tag: str, names: Sequence[str]) -> Iterator[str]:
    """Yield `" h=from:"`, `"from:"`, `"to;"`: the header may be folded behind each colon."""
    *before, last = names
    yield tag + before[0] + ":"
    yield from (name + ":" for name in before[1:])
    yield last + ";"


def _cut(encoded: str) -> Iterator[str]:
    """Cut base64 where the header may be folded."""
    return (encoded[start : start + _ENCODED_OCTETS] for start in range(0, len(encoded), _ENCODED_OCTETS))


def _base64(raw: bytes) -> str:
    return b64encode(raw).decode("ascii")
