"""The share of reports that an address has in an hour."""

from relay.spool import reportrate
from relay.spool.reportrate import ReportRate


def test_an_address_has_its_share_and_another_has_its_own() -> None:
    """Beyond it, by how many: the first one beyond is logged."""
    rate = ReportRate(per_hour=2)

    assert [rate.take("a@x.example", 0.0) for _ in range(4)] == [0, 0, 1, 2]
    assert rate.take("b@x.example", 0.0) == 0


def test_an_hour_later_the_count_begins_anew() -> None:
    """It begins with the first report, not with the clock's hour."""
    rate = ReportRate(per_hour=1)

    assert [rate.take("a@x.example", now_s) for now_s in (100.0, 3699.0, 3700.0, 3701.0)] == [0, 1, 0, 1]


def test_what_was_given_back_was_never_taken() -> None:
    """A disk that is full must not use the share up."""
    rate = ReportRate(per_hour=1)
    rate.take("a@x.example", 0.0)
    rate.give_back("a@x.example")
    rate.give_back("never@x.example")

    assert rate.take("a@x.example", 0.0) == 0


def test_what_is_remembered_is_bounded() -> None:
    """Addresses come from outside."""
    rate = ReportRate(per_hour=1)
    for number in range(reportrate._MAX_ADDRESSES + 10):
        rate.take(f"{number}@x.example", 0.0)

    assert len(rate._hours) == reportrate._MAX_ADDRESSES
