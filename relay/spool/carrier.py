"""One attempt as the upstream sees it: the copy is made, in the form that it takes, and handed over.

A fault of ours in either is an outcome too: what waits is put off, and nothing else stops.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final

import structlog

from relay.core.attempt import OFF_LOOP_BYTES, Attempt, CopyForm, Deferred, Phase, Transaction, Unknown
from relay.spool.entry import SpoolEntry
from relay.spool.files import Spooled
from relay.spool.lane import Job, Lane
from tracker.contract.errors import KeysError

_LOG: Final = structlog.get_logger()

Send = Callable[[str, Transaction], Awaitable[list[Attempt]]]
CopyOf = Callable[[SpoolEntry, bytes, int, CopyForm], Sequence[bytes | memoryview] | None]


class Carrier:
    """Knows who makes copies and who sends them."""

    def __init__(self, send: Send, copy_of: CopyOf) -> None:
        """Take both."""
        self._send = send
        self._copy_of = copy_of

    async def carry_out(self, lane: Lane, job: Job, spooled: Spooled) -> list[Attempt]:
        """Try once; return what came of it for each row of the job. Raises nothing but when it is cancelled."""
        entry, count = spooled.entry, len(job.indexes)
        if lane.limits is None:
            trouble = f"no upstream {lane.name!r} is configured"
            return [Deferred(reply=None, phase=Phase.CONNECT, of_upstream=True, detail=trouble)] * count
        try:
            transaction = Transaction(
                reverse_path=entry.reverse_path,
                recipients=tuple(entry.recipients[index] for index in job.indexes),
                copies=tuple(job.message.copy(index) for index in job.indexes),
                data=await self._copy(lane.name, spooled, job.indexes[0]),
                body_8bit=entry.body_8bit,
                smtputf8=entry.smtputf8,
                dsn=entry.dsn.only(job.indexes),
                remake=partial(self._remake, lane.name, spooled, job.indexes[0]),
            )
        except KeysError as error:  # the keys file is older than the message; it waits until a newer one is put back
            _LOG.error("key_missing", message_ref=str(entry.id), error=str(error))
            return [Deferred(reply=None, phase=Phase.DATA, of_upstream=False, ours=True, detail=str(error))] * count
        except Exception:  # noqa: BLE001 - a worker's iteration
            _LOG.exception("copy_not_made", message_ref=str(entry.id))
            trouble = "the copy could not be made"
            return [Deferred(reply=None, phase=Phase.DATA, of_upstream=False, ours=True, detail=trouble)] * count
        try:
            return await self._send(lane.name, transaction)
        except Exception:  # noqa: BLE001 - a worker's iteration
            _LOG.exception("sending_failed", upstream=lane.name)
            return [Unknown(detail="a fault of ours ended the attempt")] * count

    async def _copy(self, upstream: str, spooled: Spooled, index: int) -> tuple[bytes | memoryview, ...]:
        make = partial(self._copy_of, spooled.entry, spooled.message, index, CopyForm(upstream=upstream))
        made = await asyncio.to_thread(make) if len(spooled.message) > OFF_LOOP_BYTES else make()
        return tuple(made or ())

    def _remake(
        self, upstream: str, spooled: Spooled, index: int, *, seven_bit: bool, original: bool
    ) -> tuple[bytes | memoryview, ...] | None:
        form = CopyForm(upstream=upstream, seven_bit=seven_bit, original=original)
        copy = self._copy_of(spooled.entry, spooled.message, index, form)
        return None if copy is None else tuple(copy)
