"""What is attempted with a copy, what came of it, and what follows from that.

Owns the sum `Attempt` and the table of replies by phase (`of_reply`), and the schedule (`next_step`). Does not talk
to anybody, and does not decide when an upstream that cannot be reached is probed: that is `relay/spool/circuit.py`.

Theory:
    A failed attempt is a fault either of the copy or of the upstream. Only the first kind counts against the copy: a
    wrong password, a certificate that has run out or a server that is down must never bounce the queue (`of_upstream`).
    An upstream that is asked too fast is such a condition, too, and a mild one (`throttled`): it is asked more slowly.
    *Unknown* is neither: the final dot was written and no answer came, so the upstream may have the copy or not. It is
    tried again, because a second copy is better than none (RFC 5321 §4.5.3.2.6, RFC 1047).

Standards: RFC 5321 §4.2.1 (the first digit decides; 452 or 552 are not special), §4.5.4.1 (retries); RFC 3463 and RFC
4954 §6 (enhanced codes that speak of authentication).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Protocol

from relay.core import providers
from relay.core.dsnrequest import NO_REQUEST, DsnRequest
from relay.core.providers import Provider
from tracker.contract import backoff
from tracker.contract.ids import CopyId

OFF_LOOP_BYTES: Final = 256 * 1024
"""What is done with all bytes of a larger message is done in a thread: everybody else should not wait as long.

Signing 25 MB takes half a second.
"""

SCHEDULE: Final = tuple(timedelta(minutes=minutes) for minutes in (1, 5, 15, 30, 60, 120, 240))
"""After failed attempt 1, 2, 3 …; the last step repeats."""


class Phase(StrEnum):
    """Where in the dialogue an attempt ended. Rows on disk hold the position in this list: append, never reorder."""

    CONNECT = "connect"
    TLS = "tls"
    GREETING = "greeting"
    EHLO = "ehlo"
    AUTH = "auth"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    FINAL_DOT = "final_dot"


class Remake(Protocol):
    """Makes a copy again in another form."""

    def __call__(self, *, seven_bit: bool, original: bool) -> tuple[bytes | memoryview, ...] | None:
        """Return the data; None where the message has no such form."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyForm:
    """Which of a copy's forms is wanted: for which upstream (its header fields are added), and what it cannot take.

    `seven_bit`: 8-bit content is encoded again. `original`: the message as it was accepted, without tracking.
    """

    upstream: str
    seven_bit: bool = False
    original: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """One MAIL, its RCPTs and the data that all of them get.

    `copies` has the copy id of each of `recipients`. `data` are slices of the message, CRLF line ends, not dot-stuffed.
    `reverse_path` is empty for reports. `dsn` is what was asked of reports, in the order of `recipients`.
    `remake(seven_bit=…, original=…)` gives the data in another form of `CopyForm`, None where there is none: what an
    upstream can take is known only when it is asked.
    """

    reverse_path: str
    recipients: tuple[str, ...]
    copies: tuple[CopyId, ...]
    data: tuple[bytes | memoryview, ...]
    body_8bit: bool = False
    smtputf8: bool = False
    dsn: DsnRequest = NO_REQUEST
    remake: Remake | None = field(default=None, compare=False)

    @property
    def size_bytes(self) -> int:
        """The size for `SIZE=` (RFC 1870 §3), dots not counted twice."""
        return sum(map(len, self.data))


@dataclass(frozen=True, slots=True)
class UpstreamReply:
    """A reply as it came, but sanitised: `550`, `"5.1.1 no such user"`; lines of one reply are joined by a space."""

    code: int
    text: str

    def __str__(self) -> str:
        return f"{self.code} {self.text}".rstrip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The upstream answered 2xx to the final dot: the copy is its own now.

    `reports`: it offers DSN, so that it reports the delivery where that was asked (RFC 3461 §5.2.1).
    """

    reply: UpstreamReply
    reports: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """The copy will never be taken. `ours`: the reply is our own, where we know it without asking (`5.6.7`)."""

    reply: UpstreamReply
    phase: Phase
    ours: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Deferred:
    """Not now. `of_upstream`: a condition of the upstream, no fault of the copy; `detail` is for logs and rows.

    `throttled`: the condition is that we send too fast; nothing else is wrong with it. `ours`: it was not asked.
    """

    reply: UpstreamReply | None
    phase: Phase
    of_upstream: bool
    detail: str
    throttled: bool = False
    ours: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """The final dot was written and no usable answer came: the upstream may have the copy or not."""

    detail: str


Attempt = Accepted | Rejected | Deferred | Unknown


@dataclass(frozen=True, slots=True)
class Done:
    """Nothing is left to do but to tell."""


@dataclass(frozen=True, slots=True)
class RetryAt:
    """Try again then."""

    at: datetime


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The copy bounces: refused, or (`expired`) still waiting at the end of its lifetime."""

    expired: bool


NextStep = Done | RetryAt | GiveUp

# RFC 4954 §6 and RFC 3463: what these refuse is the relay, not the mail.
_LOGIN_CODES: Final = frozenset({530, 534, 535, 538})
_LOGIN_ENHANCED: Final = re.compile(r"5\.7\.(?:8|9|11)(?![0-9.])")
_CLOSING: Final = 421
_BEFORE_MAIL: Final = frozenset({Phase.CONNECT, Phase.TLS, Phase.GREETING, Phase.EHLO, Phase.AUTH})


def of_reply(reply: UpstreamReply, phase: Phase, provider: Provider = "generic") -> Attempt:
    """Return what a reply that ends an attempt in this phase means.

    A reply that is no reply (`code` not from 200 to 599) and a 2xx or 3xx where none is due count as 4xx. A 2xx ends an
    attempt well only at the final dot: asking about another phase's 2xx is asking about one that was out of place.
    """
    if providers.is_throttling(reply.code, reply.text, provider):
        return Deferred(reply=reply, phase=phase, of_upstream=True, detail=str(reply), throttled=True)
    if phase in _BEFORE_MAIL or reply.code == _CLOSING or _is_of_login(reply):
        return Deferred(reply=reply, phase=phase, of_upstream=True, detail=str(reply))
    match reply.code // 100:
        case 2 if phase is Phase.FINAL_DOT:
            return Accepted(reply=reply)
        case 5:
            return Rejected(reply=reply, phase=phase)
        case _:
            return Deferred(reply=reply, phase=phase, of_upstream=False, detail=str(reply))


def is_of_upstream(attempts: Iterable[Attempt]) -> bool:
    """True where nothing was learned of any recipient: the upstream itself was the trouble."""
    return all(isinstance(attempt, Deferred) and attempt.of_upstream and not attempt.throttled for attempt in attempts)


def is_throttled(attempts: Iterable[Attempt]) -> bool:
    """True where the upstream said, of any recipient, that we send too fast."""
    return any(isinstance(attempt, Deferred) and attempt.throttled for attempt in attempts)


def is_login_refused(attempts: Iterable[Attempt]) -> bool:
    """True where the upstream refused us, not the mail: a password that is wrong or has expired, or one that it wants.

    Nothing leaves before an operator mends it.
    """
    return any(isinstance(attempt, Deferred) and attempt.reply and _is_of_login(attempt.reply) for attempt in attempts)


def is_sender_refused(attempts: Iterable[Attempt]) -> bool:
    """True where the upstream's reply to MAIL refused the message: its sender, or, who knows, us."""
    return all(
        isinstance(attempt, Rejected) and attempt.phase is Phase.MAIL and not attempt.ours for attempt in attempts
    )


def next_step(
    attempt: Attempt, *, attempts: int, accepted_at: datetime, now: datetime, retry_for: timedelta, entropy: float
) -> NextStep:
    """Decide what follows attempt number `attempts` (from 1), `entropy` being uniform in [0, 1).

    A copy that waits is tried for the last time when its lifetime ends, not before. One that met a condition of the
    upstream is due at once: its upstream's circuit decides when that is.
    """
    if isinstance(attempt, Accepted):
        return Done()
    if isinstance(attempt, Rejected):
        return GiveUp(expired=False)
    expires_at = accepted_at + retry_for
    if now >= expires_at:
        return GiveUp(expired=True)
    if isinstance(attempt, Deferred) and attempt.of_upstream:
        return RetryAt(now)
    return RetryAt(min(now + backoff.delay(SCHEDULE, max(attempts, 1), entropy), expires_at))


def _is_of_login(reply: UpstreamReply) -> bool:
    return reply.code in _LOGIN_CODES or (reply.code // 100 == 5 and _LOGIN_ENHANCED.match(reply.text) is not None)
