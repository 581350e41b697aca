"""Run every peer that is on this machine, and write what came of it.

    python -m tests.interop [--only NAME ...] [--write]        exit code 1: a cell failed

Clients first, then servers, one at a time. `--write` puts the result into docs/reference/interop.md and
bench/results/interop.json; it is for whole runs.
"""

import argparse
import signal
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

from tests.interop import certificates, report
from tests.interop.certificates import Certificate
from tests.interop.clients import checks as client_checks
from tests.interop.clients.curl import CURL
from tests.interop.clients.msmtp import MSMTP
from tests.interop.clients.nodemailer import NODEMAILER
from tests.interop.clients.postfix import POSTFIX as POSTFIX_CLIENT
from tests.interop.clients.python_smtplib import PYTHON
from tests.interop.clients.swaks import SWAKS
from tests.interop.outcome import AbsentError, Cell, Failed, Peer, judge
from tests.interop.relay import Relay, credential, secured
from tests.interop.servers.checks import CHECKS, Scene, tables
from tests.interop.servers.exim import EXIM
from tests.interop.servers.haraka import HARAKA
from tests.interop.servers.opensmtpd import OPENSMTPD
from tests.interop.servers.postfix import POSTFIX
from tests.interop.servers.server import Server, Site

_MAILWAKE: Final = Path(sys.executable).with_name("mailwake")
_CLIENTS: Final = (PYTHON, NODEMAILER, SWAKS, CURL, MSMTP, POSTFIX_CLIENT)
_SERVERS: Final = (POSTFIX, OPENSMTPD, EXIM, HARAKA)


def main() -> int:
    """Do what the arguments ask."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what runs below us is ended on the way out
    arguments = argparse.ArgumentParser(prog="python -m tests.interop")
    arguments.add_argument("--only", nargs="*", default=[], help="names of peers, as in the table")
    arguments.add_argument("--write", action="store_true", help="write the page and the JSON")
    asked = arguments.parse_args()
    clients, servers = report.Result(), report.Result()
    with tempfile.TemporaryDirectory(prefix="mailwake-interop-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # servers drop to users of their own
        certificate = certificates.make(folder / "tls")
        for found in _before(folder, certificate, asked.only):
            _collect(clients, found)
        for server in _SERVERS:
            if not asked.only or server.name in asked.only:
                for found in _behind(server, folder, certificate):
                    _collect(servers, found)
    if asked.write:
        report.write(clients, servers)
    return 1 if any(isinstance(cell.outcome, Failed) for cell in (*clients.cells, *servers.cells)) else 0


def _collect(result: report.Result, found: Peer | Cell) -> None:
    print(report.line(found), flush=True)
    result.add(found)


def _before(folder: Path, certificate: Certificate, only: list[str]) -> Iterator[Peer | Cell]:
    """Run every client before two relays: one that trusts loopback, one that wants a login."""
    chosen = [client for client in _CLIENTS if not only or client.name in only]
    if not chosen:
        return
    listen = '"127.0.0.1:0", "smtps://127.0.0.1:0"'
    tls = secured(certificate)
    login = tls + credential(client_checks.USER, client_checks.PASSWORD, "shop.example")
    with (
        Relay(_MAILWAKE, folder / "trusting", listen=listen, more=tls) as trusting,
        Relay(_MAILWAKE, folder / "strict", listen=listen, networks="", more=login) as strict,
    ):
        for client in chosen:
            try:
                yield Peer(name=client.name, version=client.version())
            except AbsentError as error:
                yield Peer(name=client.name, absent=str(error))
                continue
            home = folder / f"client-{client.name.split()[0].lower()}"
            home.mkdir()
            scene = client_checks.Scene(
                client=client, trusting=trusting, strict=strict, authority=certificate.authority, folder=home
            )
            for item, check in client_checks.CHECKS.items():
                yield Cell(peer=client.name, item=item, outcome=judge(partial(check, scene)))


def _behind(server: Server, folder: Path, certificate: Certificate) -> Iterator[Peer | Cell]:
    """Run one server behind a relay of its own, and ask all there is to ask."""
    try:
        version = server.version()
        home = folder / server.name.lower()
        home.mkdir()
        with server.run(Site(folder=home, certificate=certificate)) as running:
            yield Peer(name=server.name, version=version)
            upstreams = tables(running, certificate.authority)
            with Relay(_MAILWAKE, folder / f"before-{server.name.lower()}", upstreams=upstreams) as relay:
                scene = Scene(server=running, relay=relay, name=server.name)
                for item, check in CHECKS.items():
                    yield Cell(peer=server.name, item=item, outcome=judge(partial(check, scene)))
    except AbsentError as error:
        yield Peer(name=server.name, absent=str(error))


if __name__ == "__main__":
    sys.exit(main())
