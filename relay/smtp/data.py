r"""The message after DATA, read in blocks: its true end found, its dots unstuffed.

Only CRLF.CRLF ends a message (RFC 5321 §4.1.1.4). Servers that also took a look-alike such as `\n.\n` let one message
smuggle a second one in, with a sender that nobody checked (SMTP smuggling); here every look-alike is content. What else
a bare CR or LF does to a message is settled by whoever takes it.

Theory: the library reads line by line, 11 s of CPU and 720 MB for 8 MiB of empty lines. Here `readuntil` looks for the
five octets of the end and hands over what stands before them in blocks of the reader's limit. A CRLF is put in front of
the message first, because its first line may be the dot already; from then on every line begins behind a CRLF.

Standards: RFC 5321 §4.1.1.4 (DATA), §4.5.2 (transparency), §4.5.3.1.7 (size).
"""

import asyncio
from collections.abc import Callable
from typing import Final, Self

from relay.smtp.options import MIN_DATA_BYTES_PER_S

_END: Final = b"\r\n.\r\n"


def begin(reader: asyncio.StreamReader) -> None:
    """Put the virtual CRLF in front; the reader must be empty, and 354 not yet said."""
    reader.feed_data(b"\r\n")


async def read_message(reader: asyncio.StreamReader, *, max_message_bytes: int) -> bytes | None:
    """Read to the true end; return the message, its last line's CRLF included, or None when it was too big.

    What is too big is read to its end all the same, so that client and server stay in step, but not kept.
    asyncio.IncompleteReadError: the client left before the end.
    """
    # A message of lines that are all one dot is a third longer on the wire than it is.
    keep_bytes = max_message_bytes + max_message_bytes // 3 + len(_END)
    blocks: list[bytes] = []
    size_bytes = 0
    at_end = False
    while not at_end:
        try:
            block = await reader.readuntil(_END)
            at_end = True
        except asyncio.LimitOverrunError as overrun:
            block = await reader.readexactly(overrun.consumed)
        size_bytes += len(block)
        if size_bytes > keep_bytes:
            blocks.clear()
        else:
            blocks.append(block)
    if size_bytes > keep_bytes:
        return None
    raw = blocks[0] if len(blocks) == 1 else b"".join(blocks)
    blocks.clear()
    end = len(raw) - 3  # the last line's CRLF stays
    has_dots = raw.find(b"\r\n.", 0, end) >= 0
    # RFC 5321 §4.5.2: a dot that begins a line is taken off, whatever follows it.
    message = raw[:end].replace(b"\r\n.", b"\r\n")[2:] if has_dots else raw[2:end]
    return message if len(message) <= max_message_bytes else None


class Pace:
    """Ends the reading of a message that comes too slowly, or for too long: the reader then raises TimeoutError.

    `received` tells how many octets have come so far; each `window_s` must bring `MIN_DATA_BYTES_PER_S` times its
    seconds, and after `total_s` it is over. The defence is against clients that hold a connection by a trickle.
    """

    def __init__(
        self, reader: asyncio.StreamReader, received: Callable[[], int], *, window_s: float, total_s: float
    ) -> None:
        self._reader = reader
        self._received = received
        self._window_s = window_s
        self._loop = asyncio.get_running_loop()
        self._ends_at = self._loop.time() + total_s

    def __enter__(self) -> Self:
        self._arm()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._timer.cancel()

    def _arm(self) -> None:
        self._timer = self._loop.call_later(self._window_s, self._check, self._received())

    def _check(self, received_bytes: int) -> None:
        is_slow = self._received() - received_bytes < MIN_DATA_BYTES_PER_S * self._window_s
        if is_slow or self._loop.time() >= self._ends_at:
            self._reader.set_exception(TimeoutError())
        else:
            self._arm()
