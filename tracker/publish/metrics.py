"""What is counted of publishing; the label is a destination's name, of which the configuration has a closed set."""

from typing import Final

from prometheus_client import Counter, Gauge

PUBLISHED: Final = Counter("mailwake_events_published_total", "Events that a destination has.", ["destination"])
FAILURES: Final = Counter("mailwake_publish_failures_total", "Tries that a destination failed at.", ["destination"])
DEAD_LETTERS: Final = Counter(
    "mailwake_dead_letters_total", "Events that a destination refused or was given up for.", ["destination"]
)
BEHIND: Final = Gauge(
    "mailwake_destination_behind_events",
    "Events of the log that a destination has not looked at.",
    ["destination"],
    multiprocess_mode="livemax",  # one process publishes
)
LAG: Final = Gauge(
    "mailwake_destination_lag_seconds",
    "Age of the first event that a destination has not looked at.",
    ["destination"],
    multiprocess_mode="livemax",
)
DISABLED: Final = Gauge(
    "mailwake_destination_disabled",
    "1: the destination said that it wants nothing any more.",
    ["destination"],
    multiprocess_mode="livemax",
)
