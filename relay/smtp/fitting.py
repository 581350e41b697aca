"""A transaction brought into a form that its upstream can take, by what the upstream offers.

Standards: RFC 6152 §3 (8BITMIME), RFC 6531 §3.1 (SMTPUTF8), RFC 1870 §6 (SIZE).

Theory:
    Without 8BITMIME a copy is asked for in 7 bits. Without SMTPUTF8 nothing can be done: an address cannot be encoded.
    A copy that is too large with its tracking may fit without: a mail is worth more than its statistics.
"""

from dataclasses import dataclass, replace
from typing import Final

import structlog
from prometheus_client import Counter

from relay.core.attempt import Phase, Rejected, Transaction, UpstreamReply

_LOG: Final = structlog.get_logger()
_CONVERTED: Final = Counter(
    "mailwake_upstream_converted_total", "Copies encoded again for an upstream without 8BITMIME", ["upstream"]
)
_NO_8BITMIME: Final = UpstreamReply(
    554, "5.6.3 the upstream does not offer 8BITMIME, and 8-bit content that is signed or damaged is not converted"
)
_NO_SMTPUTF8: Final = UpstreamReply(
    553, "5.6.7 an address or header of the message is not ASCII, and the upstream does not offer SMTPUTF8"
)
_TOO_BIG: Final = "5.3.4 the message has {} octets, and the upstream takes {} at most (its SIZE)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Offers:
    """What an upstream said in its reply to EHLO; `size_bytes` is 0 where it names no limit."""

    eight_bit: bool
    smtputf8: bool
    size_bytes: int


def fit(transaction: Transaction, offers: Offers, upstream: str) -> Transaction | Rejected:
    """Return what can be sent, or the refusal where nothing can; the reply is ours, for the upstream was not asked."""
    if needs_smtputf8(transaction) and not offers.smtputf8:
        return Rejected(reply=_NO_SMTPUTF8, phase=Phase.MAIL, ours=True)
    seven_bit = transaction.body_8bit and not offers.eight_bit
    if seven_bit:
        data = _remade(transaction, seven_bit=True, original=False)
        if data is None:
            return Rejected(reply=_NO_8BITMIME, phase=Phase.MAIL, ours=True)
        transaction = replace(transaction, data=data, body_8bit=False)
        _CONVERTED.labels(upstream).inc()
    limit = offers.size_bytes
    if not limit or transaction.size_bytes <= limit:
        return transaction
    data = _remade(transaction, seven_bit=seven_bit, original=True)
    fitted = transaction if data is None else replace(transaction, data=data)
    if fitted.size_bytes > limit:
        too_big = UpstreamReply(552, _TOO_BIG.format(fitted.size_bytes, limit))
        return Rejected(reply=too_big, phase=Phase.MAIL, ours=True)
    _LOG.warning("copy_sent_untracked", upstream=upstream, copy_ref=str(transaction.copies[0]), why="upstream_size")
    return fitted


def needs_smtputf8(transaction: Transaction) -> bool:
    """Say whether an address or a header needs the extension."""
    paths = (transaction.reverse_path, *transaction.recipients)
    return transaction.smtputf8 or not all(path.isascii() for path in paths)


def _remade(transaction: Transaction, *, seven_bit: bool, original: bool) -> tuple[bytes | memoryview, ...] | None:
    return None if transaction.remake is None else transaction.remake(seven_bit=seven_bit, original=original)
