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
    """Write a record on one line: time, type, recipient, message, and what is special to the type."""
    name = event["eventType"]
    detail = event.get(name[:1].lower() + name[1:]) or {}
    own = event.get("mailwake", {})
    recipient = own.get("recipient") or ", ".join(event["mail"].get("destination", []))
    at = detail.get("timestamp") or event["mail"]["timestamp"]
    more = detail.get("link") or detail.get("smtpResponse") or detail.get("bounceSubType") or ""
    agent = own.get("agent", {}).get("class", "")
    texts = [at, f"{name:<13}", recipient or "-", event["mail"]["messageId"], agent, more]
    return "  ".join(printable(text) for text in texts if text)
