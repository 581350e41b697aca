"""The body of DATA as it goes on the wire: leading dots doubled, the final dot behind.

Works on slices in bulk and holds no more than a block of them, so that a 25 MiB message in flight twenty times is not
copied twenty times. What is sent are the bytes as they are: a line end is CRLF and nothing else, here as in
`relay/core/lineends.py`, or a lone LF before a dot would be a way to smuggle a second message out.

Standards: RFC 5321 §4.5.2.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from relay.core.blocks import blocks

BLOCK_BYTES: Final = 1 << 16


def wire_blocks(slices: Iterable[bytes | memoryview], block_bytes: int = BLOCK_BYTES) -> Iterator[tuple[bytes, bool]]:
    """Yield the data in blocks of about `block_bytes`, each with whether it is the last and has the final dot.

    A message that does not end with CRLF gets one: SMTP cannot say that there was none.
    """
    before = b"\r\n"  # the two bytes in front of the block, as they were before stuffing
    pending = b""
    for block in blocks(slices, block_bytes):
        if pending:
            yield pending, False
        joined = before + block
        before = joined[-2:]
        if b"." in joined:  # else nothing is looked for in lines that are all empty: the search is slowest there
            joined = joined.replace(b"\r\n.", b"\r\n..")
        pending = joined[2:]
    yield pending + (b".\r\n" if before == b"\r\n" else b"\r\n.\r\n"), True
