"""What we sign, others verify: dkimpy and OpenDKIM, with keys of both kinds."""

import random
import smtplib
from pathlib import Path

import pytest

from relay import dkimkeys
from relay.core import dkim
from relay.core.dkim import Algorithm
from relay.dkimkeys import DkimKey
from tests.acceptance.service import wait_until
from tests.integration import dkim_verifiers
from tests.integration.serving import CONFIG, LIMIT_S, configure, serving
from tests.unit.submissions import NOW

_HEADER = b"From: Shop <news@shop.example>\r\nTo: ana@client.example\r\nSubject: Lamps\r\n"


def _messages(count: int) -> dict[str, bytes]:
    """Give messages that programs are known to disagree on, and some by chance."""
    chance = random.Random(20261122)
    bodies = [b"".join(chance.choices([b" ", b"\t", b"\r\n", b"a", b"  b", b"."], k=60)) for _ in range(count)]
    return {
        "plain": _HEADER + b"\r\nHello\r\n",
        "no empty line": _HEADER,
        "empty body": _HEADER + b"\r\n",
        "empty lines alone": _HEADER + b"\r\n\r\n\r\n\r\n",
        "one space": _HEADER + b"\r\n \r\n",
        "no line end": _HEADER + b"\r\nHello",
        "white space": _HEADER + b"\r\n a \t b\t\r\n\t\r\n  c  \r\n\r\n \r\n\r\n",
        "dots": _HEADER + b"\r\n.\r\n..\r\n.a\r\n",
        "folded": _HEADER + b"References: <a@b>\r\n\t<c@d>\r\n  <e@f> \r\nDate:Sun, 22 Nov 2026 \r\n\r\nx\r\n",
        "a name in capitals": _HEADER + b"MESSAGE-ID: <a@b>\r\nmime-version:1.0\r\n\r\nx\r\n",
        "UTF-8 in the header": _HEADER + "Reply-To: Jürgen <j@shop.example>\r\n\r\nGrüße\r\n".encode(),
        "fields twice": _HEADER + b"Subject: again\r\nReferences: <1>\r\nReferences: <2>\r\n\r\nx\r\n",
        "an empty field": _HEADER + b"Cc:\r\nReply-To: \r\n\r\nx\r\n",
        "a newsletter": _HEADER
        + b"List-Id: <news.shop.example>\r\nList-Unsubscribe: <https://shop.example/u>,\r\n <mailto:u@shop.example>\r\n"
        b"List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\nFeedback-ID: 1:2:3:shop\r\n\r\nx\r\n",
        "many recipients": _HEADER + b"Cc: " + b",\r\n ".join([b"someone@client.example"] * 200) + b"\r\n\r\nx\r\n",
        "long lines": _HEADER + b"\r\n" + b"word " * 190 + b"\r\n" + b"x" * 998 + b"\r\n",
        "large": _HEADER + b"\r\n" + b"A line of text,  with two spaces. \r\n" * 30_000,
        "every byte": _HEADER + b"\r\n" + bytes(set(range(1, 256)) - {10, 13}) + b"\r\n",
        **{f"by chance {number}": _HEADER + b"\r\n" + body for number, body in enumerate(bodies)},
    }


def _records(key: DkimKey) -> dict[str, str]:
    return {"mw1._domainkey.shop.example": key.record()}


@pytest.mark.parametrize("algorithm", ["rsa-sha256", "ed25519-sha256"])
def test_dkimpy_and_opendkim_verify_what_we_sign(algorithm: Algorithm, tmp_path: Path) -> None:
    """Each shape of message once as signed, and once with a body that was tampered with."""
    key, _ = dkimkeys.make(algorithm)
    messages = _messages(15)
    signed, changed = [], []
    for name, message in messages.items():
        field = dkim.signature([message], key.signer("shop.example", "mw1"), at=NOW)
        assert field is not None, name
        signed.append(_carried(field + message))
        head, separator, body = message.partition(b"\r\n\r\n")
        changed.append(_carried(field + head + (separator or b"\r\n") + b"tampered " + body))

    both = [*signed, *changed]
    for found in (
        dkim_verifiers.dkimpy(both, _records(key)),
        dkim_verifiers.opendkim(both, _records(key), tmp_path),
    ):
        verified = dict(zip(messages, found[: len(messages)], strict=True))
        assert [name for name, is_right in verified.items() if not is_right] == []
        taken_in = dict(zip(messages, found[len(messages) :], strict=True))
        assert [name for name, is_taken_in in taken_in.items() if is_taken_in] == []


def _carried(message: bytes) -> bytes:
    """Return a message as SMTP carries it: it ends with a line end, whether it had one or not."""
    return message if message.endswith(b"\r\n") else message + b"\r\n"


_TABLES = """
dkim = "rsa"
on_signed = "resign"
[configuration_set.other]
dkim = "ed25519"
on_signed = "resign"
[dkim.rsa]
domain = "shop.example"
selector = "rsa"
key = "file:rsa.pem"
[dkim.ed25519]
domain = "shop.example"
selector = "ed25519"
key = "file:ed25519.pem"
"""
_SIGNED = (
    b"DKIM-Signature: v=1; a=rsa-sha256; d=shop.example; s=old; h=from; bh=x; b=y\r\n"
    b"ARC-Seal: i=1; a=rsa-sha256; cv=none; d=mail.example; s=a; b=y\r\n"
    b"ARC-Message-Signature: i=1; a=rsa-sha256; d=mail.example; s=a; h=from; bh=x; b=y\r\n"
    b"ARC-Authentication-Results: i=1; mail.example; none\r\n"
)
_NEWSLETTER = (
    _HEADER + b"List-Unsubscribe: <https://shop.example/u>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"
    b"MIME-Version: 1.0\r\nContent-Type: text/html; charset=utf-8\r\n\r\n"
    b'<html><body><a href="https://shop.example/lamp">Lamp</a></body></html>\r\n'
)


def test_a_rewritten_message_of_a_running_relay_verifies(tmp_path: Path) -> None:
    """The copies that leave, with a pixel and a wrapped link; the signatures of the author's own server went."""
    records = {}
    for kind in ("rsa", "ed25519"):
        key, pem = dkimkeys.make("rsa-sha256" if kind == "rsa" else "ed25519-sha256")
        records[f"{kind}._domainkey.shop.example"] = key.record()
        (tmp_path / f"{kind}.pem").touch(mode=0o600)
        (tmp_path / f"{kind}.pem").write_text(pem)
    config = configure(tmp_path, CONFIG.replace("[event_destination", _TABLES + "[event_destination"))
    mailbox = tmp_path / "var/mail/new"
    with serving(config) as server, smtplib.SMTP(*server.address("relay")) as client:
        for message in (
            _NEWSLETTER,
            _SIGNED + _NEWSLETTER,
            b"X-SES-CONFIGURATION-SET: other\r\n" + _SIGNED + _NEWSLETTER,
        ):
            assert client.sendmail("news@shop.example", ["ana@client.example", "bo@client.example"], message) == {}
        paths = wait_until(lambda: list(mailbox.glob("*")), lambda found: len(found) == 6, LIMIT_S)
    copies = [_without_delivery_fields(path.read_bytes()) for path in paths]

    assert sorted(copy[:40].split()[2] for copy in copies) == [b"a=ed25519-sha256;"] * 2 + [b"a=rsa-sha256;"] * 4
    for copy in copies:
        assert copy.startswith(b"DKIM-Signature: v=1; ")
        assert (copy.count(b"DKIM-Signature:"), copy.count(b"ARC-")) == (1, 0)
        assert b"/l/" in copy
        assert b"https://shop.example/lamp" not in copy
    assert dkim_verifiers.dkimpy(copies, records) == [True] * 6
    assert dkim_verifiers.opendkim(copies, records, tmp_path) == [True] * 6


def _without_delivery_fields(stored: bytes) -> bytes:
    """Return the copy as it was sent: the mailbox puts two fields before it."""
    return_path, delivered_to, copy = stored.split(b"\r\n", 2)
    assert return_path.startswith(b"Return-Path:")
    assert delivered_to.startswith(b"Delivered-To:")
    return copy
