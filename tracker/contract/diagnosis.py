"""What an upstream's reply says of a copy: the status, and SES's names for bounces and delays.

Theory:
    A bounce is `Permanent` where the address is to blame: whoever reads events drops such an address. It is `Transient`
    where the address may be good: the copy was put off until it expired, the mailbox is full, or the message (its size,
    its content) was refused and not its recipient.

Standards: RFC 5321 §4.2.1 and §4.2.3 (reply codes), RFC 3463 (enhanced codes), RFC 3464 §2.3.6 (diagnostic code).
"""

import re
from dataclasses import dataclass
from typing import Final, Literal

from tracker.contract.events import Bounce, DeliveryDelay

BounceType = Literal["Permanent", "Transient"]
BounceSubType = Literal["General", "NoEmail", "MailboxFull", "MessageTooLarge", "ContentRejected"]
DelayType = Literal["General", "MailboxFull", "TransientCommunicationFailure", "Undetermined"]

EXPIRED: Final = "4.4.7"  # RFC 3463 §3.5: delivery time expired

_REPLY: Final = re.compile(r"([2-5]\d\d)(?:[ -]|$)(?:[245]\.(\d{1,3}\.\d{1,3})(?!\S))?", re.ASCII)
_NO_SUCH_ADDRESS: Final = frozenset({"1.1", "1.3", "1.6", "1.10"})  # RFC 3463 §3.2; RFC 7505 §4.2 gave 1.10
_MAILBOX_FULL: Final = "2.2"
_TOO_LARGE: Final = frozenset({"2.3", "3.4"})
_CONTENT: Final = "6."  # the message's content or its media
_POLICY: Final = "7."  # security or policy: of the content only where the content had been seen
_EXCEEDED_STORAGE: Final = 552
_AFTER_CONTENT: Final = frozenset({"data", "final_dot"})
_BEFORE_MAIL: Final = frozenset({"connect", "tls", "greeting", "ehlo", "auth"})


@dataclass(frozen=True, slots=True, kw_only=True)
class BounceDiagnosis:
    """`status` is `"5.1.1"`; `diagnostic_code` is `"smtp; 550 5.1.1 no such user"`, None where nobody replied."""

    bounce_type: BounceType
    bounce_sub_type: BounceSubType
    status: str
    diagnostic_code: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DelayDiagnosis:
    """As of a bounce, with SES's `delayType`."""

    delay_type: DelayType
    status: str
    diagnostic_code: str | None


def diagnose_bounce(event: Bounce) -> BounceDiagnosis:
    """Name a bounce by its reply's codes, the phase, and whether the copy had expired."""
    reply = _read(event.reply)
    kind: BounceType = "Transient"
    why: BounceSubType | None = _not_the_address(reply, event.phase)
    if why is None and event.expired:
        why = "General"
    elif why is None:
        kind, why = "Permanent", "NoEmail" if reply.detail in _NO_SUCH_ADDRESS else "General"
    unsaid = EXPIRED if event.expired else "5.0.0"
    return BounceDiagnosis(
        bounce_type=kind,
        bounce_sub_type=why,
        status=_status(reply, unsaid=unsaid),
        diagnostic_code=_diagnostic_code(event.reply),
    )


def diagnose_delay(event: DeliveryDelay) -> DelayDiagnosis:
    """Name a delay by its reply's codes and the phase."""
    reply = _read(event.reply)
    kind: DelayType = "General" if reply.code else "Undetermined"
    if reply.detail == _MAILBOX_FULL:
        kind = "MailboxFull"
    elif event.phase.lower() in _BEFORE_MAIL:
        kind = "TransientCommunicationFailure"
    return DelayDiagnosis(
        delay_type=kind, status=_status(reply, unsaid="4.0.0"), diagnostic_code=_diagnostic_code(event.reply)
    )


@dataclass(frozen=True, slots=True)
class _Reply:
    """`550 5.1.1 no` has code 550 and detail `1.1`; code 0 and an empty detail where it has none."""

    code: int
    detail: str


def _read(text: str) -> _Reply:
    match = _REPLY.match(text)
    return _Reply(int(match.group(1)), match.group(2) or "") if match is not None else _Reply(0, "")


def _not_the_address(reply: _Reply, phase: str) -> Literal["MailboxFull", "MessageTooLarge", "ContentRejected"] | None:
    """Say what else than the address was refused; None where the address may be to blame."""
    seen = phase.lower() in _AFTER_CONTENT
    if reply.detail == _MAILBOX_FULL:
        return "MailboxFull"
    if reply.detail in _TOO_LARGE:
        return "MessageTooLarge"
    if reply.detail.startswith(_CONTENT) or (seen and reply.detail.startswith(_POLICY)):
        return "ContentRejected"
    if reply.code == _EXCEEDED_STORAGE and not reply.detail:  # RFC 5321 §4.5.3.1.9 and .10 use it for both
        return "MailboxFull" if phase.lower() == "rcpt" else "MessageTooLarge"
    return None


def _status(reply: _Reply, *, unsaid: str) -> str:
    """The enhanced code under the class of the reply code (some servers contradict themselves), else X.0.0."""
    if reply.detail:
        return f"{reply.code // 100}.{reply.detail}"
    if reply.code and unsaid != EXPIRED:
        return f"{reply.code // 100}.0.0"
    return unsaid


def _diagnostic_code(reply: str) -> str | None:
    """RFC 3464 §2.3.6: type `smtp` is for replies; what we found out without one has a type of our own."""
    if not reply:
        return None
    return f"smtp; {reply}" if _REPLY.match(reply) is not None else f"x-mailwake; {reply}"
