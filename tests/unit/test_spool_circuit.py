"""When an upstream that cannot be used is probed, and what a file that is found at start has to do."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.attempt import SCHEDULE
from relay.spool.circuit import Circuit
from relay.spool.layout import Row, State
from relay.spool.transitions import resume


def test_probes_come_after_5_10_20_40_and_then_every_60_seconds() -> None:
    """One at a time; nothing else goes meanwhile."""
    circuit, now_s, waits = Circuit(), 0.0, []
    circuit.failed(now_s, probe=False, entropy=0.5)
    for _ in range(7):
        wait_s = circuit.wait_s(now_s)
        assert wait_s is not None
        waits.append(round(wait_s))
        now_s += wait_s
        assert circuit.begin()
        assert circuit.wait_s(now_s) is None
        circuit.failed(now_s, probe=True, entropy=0.5)
        circuit.ended(probe=True)

    assert waits == [5, 10, 20, 40, 60, 60, 60]


def test_attempts_that_began_before_it_opened_say_nothing_new() -> None:
    """Twenty connections fail together; that is one failure."""
    circuit = Circuit()
    for _ in range(20):
        circuit.failed(0.0, probe=False, entropy=0.5)

    assert circuit.wait_s(0.0) == 5.0


def test_an_answer_closes_it() -> None:
    """A refusal is an answer, too: the caller says `succeeded`."""
    circuit = Circuit()
    circuit.failed(0.0, probe=False, entropy=0.0)
    circuit.begin()
    circuit.succeeded()
    circuit.ended(probe=True)

    assert circuit.wait_s(0.0) == 0.0
    assert not circuit.begin()


def test_a_probe_that_was_cut_lets_the_next_one_through() -> None:
    """Else nothing would ever be sent again."""
    circuit = Circuit()
    circuit.failed(0.0, probe=False, entropy=0.5)
    circuit.begin()
    circuit.ended(probe=True)

    assert circuit.wait_s(5.0) == 0.0


@pytest.mark.parametrize("attempts", range(1, 10))
@given(next_ms=st.integers(0, 2**48), now_ms=st.integers(0, 2**48))
def test_a_wait_found_at_start_is_never_longer_than_its_step(attempts: int, next_ms: int, now_ms: int) -> None:
    """The date may have been wrong when the row was written, or is wrong now."""
    row = Row(attempts=attempts, next_ms=next_ms)

    (wait_s,) = resume([row], now_ms=now_ms).due
    step = SCHEDULE[min(attempts, len(SCHEDULE)) - 1]
    assert 0 <= wait_s <= (step * 1.2 + timedelta(milliseconds=1)).total_seconds()


def test_rows_found_at_start_are_sorted_by_what_they_need() -> None:
    """In flight: due at once. D and F: to tell. Held and told: nothing."""
    resumed = resume([Row(state=state) for state in State], now_ms=0)

    by_state = {state: index for index, state in enumerate(State)}
    assert resumed.due == {0.0: [by_state[State.WAITING]]}
    assert resumed.cut == [by_state[State.IN_FLIGHT]]
    assert resumed.untold == [by_state[State.DELIVERED], by_state[State.FAILED]]
