"""When the operator hears that much mail arrives signed."""

import itertools
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from relay.signedmail import LEAST, SKIPPED, WINDOW_S, SignedMail
from tests.unit.submissions import NOW
from tracker.contract.events import MessageFacts, Skipped
from tracker.contract.ids import RANDOM_BYTES_OF_MESSAGE_ID, MessageId


class _Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def _facts(*, signed: bool, set_name: str | None = "default") -> MessageFacts:
    return MessageFacts(
        message=MessageId.make(unix_ms=1, entropy=bytes(RANDOM_BYTES_OF_MESSAGE_ID)),
        accepted_at=NOW,
        source="news@shop.example",
        source_address="127.0.0.1",
        caller="",
        from_domain="shop.example",
        configuration_set=set_name,
        upstream="default",
        skipped=(Skipped(reason="dkim_signed"),) if signed else (Skipped(reason="opt_out", section="1"),),
    )


def _said(mail: Iterator[MessageFacts], watch: SignedMail) -> list[dict[str, object]]:
    with capture_logs() as logs:
        for facts in mail:
            watch.saw(facts)
    return [{**entry} for entry in logs]


def test_much_signed_mail_is_said_once_in_a_window() -> None:
    """At the twentieth, and again in the next hour; each set for itself."""
    clock = _Clock()
    watch = SignedMail(clock)
    signed = _facts(signed=True)
    counted = SKIPPED._value.get()

    assert _said(itertools.repeat(signed, LEAST - 1), watch) == []
    assert _said(itertools.repeat(_facts(signed=True, set_name="other"), LEAST - 1), watch) == []
    (said,) = _said(itertools.repeat(signed, LEAST), watch)
    assert said == {
        "event": "signed_mail_skipped",
        "log_level": "warning",
        "configuration_set": "default",
        "skipped": LEAST,
        "messages": LEAST,
    }
    clock.now_s = WINDOW_S
    assert len(_said(itertools.repeat(signed, LEAST), watch)) == 1
    assert SKIPPED._value.get() - counted == 4 * LEAST - 2


@pytest.mark.parametrize("unsigned", [_facts(signed=False), None])
def test_a_small_share_is_nobodys_fault(unsigned: MessageFacts | None) -> None:
    """Some signed mail among much that is not; and mail without a set, which is not rewritten in any case."""
    watch = SignedMail(_Clock())
    if unsigned is None:
        mail: Iterator[MessageFacts] = itertools.repeat(_facts(signed=True, set_name=None), 5 * LEAST)
    else:
        mail = itertools.chain(itertools.repeat(unsigned, 2 * LEAST), itertools.repeat(_facts(signed=True), LEAST))

    assert _said(mail, watch) == []
