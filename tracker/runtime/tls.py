"""Certificates and keys of servers: checked before they are used, chosen by name, replaced while they serve.

Owns what is offered: TLS 1.2 and 1.3, forward secrecy and authenticated encryption only. Does not own when it begins,
nor which table of the file the certificates stand in.

Standards: RFC 8996 (no TLS 1.0 and 1.1), RFC 9325 §4.2 (cipher suites), RFC 6066 §3 (SNI), RFC 9525 §6.3 (wildcards).
Theory: a certificate that is renewed comes as new files and SIGHUP. All files are read and checked together into new
contexts; only if all are sound do they replace the old ones, and connections keep what they began with. A server that
listens is bound to one context for ever, so that one has no certificate of its own and hands each connection to the
context of the day (`Door`).
A certificate that is not renewed is said in the log at the start and then once a day, as clients come; and a metric
tells its end.
"""

import ssl
import stat
from collections.abc import Callable, Sequence
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


class TlsError(Exception):
    """A certificate or key that cannot be used: `part` is `"certificate"` or `"key"`, `index` which of several."""

    def __init__(self, part: str, wrong: str, remedy: str) -> None:
        super().__init__(f"{wrong}; {remedy}")
        self.part = part
        self.wrong = wrong
        self.remedy = remedy
        self.index = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """The PEM files: the certificate with its chain, and its private key."""

    certificate: Path
    key: Path


class ServerTls:
    """The contexts that new connections begin with, and when each certificate ends (UTC). The first is the default."""

    def __init__(self, *files: TlsFiles, expiry: Gauge, alpn: Sequence[str] = ()) -> None:
        """Load one or more pairs of files. TlsError: one cannot be used, or would never be chosen."""
        self._by_name: dict[str, ssl.SSLContext] = {}
        self._expiry = expiry
        self._said_at: datetime | None = None
        self.ends: list[tuple[Path, datetime]] = []
        contexts = []
        for index, pair in enumerate(files):
            try:
                contexts.append(load(pair, alpn))
                self._know(pair, contexts[-1], is_default=index == 0)
            except TlsError as error:
                error.index = index
                raise
        self.context = contexts[0]

    @property
    def expires_at(self) -> datetime:
        """When the first of the certificates ends."""
        return min(at for _, at in self.ends)

    def choose(self, name: str | None) -> ssl.SSLContext:
        """Return the context for the host that a client asks for, `"trace.shop.example"`; the default for others."""
        if name is None:
            return self.context
        name = name.lower()
        found = self._by_name.get(name) or self._by_name.get(f"*.{name.partition('.')[2]}")
        return found or self.context

    def knows(self, name: str) -> bool:
        """Say whether a certificate is for a host."""
        name = name.lower()
        return name in self._by_name or f"*.{name.partition('.')[2]}" in self._by_name

    def warn(self, now: datetime) -> None:
        """Tell the end of the certificates in use; log those that end soon or have ended, once a day at the most."""
        if self._said_at is not None and now - self._said_at < SAID_EVERY:
            return
        self._said_at = now
        self._expiry.set(self.expires_at.timestamp())
        for path, ends_at in self.ends:
            if ends_at - now < EXPIRES_SOON:
                log.warning("certificate_expires", path=str(path), at=ends_at.isoformat())

    def _know(self, files: TlsFiles, context: ssl.SSLContext, *, is_default: bool) -> None:
        certificate = _parse(files)
        self.ends.append((files.certificate, certificate.not_valid_after_utc))
        names = _names_of(certificate)
        if not names and not is_default:
            wrong = f"{files.certificate} is for no host name, and not the first: no client would ever get it"
            raise TlsError("certificate", wrong, "name one that has a subject alternative name, or put it first")
        for name in names:
            self._by_name.setdefault(name, context)  # of two for one name the first: RSA and ECDSA side by side


class Door:
    """The one context of a server that listens, for as long as it does; `use` puts new certificates behind it."""

    def __init__(self, tls: ServerTls, clock: Callable[[], datetime], on_hello: Callable[[str], None]) -> None:
        """`on_hello` is told of each handshake that begins: `"known"` host, an `"unknown"` one, or `"none"`."""
        self._tls = tls
        self._clock = clock
        self._on_hello = on_hello
        self.context = _bare_context()
        self.context.sni_callback = self._choose

    def use(self, tls: ServerTls) -> None:
        """Begin new connections with other certificates; those that are open keep theirs."""
        self._tls = tls
        tls.warn(self._clock())

    def _choose(self, connection: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> None:
        tls = self._tls
        tls.warn(self._clock())
        self._on_hello("none" if name is None else "known" if tls.knows(name) else "unknown")
        connection.context = tls.choose(name)


def load(files: TlsFiles, alpn: Sequence[str] = ()) -> ssl.SSLContext:
    """Check the files and make a context of them. TlsError: it says which file, and what to do."""
    _check_mode(files.key)
    _read("certificate", files.certificate)
    context = _bare_context()
    if alpn:
        context.set_alpn_protocols(list(alpn))
    try:
        context.load_cert_chain(files.certificate, files.key, password=_no_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            remedy = "name the key that the certificate was made for"
            raise TlsError("key", f"{files.key} is not the key of {files.certificate}", remedy) from error
        _parse(files)  # raises where it is the certificate that cannot be read
        raise TlsError("key", f"{files.key} holds no key that can be used", "name a PEM file that does") from error
    except _EncryptedKeyError as error:
        remedy = "decrypt it with openssl pkey, and keep it readable to its owner alone"
        raise TlsError("key", f"{files.key} is encrypted", remedy) from error
    return context


def _bare_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION  # a client could make the server compute for nothing
    return context


def _parse(files: TlsFiles) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(_read("certificate", files.certificate))
    except ValueError as error:
        wrong = f"{files.certificate} holds no certificate that can be used"
        raise TlsError("certificate", wrong, "name a PEM file that does") from error


def _names_of(certificate: x509.Certificate) -> list[str]:
    """Return the hosts that it is for, `"shop.example"` and `"*.shop.example"`; a common name is none (RFC 9525)."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return []
    return [name.lower() for name in names.get_values_for_type(x509.DNSName)]


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
