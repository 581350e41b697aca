"""`mailwake check`: everything that can be wrong with a set-up, and how to mend it."""

import json
import os
import secrets as random
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal
from urllib.error import URLError

import click

from relay.cli.following import events_of, readable, wait_for
from relay.cli.options import EXIT_NO, config_option, json_option, load, printable
from relay.cli.sample import AddressType

if TYPE_CHECKING:
    from relay.appconfig import Config
    from relay.config.dkim import DkimSection
    from relay.config.upstream import UpstreamSection
    from tracker.contract.address import Address
    from tracker.runtime.control import Status

_TIMEOUT_S: Final = 10.0
_MAX_ANSWER_BYTES: Final = 1024
_MARKS: Final = {"ok": "ok     ", "failed": "FAILED ", "skipped": "skipped"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at: `remedy` is what to do where it failed."""

    what: str
    outcome: Literal["ok", "failed", "skipped"]
    detail: str
    remedy: str = ""


@click.command()
@config_option
@click.option("--send-to", type=AddressType(), metavar="ADDR", help="Also send a sample there through the relay.")
@json_option
def check(*, config_path: Path | None, send_to: "Address | None", as_json: bool) -> None:
    """Look at configuration, folders, keys, ports, upstreams, DKIM in DNS and links. Exit code 1: something failed."""
    failed = False
    for finding in _findings(config_path, send_to):
        failed = failed or finding.outcome == "failed"
        if as_json:
            click.echo(json.dumps(asdict(finding)))
            continue
        click.echo(f"{_MARKS[finding.outcome]} {finding.what}: {printable(finding.detail)}")
        if finding.remedy:
            click.echo(f"        {printable(finding.remedy)}")
    if failed:
        raise SystemExit(EXIT_NO)


def _findings(config_path: Path | None, send_to: "Address | None") -> Iterator[Finding]:
    from relay.cli.checkcertificates import certificates
    from tracker.runtime import control
    from tracker.runtime.configfile import ConfigError

    try:
        config = load(config_path)
    except ConfigError as error:
        for problem in error.problems:
            yield Finding(what=problem.key, outcome="failed", detail=problem.wrong, remedy=problem.remedy)
        return
    yield Finding(what="configuration", outcome="ok", detail=str(config.source.path))
    running = control.running(config.run_directory)
    yield from _folders(config)
    yield _keys(config)
    yield from _ports(config, running)
    yield _senders(config)
    yield from certificates(config)
    for name, upstream in config.upstreams.items():
        yield _upstream(config, name, upstream)
    for name, dkim in config.dkims.items():
        yield _dkim(config, name, dkim)
    yield _storage(config, running)
    yield from _destinations(config)
    yield _public_url(config, running)
    if send_to is not None:
        yield _send(config, send_to)


def _folders(config: "Config") -> Iterator[Finding]:
    """Look without making anything: `serve` makes what is missing."""
    for key, path in (
        ("spool.directory", config.spool.directory),
        ("journal.directory", config.journal.directory),
        ("storage.url", config.storage.path),
    ):
        existing = path
        while not existing.exists():
            existing = existing.parent
        mode = stat.S_IMODE(existing.stat().st_mode)
        if existing == path and mode & 0o077:
            remedy = f"run: chmod {'700' if path.is_dir() else '600'} {path}"
            yield Finding(what=key, outcome="failed", detail=f"{path} is open to other users", remedy=remedy)
        elif not os.access(existing, os.W_OK):
            remedy = "let this user write there, or name another"
            yield Finding(what=key, outcome="failed", detail=f"{existing} cannot be written", remedy=remedy)
        else:
            detail = str(path) if existing == path else f"{path} will be made"
            yield Finding(what=key, outcome="ok", detail=detail)


def _keys(config: "Config") -> Finding:
    from tracker.contract.errors import KeysError
    from tracker.runtime import secrets, slots

    path = config.keys.file
    is_new = slots.is_unused([config.spool.directory, config.journal.directory]) and not config.storage.path.exists()
    if not path.exists() and is_new:
        return Finding(what="keys.file", outcome="ok", detail=f"{path} will be made")
    try:
        keys = secrets.load(path).tokens.keys
    except KeysError as error:
        wrong, _, remedy = str(error).rpartition("; ")
        return Finding(what="keys.file", outcome="failed", detail=wrong, remedy=remedy)
    return Finding(what="keys.file", outcome="ok", detail=f"{path}, number of keys: {len(keys)}")


def _ports(config: "Config", running: "list[Status]") -> Iterator[Finding]:
    from relay import app
    from tracker.runtime import serve
    from tracker.runtime.configfile import ConfigError

    ours = {text: status.pid for status in running for texts in status.listening.values() for text in texts}
    for part, addresses in app.listens(config, app.PARTS).items():
        for address in addresses:
            what = f"{part}.listen"
            if str(address) in ours:
                detail = f"{address} is served by process {ours[str(address)]}"
                yield Finding(what=what, outcome="ok", detail=detail)
                continue
            try:
                serve.close(serve.bind({part: [address]}))
            except ConfigError as error:
                problem = error.problems[0]
                yield Finding(what=what, outcome="failed", detail=problem.wrong, remedy=problem.remedy)
            else:
                yield Finding(what=what, outcome="ok", detail=f"{address} is free")


def _senders(config: "Config") -> Finding:
    """Say who may send: `serve` does not start where nobody may."""
    from relay.roomoptions import may_anybody_send
    from tracker.store import credentials

    what, stored = "relay.allow_networks", credentials.watched(config.storage.path)
    stored.look()
    logins = {*config.credentials, *(stored.found or {})}
    if not may_anybody_send(config, stored.found):
        remedy = "run `mailwake credentials add NAME`, or name the networks that may send"
        return Finding(
            what=what, outcome="failed", detail="is empty, and there is no login: nobody could send", remedy=remedy
        )
    networks = ", ".join(map(str, config.relay.allow_networks)) or "no network"
    limits = "" if not logins or config.relay_tls.certificate else ", not from other machines: there is no [relay.tls]"
    return Finding(what=what, outcome="ok", detail=f"{networks} without a login; logins: {len(logins)}{limits}")


def _upstream(config: "Config", name: str, section: "UpstreamSection") -> Finding:
    import asyncio

    from relay.core.attempt import Phase

    what = f"upstream.{name}"
    url = section.url
    if url.maildir is not None:
        existing = url.maildir
        while not existing.exists():
            existing = existing.parent
        if existing.is_dir() and os.access(existing, os.W_OK):
            return Finding(what=what, outcome="ok", detail=str(url))
        remedy = "let this user write there, or name another"
        return Finding(what=what, outcome="failed", detail=f"{existing} is no folder to write to", remedy=remedy)
    trouble = asyncio.run(_greet(config, name, section))
    if trouble is not None:
        remedy = "mend the url, the login or tls_ca"
        if trouble.startswith(f"{Phase.AUTH}: "):
            remedy = f"mend username and password of [upstream.{name}], then run `mailwake reload`"
        return Finding(what=what, outcome="failed", detail=trouble, remedy=remedy)
    return Finding(what=what, outcome="ok", detail=f"{url} answers and takes the login")


async def _greet(config: "Config", name: str, section: "UpstreamSection") -> str | None:
    """Connect as the relay does: greeting, EHLO, TLS, login. Return what stood in the way."""
    import asyncio

    from relay.core.attempt import Accepted, Deferred, Rejected, Unknown
    from relay.roomoptions import upstream_options
    from relay.smtp.ourselves import Sign
    from relay.smtp.upstream import Connection, verifying_context
    from relay.smtp.upstreams import SmtpTarget
    from tracker.contract.errors import KeysError
    from tracker.runtime import secrets
    from tracker.runtime.seat import Share

    options = upstream_options(name, section, config.hostname, Share())
    with suppress(KeysError):  # it is a finding of its own
        options = replace(options, sign=Sign(secrets.load(config.keys.file).sign_key))
    if not isinstance(options.target, SmtpTarget):
        return None
    try:
        connection = Connection(options, options.target, verifying_context(options))
        async with asyncio.timeout(_TIMEOUT_S):
            trouble = await connection.open()
            if trouble is None:
                await connection.quit()
    except TimeoutError:
        return f"{section.url} does not answer within {_TIMEOUT_S:.0f} s"
    except OSError as error:
        return f"{section.tls_ca} cannot be used: {error}"
    match trouble:
        case None:
            return None
        case Accepted():
            raise AssertionError("opening a connection accepts nothing")
        case Rejected(reply=reply, phase=phase):
            return f"{phase}: {reply}"
        case Deferred(reply=reply, phase=phase, detail=detail):
            return f"{phase}: {reply or detail}"
        case Unknown(detail=detail):
            return detail


def _dkim(config: "Config", name: str, section: "DkimSection") -> Finding:
    """Ask DNS for the public key, as whoever verifies a signature does."""
    from relay.cli.dns import DnsUnavailableError, texts_at
    from relay.core import dkimrecord
    from relay.dkimkeys import GOOD_RSA_BITS

    what, at, key = f"dkim.{name}", section.record_name, section.key
    try:
        texts = texts_at(at, config.verification.resolver)
    except DnsUnavailableError as error:
        remedy = "try again, or name a resolver: [verification] resolver"
        return Finding(what=what, outcome="failed", detail=f"DNS does not answer for {at}: {error}", remedy=remedy)
    wrong = dkimrecord.fault_of(texts, key.algorithm, key.public)
    if wrong is not None:
        remedy = f"publish: {dkimrecord.zone_line(at, key.record())}"
        return Finding(what=what, outcome="failed", detail=f"{at}: {wrong}", remedy=remedy)
    remedy = ""
    if key.rsa_bits is not None and key.rsa_bits < GOOD_RSA_BITS:
        remedy = f"the key has {key.rsa_bits} bits: make one of {GOOD_RSA_BITS}, under another selector"
    return Finding(what=what, outcome="ok", detail=f"{at} has the key", remedy=remedy)


def _storage(config: "Config", running: "list[Status]") -> Finding:
    from tracker.store.database import StorageUnavailableError, reading

    path = config.storage.path
    if not path.exists():
        return Finding(what="storage", outcome="ok", detail=f"{path} will be made")
    trouble = ""

    def is_readable() -> bool | None:
        nonlocal trouble
        try:
            with reading(path):
                return True
        except StorageUnavailableError as error:
            trouble = str(error)
            return None

    # A process that has just started may be making the tables.
    if wait_for(is_readable) if running else is_readable():
        return Finding(what="storage", outcome="ok", detail=str(path))
    remedy = "start this release once to bring its tables up to date, or move the file away"
    return Finding(what="storage", outcome="failed", detail=trouble, remedy=remedy)


def _destinations(config: "Config") -> Iterator[Finding]:
    """Look at destinations as far as it goes without handing them an event: `mailwake destinations test` does."""
    import asyncio

    from tracker.publish.probe import target_of, trouble_of

    for name, destination in config.settings().destinations.items():
        what = f"event_destination.{name}"
        trouble = asyncio.run(trouble_of(destination))
        if not any(name in section.destinations for section in config.sets.values()):
            remedy = f'add it: [configuration_set.NAME] destinations = ["{name}"]'
            yield Finding(what=what, outcome="failed", detail="no configuration set sends it events", remedy=remedy)
        elif trouble is not None:
            remedy = f"mend what it says, then try it: mailwake destinations test {name}"
            yield Finding(what=what, outcome="failed", detail=f"{target_of(destination)}: {trouble}", remedy=remedy)
        else:
            yield Finding(what=what, outcome="ok", detail=f"gets events, at {target_of(destination)}")


def _public_url(config: "Config", running: "list[Status]") -> Finding:
    """Ask the tracking host for the proof that it is ours, by the address that links have."""
    from urllib.request import urlopen

    from relay.app import load_secrets
    from relay.cli.sample import settings_in_force
    from tracker.contract.errors import KeysError
    from tracker.core import challenge

    if not any("tracker" in status.listening for status in running):
        detail = "the tracking host is not running here"
        return Finding(what="tracker.public_url", outcome="skipped", detail=detail)
    base = settings_in_force(config).base_url
    nonce = random.token_urlsafe(24)
    try:
        expected = challenge.answer(load_secrets(config, may_create=False).verification_key, nonce)
        with urlopen(f"{base}/.well-known/mailwake?challenge={nonce}", timeout=_TIMEOUT_S) as answer:  # noqa: S310 - http or https
            got = answer.read(_MAX_ANSWER_BYTES).decode("ascii", "replace").strip()
    except (OSError, URLError, HTTPException, ValueError, KeysError) as error:
        remedy = "let this address lead to tracker.listen"
        return Finding(what="tracker.public_url", outcome="failed", detail=f"{base}: {error}", remedy=remedy)
    if got != expected:
        remedy = "let this address lead to the tracking host that has this keys file"
        detail = f"{base} is answered by something else"
        return Finding(what="tracker.public_url", outcome="failed", detail=detail, remedy=remedy)
    return Finding(what="tracker.public_url", outcome="ok", detail=f"{base} leads to this tracking host")


def _send(config: "Config", recipient: "Address") -> Finding:
    """Send a sample and wait for what becomes of it."""
    import smtplib

    from relay.cli.mail import relay_address, submit
    from relay.cli.samplemail import sample

    host, port = relay_address(config)
    try:
        reply = submit(host, port, recipient, (recipient,), sample(recipient, (recipient,)))
    except (OSError, smtplib.SMTPException) as error:
        remedy = "start it with `mailwake serve`; its log says more"
        return Finding(what="send", outcome="failed", detail=f"{host}:{port}: {error}", remedy=remedy)
    message = reply.rpartition(" ")[2]
    ends = frozenset({"Delivery", "Bounce"})
    found = wait_for(lambda: events_of(config.storage.path, message, ends))
    if found is None:
        remedy = f"look at: mailwake events --message {message}"
        return Finding(what="send", outcome="failed", detail=f"{message} is not delivered yet", remedy=remedy)
    end = next(event for event in found if event["eventType"] in ends)
    if end["eventType"] == "Delivery":
        return Finding(what="send", outcome="ok", detail=readable(end))
    return Finding(what="send", outcome="failed", detail=readable(end), remedy="the upstream's reply says why")
