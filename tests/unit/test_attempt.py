"""What a reply means in each phase, and when a copy is tried again."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.attempt import (
    SCHEDULE,
    Accepted,
    Deferred,
    Done,
    GiveUp,
    Phase,
    Rejected,
    RetryAt,
    Unknown,
    UpstreamReply,
    next_step,
    of_reply,
)

T0 = datetime(2026, 3, 1, tzinfo=UTC)
FIVE_DAYS = timedelta(days=5)
BEFORE_MAIL = (Phase.CONNECT, Phase.TLS, Phase.GREETING, Phase.EHLO, Phase.AUTH)
OF_MAIL = (Phase.MAIL, Phase.RCPT, Phase.DATA, Phase.FINAL_DOT)


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("code", [421, 450, 451, 452, 454, 499, 500, 521, 530, 534, 535, 538, 550, 552, 554])
def test_the_table_of_replies_by_phase(code: int, phase: Phase) -> None:
    """The first digit decides from MAIL on; before it, and for 421 and what speaks of login, it is the upstream."""
    attempt = of_reply(UpstreamReply(code, "x"), phase)

    if phase in BEFORE_MAIL or code in {421, 530, 534, 535, 538}:
        assert isinstance(attempt, Deferred)
        assert attempt.of_upstream
    elif code >= 500:
        assert attempt == Rejected(reply=UpstreamReply(code, "x"), phase=phase)
    else:
        assert isinstance(attempt, Deferred)
        assert not attempt.of_upstream


@pytest.mark.parametrize("text", ["5.7.8 bad password", "5.7.9 stronger login", "5.7.11 encryption needed"])
@pytest.mark.parametrize("phase", OF_MAIL)
def test_a_refused_login_never_bounces_mail(text: str, phase: Phase) -> None:
    """An expired password must not bounce the queue, whatever the basic code is."""
    attempt = of_reply(UpstreamReply(550, text), phase)

    assert isinstance(attempt, Deferred)
    assert attempt.of_upstream


@pytest.mark.parametrize("text", ["5.7.1 relaying denied", "5.7.88 no", "5.7.8.1", "15.7.8", "5.7.110 x"])
def test_other_enhanced_codes_are_refusals(text: str) -> None:
    """Only the three codes count, not what begins like them."""
    assert isinstance(of_reply(UpstreamReply(550, text), Phase.RCPT), Rejected)


def test_only_a_2xx_to_the_final_dot_is_acceptance() -> None:
    """A 2xx that is out of place is garbage, and garbage counts as 4xx."""
    reply = UpstreamReply(251, "2.0.0 taken")

    assert of_reply(reply, Phase.FINAL_DOT) == Accepted(reply=reply)
    assert isinstance(of_reply(reply, Phase.DATA), Deferred)
    assert isinstance(of_reply(UpstreamReply(354, "go on"), Phase.FINAL_DOT), Deferred)


def _deferred(*, of_upstream: bool = False) -> Deferred:
    return Deferred(reply=None, phase=Phase.RCPT, of_upstream=of_upstream, detail="x")


@pytest.mark.parametrize("attempt", [_deferred(), Unknown(detail="lost")])
@pytest.mark.parametrize(
    "attempts, minutes", [(1, 1), (2, 5), (3, 15), (4, 30), (5, 60), (6, 120), (7, 240), (99, 240)]
)
def test_the_schedule(attempt: Deferred | Unknown, attempts: int, minutes: int) -> None:
    """1, 5, 15, 30 minutes, 1, 2, 4 hours, then every 4 hours."""
    step = next_step(attempt, attempts=attempts, accepted_at=T0, now=T0, retry_for=FIVE_DAYS, entropy=0.5)

    assert step == RetryAt(T0 + timedelta(minutes=minutes))


@given(attempts=st.integers(1, 50), entropy=st.floats(0, 1, exclude_max=True), age_s=st.integers(0, 10**6))
def test_a_copy_waits_within_its_jitter_and_its_lifetime_or_is_given_up(
    attempts: int, entropy: float, age_s: int
) -> None:
    """Never beyond the end of the lifetime, where it is tried once more; never more than 20 % off its step."""
    now = T0 + timedelta(seconds=age_s)

    step = next_step(_deferred(), attempts=attempts, accepted_at=T0, now=now, retry_for=FIVE_DAYS, entropy=entropy)

    if now >= T0 + FIVE_DAYS:
        assert step == GiveUp(expired=True)
        return
    assert isinstance(step, RetryAt)
    planned = SCHEDULE[min(attempts, len(SCHEDULE)) - 1]
    assert now < step.at <= min(now + planned * 1.2, T0 + FIVE_DAYS)
    assert step.at >= min(now + planned * 0.8, T0 + FIVE_DAYS)


def test_the_last_attempt_is_at_the_end_of_the_lifetime() -> None:
    """Not up to four hours behind it: who waits for the bounce was told when it comes."""
    now = T0 + FIVE_DAYS - timedelta(minutes=1)

    step = next_step(_deferred(), attempts=7, accepted_at=T0, now=now, retry_for=FIVE_DAYS, entropy=0.5)

    assert step == RetryAt(T0 + FIVE_DAYS)


def test_a_condition_of_the_upstream_is_due_at_once_and_expires_too() -> None:
    """The circuit decides when it is probed; the lifetime ends all the same."""
    attempt = _deferred(of_upstream=True)

    def step(now: datetime) -> object:
        return next_step(attempt, attempts=3, accepted_at=T0, now=now, retry_for=FIVE_DAYS, entropy=0.5)

    assert step(T0) == RetryAt(T0)
    assert step(T0 + FIVE_DAYS) == GiveUp(expired=True)


def test_certain_outcomes_end_the_copy() -> None:
    """A refusal is final even at the end of the lifetime: it is not called expired."""
    reply = UpstreamReply(550, "5.1.1 no")

    def step(attempt: Accepted | Rejected) -> object:
        return next_step(attempt, attempts=1, accepted_at=T0, now=T0 + FIVE_DAYS, retry_for=FIVE_DAYS, entropy=0.5)

    assert step(Accepted(reply=reply)) == Done()
    assert step(Rejected(reply=reply, phase=Phase.RCPT)) == GiveUp(expired=False)
