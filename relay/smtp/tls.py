"""The certificate of `[relay.tls]`, for STARTTLS and for addresses where TLS begins at once.

When it begins is the session's; how certificates are checked and replaced is `tracker.runtime.tls`.
"""

from typing import Final

from prometheus_client import Gauge

from tracker.runtime.tls import ServerTls, TlsFiles

EXPIRY: Final = Gauge(
    "mailwake_smtp_certificate_expiry_timestamp_seconds",
    "When the certificate of relay.tls ends, in Unix time; 0 without one.",
    multiprocess_mode="livemax",
)


def relay_tls(files: TlsFiles) -> ServerTls:
    """Load the files. TlsError: they cannot be used."""
    return ServerTls(files, expiry=EXPIRY)
