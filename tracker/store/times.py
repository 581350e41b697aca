"""Times as the tables hold them: whole milliseconds since 1970-01-01 UTC."""

from datetime import UTC, datetime, timedelta
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


def to_ms(moment: datetime) -> int:
    """Return the millisecond that an aware time lies in, exactly (`timestamp()` rounds through a float)."""
    return (moment - _EPOCH) // _MILLISECOND


def from_ms(milliseconds: int) -> datetime:
    """Return the UTC time of a millisecond."""
    return _EPOCH + milliseconds * _MILLISECOND
