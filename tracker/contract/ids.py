"""The ids of messages, copies and events: layout, order and spelling.

Theory:
    A `MessageId` is a ULID: 48 bits of Unix milliseconds, then 80 random bits; 26 characters of Crockford's base32 in
    lower case. It sorts by time, but its uniqueness rests on the random bits alone: a clock that jumps makes no twins.
    A `CopyId` is its message's id and 6 random bytes, written `MESSAGE-HHHHHHHHHHHH` in hexadecimal. It stands in a
    header that the recipient can read, so it must not count recipients: a number would tell of a Bcc.
    An `EventId` is 16 bytes. That of a hit is random. That of an outcome is made from the copy and the outcome, so a
    crash between emitting and marking repeats the event under the same id, and ingest drops the twin.

Nothing here draws randomness or reads a clock: both are handed in.

None of these is the header `Message-ID`, which belongs to the author of the mail and is never called an id here.
"""

import hashlib
import re
import struct
from functools import lru_cache, total_ordering
from typing import Final, Never, Self

from tracker.contract.errors import IdError

MESSAGE_ID_BYTES: Final = 16
COPY_SUFFIX_BYTES: Final = 6
COPY_ID_BYTES: Final = MESSAGE_ID_BYTES + COPY_SUFFIX_BYTES
EVENT_ID_BYTES: Final = 16
EVENT_ID_CHARACTERS: Final = 26
RANDOM_BYTES_OF_MESSAGE_ID: Final = 10
MESSAGE_ID_CHARACTERS: Final = 26  # of its text, which a copy id's begins with

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS: Final = [high + low for high in _ALPHABET for low in _ALPHABET]
_CHARACTERS: Final = _ALPHABET.encode("ascii") * 8  # by a random byte, each as likely as the others
_FIRST_CHARACTERS: Final = _ALPHABET[:8] * 32
_FIVES: Final = struct.Struct(">BHHBHHBHHB").unpack_from  # one byte, then three times five
_TO_BASE_32: Final = str.maketrans(_ALPHABET, "0123456789abcdefghijklmnopqrstuv")  # the digits of Python's `int(…, 32)`
_SPELLING: Final = re.compile(f"[0-7][{_ALPHABET}]{{25}}")  # 26 characters of 5 bits: the first two bits are none
_COPY_SPELLING: Final = re.compile(_SPELLING.pattern + "-[0-9a-f]{12}")
_OUTCOME_DOMAIN: Final = b"mailwake event v1\0"


_set: Final = object.__setattr__


@total_ordering
class _Id:
    """Bytes with a spelling; equal, ordered and hashed by kind and bytes.

    Not a dataclass, because the journal's encoder would write its fields instead of its text. Bytes and spelling are
    made of each other when they are first asked for: ingest reads two ids an event, and looks at the text alone.
    """

    __slots__ = ("raw", "text")
    raw: bytes
    text: str

    def __getattr__(self, name: str) -> object:
        """Make what is not there yet."""
        value: object
        if name == "raw":
            value = _decode(self.text)
        elif name == "text":
            value = _encode(self.raw)
        else:
            raise AttributeError(f"{type(self).__name__} has no {name}")
        _set(self, name, value)
        return value

    def __setattr__(self, name: str, value: object) -> Never:
        raise AttributeError(f"{type(self).__name__} is immutable")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Id) and type(other) is type(self) and other.raw == self.raw

    def __lt__(self, other: Self) -> bool:
        return self.raw < other.raw if type(other) is type(self) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.raw)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self})"

    def __str__(self) -> str:
        return self.text

    @classmethod
    def of(cls, raw: bytes) -> Self:
        """Take `raw` as it is, of whose length the caller is sure: every hit makes two."""
        one = cls.__new__(cls)
        _set(one, "raw", raw)
        return one

    @classmethod
    def _read(cls, text: str, what: str) -> Self:
        if _SPELLING.fullmatch(text) is None:
            raise IdError(f"the {what} is not 26 characters of {_ALPHABET}, the first of them 0 to 7")
        one = cls.__new__(cls)
        _set(one, "text", text)
        return one

    def _keep(self, raw: bytes, length: int, what: str) -> None:
        if len(raw) != length:
            raise IdError(f"the {what} is {len(raw)} bytes long, not {length}")
        _set(self, "raw", bytes(raw))


class MessageId(_Id):
    """The id of an accepted message, `01k3d5q9y8zv4c6m2r7t1w0x5b`: the one of the 250 reply and of `mail.messageId`."""

    __slots__ = ()

    def __init__(self, raw: bytes) -> None:
        """Take the 16 bytes; IdError for another length."""
        self._keep(raw, MESSAGE_ID_BYTES, "message id")

    @classmethod
    def make(cls, *, unix_ms: int, entropy: bytes) -> Self:
        """Make an id from a time in Unix milliseconds and 10 random bytes."""
        return cls((unix_ms & 0xFFFF_FFFF_FFFF).to_bytes(6, "big") + entropy)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an id as `str` writes it; IdError for every other spelling, upper case included."""
        return cls._read(text, "message id")


class CopyId(_Id):
    """The id of one recipient's copy, `01k3d5q9y8zv4c6m2r7t1w0x5b-9f86d081884c`.

    `raw` is the message's 16 bytes and 6 more, `suffix`.
    """

    __slots__ = ("message", "suffix")
    message: MessageId
    suffix: bytes

    def __init__(self, message: MessageId, suffix: bytes) -> None:
        """Take the message's id and 6 bytes; IdError for another length."""
        self._keep(message.raw + suffix, COPY_ID_BYTES, "copy id")
        _set(self, "message", message)

    def __getattr__(self, name: str) -> object:
        """Make what is not there yet, of the bytes or of the text, whichever is."""
        value: object
        if name == "raw":
            value = _decode(self.text[:MESSAGE_ID_CHARACTERS]) + bytes.fromhex(self.text[MESSAGE_ID_CHARACTERS + 1 :])
        elif name == "text":
            value = f"{_encode(self.raw)}-{self.raw[MESSAGE_ID_BYTES:].hex()}"
        elif name == "message":
            value = MessageId(self.raw[:MESSAGE_ID_BYTES])
        elif name == "suffix":
            value = self.raw[MESSAGE_ID_BYTES:]
        else:
            raise AttributeError(f"CopyId has no {name}")
        _set(self, name, value)
        return value

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an id as `str` writes it; IdError for every other spelling."""
        if _COPY_SPELLING.fullmatch(text) is None:
            raise IdError("a copy id is a message id, a hyphen and 12 lower-case hexadecimal digits")
        one = cls.__new__(cls)
        _set(one, "text", text)
        return one


class EventId(_Id):
    """The id of an event, 26 characters: the idempotency key of every destination."""

    __slots__ = ()

    def __init__(self, raw: bytes) -> None:
        """Take the 16 bytes; IdError for another length."""
        self._keep(raw, EVENT_ID_BYTES, "event id")

    @classmethod
    def of_outcome(cls, copy: CopyId, outcome: str) -> Self:
        """Make the id of an outcome of a copy, always the same one.

        `outcome` is the journal's name of the event, with a number where a copy may have several: `"delivery"`,
        `"delivery_delay:2"`.
        """
        one = cls.__new__(cls)
        raw = hashlib.sha256(_OUTCOME_DOMAIN + copy.raw + outcome.encode("ascii")).digest()[:EVENT_ID_BYTES]
        _set(one, "raw", raw)
        _set(one, "text", _encode(raw))
        return one

    @classmethod
    def drawn(cls, entropy: bytes) -> Self:
        """Make the id of a hit of 26 random bytes, one for each character: its text, which is all that is written."""
        one = cls.__new__(cls)
        _set(one, "text", _FIRST_CHARACTERS[entropy[0]] + entropy[1:].translate(_CHARACTERS).decode("ascii"))
        return one

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an id as `str` writes it; IdError for every other spelling."""
        return cls._read(text, "event id")


def _encode(raw: bytes) -> str:
    """Write the first 16 bytes: one, then three times five, as pairs of characters. Written out: every hit has two."""
    first, a, b, c, d, e, f, g, h, i = _FIVES(raw)
    pairs = _PAIRS
    return (
        f"{pairs[first]}"
        f"{pairs[a >> 6]}{pairs[(a & 63) << 4 | b >> 12]}{pairs[b >> 2 & 1023]}{pairs[(b & 3) << 8 | c]}"
        f"{pairs[d >> 6]}{pairs[(d & 63) << 4 | e >> 12]}{pairs[e >> 2 & 1023]}{pairs[(e & 3) << 8 | f]}"
        f"{pairs[g >> 6]}{pairs[(g & 63) << 4 | h >> 12]}{pairs[h >> 2 & 1023]}{pairs[(h & 3) << 8 | i]}"
    )


@lru_cache(maxsize=1024)  # the copies of a message come together
def _decode(text: str) -> bytes:
    return int(text.translate(_TO_BASE_32), 32).to_bytes(16, "big")
