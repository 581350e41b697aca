"""Header fields that an upstream wants of us, put on what leaves: the operator's and the provider's.

Owns where they stand and what they replace. Which they are is in the configuration (`set_headers`) and in
`providers.py`.

Theory:
    They are a part of the copy, put on before it is signed: a copy that is tried again at the same upstream is the same
    bytes, and a signature covers them. `set_headers` goes on all that leaves. What switches the provider's own tracking
    off goes only on mail that has a configuration set: that is tracked here, or has here been asked not to be. Mail
    without one passes as its author and the provider have agreed.

Limits: of a header beyond 128 KB or 1,000 lines only the fields within are replaced.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from relay.core import headers

Chunk = bytes | memoryview


@dataclass(frozen=True, slots=True, kw_only=True)
class OutgoingFields:
    """What an upstream wants, as name and value: on all mail, and on mail that has a configuration set.

    `replaced` are names of fields that it writes anew, whatever they say.
    """

    always: tuple[tuple[str, str], ...] = ()
    with_set: tuple[tuple[str, str], ...] = ()
    replaced: tuple[str, ...] = ()

    def of(self, *, has_set: bool) -> tuple[tuple[str, str], ...]:
        """Return the fields of one message; a name that the operator set is the operator's."""
        if not has_set:
            return self.always
        named = {name.lower() for name, _ in self.always}
        return (*self.always, *(field for field in self.with_set if field[0].lower() not in named))


NO_FIELDS = OutgoingFields()


def with_fields(chunks: Sequence[Chunk], fields: Sequence[tuple[str, str]]) -> list[Chunk]:
    """Return the message with these fields first in its header, in place of those of the same names."""
    if not fields:
        return list(chunks)
    head, rest = _head(chunks)
    names = {name.lower().encode("ascii") for name, _ in fields}
    block = headers.scan(head)
    view = memoryview(head)
    pieces: list[Chunk] = [view[: block.first], *(headers.make_field(name, value) for name, value in fields)]
    position = block.first
    for field in block.fields:
        if field.name in names:
            pieces.append(view[position : field.start])
            position = field.end
    if not block.fields and not block.is_cut and block.body == block.end:
        pieces.append(b"\r\n")  # a message without any header: its text needs the empty line now
    return [piece for piece in (*pieces, view[position:], *rest) if piece]


def _head(chunks: Sequence[Chunk]) -> tuple[bytes, list[Chunk]]:
    """Cut the message behind its header, or behind as much as is read of one."""
    head = b""
    for index, chunk in enumerate(chunks):
        room = headers.MAX_BYTES + 2 - len(head)
        start = max(0, len(head) - 3)
        head += bytes(chunk[:room])
        end = head.find(b"\r\n\r\n", start)
        if end >= 0 or len(chunk) > room:
            cut = end + 4 if end >= 0 else len(head)
            behind = len(head) - cut
            taken = min(len(chunk), room) - behind
            return head[:cut], [memoryview(chunk)[taken:], *chunks[index + 1 :]]
    return head, []
