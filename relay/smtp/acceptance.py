"""Acceptance in a task of its own: a client that hangs up ends its session, never the put of its message.

The library cancels a session at the end of file, a reset and a time-out, whatever it is doing just then. A message that
is half in the spool would be cut off by that; so the handler runs in a task that only its own end ends, and the session
waits for it behind a shield. The event loop holds tasks weakly: the strong reference is here, and a drain waits for it.

A disk that does not take the message is 452 where it has no room, else 451. Any other exception of the handler is our
fault, so it is 451. The wire learns a reference only (the library would say 500 and the exception's text).
"""

import asyncio
import secrets
from collections.abc import Callable

import structlog

from relay.core import reply as replies
from relay.core.reply import Reply
from relay.core.submission import Submission
from relay.smtp.incoming import Incoming
from relay.smtp.memory import MessageMemory
from relay.smtp.options import Accept
from tracker.runtime.durable import NO_ROOM

log = structlog.get_logger()


class Acceptances:
    """The acceptances under way in this process."""

    def __init__(self, accept: Accept, memory: MessageMemory) -> None:
        self._accept = accept
        self._memory = memory
        self._tasks: set[asyncio.Task[Reply]] = set()

    async def run(self, incoming: Incoming, submission_of: Callable[[bytes], Submission]) -> Reply:
        """Accept the message and return the reply. Cancelled, it leaves the acceptance to end by itself.

        What came in belongs to the acceptance from now on; `submission_of` makes the submission of its bytes.
        """
        task = asyncio.create_task(self._run(incoming, submission_of), name="smtp acceptance")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    async def finished(self) -> None:
        """Wait until none is under way."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _run(self, incoming: Incoming, submission_of: Callable[[bytes], Submission]) -> Reply:
        try:
            if not incoming.is_in_file:
                return await self._accept(submission_of(await incoming.load()))
            async with self._memory.room_to_load(incoming.size_bytes) as has_room:
                if has_room:
                    return await self._accept(submission_of(await incoming.load()))
            log.warning("message_found_no_room", size_bytes=incoming.size_bytes)
            return replies.TOO_MUCH_AT_A_TIME
        except OSError as error:
            reference = secrets.token_hex(4)
            log.error(  # noqa: TRY400 - a disk is no fault of ours, and a full one would fill the log with tracebacks
                "message_not_written", reference=reference, error=error.strerror
            )
            return replies.SPOOL_FULL if error.errno in NO_ROOM else replies.local_error(reference)
        except Exception:  # whatever it is, it is ours: the client keeps the message and tries again
            reference = secrets.token_hex(4)
            log.exception("acceptance_failed", reference=reference)
            return replies.local_error(reference)
        finally:
            incoming.close()
