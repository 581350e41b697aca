"""What the numbers mean: counted per copy, rates over what was delivered and could be seen."""

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.core.statistics import CopyCounts, Statistics, count, is_human

_copies: Final = st.builds(
    CopyCounts,
    delivered=st.booleans(),
    bounced=st.booleans(),
    tracks_opens=st.booleans(),
    tracks_clicks=st.booleans(),
    opens=st.integers(0, 3),
    human_opens=st.integers(0, 3),
    clicks=st.integers(0, 3),
    human_clicks=st.integers(0, 3),
)


def _copy(
    *, delivered: bool = True, pixel: bool = True, opens: int = 0, human_opens: int = 0, clicks: int = 0
) -> CopyCounts:
    return CopyCounts(
        delivered=delivered,
        bounced=not delivered,
        tracks_opens=pixel,
        tracks_clicks=True,
        opens=opens,
        human_opens=human_opens,
        clicks=clicks,
        human_clicks=clicks,
    )


def test_unique_counts_copies_and_total_counts_hits() -> None:
    """A copy that was opened five times is one reader."""
    found = count([_copy(opens=5, human_opens=2), _copy(opens=1), _copy()])

    assert (found.opens, found.unique_opens, found.human_unique_opens) == (6, 2, 1)


def test_the_open_rate_is_of_delivered_copies_with_a_pixel() -> None:
    """What bounced or bears no pixel can neither open nor fail to."""
    copies = [_copy(opens=1, human_opens=1), _copy(), _copy(delivered=False), _copy(pixel=False)]

    assert count(copies).open_rate == pytest.approx(1 / 2)


def test_a_rate_of_nothing_is_none() -> None:
    """Zero would say that nobody read a mail that was never delivered."""
    assert Statistics().open_rate is None
    assert count([_copy(delivered=False)]).click_rate is None


@pytest.mark.parametrize("agent_class", ["probable", "machine", "privacy_proxy", "", None])
def test_only_the_class_human_is_human(agent_class: str | None) -> None:
    """The numbers are lower bounds."""
    assert not is_human(agent_class)
    assert is_human("human")


@given(st.lists(_copies))
def test_counts_add_up(copies: list[CopyCounts]) -> None:
    """Two days together are their sum, and no rate leaves 0 to 1."""
    whole, half = count(copies), len(copies) // 2
    parts = count(copies[:half]), count(copies[half:])

    for name in Statistics.__slots__:
        assert getattr(whole, name) == sum(getattr(part, name) for part in parts)
    assert all(rate is None or 0 <= rate <= 1 for rate in (whole.open_rate, whole.click_rate))
