"""Which values of a day are counted by their own name; all others are counted together, as `other`.

Tags, devices and destinations are what senders and visitors like. Without a limit a roll-up could grow as fast as the
log that it sums up.

Theory: who comes first has a name. A value's first count of a day enters it, while there is room; nothing takes a name
away again, so a value has the same name for the whole of its day, and a correction finds the row that it corrects.
Which values those are depends on the order of the log, the sums do not.

Limits: a value that is spelled `other` is counted with the others.
"""

from typing import Final

import sqlalchemy as sa

from tracker.store import bulk
from tracker.store.schema import roll_up_value

OTHER: Final = "other"
MOST_VALUES: Final = 200  # of one tag a day; also: tags, devices, countries (there are 249)
MOST_DESTINATIONS: Final = 1000  # of one configuration set a day, that somebody followed
MOST_UNFOLLOWED: Final = 200  # of those that nobody followed: every message may have links of its own

_KNOWN: Final = bulk.Query(
    sa.select(roll_up_value.c.value).where(
        roll_up_value.c.day_ms == sa.bindparam("day"), roll_up_value.c.kind == sa.bindparam("kind")
    ),
    ("day", "kind"),
)
_ENTER: Final = bulk.insert(roll_up_value)


class Values:
    """The names of the days that a batch is about."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        self._known: dict[tuple[int, str], set[str]] = {}
        self._new: list[bulk.Row] = []

    def name(self, day_ms: int, kind: str, value: str, most: int = MOST_VALUES) -> str:
        """Return the name that a value of some kind, `"tag:campaign"`, is counted under on that day."""
        known = self._names(day_ms, kind)
        if value in known:
            return value
        return value if self.enter(day_ms, kind, value, most) else OTHER

    def enter(self, day_ms: int, kind: str, value: str, most: int) -> bool:
        """Give a value a name of its own; False where it has one, or there is no room."""
        known = self._names(day_ms, kind)
        if value in known or len(known) >= most:
            return False
        known.add(value)
        self._new.append((day_ms, kind, value))
        return True

    def is_full(self, day_ms: int, kind: str, most: int) -> bool:
        """Say whether there is no room for a new one."""
        return len(self._names(day_ms, kind)) >= most

    def _names(self, day_ms: int, kind: str) -> set[str]:
        known = self._known.get((day_ms, kind))
        if known is None:
            known = {row[0] for row in _KNOWN.of(self._connection, [(day_ms, kind)])}
            self._known[day_ms, kind] = known
        return known

    def write(self) -> None:
        """Enter the new ones."""
        _ENTER.run(self._connection, self._new)
