"""What several processes of a node divide, and what they count together."""

import os

from hypothesis import given
from hypothesis import strategies as st

from tracker.runtime.seat import Column, Counts, Seat, Share

COUNTS = st.integers(1, 64)


@given(COUNTS, st.integers(0, 10_000))
def test_the_shares_of_a_limit_add_up_to_it(count: int, total: int) -> None:
    """Neither more than is allowed in sum, nor less."""
    shares = [Share(index, count).of(total) for index in range(count)]
    assert sum(shares) == total
    assert max(shares) - min(shares) <= 1


@given(COUNTS, st.integers(1, 10_000), st.integers(1, 10))
def test_a_share_that_one_must_be_able_to_work_with_has_a_least(count: int, total: int, least: int) -> None:
    """Alone it is the whole limit; beside others never so little that nothing goes."""
    assert Share().at_least_of(total, least) == total
    share = Share(0, count).at_least_of(total, least)
    assert count == 1 or share >= least
    assert share * count >= total


def test_a_rate_is_divided_and_no_limit_stays_none() -> None:
    """`max_rate` is what the upstream sees in sum."""
    assert Share(0, 4).of_rate(100.0) == 25.0
    assert Share(0, 4).of_rate(None) is None


def test_a_seat_is_alone_unless_somebody_holds_its_lifeline() -> None:
    """The default is a process that nobody started as one of several."""
    assert Seat().is_alone
    assert not Seat(lifeline=0).is_alone


def test_processes_see_the_sum_of_what_each_counts() -> None:
    """Each writes a row of its own; what a process that is gone has counted is dropped with its row."""
    counts = Counts(2)
    address = counts.column_of("192.0.2.1")
    counts.of_process(0)
    counts.add(Column.CONNECTIONS, 3)
    counts.add(address, 2)

    pid = os.fork()
    if not pid:  # pragma: no cover - another process
        counts.of_process(1)
        counts.add(Column.CONNECTIONS, 4)
        counts.add(address, 1)
        counts.put(Column.SPOOL_BYTES, 1 << 40)
        os._exit(counts.total(Column.CONNECTIONS) != 7)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

    assert counts.total(Column.CONNECTIONS) == 7
    assert counts.total(address) == 3
    assert counts.total(Column.SPOOL_BYTES) == 1 << 40
    counts.forget(1)
    assert counts.total(Column.CONNECTIONS) == 3
    assert counts.total(address) == 2
    assert counts.total(Column.SPOOL_BYTES) == 0


def test_nobody_can_tell_which_addresses_share_a_column() -> None:
    """The hash has a key: whoever wants to use up another's places would have to try."""
    first, second = Counts(), Counts()
    names = [f"192.0.2.{number}" for number in range(100)]
    assert [first.column_of(name) for name in names] != [second.column_of(name) for name in names]
    assert all(first.column_of(name) > max(Column) for name in names)
