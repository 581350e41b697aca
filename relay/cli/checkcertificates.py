"""What `mailwake check` says of the certificates of relay and tracking host."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from relay.cli.check import Finding

if TYPE_CHECKING:
    from relay.appconfig import Config
    from tracker.runtime.tls import ServerTls


def certificates(config: "Config") -> Iterator[Finding]:
    """Read the certificates as relay and tracking host do."""
    from relay import roomoptions
    from relay.smtp.tls import relay_tls
    from tracker.runtime.configfile import ConfigError
    from tracker.runtime.tls import TlsError

    files = roomoptions.tls_files(config)
    if files is not None:
        try:
            yield from _ends("relay.tls", relay_tls(files))
        except TlsError as error:
            problem = roomoptions.tls_problem(error)
            yield Finding(what=problem.key, outcome="failed", detail=problem.wrong, remedy=problem.remedy)
    try:
        tls = roomoptions.load_tracker_tls(config)
    except ConfigError as error:
        problem = error.problems[0]
        yield Finding(what=problem.key, outcome="failed", detail=problem.wrong, remedy=problem.remedy)
    else:
        if tls is not None:
            yield from _ends("tracker.tls", tls)


def _ends(table: str, tls: "ServerTls") -> Iterator[Finding]:
    """Say when each certificate of a table ends."""
    from tracker.app import now
    from tracker.runtime.tls import EXPIRES_SOON

    for index, (path, ends_at) in enumerate(tls.ends):
        what = f"{table}.certificate" if len(tls.ends) == 1 else f"{table}.certificates[{index}].certificate"
        detail = f"{path} {'ends' if ends_at > now() else 'has ended'} at {ends_at.isoformat()}"
        if ends_at - now() < EXPIRES_SOON:
            remedy = "renew it, and run `mailwake reload`"
            yield Finding(what=what, outcome="failed", detail=detail, remedy=remedy)
        else:
            yield Finding(what=what, outcome="ok", detail=detail)
