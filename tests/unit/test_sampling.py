"""What the witness is shown of live mail: chosen by chance, queued shortly, counted; never more said than may be."""

import asyncio
import re
from collections.abc import Callable

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from relay import witness
from relay.core.prepare import Site
from relay.pipeline import Pipeline, Ports
from relay.spool.entry import SpoolEntry
from relay.testimony import Disagreement, Kind, Promise, Question
from relay.verification import limits
from relay.verification.child import Child
from relay.verification.sampling import Sampler
from relay.verification.verdict import Agreed, Disagreed, Unverified, Verdict, Why
from tests.machine import ROOT
from tests.unit.submissions import HTML, NOW, settings, submission
from tracker.contract.ids import MessageId
from tracker.contract.token import TokenKey, TokenKeys

_ID = MessageId.parse("01kb9xn8g0000000000000000m")
_QUESTION = Question(message=b"a", copy=b"a", promise=Promise())
_SECRET = Disagreement(kind=Kind.TEXT, section="1", detail="dear ana@client.example")


class _Child(Child):
    """A process that gives the answers of a list, and none behind them."""

    def __init__(self, *verdicts: Verdict) -> None:
        super().__init__()
        self.verdicts = list(verdicts)
        self.asked: list[Question] = []
        self.is_closed = False

    async def ask(self, question: Question) -> Verdict:
        self.asked.append(question)
        if not self.verdicts:
            await asyncio.Event().wait()
        return self.verdicts.pop(0)

    async def close(self) -> int | None:
        self.is_closed = True
        return None


def _count(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def _counts() -> list[float]:
    return [_count("mailwake_witness_total", outcome=outcome) for outcome in ("agreed", "disagreed", "unverified")]


def _why(why: Why) -> float:
    return _count("mailwake_witness_unverified_total", why=why.value)


async def _run(sampler: Sampler, is_enough: Callable[[], bool]) -> None:
    running = asyncio.ensure_future(sampler.run())
    async with asyncio.timeout(10):
        while not is_enough():
            await asyncio.to_thread(lambda: None)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_every_verdict_is_counted_and_a_disagreement_is_logged_by_its_kind() -> None:
    """The sentences hold text of the mail: the log has kinds and the message's id alone."""
    before = _counts()
    child = _Child(Agreed(), Disagreed(disagreements=(_SECRET, _SECRET)), Unverified(why=Why.CPU))
    sampler = Sampler(1.0, bytes, child)
    for _ in range(3):
        sampler.offer(_ID, 10, lambda: _QUESTION)

    with capture_logs() as lines:
        await _run(sampler, lambda: sum(_counts()) == sum(before) + 3)

    assert [new - old for new, old in zip(_counts(), before, strict=True)] == [1, 1, 1]
    assert lines == [
        {"event": "witness_disagreed", "log_level": "error", "message_ref": str(_ID), "kinds": ["text"]},
        {"event": "witness_gave_no_verdict", "log_level": "info", "message_ref": str(_ID), "why": "cpu"},
    ]
    assert child.is_closed


@pytest.mark.parametrize(("share", "chance", "is_chosen"), [(0.5, 0x7F, True), (0.5, 0x80, False), (1.0, 0xFF, True)])
async def test_a_share_is_chosen_by_chance(share: float, chance: int, is_chosen: bool) -> None:
    """Entropy below the share: 1.0 is every message."""
    child = _Child()
    sampler = Sampler(share, lambda size: bytes([chance]) * size, child)
    before = _why(Why.TOO_LARGE)

    sampler.offer(_ID, limits.MAX_MESSAGE_BYTES + 1, lambda: _QUESTION)

    assert _why(Why.TOO_LARGE) - before == is_chosen


async def test_a_full_queue_is_no_reason_to_wait() -> None:
    """More than the witness can check counts as unverified at once; what waits at the end, too."""
    full, stopped = _why(Why.QUEUE_FULL), _why(Why.STOPPED)
    child = _Child()
    sampler = Sampler(1.0, bytes, child)
    for _ in range(limits.MAX_WAITING + 3):
        sampler.offer(_ID, 10, lambda: _QUESTION)
    assert _why(Why.QUEUE_FULL) - full == 3

    await _run(sampler, lambda: bool(child.asked))

    assert _why(Why.STOPPED) - stopped == limits.MAX_WAITING
    assert child.is_closed


async def test_a_copy_that_cannot_be_made_does_not_end_the_sampler() -> None:
    """A fault of ours is logged, and the next message is asked about."""
    before = _counts()
    child = _Child(Agreed())
    sampler = Sampler(1.0, bytes, child)

    def fail() -> Question:
        raise ValueError("broken")

    sampler.offer(_ID, 10, fail)
    sampler.offer(_ID, 10, lambda: _QUESTION)
    with capture_logs() as lines:
        await _run(sampler, lambda: sum(_counts()) == sum(before) + 2)

    assert [new - old for new, old in zip(_counts(), before, strict=True)] == [1, 0, 1]
    assert [line["event"] for line in lines] == ["witness_failed", "witness_gave_no_verdict"]


async def _offered(message: bytes, *headers: bytes) -> list[tuple[MessageId, int, Question]]:
    """Accept a message, and return what the pipeline offers."""
    offers: list[tuple[MessageId, int, Callable[[], Question]]] = []
    chosen = settings()
    queued: list[SpoolEntry] = []

    async def put(_: SpoolEntry, __: bytes) -> None:
        assert offers == []

    ports = Ports(
        settings=lambda: chosen,
        keys=lambda: TokenKeys([TokenKey(key_id=1, secret=bytes(32), mint_from=NOW)]),
        put=put,
        take_out=lambda message: asyncio.sleep(0),
        queue=queued.append,
        clock=lambda: NOW,
        entropy=lambda size: bytes([len(offers) + 1]) * size,
        verify=lambda ref, size, make: offers.append((ref, size, make)) if queued else None,
    )
    reply = await Pipeline(Site(hostname="relay.example.com", instance="relay1"), ports).accept(
        submission(b"".join(headers) + message, "ana@client.example")
    )
    assert reply.code == 250
    return [(ref, size, make()) for ref, size, make in offers]


async def test_the_copy_of_the_first_recipient_is_offered_once_the_message_is_safe() -> None:
    """A real copy, with the tokens that are sent; the witness agrees to it."""
    ((ref, size_bytes, question),) = await _offered(HTML)

    assert f"X-Mailwake-Copy: {ref}".encode() in question.copy
    assert size_bytes == len(question.message)
    assert len(question.promise.links) == 2
    assert witness.compare(question.message, question.copy, question.promise) == []


async def test_what_its_header_narrows_for_the_recipient_is_narrowed_in_the_copy() -> None:
    """The copy of a recipient who wants no opens counted has no pixel, and none was promised."""
    narrow = b"X-Mailwake-Track: clicks; rcpt=ana@client.example\r\n"
    ((_, _, question),) = await _offered(HTML, narrow)

    assert question.promise.pixel_url is None
    assert witness.compare(question.message, question.copy, question.promise) == []


async def test_mail_that_is_not_rewritten_is_not_offered() -> None:
    """There is nothing to look at."""
    assert await _offered(b"From: news@shop.example\r\n\r\nno link\r\n") == []


@pytest.mark.parametrize("why", Why)
def test_every_reason_is_in_the_reference(why: Why) -> None:
    """An operator finds each `why` of the metric, with the limit that is in force."""
    page = (ROOT / "docs" / "reference" / "metrics.md").read_text(encoding="utf-8")
    row = next((line for line in page.splitlines() if line.startswith(f"| {why.value} |")), "")

    assert row
    for number in re.findall(r"\d+", why.sentence):
        assert number in row
