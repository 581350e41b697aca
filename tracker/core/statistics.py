"""What the numbers mean: counts and rates of the copies of a period, a set, a domain; clicks of a link.

Owns the definitions, in words and as the plainest code for them; `tracker.store.reports` asks the database for the same
numbers, and a test compares the two.

Definitions:
    Everything is counted per copy, that is per message and recipient. A copy belongs to the moment when its message was
    accepted: a row says what became of the mail of that day, however late an open came. So rates compare like with like
    and a row goes on growing.

    sent         copies of accepted messages
    delivered    copies that the upstream took: handed over, or in the mailbox where the upstream is final
    bounced      copies refused for good or given up
    opens        every fetch of the pixel, `human opens` those by humans; `unique`: copies with one or more; `human
                 unique`: with one by a human. A hit that stands for several (`count`) counts as so many
    clicks       every fetch of a link, in the same four ways; of a link: copies that followed that link
    open rate    human unique opens of delivered copies that bear a pixel, over all delivered copies that bear a pixel
    click rate   the same of wrapped links

    A hit is human when its class is `human`, as it is known now: a verdict that later hits change is changed here, too.
    `probable` and `privacy_proxy` do not count as human: a proxy that loads
    every image says nothing of a reader. Rates are lower bounds: whoever does not load images is not seen to open.

Limits: a hit that is never joined with a message (its record was lost) is in the log of events and in no statistics.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

HUMAN: Final = "human"


def is_human(agent_class: str | None) -> bool:
    """Say whether a hit of that class counts as a person's."""
    return agent_class == HUMAN


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyCounts:
    """What became of one copy."""

    delivered: bool
    bounced: bool
    tracks_opens: bool
    tracks_clicks: bool
    opens: int
    human_opens: int
    clicks: int
    human_clicks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """What became of many copies; `…_base` and `…_share` are the two halves of a rate."""

    sent: int = 0
    delivered: int = 0
    bounced: int = 0
    opens: int = 0
    human_opens: int = 0
    unique_opens: int = 0
    human_unique_opens: int = 0
    clicks: int = 0
    human_clicks: int = 0
    unique_clicks: int = 0
    human_unique_clicks: int = 0
    open_base: int = 0
    open_share: int = 0
    click_base: int = 0
    click_share: int = 0

    @property
    def open_rate(self) -> float | None:
        """Between 0 and 1; None where no copy with a pixel was delivered."""
        return self.open_share / self.open_base if self.open_base else None

    @property
    def click_rate(self) -> float | None:
        """Between 0 and 1; None where no copy with a wrapped link was delivered."""
        return self.click_share / self.click_base if self.click_base else None


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkStatistics:
    """How often a destination was followed, over all messages that lead there."""

    clicks: int = 0
    human_clicks: int = 0
    unique_clicks: int = 0
    human_unique_clicks: int = 0


NAMES: Final = tuple(Statistics.__dataclass_fields__)
LINK_NAMES: Final = tuple(LinkStatistics.__dataclass_fields__)

Counts = tuple[int, ...]
"""What one copy adds to Statistics, in the order of NAMES; or to LinkStatistics, in that of LINK_NAMES."""


def contribution(
    *,
    delivered: bool,
    bounced: bool,
    tracks_opens: bool,
    tracks_clicks: bool,
    opens: int,
    human_opens: int,
    clicks: int,
    human_clicks: int,
) -> Counts:
    """Return what a copy adds to the counts: `count`, for one, and fast.

    Roll-ups are kept by it: what a copy adds after a batch, less what it added before.
    """
    bears_pixel, bears_links = delivered and tracks_opens, delivered and tracks_clicks
    return (
        1,
        int(delivered),
        int(bounced),
        opens,
        human_opens,
        int(opens > 0),
        int(human_opens > 0),
        clicks,
        human_clicks,
        int(clicks > 0),
        int(human_clicks > 0),
        int(bears_pixel),
        int(bears_pixel and human_opens > 0),
        int(bears_links),
        int(bears_links and human_clicks > 0),
    )


def link_contribution(clicks: int, human_clicks: int) -> Counts:
    """Return what a copy adds to the counts of a destination that it followed so often."""
    return clicks, human_clicks, int(clicks > 0), int(human_clicks > 0)


def count(copies: Iterable[CopyCounts]) -> Statistics:
    """Count copies by the definitions above."""
    rows = tuple(copies)
    pixel = [row for row in rows if row.delivered and row.tracks_opens]
    links = [row for row in rows if row.delivered and row.tracks_clicks]
    return Statistics(
        sent=len(rows),
        delivered=sum(row.delivered for row in rows),
        bounced=sum(row.bounced for row in rows),
        opens=sum(row.opens for row in rows),
        human_opens=sum(row.human_opens for row in rows),
        unique_opens=sum(row.opens > 0 for row in rows),
        human_unique_opens=sum(row.human_opens > 0 for row in rows),
        clicks=sum(row.clicks for row in rows),
        human_clicks=sum(row.human_clicks for row in rows),
        unique_clicks=sum(row.clicks > 0 for row in rows),
        human_unique_clicks=sum(row.human_clicks > 0 for row in rows),
        open_base=len(pixel),
        open_share=sum(row.human_opens > 0 for row in pixel),
        click_base=len(links),
        click_share=sum(row.human_clicks > 0 for row in links),
    )
