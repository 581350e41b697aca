"""The report to the author that a copy could not be delivered: whether one is due, and its bytes.

Owns the text and the three parts of the report. Does not send it: it goes into the spool as a message of its own, from
the null sender, under an id made from the copy (`report_id`), so that a crash between two steps makes the same again.

Standards: RFC 3464 (delivery status), RFC 6522 (multipart/report), RFC 6533 §3 (recipients in UTF-8), RFC 3834 §5
(Auto-Submitted), RFC 5321 §4.5.5 (no report about a report: that is the defence against bounce loops) and §6.1.

Limits: the report is 7-bit ASCII but for a sender whose own address is not (`smtputf8` of its entry then). `dsn_sender`
for upstreams that refuse the null sender is not there.
"""

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime
from typing import Final

from relay.core import headers, quoted_printable
from relay.core.attempt import UpstreamReply
from relay.core.reply import sanitize
from tracker.contract.ids import CopyId, MessageId

MAX_HEADER_BYTES: Final = 50_000  # Postfix returns as much of a message

_REPORT_DOMAIN: Final = b"mailwake report v1\0"
_TIME_BYTES: Final = 6
_ENHANCED: Final = re.compile(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}(?![0-9.])")
_EXPIRED: Final = "5.4.7"  # RFC 3463 §3.5: delivery time expired
_UNSPECIFIED: Final = "5.0.0"
_NOT_XTEXT: Final = re.compile(r"[^!-*,-<>-\[\]-~]")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportFacts:
    """What a report tells. `reply` is None where the upstream never said anything; `detail` is then all there is.

    `hostname` is ours, `upstream_host` the server that was asked (`"smtp.example.com"`, empty where there is none).
    """

    hostname: str
    copy: CopyId
    sender: str
    recipient: str
    arrived_at: datetime
    failed_at: datetime
    reply: UpstreamReply | None
    detail: str
    expired: bool
    upstream_host: str = ""


def is_due(*, reverse_path: str, header_of: bytes) -> bool:
    """Say whether a failure of this message is reported: not to the null sender, not of what a machine sent.

    `header_of` is the message. RFC 3834 §5: every value of Auto-Submitted but `no` is a machine's.
    """
    values = headers.scan(header_of).values("Auto-Submitted")
    return bool(reverse_path) and all(value.partition(";")[0].strip().lower() == "no" for value in values)


def report_id(copy: CopyId) -> MessageId:
    """Return the id of the report about a copy: always the same, and sorted where its message was."""
    digest = hashlib.sha256(_REPORT_DOMAIN + copy.raw).digest()
    return MessageId(copy.raw[:_TIME_BYTES] + digest[: 16 - _TIME_BYTES])


def make(facts: ReportFacts, message: bytes) -> bytes:
    """Return the report with CRLF line ends; of `message` it holds the header, up to 50 KB of it.

    The only recipient it names of itself is the one that failed.
    """
    report = str(report_id(facts.copy))
    boundary = f"=_{report}"
    head = [
        headers.make_field("From", f"Mail Delivery System <MAILER-DAEMON@{facts.hostname}>"),
        headers.make_field("To", f"<{facts.sender}>"),
        headers.make_field("Subject", "Your message could not be delivered"),
        headers.make_field("Date", format_datetime(facts.failed_at)),
        headers.make_field("Message-ID", f"<{report}@{facts.hostname}>"),
        headers.make_field("Auto-Submitted", "auto-replied"),
        headers.make_field("MIME-Version", "1.0"),
        headers.make_field("Content-Type", f'multipart/report; report-type=delivery-status; boundary="{boundary}"'),
    ]
    parts = (_explanation(facts), _delivery_status(facts), _returned_header(message))
    mark = f"\r\n--{boundary}".encode("ascii")
    return b"".join([*head, *(mark + b"\r\n" + part for part in parts), mark, b"--\r\n"])


def _explanation(facts: ReportFacts) -> bytes:
    why = f"The mail server answered: {facts.reply}" if facts.reply else f"What happened: {facts.detail or 'no answer'}"
    how = (
        "It was tried for as long as mail is kept here, and is given up now."
        if facts.expired
        else "It was refused, and is not tried again."
    )
    lines = [
        f"This is the mail system at {facts.hostname}.",
        "",
        "Your message could not be delivered to this recipient:",
        "",
        f"    {sanitize(facts.recipient, 320)}",
        "",
        how,
        sanitize(why, 500),
        "",
        "Delivered copies to other recipients, if there were any, are not affected.",
    ]
    return b"Content-Type: text/plain; charset=us-ascii\r\n\r\n" + "\r\n".join(lines).encode("ascii")


def _delivery_status(facts: ReportFacts) -> bytes:
    per_message = [
        headers.make_field("Reporting-MTA", f"dns; {facts.hostname}"),
        headers.make_field("Arrival-Date", format_datetime(facts.arrived_at)),
    ]
    kind, address = ("rfc822", facts.recipient) if facts.recipient.isascii() else ("utf-8", _xtext(facts.recipient))
    per_recipient = [
        headers.make_field("Final-Recipient", f"{kind}; {address}"),
        headers.make_field("Action", "failed"),
        headers.make_field("Status", _status(facts)),
    ]
    if facts.upstream_host:
        per_recipient.append(headers.make_field("Remote-MTA", f"dns; {facts.upstream_host}"))
    if facts.reply:
        per_recipient.append(headers.make_field("Diagnostic-Code", f"smtp; {sanitize(str(facts.reply), 500)}"))
    per_recipient.append(headers.make_field("Last-Attempt-Date", format_datetime(facts.failed_at)))
    groups = b"".join(per_message) + b"\r\n" + b"".join(per_recipient)
    return b"Content-Type: message/delivery-status\r\n\r\n" + groups


def _status(facts: ReportFacts) -> str:
    """The upstream's enhanced code where it is one of failure; a copy that expired has its own."""
    if facts.expired:
        return _EXPIRED
    found = _ENHANCED.match(facts.reply.text) if facts.reply else None
    return found.group() if found and found.group().startswith("5") else _UNSPECIFIED


def _returned_header(message: bytes) -> bytes:
    block = headers.scan(message)
    kept: list[bytes] = []
    size_bytes = 0
    for field in block.fields:
        raw = message[field.start : field.end]
        size_bytes += len(raw)
        if size_bytes > MAX_HEADER_BYTES:
            break
        if field.name not in (b"bcc", b"resent-bcc"):
            kept.append(raw)
    header = b"".join(kept)
    if header.isascii():
        return b"Content-Type: text/rfc822-headers\r\n\r\n" + header
    encoded = quoted_printable.encode(header)
    return b"Content-Type: text/rfc822-headers\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n" + encoded


def _xtext(address: str) -> str:
    r"""RFC 6533 §3, utf-8-addr-xtext: `"jörg@a.example"` becomes `"j\x{F6}rg@a.example"`."""
    return _NOT_XTEXT.sub(lambda found: f"\\x{{{ord(found.group()):02X}}}", address)
