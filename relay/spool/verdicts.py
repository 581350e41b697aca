"""What the first attempt of a message came to, for a client that waits for it (`inline_wait`).

Where the upstream refuses all recipients in time, its reply is the client's, and the author gets no report besides: the
rows say so on disk before the client is told. Everything else is no verdict: the client gets its 250, and what becomes
of the message is told as ever.

Until it is known which of the two it is, the outcomes of the message are on disk but not told: whether a refusal makes
a report is not decided yet. A crash meanwhile tells them as ever; the client has no answer and sends again.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

import structlog

from relay.core.attempt import UpstreamReply
from relay.spool.lane import Job
from relay.spool.layout import State
from relay.spool.queued import QueuedMessage
from tracker.contract.ids import MessageId

_LOG: Final = structlog.get_logger()


@dataclass(slots=True)
class _Wait:
    verdict: "asyncio.Future[UpstreamReply | None]"
    is_being_written: bool = False
    untold: list[Job] = field(default_factory=list)


class Verdicts:
    """Those of one process that are waited for."""

    def __init__(self, tell: Callable[[Job], None]) -> None:
        """Take who is told the outcomes of a job."""
        self._tell = tell
        self._waits: dict[MessageId, _Wait] = {}

    def expect(self, message: MessageId) -> None:
        """Keep the outcomes of a message that is about to be queued; `wait` must follow."""
        self._waits[message] = _Wait(asyncio.get_running_loop().create_future())

    async def wait(self, message: MessageId, wait_s: float) -> UpstreamReply | None:
        """Return the reply that refused all recipients; None for any other outcome, or none in time."""
        wait = self._waits[message]
        try:
            await asyncio.wait({wait.verdict}, timeout=wait_s)
            if wait.is_being_written:  # it is decided, and the disk is about to know
                await asyncio.wait({wait.verdict})
            return wait.verdict.result() if wait.verdict.done() else None
        finally:
            del self._waits[message]
            for job in wait.untold:
                self._tell(job)

    async def learn(self, job: Job) -> bool:
        """Note outcomes that are on disk; True where they are told later, by `wait`."""
        message = job.message
        wait = self._waits.get(message.id)
        if wait is None:
            return False
        if not wait.verdict.done() and not wait.is_being_written:
            if any(not _is_refused(message, index) for index in job.indexes):
                wait.verdict.set_result(None)
            elif all(_is_refused(message, index) for index in range(len(message.rows))):
                wait.is_being_written = True
                refusal = None
                try:
                    refusal = await _refuse(message)
                finally:  # whoever waits must not wait for ever for one that a stop has cut
                    wait.verdict.set_result(refusal)
                    wait.is_being_written = False
        if message.id not in self._waits:
            return False
        wait.untold.append(job)
        return True


def _is_refused(message: QueuedMessage, index: int) -> bool:
    row = message.rows[index]
    return row.state is State.FAILED and not row.expired and row.reply is not None


async def _refuse(message: QueuedMessage) -> UpstreamReply | None:
    rows = {index: replace(row, unreported=True) for index, row in enumerate(message.rows)}
    try:
        await message.spool.mark(message.id, rows, durable=True)
    except OSError as error:
        _LOG.error("outcome_not_written", message_ref=str(message.id), error=error.strerror)
        return None
    message.update(rows)
    return message.rows[0].reply
