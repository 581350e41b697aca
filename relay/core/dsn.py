"""The report to the author on what became of a copy: whether one is due, and its bytes.

Owns the three parts of the report; the words of the first are in `dsntext.py`. Does not send it: it goes into the spool
as a message of its own, under an id made from the copy (`report_id`), so that a crash between two steps makes the same
again.

Theory (a report never causes a report):
    It goes out with the null sender, says that a machine wrote it, and has a field of ours (`MARKER`). The field is for
    upstreams that refuse the null sender: the report then has `dsn_sender` as its reverse-path, and if it comes to us
    again as mail, by whatever way, nothing is reported about it. In the spool it is marked as a report as well.

Standards: RFC 3464 (delivery status), RFC 6522 (multipart/report), RFC 3461 §5.2 and §6 (what is due, and what the
report holds), RFC 6533 §3 (recipients in UTF-8), RFC 3834 §5 (Auto-Submitted), RFC 5321 §4.5.5 and §6.1.

Limits: one report a recipient, also where a message has several. The report is 7-bit ASCII but for a sender whose own
address is not, and for a message in 8 bits that is returned whole. A message whose header is not ASCII is never
returned whole: that would need message/global and SMTPUTF8 on the way back (RFC 6533 §4).
"""

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime
from enum import StrEnum
from typing import Final

from relay.core import dsntext, headers, quoted_printable
from relay.core.attempt import UpstreamReply
from relay.core.dsnrequest import ANYTHING, NO_REQUEST, DsnRequest, RecipientRequest, utf8_address
from relay.core.headers import HeaderBlock
from relay.core.reply import sanitize
from tracker.contract.ids import CopyId, MessageId

MARKER: Final = "X-Mailwake-Report"
"""The header field of every report of ours; what bears it causes none."""
MAX_RETURNED_BYTES: Final = 50_000  # Postfix: bounce_size_limit, of a header as of a whole message

_REPORT_DOMAIN: Final = b"mailwake report v1\0"
_TIME_BYTES: Final = 6
_ENHANCED: Final = re.compile(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}(?![0-9.])")
_EXPIRED: Final = "5.4.7"  # RFC 3463 §3.5: delivery time expired
_RELAYED: Final = "2.1.9"  # RFC 3463 §3.2: relayed to a mailer that does not report
_LONG_LINE: Final = re.compile(rb"[^\n]{999}")  # RFC 5322 §2.1.1: 998 and the CRLF


class Action(StrEnum):
    """What became of the copy, in the words of RFC 3464 §2.3.3."""

    FAILED = "failed"
    RELAYED = "relayed"
    DELIVERED = "delivered"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportFacts:
    """What a report tells. `reply` is None where the upstream never said anything; `detail` is then all there is.

    `hostname` is ours, `upstream_host` the server that was asked (`"smtp.example.com"`, empty where there is none);
    `sender` is who gets the report. `message_request` and `request` are what the client asked, of the message and of
    this recipient. `dsn_sender` is empty, or the address that reports come from.
    """

    hostname: str
    copy: CopyId
    sender: str
    recipient: str
    arrived_at: datetime
    ended_at: datetime
    reply: UpstreamReply | None
    detail: str
    expired: bool
    action: Action = Action.FAILED
    upstream_host: str = ""
    dsn_sender: str = ""
    message_request: DsnRequest = NO_REQUEST
    request: RecipientRequest = ANYTHING


def due_action(*, failed: bool, final: bool, upstream_reports: bool, request: RecipientRequest) -> Action | None:
    """Return what is to be reported of a copy that has come to its end; None: nothing, by what was asked.

    An upstream that offers DSN has taken the duty to report a delivery over (RFC 3461 §5.2.1); one that refused the
    copy has not. `final`: who took it is the recipients' own server, so that it is delivered and not only relayed.
    """
    if failed:
        return Action.FAILED if request.wants_failure else None
    if upstream_reports or not request.wants_success:
        return None
    return Action.DELIVERED if final else Action.RELAYED


def is_due(*, reverse_path: str, header_of: bytes) -> bool:
    """Say whether anything is reported of this message: not to the null sender, not of what a machine sent.

    `header_of` is the message. RFC 3834 §5: every value of Auto-Submitted but `no` is a machine's.
    """
    block = headers.scan(header_of)
    is_automatic = any(value.partition(";")[0].strip().lower() != "no" for value in block.values("Auto-Submitted"))
    return bool(reverse_path) and not is_automatic and not block.has(MARKER)


def report_id(copy: CopyId) -> MessageId:
    """Return the id of the report about a copy: always the same, and sorted where its message was."""
    digest = hashlib.sha256(_REPORT_DOMAIN + copy.raw).digest()
    return MessageId(copy.raw[:_TIME_BYTES] + digest[: 16 - _TIME_BYTES])


def make(facts: ReportFacts, message: bytes) -> bytes:
    """Return the report with CRLF line ends; of `message` it holds the header or, where asked, all: up to 50 KB.

    The only recipient it names of itself is the one that it is about.
    """
    report = str(report_id(facts.copy))
    boundary = f"=_{report}"
    block = headers.scan(message)
    returned = _returned_whole(message) if _is_returned_whole(facts, message, block) else _returned_header(block)
    head = [
        headers.make_field("From", f"Mail Delivery System <{facts.dsn_sender or f'MAILER-DAEMON@{facts.hostname}'}>"),
        headers.make_field("To", f"<{facts.sender}>"),
        headers.make_field("Subject", dsntext.SUBJECTS[facts.action]),
        headers.make_field("Date", format_datetime(facts.ended_at)),
        headers.make_field("Message-ID", f"<{report}@{facts.hostname}>"),
        headers.make_field("Auto-Submitted", "auto-replied"),
        headers.make_field(MARKER, report),
        headers.make_field("MIME-Version", "1.0"),
        headers.make_field("Content-Type", f'multipart/report; report-type=delivery-status; boundary="{boundary}"'),
    ]
    if not returned.isascii():
        head.append(headers.make_field("Content-Transfer-Encoding", "8bit"))
    parts = (_explanation(facts, block), _delivery_status(facts), returned)
    mark = f"\r\n--{boundary}".encode("ascii")
    return b"".join([*head, *(mark + b"\r\n" + part for part in parts), mark, b"--\r\n"])


def _explanation(facts: ReportFacts, block: HeaderBlock) -> bytes:
    text = dsntext.text_of(
        dsntext.Story(
            action=facts.action,
            hostname=facts.hostname,
            upstream_host=facts.upstream_host,
            recipient=facts.recipient,
            reply=str(facts.reply or ""),
            detail=facts.detail,
            status=_status(facts),
            subject=next(iter(block.values("Subject")), ""),
            arrived=format_datetime(facts.arrived_at),
            reference=str(facts.copy),
        )
    ).encode()
    if text.isascii():
        return b"Content-Type: text/plain; charset=us-ascii\r\n\r\n" + text
    encoded = quoted_printable.encode(text)
    return b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n" + encoded


def _delivery_status(facts: ReportFacts) -> bytes:
    kind, address = (
        ("rfc822", facts.recipient) if facts.recipient.isascii() else ("utf-8", utf8_address(facts.recipient))
    )
    per_message = {
        "Original-Envelope-Id": facts.message_request.shown_envelope_id(),
        "Reporting-MTA": f"dns; {facts.hostname}",
        "Arrival-Date": format_datetime(facts.arrived_at),
    }
    per_recipient = {
        "Original-Recipient": facts.request.shown_original(),
        "Final-Recipient": f"{kind}; {address}",
        "Action": facts.action.value,
        "Status": _status(facts),
        "Remote-MTA": facts.upstream_host and f"dns; {facts.upstream_host}",
        "Diagnostic-Code": f"smtp; {sanitize(str(facts.reply), 500)}" if facts.reply else "",
        "Last-Attempt-Date": format_datetime(facts.ended_at),
    }
    groups = [
        b"".join(headers.make_field(name, value) for name, value in group.items() if value)
        for group in (per_message, per_recipient)
    ]
    return b"Content-Type: message/delivery-status\r\n\r\n" + b"\r\n".join(groups)


def _status(facts: ReportFacts) -> str:
    """The upstream's enhanced code where it fits the action; what expired or was relayed has its own."""
    if facts.action is Action.RELAYED:
        return _RELAYED
    if facts.expired:
        return _EXPIRED
    wanted = "5" if facts.action is Action.FAILED else "2"
    found = _ENHANCED.match(facts.reply.text) if facts.reply else None
    return found.group() if found and found.group().startswith(wanted) else f"{wanted}.0.0"


def _is_returned_whole(facts: ReportFacts, message: bytes, block: HeaderBlock) -> bool:
    """RFC 3461 §4.3: only of a failure, and only what any mail server takes; else the header is returned."""
    return (
        facts.action is Action.FAILED
        and facts.message_request.returned == "FULL"
        and len(message) <= MAX_RETURNED_BYTES
        and message[block.start : block.end].isascii()
        and _LONG_LINE.search(message) is None
    )


def _returned_whole(message: bytes) -> bytes:
    encoding = b"" if message.isascii() else b"Content-Transfer-Encoding: 8bit\r\n"
    return b"Content-Type: message/rfc822\r\n" + encoding + b"\r\n" + message


def _returned_header(block: HeaderBlock) -> bytes:
    kept: list[bytes] = []
    size_bytes = 0
    for field in block.fields:
        raw = block.raw[field.start : field.end]
        size_bytes += len(raw)
        if size_bytes > MAX_RETURNED_BYTES:
            break
        if field.name not in (b"bcc", b"resent-bcc"):
            kept.append(raw)
    header = b"".join(kept)
    if header.isascii() and _LONG_LINE.search(header) is None:
        return b"Content-Type: text/rfc822-headers\r\n\r\n" + header
    encoded = quoted_printable.encode(header)
    return b"Content-Type: text/rfc822-headers\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n" + encoded
