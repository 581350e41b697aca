"""What each room of the relay goes by, made from the configuration: no room knows the file.

A process that is one of several gets its share of what must not be passed in sum.
"""

from collections.abc import Mapping

import structlog

from relay.appconfig import Config
from relay.config.upstream import UpstreamSection
from relay.core import providers
from relay.core.dkim import Signer, is_aligned
from relay.core.outgoing import OutgoingFields
from relay.dkimkeys import GOOD_RSA_BITS
from relay.smtp.options import ListenerOptions
from relay.smtp.ourselves import Sign
from relay.smtp.upstreams import MaildirTarget, Security, SmtpTarget, Target, UpstreamOptions
from relay.spool.lane import UpstreamLimits
from relay.spool.reporter import ReportOptions
from relay.spool.runner import RunnerOptions
from relay.spool.space import SpoolOptions
from tracker.contract.credentials import Credential, CredentialBook, Permission
from tracker.runtime.configfile import ConfigError, Problem
from tracker.runtime.places import Places
from tracker.runtime.seat import Share
from tracker.runtime.tls import ServerTls, TlsError, TlsFiles
from tracker.runtime.units import UnfitError
from tracker.web.tls import tracker_tls

_log = structlog.get_logger()


def signers(config: Config) -> dict[str, Signer]:
    """Return who signs for each table `[dkim.NAME]`."""
    for name, section in config.dkims.items():
        if section.key.rsa_bits is not None and section.key.rsa_bits < GOOD_RSA_BITS:
            _log.warning("dkim_key_weak", table=name, bits=section.key.rsa_bits)
    return {name: section.signer for name, section in config.dkims.items()}


def _report_options(config: Config, share: Share) -> ReportOptions:
    """Reports are signed by the table of the account's set where its domain speaks for their From."""
    chosen = config.sets.get(config.tracking.configuration_set)
    table = chosen.dkim if chosen is not None else None
    author = (config.spool.dsn_sender or "").rpartition("@")[2] or config.hostname
    return ReportOptions(
        dkim=table if table is not None and is_aligned(config.dkims[table].domain, author) else None,
        hostname=config.hostname,
        enabled=config.spool.dsn,
        sender=config.spool.dsn_sender or "",
        per_hour=share.at_least_of(config.spool.dsn_per_hour),
    )


def listener_options(config: Config, sign: Sign | None = None) -> ListenerOptions:
    """Translate the table `[relay]` into what the listener takes."""
    relay = config.relay
    return ListenerOptions(
        hostname=config.hostname,
        max_message_bytes=relay.max_message,
        max_recipients=relay.max_recipients,
        max_connections=relay.max_connections,
        max_connections_per_address=relay.max_connections_per_address,
        allow_networks=relay.allow_networks,
        dsn=config.spool.dsn,
        max_errors=relay.max_errors,
        max_junk_commands=relay.max_junk_commands,
        command_timeout_s=relay.command_timeout.total_seconds(),
        stranger_timeout_s=relay.login_timeout.total_seconds(),
        session_timeout_s=relay.session_timeout.total_seconds(),
        data_timeout_s=relay.data_timeout.total_seconds(),
        min_data_bytes_per_s=relay.min_data_rate,
        sign=sign,
    )


def tls_files(config: Config) -> TlsFiles | None:
    """Return the files of `[relay.tls]`, None where there are none."""
    section = config.relay_tls
    if section.certificate is None or section.key is None:
        return None
    return TlsFiles(certificate=section.certificate, key=section.key)


def tls_problem(error: TlsError) -> Problem:
    """Say in the file's words what is wrong with a certificate or key."""
    return Problem(key=f"relay.tls.{error.part}", wrong=error.wrong, remedy=error.remedy)


def load_tracker_tls(config: Config) -> ServerTls | None:
    """Load the certificates of `[tracker.tls]`; None where there are none. ConfigError: one cannot be used."""
    pairs = config.tracker_tls.pairs
    try:
        return tracker_tls([TlsFiles(certificate=pair.certificate, key=pair.key) for pair in pairs]) if pairs else None
    except TlsError as error:
        raise ConfigError(None, [tracker_tls_problem(config, error)]) from error


def tracker_tls_problem(config: Config, error: TlsError) -> Problem:
    """Say in the file's words what is wrong with a certificate or key of the tracking host."""
    where = f"certificates[{error.index}].{error.part}" if config.tracker_tls.certificates else error.part
    return Problem(key=f"tracker.tls.{where}", wrong=error.wrong, remedy=error.remedy)


def may_anybody_send(config: Config, stored: Mapping[str, Credential] | None) -> bool:
    """Say whether there is a network or a login that may send; `stored` is None where the storage could not be read."""
    return bool(config.relay.allow_networks or config.credentials or stored or stored is None)


def credential_book(config: Config) -> CredentialBook:
    """Return the logins of the file."""
    declared = {
        name: Credential(
            name=name,
            password_hash=section.password_hash.get_secret_value(),
            permission=Permission(sender_domains=section.sender_domains, configuration_sets=section.configuration_sets),
        )
        for name, section in config.credentials.items()
    }
    return CredentialBook(declared=declared, stored=None)


def outgoing_fields(section: UpstreamSection) -> OutgoingFields:
    """Return what an upstream wants to find on what leaves, and what it writes anew."""
    always = tuple(section.set_headers.items())
    return OutgoingFields(
        always=always,
        with_set=providers.NO_TRACKING[section.provider],
        replaced=providers.REPLACED[section.provider],
    )


def upstream_options(
    name: str, section: UpstreamSection, hostname: str, share: Share, sign: Sign | None = None
) -> UpstreamOptions:
    """Translate a table `[upstream.NAME]` into what the SMTP client takes."""
    url = section.url
    target: Target
    if url.maildir is not None:
        target = MaildirTarget(url.maildir)
    else:
        target = SmtpTarget(url.host, url.port, Security(url.scheme))
    return UpstreamOptions(
        name=name,
        target=target,
        hostname=hostname,
        username=section.username or "",
        password=section.password.get_secret_value() if section.password is not None else "",
        tls_ca=section.tls_ca,
        provider=section.provider,
        max_connections=share.of(section.max_connections),
        max_messages_per_connection=section.max_messages_per_connection,
        sign=sign,
    )


def upstream_limits(config: Config, share: Share) -> dict[str, UpstreamLimits]:
    """Translate the same tables into what the spool's runner goes by."""
    return {
        name: UpstreamLimits(
            max_connections=share.of(section.max_connections),
            max_recipients=section.max_recipients,
            max_rate_per_s=share.of_rate(section.max_rate),
            provider=section.provider,
            final=section.final,
            host=section.url.host or config.hostname,
        )
        for name, section in config.upstreams.items()
    }


def runner_options(config: Config, share: Share) -> RunnerOptions:
    """Return how long mail is tried, and what its authors are told."""
    return RunnerOptions(reports=_report_options(config, share), retry_for=config.spool.retry_for)


def places(config: Config) -> Places:
    """Read the databases of places. ConfigError: one was changed since the file was checked, and cannot be used."""
    try:
        return Places.read(config.tracker.geoip)
    except UnfitError as error:
        raise ConfigError(None, [Problem(key="tracker.geoip", wrong=error.wrong, remedy=error.remedy)]) from error


def check_shares(config: Config, count: int) -> None:
    """Refuse more workers than an upstream takes connections. ConfigError: it names each that is too small."""
    problems = [
        Problem(
            key=f"upstream.{name}.max_connections",
            wrong=f"is {section.max_connections}, and each of {count} workers needs a connection of its own",
            remedy=f"raise it, or run `mailwake serve --workers {section.max_connections}`",
        )
        for name, section in config.upstreams.items()
        if section.max_connections < count
    ]
    if problems:
        raise ConfigError(None, problems)


def space_options(config: Config) -> SpoolOptions:
    """Return when the spool takes no more mail."""
    return SpoolOptions(
        high_water_bytes=config.spool.high_water,
        min_free_bytes=config.spool.min_free,
        max_message_bytes=config.relay.max_message,
    )
