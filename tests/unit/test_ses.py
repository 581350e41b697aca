"""The records that users' systems get: the shapes of Amazon SES, and the vectors in the reference."""

import json
import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.machine import ROOT
from tests.unit.happenings import ACCEPTED_AT, accepted, bounce, clicked, delay, delivery, opened
from tracker.contract import ses
from tracker.contract.diagnosis import diagnose_bounce, diagnose_delay
from tracker.contract.events import Accepted, Click, Hit, MessageFacts, Open

Hits = TypeVar("Hits", Open, Click)

HOSTNAME: Final = "relay1.shop.example"
REFERENCE: Final = ROOT / "docs" / "reference" / "events.md"
HUMAN: Final = ses.Agent(kind="human", client="Firefox 140", device="desktop", os="Linux")
MACHINE: Final = ses.Agent(
    kind="machine", reasons=("net_scanner:microsoft", "instant"), client="Firefox 140", device="desktop", os="Linux"
)


def _record(
    event: ses.CopyEvent, message: Accepted | None = None, first: bool | None = None, agent: ses.Agent | None = None
) -> dict[str, Any]:
    message = message or accepted()
    mail = ses.Mail(message.facts, len(message.copies))
    raw = ses.encode(
        event, ses.About(message=mail, copy=message.copies[0], first=first, agent=agent), hostname=HOSTNAME
    )
    record: dict[str, Any] = json.loads(raw)
    return record


def _send(message: Accepted) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(
        ses.encode_send(ses.Mail(message.facts, len(message.copies)), message.copies[0])
    )
    return record


def _unknown(event: ses.CopyEvent, agent: ses.Agent | None) -> dict[str, Any]:
    raw = ses.encode(event, ses.About(message=None, copy=None, agent=agent), hostname=HOSTNAME)
    record: dict[str, Any] = json.loads(raw)
    return record


def _rejected() -> dict[str, Any]:
    message = accepted()
    record: dict[str, Any] = json.loads(
        ses.encode_reject(ses.Mail(message.facts, 1), message.copies[0], "550 5.7.1 This login may not send")
    )
    return record


def _placed(event: Hits, country: str, count: int) -> Hits:
    return replace(event, hit=replace(event.hit, country=country, count=count))


def _vectors() -> dict[str, dict[str, Any]]:
    """One of each type, as the reference shows them; all but the first and the last without `mail`."""
    records = {
        "Send": _send(accepted(recipients=("ana@client.example", "ben@client.example"))),
        "Delivery": _record(delivery(), first=True),
        "DeliveryDelay": _record(delay(), first=True),
        "Bounce": _record(bounce(), first=True),
        "Open": _record(_placed(opened(1), "DE", 1), first=True, agent=HUMAN),
        "Click": _record(_placed(clicked(2), "NL", 12), first=False, agent=MACHINE),
        "Reject": _rejected(),
        "Open of an unknown message": _unknown(opened(3), HUMAN),
    }
    for name in ("Delivery", "DeliveryDelay", "Bounce", "Open", "Click", "Reject"):
        del records[name]["mail"]
    return records


@pytest.mark.parametrize("name", sorted(_vectors()))
def test_golden_records_are_those_of_the_reference(name: str) -> None:
    """Names, spellings and order of what users parse are fixed by `docs/reference/events.md`."""
    text = REFERENCE.read_text(encoding="utf-8")
    shown = f"### {name}\n\n```json\n{json.dumps(_vectors()[name], indent=2)}\n```\n"
    if os.environ.get("MAILWAKE_GOLDEN_UPDATE") == "1":
        pattern = re.compile(rf"### {re.escape(name)}\n\n```json\n.*?\n```\n", re.DOTALL)
        REFERENCE.write_text(pattern.sub(lambda _: shown, text), encoding="utf-8")
        return

    assert shown in text


def test_every_field_is_in_the_reference() -> None:
    """A reader of a record finds each of its keys in a table of `docs/reference/events.md`."""
    rows = {
        name
        for line in REFERENCE.read_text(encoding="utf-8").splitlines()
        if line.startswith("| `")
        for name in re.findall(r"`([^`]+)`", line.split("|")[1])
    }

    assert {key for record in [*_vectors().values(), _send(accepted())] for key in _keys(record)} - rows == set()


def _keys(value: object, path: str = "") -> set[str]:
    """Walk the keys as paths, `mail.headers[].name`; below these two every key is the sender's own."""
    if isinstance(value, list):
        return {key for item in value for key in _keys(item, path + "[]")}
    if not isinstance(value, dict):
        return set()
    found = set()
    for name, item in value.items():
        here = f"{path}.{name}".lstrip(".")
        if path == "click.linkTags" or (path == "mail.tags" and not name.startswith("ses:")):
            continue
        found |= {here} | _keys(item, here)
    return found


def test_a_send_names_one_recipient_and_how_many_there_were() -> None:
    """Every event is of one copy."""
    record = _send(accepted(recipients=("ana@client.example", "ben@client.example")))

    assert record["mail"]["destination"] == ["ana@client.example"]
    assert record["mailwake"]["recipients"] == 2
    assert record["send"] == {}


def test_a_send_has_the_same_id_whenever_it_is_made() -> None:
    """`Accepted` may be read twice; the event must be the same."""
    assert _send(accepted())["mailwake"]["eventId"] == _send(accepted())["mailwake"]["eventId"]


def test_a_message_cannot_pass_its_tags_off_as_ours() -> None:
    """`ses:` is reserved: a sender's tag would else replace the set that its mail is counted under."""
    record = _send(accepted(tags=(("ses:configuration-set", "other"), ("kind", "a"), ("kind", "b"))))

    assert record["mail"]["tags"]["ses:configuration-set"] == ["promo"]
    assert record["mail"]["tags"]["kind"] == ["a", "b"]


def test_a_message_without_a_set_or_login_has_no_such_tags() -> None:
    """A key without a value is absent, rather than a list of nothing."""
    facts = MessageFacts(
        message=accepted().facts.message,
        accepted_at=ACCEPTED_AT,
        source="",
        source_address="127.0.0.1",
        caller="",
        from_domain="",
        configuration_set=None,
        upstream="default",
    )
    record = _send(Accepted(facts=facts, copies=accepted().copies))

    assert record["mail"]["tags"] == {"ses:source-ip": ["127.0.0.1"]}
    assert record["mail"]["source"] == ""
    assert record["mail"]["commonHeaders"] == {}
    assert "skipped" not in record["mailwake"]


def test_a_redacted_link_has_no_query_in_events() -> None:
    """Whatever the hit's record says: the query of a sign-in link is a secret."""
    leaky = clicked(1, link=2)
    leaky = type(leaky)(
        event=leaky.event,
        copy=leaky.copy,
        hit=leaky.hit,
        link_index=2,
        part="html",
        url="https://shop.example/login?t=s3cret",
    )

    assert _record(leaky)["click"]["link"] == "https://shop.example/login"


def test_a_click_on_a_link_that_the_message_does_not_have_is_still_a_record() -> None:
    """A token outlives the facts that were kept."""
    record = _record(clicked(1, link=9))

    assert record["click"]["linkTags"] == {}
    assert record["mailwake"]["linkIndex"] == 9
    assert "linkText" not in record["mailwake"]


def test_what_nobody_knows_of_a_hit_is_absent() -> None:
    """Behind a proxy of images there is no client, device or system, and no place; one hit needs no count."""
    record = _record(opened(1), agent=ses.Agent(kind="human", reasons=("ua_image_proxy:google",)))

    assert record["mailwake"]["agent"] == {"class": "human", "reasons": ["ua_image_proxy:google"]}
    assert not {"geo", "count"} & record["mailwake"].keys()


@pytest.mark.parametrize(
    "reply, phase, expired, expected",
    [
        ("550 5.1.1 no such user", "rcpt", False, ("Permanent", "NoEmail", "5.1.1")),
        ("550 5.1.10 null MX", "rcpt", False, ("Permanent", "NoEmail", "5.1.10")),
        ("550 no", "rcpt", False, ("Permanent", "General", "5.0.0")),
        ("550 5.7.1 relaying denied", "rcpt", False, ("Permanent", "General", "5.7.1")),
        ("550 4.1.1 contradicts itself", "rcpt", False, ("Permanent", "NoEmail", "5.1.1")),
        ("554 5.7.1 looks like spam", "final_dot", False, ("Transient", "ContentRejected", "5.7.1")),
        ("554 5.6.0 bad MIME", "FINAL_DOT", False, ("Transient", "ContentRejected", "5.6.0")),
        ("552 5.2.2 over quota", "rcpt", False, ("Transient", "MailboxFull", "5.2.2")),
        ("552 5.3.4 too big", "mail", False, ("Transient", "MessageTooLarge", "5.3.4")),
        ("552 too much", "rcpt", False, ("Transient", "MailboxFull", "5.0.0")),
        ("552 too much", "final_dot", False, ("Transient", "MessageTooLarge", "5.0.0")),
        ("452 4.2.2 over quota", "rcpt", True, ("Transient", "MailboxFull", "4.2.2")),
        ("451 try later", "rcpt", True, ("Transient", "General", "4.4.7")),
        ("", "connect", True, ("Transient", "General", "4.4.7")),
        ("5501 5.1.1 no code at all", "rcpt", False, ("Permanent", "General", "5.0.0")),
    ],
)
def test_a_bounce_is_permanent_only_where_the_address_may_be_to_blame(
    reply: str, phase: str, expired: bool, expected: tuple[str, str, str]
) -> None:
    """Readers drop an address after `Permanent`: a full mailbox or a refused content must not cost one."""
    found = diagnose_bounce(bounce(reply=reply, phase=phase, expired=expired))

    assert (found.bounce_type, found.bounce_sub_type, found.status) == expected


@pytest.mark.parametrize(
    "reply, phase, expected",
    [
        ("452 4.2.2 over quota", "rcpt", ("MailboxFull", "4.2.2")),
        ("", "connect", ("TransientCommunicationFailure", "4.0.0")),
        ("421 4.3.2 shutting down", "greeting", ("TransientCommunicationFailure", "4.3.2")),
        ("451 4.7.1 greylisted", "rcpt", ("General", "4.7.1")),
        ("451 later", "data", ("General", "4.0.0")),
        ("", "final_dot", ("Undetermined", "4.0.0")),
    ],
)
def test_a_delay_is_named_by_reply_and_phase(reply: str, phase: str, expected: tuple[str, str]) -> None:
    """SES's `delayType`."""
    found = diagnose_delay(delay(reply=reply, phase=phase))

    assert (found.delay_type, found.status) == expected


def test_only_a_reply_is_called_one() -> None:
    """RFC 3464 §2.3.6: the type `smtp` is for what a server said."""
    assert diagnose_bounce(bounce(reply="550 5.1.1 no")).diagnostic_code == "smtp; 550 5.1.1 no"
    assert diagnose_bounce(bounce(reply="certificate has expired")).diagnostic_code == (
        "x-mailwake; certificate has expired"
    )
    assert diagnose_bounce(bounce(reply="", expired=True)).diagnostic_code is None


@pytest.mark.parametrize(
    "reply, expected",
    [
        ("250 2.0.0 Ok: queued as 4F2C", "4F2C"),
        ("250 OK id=1vX2ab-0001Zz-Q4", "1vX2ab-0001Zz-Q4"),
        ("250 Ok 0100018f3c2a9b4e-4b1d77aa-000000", "0100018f3c2a9b4e-4b1d77aa-000000"),
        ("250 2.0.0 great success", None),
        ("", None),
    ],
)
def test_the_upstreams_own_id_is_found_where_it_gives_one(reply: str, expected: str | None) -> None:
    """With it an operator finds the copy in the upstream's log."""
    assert _record(delivery(reply=reply))["mailwake"].get("upstreamMessageId") == expected


@given(st.text(), st.text(), st.integers(min_value=-(10**6), max_value=10**9))
def test_a_record_is_one_line_of_json_whatever_is_in_it(subject: str, user_agent: str, late_s: int) -> None:
    """Subjects and user agents are hostile; a line end in one would be a second record in a file of lines."""
    message = accepted(subject=subject)
    hit = Hit(at=ACCEPTED_AT + timedelta(seconds=late_s), user_agent=user_agent)
    event = Open(event=opened(1).event, copy=message.copies[0].copy, hit=hit)
    mail = ses.Mail(message.facts, 1)
    raw = ses.encode(event, ses.About(message=mail, copy=message.copies[0], agent=HUMAN), hostname=HOSTNAME)

    assert b"\n" not in raw
    assert json.loads(raw)["open"]["userAgent"] == user_agent
    assert json.loads(raw)["mail"]["headers"][2]["value"] == subject


def test_whoever_answers_hits_loads_no_database() -> None:
    """Hits are answered by processes that never open the storage; SQLAlchemy would cost them 0.3 s of start."""
    import subprocess
    import sys

    code = (
        "import sys, tracker.contract.ses, tracker.core.statistics, tracker.core.classify, tracker.web.app;"
        "sys.exit(any(name.split('.')[0] in ('sqlalchemy', 'alembic') for name in sys.modules))"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(ROOT)).returncode == 0
