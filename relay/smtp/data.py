r"""The message after DATA, read in blocks: its true end found, its dots unstuffed.

Only CRLF.CRLF ends a message (RFC 5321 §4.1.1.4). Servers that also took a look-alike such as `\n.\n` let one message
smuggle a second one in, with a sender that nobody checked (SMTP smuggling); here every look-alike is content. What else
a bare CR or LF does to a message is settled by whoever takes it.

Theory: the library reads line by line, 11 s of CPU and 720 MB for 8 MiB of empty lines. Here `readuntil` looks for the
five octets of the end and hands over what stands before them in blocks of the reader's limit, which are kept one by one
(incoming.py). A CRLF is put in front of the message first, because its first line may be the dot already; from then on
every line begins behind a CRLF.

Standards: RFC 5321 §4.1.1.4 (DATA), §4.5.2 (transparency), §4.5.3.1.7 (size).
"""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from relay.smtp.incoming import Incoming
from relay.smtp.options import ListenerOptions

_END: Final = b"\r\n.\r\n"
_LAST_LINE: Final = b".\r\n"


def begin(reader: asyncio.StreamReader) -> None:
    """Put the virtual CRLF in front; the reader must be empty, and 354 not yet said."""
    reader.feed_data(b"\r\n")


async def read_message(reader: asyncio.StreamReader, incoming: Incoming) -> None:
    """Read to the true end and keep the message, its last line's CRLF included.

    What is refused on the way is read to its end all the same, so that client and server stay in step.
    asyncio.IncompleteReadError: the client left before the end.
    """
    before = b""  # what the next block needs to see of the last one: two octets; the first brings the virtual CRLF
    at_end = False
    while not at_end:
        try:
            block = await reader.readuntil(_END)
            at_end = True
        except asyncio.LimitOverrunError as overrun:
            block = await reader.readexactly(overrun.consumed)
        joined = before + block
        before = joined[-2:]
        if at_end:
            joined = joined[: -len(_LAST_LINE)]
        if b"." in joined:  # else nothing is looked for in lines that are all empty: the search is slowest there
            # RFC 5321 §4.5.2: a dot that begins a line is taken off, whatever follows it.
            joined = joined.replace(b"\r\n.", b"\r\n")
        await incoming.add(joined[2:])
    await incoming.finish()


class Pace:
    """Ends the reading of a message that comes too slowly, or for too long: the block around it raises TimeoutError.

    `received` tells how many octets have come so far; each window must bring its seconds times the least rate, and
    after `data_timeout_s` it is over. The defence is against clients that hold a connection by a trickle.

    The task is cancelled, and not the reader told: a reader that is just being woken by an octet forgets what it was
    told, and the client would have the connection for ever.
    """

    def __init__(self, received: Callable[[], int], options: ListenerOptions) -> None:
        self._received = received
        self._limit = asyncio.timeout(None)
        self._window_s = options.data_window_s
        self._least_bytes_per_s = options.min_data_bytes_per_s
        self._loop = asyncio.get_running_loop()
        self._ends_at = self._loop.time() + options.data_timeout_s

    async def __aenter__(self) -> Self:
        await self._limit.__aenter__()
        self._arm()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exception: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        await self._limit.__aexit__(kind, exception, trace)

    def _arm(self) -> None:
        wait_s = max(0.0, min(self._window_s, self._ends_at - self._loop.time()))
        enough_bytes = self._received() + self._least_bytes_per_s * wait_s
        self._timer = self._loop.call_later(wait_s, self._check, enough_bytes)

    def _check(self, enough_bytes: float) -> None:
        if self._received() < enough_bytes or self._loop.time() >= self._ends_at:
            self._limit.reschedule(self._loop.time())
        else:
            self._arm()
