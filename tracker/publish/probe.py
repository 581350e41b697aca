"""Whether a destination could be used, found out without handing an event over; and an event to try it with."""

import asyncio
import os
import ssl
from datetime import datetime
from pathlib import Path
from typing import Final, assert_never
from urllib.parse import urlsplit

from tracker.contract import formats, ses
from tracker.contract.events import CopyFacts, Delivery, EventType, MessageFacts
from tracker.contract.ids import (
    COPY_SUFFIX_BYTES,
    EVENT_ID_BYTES,
    RANDOM_BYTES_OF_MESSAGE_ID,
    CopyId,
    EventId,
    MessageId,
)
from tracker.contract.ports import Entropy
from tracker.contract.settings import EventDestination
from tracker.core.reach import without_secret
from tracker.publish.guard import Lookup, ask_system, guard_of
from tracker.store.publishing import LogEntry

LIMIT_S: Final = 10.0
_NATS_PORT: Final = 4222


def target_of(destination: EventDestination) -> str:
    """Say where a destination is, without what may be a secret: the query of a URL."""
    match destination.type:
        case "jsonl":
            return str(destination.path)
        case "webhook":
            return without_secret(destination.url)
        case "nats":
            return f"{', '.join(destination.servers)} ({destination.stream})"
        case "stdout":
            return "standard output"
        case _:
            assert_never(destination.type)


async def trouble_of(destination: EventDestination, lookup: Lookup = ask_system) -> str | None:
    """Return why a destination cannot be used now, None where nothing speaks against it; no event is handed over."""
    try:
        async with asyncio.timeout(LIMIT_S):
            match destination.type:
                case "jsonl":
                    return _trouble_of_folder(destination.path)
                case "webhook":
                    return await _trouble_of_url(destination, lookup)
                case "nats":
                    return await _trouble_of_servers(destination)
                case "stdout":
                    return None
                case _:
                    assert_never(destination.type)
    except TimeoutError:
        return f"no connection within {LIMIT_S:.0f} s"
    except (OSError, ValueError) as error:  # ValueError: a host that is no name in IDNA
        return str(error)


def sample(destination: EventDestination, now: datetime, entropy: Entropy) -> LogEntry:
    """Make an event to try a destination with: the Delivery of a message that never was, tagged `mailwake:test`."""
    message = MessageId.make(unix_ms=int(now.timestamp() * 1000), entropy=entropy(RANDOM_BYTES_OF_MESSAGE_ID))
    copy = CopyId(message, entropy(COPY_SUFFIX_BYTES))
    facts = MessageFacts(
        message=message,
        accepted_at=now,
        source="test@mailwake.invalid",
        source_address="127.0.0.1",
        caller="",
        from_domain="mailwake.invalid",
        configuration_set=None,
        upstream="test",
        from_header=("test@mailwake.invalid",),
        to_header=("test@mailwake.invalid",),
        subject="A test of this destination",
        tags=(("mailwake:test", "true"),),
    )
    event = Delivery(
        event=EventId(entropy(EVENT_ID_BYTES)), copy=copy, at=now, upstream="test", reply="250 2.0.0 Test", final=False
    )
    recipient = CopyFacts(copy=copy, recipient="test@mailwake.invalid", opens=False, clicks=False)
    about = ses.About(message=ses.Mail(facts, 1), copy=recipient, first=True)
    body = formats.shape(
        destination.format,
        ses.encode(event, about, hostname="localhost").decode(),
        event_id=str(event.event),
        kind=EventType.DELIVERY,
        destination=destination.name,
        now=now,
    )
    return LogEntry(
        seq=0, event_id=str(event.event), type=EventType.DELIVERY, configuration_set=None, agent_class=None, body=body
    )


def _trouble_of_folder(path: Path | None) -> str | None:
    existing = Path() if path is None else path
    while not existing.exists():
        existing = existing.parent
    if existing.is_dir() and os.access(existing, os.W_OK):
        return None
    return f"{existing} is no folder that this user may write to"


async def _trouble_of_url(destination: EventDestination, lookup: Lookup) -> str | None:
    """Resolve, connect and, where it is https:, see the certificate valid; nothing is posted."""
    url = urlsplit(destination.url)
    is_tls = url.scheme == "https"
    guard = guard_of(url.scheme, allow_private=destination.allow_private, lookup=lookup)
    (address, *_) = await guard.addresses(url.hostname or "")
    await _connect(str(address), url.port or (443 if is_tls else 80), url.hostname if is_tls else None)
    return None


async def _trouble_of_servers(destination: EventDestination) -> str | None:
    """Connect to one of the servers, which is what it needs; the login is tried by an event alone."""
    if destination.credentials is not None and not os.access(destination.credentials, os.R_OK):
        return f"{destination.credentials} cannot be read"
    trouble = ""
    for server in destination.servers:
        url = urlsplit(server)
        try:
            await _connect(url.hostname or "", url.port or _NATS_PORT, None)
        except OSError as error:
            trouble = f"{server}: {error}"
        else:
            return None
    return trouble


async def _connect(host: str, port: int, tls_name: str | None) -> None:
    context = ssl.create_default_context() if tls_name is not None else None
    _, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=tls_name)
    writer.transport.abort()
