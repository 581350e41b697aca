"""Whether refusals at MAIL are about their senders, or about us.

Owns the count of them in a row at one upstream, and those that wait for a verdict. Does not decide what follows: that
is the runner's.

Theory:
    A 5xx reply to MAIL mostly means that one sender is wrong. But an account that was suspended, or an address of ours
    that was blocked, gets the same reply for every sender; bouncing the whole queue for that would be wrong. The fifth
    refusal knows more than the first. So the first four wait: until a message gets past MAIL (they were about their
    senders), or five senders got the same reply (it is about us: a condition of the upstream, and none of them
    bounces), or for a minute in which nothing else was tried. Words that differ with the sender (an address, a number)
    count as the same.

    Once the verdict is that it is about us, the reply goes on to mean that until a message gets past MAIL.
"""

import asyncio
import re
from dataclasses import dataclass, field
from typing import Final

from relay.core.attempt import UpstreamReply

SENDERS: Final = 5
WAIT_S: Final = 60.0

_OF_SENDER: Final = re.compile(r"\S*@\S*|<[^>]*>|(?<!\S)(?!\d\.\d{1,3}\.\d{1,3}(?!\S))\S*\d\S*")


@dataclass(slots=True)
class Refusals:
    """Those of one upstream."""

    wait_s: float = WAIT_S
    _reply: str = ""
    _senders: set[str] = field(default_factory=set)
    _is_about_us: bool = False
    _waiting: set[asyncio.Future[bool]] = field(default_factory=set)

    def is_about_us(self, sender: str, reply: UpstreamReply) -> bool:
        """Note a refusal; True where it is known by now that it is about us. Else ask `verdict`."""
        kind = _OF_SENDER.sub("*", str(reply))
        if kind != self._reply:
            self._decide(is_about_us=False)
            self._reply = kind
        self._senders.add(sender)
        if len(self._senders) >= SENDERS:
            self._decide(is_about_us=True)
        return self._is_about_us

    async def verdict(self) -> bool:
        """Wait until it is known whether the refusal that was noted last is about us."""
        waiter: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.add(waiter)
        try:
            async with asyncio.timeout(self.wait_s):
                return await waiter
        except TimeoutError:
            return False
        finally:
            self._waiting.discard(waiter)

    def passed(self) -> None:
        """Note that a message got past MAIL: what was refused was refused for its sender."""
        if self._reply:
            self._decide(is_about_us=False)

    def stop(self) -> None:
        """End the waiting without a verdict: what is refused is asked again after the start."""
        self._decide(is_about_us=True)

    def _decide(self, *, is_about_us: bool) -> None:
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(is_about_us)
        self._senders.clear()
        self._is_about_us = is_about_us
        if not is_about_us:
            self._reply = ""
