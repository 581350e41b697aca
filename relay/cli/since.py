"""Times on the command line that are told from now backwards: `1h`, `7d`."""

from datetime import UTC, datetime, timedelta
from typing import Any

import click


class Ago(click.ParamType[datetime]):
    """A time before now, `7d`."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:  # noqa: ANN401 - click's signature
        """Return the time that so long ago was."""
        from tracker.runtime.units import UnfitError, parse_duration

        try:
            ago: timedelta = parse_duration(value)
            return datetime.now(UTC) - ago
        except (UnfitError, OverflowError) as error:
            self.fail(str(error), param, ctx)
