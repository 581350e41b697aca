"""The tables of `docs/reference/events.md` against records: type, in which events, and what SES's own have."""

import json
import re
from typing import Any, Final

import pytest

from tests.machine import ROOT
from tests.unit.test_ses import _vectors

_ROW: Final = re.compile(
    r"^\| (`[^|]+`) \| (string|list|object|number|boolean) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE
)
_JSON: Final = {str: "string", list: "list", dict: "object", int: "number", bool: "boolean"}
_FREE: Final = ("mail.tags", "click.linkTags")  # their keys are the sender's

# The members of SES's own records, by type: the shapes that its consumers parse.
_SES: Final = {
    "send": set(),
    "delivery": {"timestamp", "processingTimeMillis", "recipients", "smtpResponse", "reportingMTA"},
    "deliveryDelay": {"timestamp", "delayType", "expirationTime", "delayedRecipients", "reportingMTA"},
    "bounce": {"bounceType", "bounceSubType", "bouncedRecipients", "timestamp", "feedbackId", "reportingMTA"},
    "open": {"ipAddress", "timestamp", "userAgent"},
    "click": {"ipAddress", "timestamp", "userAgent", "link", "linkTags"},
    "reject": {"reason"},
}
_MAIL: Final = {
    "timestamp", "messageId", "source", "sendingAccountId", "destination", "headersTruncated", "headers",
    "commonHeaders", "tags",
}  # fmt: skip


def _table() -> dict[str, tuple[str, str]]:
    page = (ROOT / "docs" / "reference" / "events.md").read_text(encoding="utf-8")
    return {
        name: (kind, where.strip())
        for names, kind, where, _ in _ROW.findall(page)
        for name in re.findall(r"`([^`]+)`", names)
    }


@pytest.mark.parametrize("name", sorted(_vectors()))
def test_types_and_places_are_those_of_the_table(name: str) -> None:
    """A consumer is written from the table."""
    record, table = _vectors()[name], _table()
    kind = record["eventType"]
    places = {"all", kind, "their type"} | ({"hits"} if kind in {"Open", "Click"} else set())
    for path, value in _walk(record):
        shown, where = table[path]
        assert shown == _JSON[type(value)], path
        assert places & set(where.split(", ")), path


def test_the_table_has_nothing_that_is_never_there() -> None:
    """A row for each path that a record may have; the place and count of hits are the fields that vectors may lack."""
    found = {path for record in _vectors().values() for path, _ in _walk(record)}
    optional = {name for name in _table() if name.startswith(("mailwake.geo", "mailwake.agent.", "mailwake.count"))}
    headers = {f"mail.commonHeaders.{name}" for name in ("cc", "replyTo")}

    assert set(_table()) - found - optional - headers == set()


@pytest.mark.parametrize("name", sorted(_vectors()))
def test_each_shape_is_that_of_ses(name: str) -> None:
    """One object named after the type with SES's members, `mail` with SES's, and ours under one more key."""
    record = _vectors()[name]
    kind = record["eventType"][0].lower() + record["eventType"][1:]
    assert set(record) - {"mail"} == {"eventType", kind, "mailwake"}
    assert set(record[kind]) == _SES[kind]
    assert set(record.get("mail", {})) <= _MAIL
    if name == "Send":
        assert set(record["mail"]) == _MAIL
    assert next(iter(record)) == "eventType"
    for recipient in record[kind].get("bouncedRecipients", []):
        assert list(recipient) == ["emailAddress", "action", "status", "diagnosticCode"]
    for recipient in record[kind].get("delayedRecipients", []):
        assert list(recipient) == ["emailAddress", "status", "diagnosticCode"]
    lists = [*record.get("mail", {}).get("tags", {}).values(), *record[kind].get("linkTags", {}).values()]
    assert all(isinstance(one, list) for one in lists)
    assert "null" not in json.dumps(record)


def _walk(value: Any, path: str = "") -> list[tuple[str, Any]]:  # noqa: ANN401 - a record
    if isinstance(value, list):
        return [pair for one in value for pair in _walk(one, path + "[]")]
    if not isinstance(value, dict):
        return []
    found = []
    for name, one in value.items():
        here = f"{path}.{name}".lstrip(".")
        if path in _FREE and not name.startswith("ses:"):
            continue
        found += [(here, one), *_walk(one, here)]
    return found
