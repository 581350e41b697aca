"""A share of live mail, shown to the witness after it was accepted and never in its way.

Owns the choice, the short queue, and what is counted and logged. A message that cannot be checked counts as unverified,
with the reason; nothing is tried again.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, assert_never

import structlog
from prometheus_client import Counter

from relay.testimony import Question
from relay.verification import limits
from relay.verification.child import Child
from relay.verification.verdict import Agreed, Disagreed, Unverified, Verdict, Why
from tracker.contract.ids import MessageId
from tracker.contract.ports import Entropy

VERDICTS: Final = Counter("mailwake_witness_total", "Rewritten messages that the witness was shown.", ["outcome"])
UNVERIFIED: Final = Counter(
    "mailwake_witness_unverified_total", "Those that it did not finish, or that it was never shown, by why.", ["why"]
)
_CHANCE_BYTES: Final = 4

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Offer:
    message: MessageId
    make: Callable[[], Question]


class Sampler:
    """Takes offers at any time; `run` asks the witness about them, one after the other."""

    def __init__(self, share: float, entropy: Entropy, child: Child | None = None) -> None:
        """Start nothing yet; `share` is from 0.0 to 1.0."""
        self._share = share
        self._entropy = entropy
        self._child = child or Child()
        self._offers: asyncio.Queue[_Offer] = asyncio.Queue(limits.MAX_WAITING)
        for outcome in ("agreed", "disagreed", "unverified"):
            VERDICTS.labels(outcome)  # a first disagreement is seen only if there was a nought before

    def offer(self, message: MessageId, size_bytes: int, make: Callable[[], Question]) -> None:
        """Offer a message that was accepted; `make` gives the question once its turn has come. Returns at once."""
        if not self._chooses():
            return
        if size_bytes > limits.MAX_MESSAGE_BYTES:
            _count(message, Unverified(why=Why.TOO_LARGE))
            return
        try:
            self._offers.put_nowait(_Offer(message=message, make=make))
        except asyncio.QueueFull:
            _count(message, Unverified(why=Why.QUEUE_FULL))

    async def run(self) -> None:
        """Ask until cancelled; then the process is ended, and what still waits counts as unverified."""
        offer: _Offer | None = None
        try:
            while True:
                offer = await self._offers.get()
                _count(offer.message, await self._verdict(offer))
                offer = None
        finally:
            await self._child.close()
            waiting = [offer] if offer is not None else []
            while not self._offers.empty():
                waiting.append(self._offers.get_nowait())
            for left in waiting:
                _count(left.message, Unverified(why=Why.STOPPED))

    def _chooses(self) -> bool:
        chance = int.from_bytes(self._entropy(_CHANCE_BYTES), "big") / 256**_CHANCE_BYTES
        return chance < self._share

    async def _verdict(self, offer: _Offer) -> Verdict:
        try:
            return await self._child.ask(await asyncio.to_thread(offer.make))
        except Exception:  # noqa: BLE001 - one iteration of a worker
            _log.exception("witness_failed", message_ref=str(offer.message))
            await self._child.close()
            return Unverified(why=Why.ERROR)


def _count(message: MessageId, verdict: Verdict) -> None:
    match verdict:
        case Agreed():
            VERDICTS.labels("agreed").inc()
        case Disagreed(disagreements=disagreements):
            VERDICTS.labels("disagreed").inc()
            kinds = sorted({disagreement.kind.value for disagreement in disagreements})
            _log.error("witness_disagreed", message_ref=str(message), kinds=kinds)
        case Unverified(why=why):
            VERDICTS.labels("unverified").inc()
            UNVERIFIED.labels(why.value).inc()
            _log.info("witness_gave_no_verdict", message_ref=str(message), why=why.value)
        case _:
            assert_never(verdict)
