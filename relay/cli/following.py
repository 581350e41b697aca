"""Following one message through the storage of a running process, as a client that polls."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

from relay.cli.options import printable

T = TypeVar("T")

PATIENCE_S: Final = 30.0
_POLL_S: Final = 0.1


def wait_for(ask: Callable[[], T | None]) -> T | None:
    """Ask until there is an answer, for `PATIENCE_S` at most."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        found = ask()
        if found is not None:
            return found
        time.sleep(_POLL_S)
    return None


def events_of(storage: Path, message: str, awaited: frozenset[str]) -> list[dict[str, Any]] | None:
    """Return a message's records once one of the awaited types (`"Delivery"`) is among them; None before."""
    from tracker.store import reports
    from tracker.store.database import StorageUnavailableError

    try:
        found = [json.loads(line) for line in reports.events(storage, reports.EventFilter(message=message))]
    except StorageUnavailableError:
        return None
    return found if awaited.intersection(event["eventType"] for event in found) else None


def readable(event: dict[str, Any]) -> str:
    """Write a record on one line: time, type, recipient, message, verdict, and what is special to the type."""
    name = event["eventType"]
    detail = event.get(name[:1].lower() + name[1:]) or {}
    own = event.get("mailwake", {})
    recipient = own.get("recipient") or ", ".join(event["mail"].get("destination", []))
    at = detail.get("timestamp") or event["mail"]["timestamp"]
    texts = [at, f"{name:<13}", recipient or "-", event["mail"]["messageId"], _verdict(own), _special(detail, own)]
    return "  ".join(printable(text) for text in texts if text)


def _verdict(own: dict[str, Any]) -> str:
    """`machine (ua_scanner:proofpoint, instant)`, `human, 12 times`."""
    agent = own.get("agent") or {}
    reasons, count = agent.get("reasons") or [], own.get("count", 1)
    verdict = str(agent.get("class", ""))
    return verdict + (f" ({', '.join(reasons)})" if reasons else "") + (f", {count} times" if count > 1 else "")


def _special(detail: dict[str, Any], own: dict[str, Any]) -> str:
    """Where a click led, what an upstream said, what a Send left untracked."""
    refused: dict[str, Any] = next(iter(detail.get("bouncedRecipients") or detail.get("delayedRecipients") or []), {})
    kind = "/".join(filter(None, (detail.get("bounceType"), detail.get("bounceSubType"))))
    said = detail.get("link") or detail.get("smtpResponse") or detail.get("reason") or refused.get("diagnosticCode")
    skipped = ", ".join(f"{one['count']} {one['reason']}" for one in own.get("skipped", ()))
    return "  ".join(filter(None, (kind or detail.get("delayType"), said, skipped and f"not tracked: {skipped}")))
