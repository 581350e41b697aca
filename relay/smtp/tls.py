"""TLS of the listener: the certificate and its key, checked before they are used, and replaced while it serves.

Owns what is offered: TLS 1.2 and 1.3, forward secrecy and authenticated encryption only. Does not own when it begins
(session.py).

Standards: RFC 8996 (no TLS 1.0 and 1.1), RFC 9325 §4.2 (cipher suites).
Theory: a certificate that is renewed comes as new files and SIGHUP. Both files are read and checked together into a new
context; only a context that is sound replaces the old one, and connections keep the one that they began with. A
certificate that is not renewed is said in the log at the start and then once a day, as clients come; and a metric tells
its end.
"""

import ssl
import stat
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import structlog
from cryptography import x509
from prometheus_client import Gauge

CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"  # of TLS 1.2; those of 1.3 are all sound
EXPIRES_SOON: Final = timedelta(days=7)  # ACME clients renew a month before the end: by then something has failed
SAID_EVERY: Final = timedelta(days=1)

log = structlog.get_logger()

EXPIRY: Final = Gauge(
    "mailwake_smtp_certificate_expiry_timestamp_seconds",
    "When the certificate of relay.tls ends, in Unix time; 0 without one.",
    multiprocess_mode="livemax",
)


class TlsError(Exception):
    """A certificate or key that cannot be used: `part` is `"certificate"` or `"key"`."""

    def __init__(self, part: str, wrong: str, remedy: str) -> None:
        super().__init__(f"{wrong}; {remedy}")
        self.part = part
        self.wrong = wrong
        self.remedy = remedy


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """The PEM files: the certificate with its chain, and its private key."""

    certificate: Path
    key: Path


class ServerTls:
    """The context that new connections begin with, and when its certificate ends (UTC)."""

    def __init__(self, files: TlsFiles) -> None:
        """Load the files. TlsError: they cannot be used."""
        self.context = load(files)
        self.expires_at = expires_at(files)
        self._path = files.certificate
        self._said_at: datetime | None = None

    def warn(self, now: datetime) -> None:
        """Tell the end of the certificate in use; log one that ends soon or has ended, once a day at the most."""
        EXPIRY.set(self.expires_at.timestamp())
        is_said = self._said_at is not None and now - self._said_at < SAID_EVERY
        if self.expires_at - now < EXPIRES_SOON and not is_said:
            self._said_at = now
            log.warning("certificate_expires", path=str(self._path), at=self.expires_at.isoformat())


def load(files: TlsFiles) -> ssl.SSLContext:
    """Check the files and make a context of them. TlsError: it says which file, and what to do."""
    _check_mode(files.key)
    _read("certificate", files.certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION  # a client could make the server compute for nothing
    try:
        context.load_cert_chain(files.certificate, files.key, password=_no_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            remedy = "name the key that the certificate was made for"
            raise TlsError("key", f"{files.key} is not the key of {files.certificate}", remedy) from error
        expires_at(files)  # raises where it is the certificate that cannot be read
        raise TlsError("key", f"{files.key} holds no key that can be used", "name a PEM file that does") from error
    except _EncryptedKeyError as error:
        remedy = "decrypt it with openssl pkey, and keep it readable to its owner alone"
        raise TlsError("key", f"{files.key} is encrypted", remedy) from error
    return context


def expires_at(files: TlsFiles) -> datetime:
    """Return when the certificate ends (UTC). TlsError: it cannot be read."""
    try:
        return x509.load_pem_x509_certificate(_read("certificate", files.certificate)).not_valid_after_utc
    except ValueError as error:
        wrong = f"{files.certificate} holds no certificate that can be used"
        raise TlsError("certificate", wrong, "name a PEM file that does") from error


class _EncryptedKeyError(Exception):
    """A key wants a password, and nobody sits at a terminal."""


def _no_password() -> str:
    raise _EncryptedKeyError


def _check_mode(key: Path) -> None:
    """Refuse a key that others can read: it is theirs too."""
    try:
        mode = key.stat().st_mode
    except OSError as error:
        raise _unreadable("key", key, error) from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise TlsError("key", f"{key} can be read by others", f"run: chmod 600 {key}")
    _read("key", key)


def _read(part: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(part, path, error) from error


def _unreadable(part: str, path: Path, error: OSError) -> TlsError:
    return TlsError(part, f"{path} cannot be read: {error.strerror}", "name a PEM file that this user can read")
