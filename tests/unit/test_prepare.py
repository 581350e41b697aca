"""What is refused of a message before anything of it is kept, each by a reply of its own; and what Received says."""

from dataclasses import replace

import pytest

from relay.core import policy, prepare
from relay.core.headers import MAX_BYTES, MAX_LINES
from relay.core.prepare import Prepared, Site
from relay.core.reply import Reply
from tests.unit.submissions import settings, submission
from tracker.contract.credentials import Permission
from tracker.contract.ids import MessageId
from tracker.contract.settings import ConfigurationSet

SITE = Site(hostname="relay.example.com", instance="r1", max_line_bytes=1000)
ID = MessageId.make(unix_ms=1, entropy=bytes(10))
FROM = b"From: ana@shop.example\r\n"
NEWS_ONLY = Permission(sender_domains=("shop.example",), configuration_sets=("news",))


def _prepare(message: bytes, site: Site = SITE, permission: Permission | None = None, **session: object) -> object:
    handed = submission(message)
    if permission is not None:
        session |= {"caller": "news", "permission": permission}
    handed = replace(handed, session=replace(handed.session, **session))  # type: ignore[arg-type]
    chosen = settings(ConfigurationSet(name="default"), ConfigurationSet(name="news"))
    return prepare.prepare(handed, site=site, settings=chosen, message_id=ID)


@pytest.mark.parametrize(
    ("message", "site", "reply"),
    [
        (FROM + b"\r\na\0b\r\n", SITE, prepare.NUL),
        (FROM + b"\r\na\nb\r\n", replace(SITE, bare_line_ends="reject"), prepare.BARE_LINE_END),
        (FROM + b"\r\n" + b"x" * 1001 + b"\r\n", SITE, prepare.LINE_TOO_LONG),
        (FROM + b"X: " + b"x" * 998 + b"\r\n\r\n", SITE, prepare.LINE_TOO_LONG),
        (FROM + b"X: y\r\n" * MAX_LINES + b"\r\n", replace(SITE, large_headers="reject"), prepare.HEADER_TOO_LARGE),
        (
            FROM + (b"X: " + b"y" * 900 + b"\r\n") * (MAX_BYTES // 900) + b"\r\n",
            replace(SITE, large_headers="reject"),
            prepare.HEADER_TOO_LARGE,
        ),
        (FROM + b"Received: from a by b\r\n" * 51 + b"\r\n", SITE, prepare.LOOP),
        (FROM + b"Received: from a by b (Mailwake r1) with ESMTP\r\n" * 3 + b"\r\n", SITE, prepare.LOOP),
        (FROM + b"X-SES-CONFIGURATION-SET: none\r\n\r\n", SITE, policy.UNKNOWN_SET),
    ],
)
def test_a_message_is_refused(message: bytes, site: Site, reply: Reply) -> None:
    """docs/reference/smtp.md, the replies to the final dot that the message itself is the cause of."""
    assert _prepare(message, site) is reply


@pytest.mark.parametrize(
    ("message", "site"),
    [
        (FROM + b"\r\na\nb\rc\r\n", SITE),
        (FROM + b"\r\n" + b"x" * 1000 + b"\r\n", SITE),
        (FROM + b"X: y\r\n" * MAX_LINES + b"\r\n", SITE),
        (FROM + b"Received: from a by b\r\n" * 50 + b"\r\n", SITE),
        (FROM + b"Received: from a by b (Mailwake r1) with ESMTP\r\n" * 2 + b"\r\n", SITE),
        (FROM + b"Received: from a by b (Mailwake r2) with ESMTP\r\n" * 9 + b"\r\n", SITE),
    ],
)
def test_a_message_just_within_is_taken(message: bytes, site: Site) -> None:
    """One octet, line or hop less."""
    assert isinstance(_prepare(message, site), Prepared)


@pytest.mark.parametrize("name", [b"X-SES-CONFIGURATION-SET", b"x-mailwake-configuration-set"])
def test_a_login_names_its_own_sets_alone(name: bytes) -> None:
    """Whose events, signature and upstream a message gets is a permission; a peer of allow_networks may name any."""
    named = FROM + name + b": default\r\n\r\n"

    assert _prepare(named, permission=NEWS_ONLY) is policy.SET_NOT_ALLOWED
    assert isinstance(_prepare(named.replace(b"default", b"news"), permission=NEWS_ONLY), Prepared)
    assert isinstance(_prepare(FROM + b"\r\n", permission=NEWS_ONLY), Prepared)
    assert isinstance(_prepare(named), Prepared)


@pytest.mark.parametrize(
    ("session", "protocol"),
    [
        ({}, "ESMTP"),
        ({"tls": True}, "ESMTPS"),
        ({"permission": NEWS_ONLY}, "ESMTPA"),
        ({"tls": True, "permission": NEWS_ONLY}, "ESMTPSA"),
        ({"esmtp": False, "tls": True}, "SMTP"),
    ],
)
def test_received_says_how_a_message_came(session: dict[str, object], protocol: str) -> None:
    """RFC 3848, in a field of RFC 5321 §4.4 on top of all others."""
    prepared = _prepare(FROM + b"\r\nhello\r\n", **session)  # type: ignore[arg-type]

    assert isinstance(prepared, Prepared)
    field = prepared.message.split(b"\r\nFrom:")[0].replace(b"\r\n", b"").decode()
    assert field == (
        "Received: from client.example ([127.0.0.1]) by relay.example.com (Mailwake r1) with "
        f"{protocol} id {ID}; Sun, 22 Nov 2026 10:00:00 +0000"
    )
