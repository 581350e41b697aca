"""Who wants to be tracked and who does not, without an address: a person is a keyed hash.

Theory:
    A person is the first 16 bytes that keyed BLAKE2b (RFC 7693) makes of an address, under a key that is derived
    for this alone: without the account's secret nobody can try addresses against a stored list. Spellings that mean one
    mailbox to a human are one person: the domain in lower-case A-labels, the local part without its quotes and
    case-folded. RFC 5321 §2.4 lets a server tell `Ana` from `ana`; no one who says no means only one of the two.
    `ana+news@` is another person than `ana@`: what stands behind a plus is the receiving server's own affair.
    In memory a person, or a copy, is a mark of 8 bytes in a sorted array, and is found in it by halving: a million are
    8 MB. Two of a million have the same mark with a probability of 1 in 36 million.
"""

import hashlib
import re
import unicodedata
from array import array
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Literal, Self

from tracker.contract.ids import CopyId

PERSON_BYTES: Final = 16

Decision = Literal["allow", "deny"]

_MARK_BYTES: Final = 8
_DIGITS: Final = str.maketrans(
    "0123456789abcdefghjkmnpqrstvwxyz", "0123456789abcdefghijklmnopqrstuv"
)  # ids.py's, int's
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)


class Persons:
    """Makes persons of addresses, under the account's key for that."""

    def __init__(self, key: bytes) -> None:
        """Take the key, at most 64 bytes."""
        self._keyed = hashlib.blake2b(key=key, digest_size=PERSON_BYTES)

    def __repr__(self) -> str:
        return "Persons()"

    def of(self, address: str) -> bytes:
        """Return the person of an address as the envelope prints it, `"Ana@shop.example"`: 16 bytes."""
        keyed = self._keyed.copy()
        keyed.update(folded(address).encode("utf-8", "surrogatepass"))
        return keyed.digest()


def folded(address: str) -> str:
    """Return the one spelling of an address: `"Ana"@Shop.Example` is `ana@shop.example`."""
    local, _, domain = address.rpartition("@")
    if len(local) > 1 and local.startswith('"') and local.endswith('"'):
        local = _ESCAPED.sub(r"\1", local[1:-1])
    if not local.isascii():
        local = unicodedata.normalize("NFC", local)
    return f"{local.casefold()}@{domain.lower()}"


class Marks:
    """A set of byte strings by their last 8 bytes each, which must be random: 8 bytes an entry, found in steps."""

    __slots__ = ("_sorted",)

    def __init__(self, members: Iterable[bytes] = ()) -> None:
        """Take the members; each has at least 8 bytes."""
        self._sorted = array("Q", sorted({_mark(member) for member in members}))

    @classmethod
    def of_numbers(cls, numbers: Iterable[int]) -> Self:
        """Make the set of the last 8 bytes of each member, as a number, each once."""
        made = cls()
        made._sorted = array("Q", sorted(array("Q", numbers)))
        return made

    def __contains__(self, member: object) -> bool:
        if not isinstance(member, bytes) or not self._sorted:
            return False
        mark = _mark(member)
        place = bisect_left(self._sorted, mark)
        return place < len(self._sorted) and self._sorted[place] == mark

    def __len__(self) -> int:
        return len(self._sorted)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Marks) and self._sorted == other._sorted

    __hash__ = None  # type: ignore[assignment]  # nobody keeps sets of sets


class SilencedCopies:
    """The copies whose hits are answered and not recorded (a `Container[CopyId]`)."""

    __slots__ = ("_marks",)

    def __init__(self, copies: Iterable[tuple[str, str]] = ()) -> None:
        """Take the copies as the storage names them: message and suffix, each as its text.

        The last bytes of a copy's id are random: the end of its message's id, and its suffix. They are read from the
        texts themselves: hundreds of thousands of ids would take seconds.
        """
        self._marks = Marks.of_numbers(
            (int(message[-4:].translate(_DIGITS), 32) & 0xFFFF) << 48 | int(suffix, 16) for message, suffix in copies
        )

    def __contains__(self, copy: object) -> bool:
        return bool(self._marks) and isinstance(copy, CopyId) and copy.raw in self._marks

    def __len__(self) -> int:
        return len(self._marks)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SilencedCopies) and self._marks == other._marks

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentBook:
    """Every decision that was told: who allowed to be tracked, and who denied it."""

    allowed: Marks = field(default_factory=Marks)
    denied: Marks = field(default_factory=Marks)

    def of(self, person: bytes) -> Decision | None:
        """Return what a person has said; None: nothing."""
        if person in self.denied:
            return "deny"
        return "allow" if person in self.allowed else None

    def __len__(self) -> int:
        return len(self.allowed) + len(self.denied)


def _mark(member: bytes) -> int:
    return int.from_bytes(member[-_MARK_BYTES:], "big")
