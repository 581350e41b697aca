"""How many reports an address gets: so many in an hour, and beyond that only the events tell.

A list with ten thousand bad addresses would else send its author ten thousand reports, and whoever can write a
stranger's address into MAIL could fill the stranger's mailbox by our hand (backscatter). Pure: the time comes in, in
seconds of any one clock.

Limits: counted in memory and by process, so that a start begins anew; of more than 50,000 addresses in an hour, the
oldest are forgotten.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

_PERIOD_S: Final = 3600.0
_MAX_ADDRESSES: Final = 50_000


@dataclass(slots=True)
class _Hour:
    began_s: float
    count: int = 0


@dataclass(slots=True)
class ReportRate:
    """Counts by address; an address's hour begins with its first report."""

    per_hour: int
    _hours: "OrderedDict[str, _Hour]" = field(default_factory=OrderedDict)

    def take(self, address: str, now_s: float) -> int:
        """Count a report; return by how many the address is beyond its share: 0 is within."""
        hour = self._hours.get(address)
        if hour is None or now_s - hour.began_s >= _PERIOD_S:
            hour = self._hours[address] = _Hour(now_s)
            self._hours.move_to_end(address)
            if len(self._hours) > _MAX_ADDRESSES:
                self._hours.popitem(last=False)
        hour.count += 1
        return max(0, hour.count - self.per_hour)

    def give_back(self, address: str) -> None:
        """Undo a `take`: the report was not made after all, and will be tried again."""
        hour = self._hours.get(address)
        if hour is not None and hour.count:
            hour.count -= 1
