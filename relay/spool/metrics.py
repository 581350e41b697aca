"""What the spool counts."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

SPOOL_BYTES: Final = Gauge("mailwake_spool_bytes", "Size of the spool files that wait", multiprocess_mode="livesum")
SPOOL_MESSAGES: Final = Gauge("mailwake_spool_messages", "Messages in the spool", multiprocess_mode="livesum")
OLDEST: Final = Gauge(
    "mailwake_spool_oldest_seconds", "How long the oldest message of the spool has waited", multiprocess_mode="livemax"
)
CLOSED: Final = Gauge(
    "mailwake_spool_closed", "1 while new mail is refused for want of room", multiprocess_mode="livemax"
)
HELD: Final = Gauge("mailwake_spool_held", "Copies held back for an operator", multiprocess_mode="livesum")
QUARANTINED: Final = Counter("mailwake_spool_quarantined_total", "Files in the spool that could not be read")
DISK_ERRORS: Final = Counter("mailwake_spool_disk_errors_total", "Reads, writes and syncs of the spool that failed")
ATTEMPTS: Final = Counter("mailwake_attempts_total", "Attempts of copies by what came of them", ["outcome"])
DUPLICATE_RISK: Final = Counter(
    "mailwake_duplicate_risk_total", "Copies that are sent again although the upstream may have them already"
)
DELIVERED_AFTER: Final = Histogram(
    "mailwake_delivery_seconds",
    "From acceptance to the upstream's 250",
    ["upstream"],
    buckets=(1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 24 * 3600, 5 * 24 * 3600),
)
OUTCOMES: Final = Counter("mailwake_outcomes_total", "Copies that are finished, by how", ["outcome"])
EMIT_ERRORS: Final = Counter(
    "mailwake_outcome_emit_errors_total", "Outcomes that were not journalled, reported or ended at once"
)
REPORTS: Final = Counter("mailwake_reports_total", "Delivery reports to authors, by what they tell", ["action"])
REPORTS_CAPPED: Final = Counter(
    "mailwake_reports_capped_total", "Reports above an address's share, which were not made"
)
DOUBLE_BOUNCES: Final = Counter("mailwake_double_bounces_total", "Delivery reports that could not be delivered")
CIRCUIT_OPEN: Final = Gauge(
    "mailwake_upstream_circuit_open", "1 while an upstream is only probed", ["upstream"], multiprocess_mode="livemax"
)
THROTTLED: Final = Counter(
    "mailwake_upstream_throttled_total", "Replies of an upstream that said: slower", ["upstream"]
)
RATE: Final = Gauge(
    "mailwake_upstream_rate_per_second",
    "How many transactions a second an upstream gets at most; 0 where nothing limits it",
    ["upstream"],
    multiprocess_mode="livesum",
)
LOGIN_REFUSED: Final = Counter(
    "mailwake_upstream_login_refused_total", "Times that an upstream refused our login, or wanted one", ["upstream"]
)
