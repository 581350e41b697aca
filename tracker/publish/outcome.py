"""What may come of handing events over to a destination."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """The destination has all events that were handed over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TryAgain:
    """It has the first `delivered`, and perhaps some of the rest, which is handed over again later.

    `reason` is a few sanitised words, without personal data. `after` is how long the destination asked to be left
    alone, None where it did not say.
    """

    reason: str
    delivered: int = 0
    after: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Dead:
    """It has the first `delivered`, and will never take the `refused` behind them: they go to the dead letters."""

    reason: str
    delivered: int = 0
    refused: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Disabled:
    """It has the first `delivered`, and wants nothing any more until somebody enables it again."""

    reason: str
    delivered: int = 0


Outcome = Delivered | TryAgain | Dead | Disabled
