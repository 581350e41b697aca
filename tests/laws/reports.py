"""Laws of what upstreams answer, and of what is told of it: a reply of any text, a report on any message."""

from datetime import timedelta

from relay.core import dsn, headers, lineends, mime
from relay.core.attempt import Accepted, Phase, UpstreamReply, of_reply
from relay.core.dsn import ReportFacts
from relay.core.mime import Part
from relay.core.reply import sanitize
from tests.unit.submissions import NOW
from tests.unit.tokens import COPY
from tracker.contract.diagnosis import diagnose_bounce, diagnose_delay
from tracker.contract.events import Bounce, DeliveryDelay
from tracker.contract.ids import EventId

_EVENT = EventId(bytes(16))
_FIELDS = [
    b"from",
    b"to",
    b"subject",
    b"date",
    b"message-id",
    b"auto-submitted",
    b"x-mailwake-report",
    b"mime-version",
    b"content-type",
]


def a_reply_is_one_line(text: str) -> None:
    """What a peer says is shown, and is never a line of its own in a log, a report or a header."""
    shown = sanitize(text)
    assert shown.isprintable()
    assert shown.isascii()
    assert len(shown) <= 200
    headers.make_field("X-Any", shown)


def a_reply_has_a_meaning(code: int, text: str) -> None:
    """Only a 2xx to the final dot is a delivery; every reply has a diagnosis."""
    reply = UpstreamReply(code, sanitize(text))
    for phase in Phase:
        outcome = of_reply(reply, phase)
        assert isinstance(outcome, Accepted) == (phase is Phase.FINAL_DOT and code // 100 == 2 and code != 421)
        for expired in (False, True):
            told = Bounce(
                event=_EVENT,
                copy=COPY,
                at=NOW,
                upstream="default",
                phase=phase.value,
                reply=str(reply),
                expired=expired,
            )
            assert diagnose_bounce(told).status.isprintable()
        delay = DeliveryDelay(
            event=_EVENT,
            copy=COPY,
            at=NOW,
            upstream="default",
            phase=phase.value,
            reply=str(reply),
            expires_at=NOW + timedelta(days=1),
        )
        assert diagnose_delay(delay).status.isprintable()


def a_report_is_a_message_of_three_parts(code: int, text: str, message: bytes) -> None:
    """RFC 3464: nothing of the reply or of the returned header becomes a part or a field of the report."""
    facts = ReportFacts(
        hostname="relay.example.com",
        copy=COPY,
        sender="news@shop.example",
        recipient="ana@client.example",
        arrived_at=NOW,
        ended_at=NOW,
        reply=UpstreamReply(code, sanitize(text)),
        detail="",
        expired=False,
    )
    report = dsn.make(facts, message)
    assert lineends.settle(report) == report
    root = mime.scan(report)
    assert isinstance(root, Part)
    assert [field.name for field in root.header.fields] == _FIELDS
    assert root.type == "multipart/report"
    if b"--=_" not in message:  # whoever knows the copy's id could close the report
        assert len(root.children) == 3
