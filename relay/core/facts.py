"""The facts of an accepted message that every one of its events is joined with: made once, kept in spool and journal.

Headers stand as the client sent them, control headers included (users find their tags there), up to 10 KB. Never kept:
`Bcc`, which would tell each recipient's event of the others, and the URLs of links that were left alone.
"""

from collections import Counter
from datetime import datetime
from typing import Final

from relay.core import controls, encoded_words, headers, mailboxes
from relay.core.consent import NOBODY_SPOKE, Consents
from relay.core.headers import HeaderBlock
from relay.core.plan import Link, RewritePlan
from relay.core.policy import Track, sender_domain
from relay.core.prepare import Prepared
from relay.core.reply import Reply
from relay.core.submission import Submission
from tracker.contract.events import Accepted, CopyFacts, HeaderField, MessageFacts, Rejected, Skipped, TrackedLink
from tracker.contract.ids import CopyId, MessageId
from tracker.contract.settings import Settings
from tracker.contract.urls import without_query

MAX_HEADER_BYTES: Final = 10_240
"""What SES keeps of the header; beyond it `headersTruncated` is true."""

_NEVER_KEPT: Final = frozenset({b"bcc", b"resent-bcc", b"return-path"})


def facts_of(
    submission: Submission,
    prepared: Prepared,
    *,
    message_id: MessageId,
    copies: tuple[CopyId, ...],
    at: datetime,
    consents: Consents = NOBODY_SPOKE,
) -> Accepted:
    """Return the record of acceptance; `copies` stand in the order of the envelope's recipients.

    `consents` are what recipients decided: by them alone a copy is not tracked, and says so.
    """
    chosen = prepared.decision
    return Accepted(
        facts=_facts(
            submission,
            prepared.original,
            message_id=message_id,
            at=at,
            from_domain=chosen.from_domain,
            configuration_set=chosen.configuration_set.name if isinstance(chosen, Track) else None,
            upstream=chosen.configuration_set.upstream if isinstance(chosen, Track) else chosen.upstream,
            tags=prepared.controls.tags,
            links=() if prepared.plan is None else tuple(_tracked(link) for link in prepared.plan.links),
            skipped=_skipped(prepared),
        ),
        copies=tuple(
            _copy_facts(prepared, copy, str(recipient), consents)
            for copy, recipient in zip(copies, submission.envelope.recipients, strict=True)
        ),
    )


def rejected_of(
    submission: Submission,
    reply: Reply,
    settings: Settings,
    *,
    message_id: MessageId,
    copies: tuple[CopyId, ...],
    at: datetime,
) -> Rejected:
    """Return the record of a message that its login may not send; the account's set says who hears of it."""
    block = headers.scan(submission.message)
    return Rejected(
        facts=_facts(
            submission,
            block,
            message_id=message_id,
            at=at,
            from_domain=sender_domain(block.values("From"), submission.envelope.reverse_path),
            configuration_set=settings.account_set,
            upstream=settings.default_upstream,
            tags=controls.read(block.values).tags,
        ),
        copies=tuple(
            CopyFacts(copy=copy, recipient=str(recipient), opens=False, clicks=False)
            for copy, recipient in zip(copies, submission.envelope.recipients, strict=True)
        ),
        reply=reply.line(),
    )


def _facts(
    submission: Submission,
    block: HeaderBlock,
    *,
    message_id: MessageId,
    at: datetime,
    from_domain: str,
    configuration_set: str | None,
    upstream: str,
    tags: tuple[tuple[str, str], ...],
    links: tuple[TrackedLink, ...] = (),
    skipped: tuple[Skipped, ...] = (),
) -> MessageFacts:
    header_fields, truncated = _header_fields(block)
    return MessageFacts(
        message=message_id,
        accepted_at=at,
        source=str(submission.envelope.reverse_path),
        source_address=submission.session.client_address,
        caller=submission.session.caller,
        from_domain=from_domain,
        configuration_set=configuration_set,
        upstream=upstream,
        headers=header_fields,
        headers_truncated=truncated,
        from_header=_addresses(block, "From"),
        to_header=_addresses(block, "To"),
        cc_header=_addresses(block, "Cc"),
        reply_to_header=_addresses(block, "Reply-To"),
        date_header=_first(block, "Date"),
        message_id_header=_first(block, "Message-ID"),
        subject=encoded_words.decode(_first(block, "Subject")),
        tags=tags,
        links=links,
        skipped=skipped,
        size_bytes=len(submission.message),
    )


def _copy_facts(prepared: Prepared, copy: CopyId, recipient: str, consents: Consents) -> CopyFacts:
    wishes = prepared.controls.wishes_of(recipient)
    plan = prepared.plan
    decision = prepared.decision
    if plan is not None and plan.reason is None and isinstance(decision, Track):
        objection = consents.objection(recipient, decision.configuration_set.consent)
        if objection is not None:
            reason = Skipped(reason=objection.value)
            return CopyFacts(copy=copy, recipient=recipient, opens=False, clicks=False, skipped=(reason,))
    return CopyFacts(
        copy=copy,
        recipient=recipient,
        opens=plan is not None and plan.pixel and wishes.opens,
        clicks=plan is not None
        and any(_is_wished(link, wishes.html_clicks, wishes.text_clicks) for link in plan.links),
    )


def _is_wished(link: Link, in_html: bool, in_text: bool) -> bool:  # noqa: FBT001 - the two parts, in order
    return in_html if link.part == "html" else in_text


def _header_fields(block: HeaderBlock) -> tuple[tuple[HeaderField, ...], bool]:
    kept: list[HeaderField] = []
    left = MAX_HEADER_BYTES
    for field in block.fields:
        if field.name in _NEVER_KEPT:
            continue
        left -= field.end - field.start
        if left < 0:
            return tuple(kept), True
        name = block.raw[field.start : field.start + len(field.name)].decode("ascii")
        kept.append(HeaderField(name=name, value=block.value(field)))
    return tuple(kept), False


def _addresses(block: HeaderBlock, name: str) -> tuple[str, ...]:
    value = _first(block, name)
    return tuple(encoded_words.decode(entry) for entry in mailboxes.split(value)) if value else ()


def _first(block: HeaderBlock, name: str) -> str:
    """Return the first value of a name, cut at the 10 KB that facts may have of headers."""
    field = next(block.find(name), None)
    return "" if field is None else block.value(field)[:MAX_HEADER_BYTES]


def _tracked(link: Link) -> TrackedLink:
    return TrackedLink(
        index=link.index,
        part=link.part,
        section=link.section,
        url=without_query(link.url) if link.redact else link.url,
        text=link.text,
        tags=link.tags,
        redacted=link.redact,
    )


def _skipped(prepared: Prepared) -> tuple[Skipped, ...]:
    plan: RewritePlan | None = prepared.plan
    if plan is None:
        reason = None if isinstance(prepared.decision, Track) else prepared.decision.reason
        return () if reason is None else (Skipped(reason=reason.value),)
    if plan.reason is not None:
        return (Skipped(reason=plan.reason.value),)
    counted = Counter((skip.section, skip.reason.value) for skip in plan.skips)
    return tuple(Skipped(reason=reason, section=section, count=count) for (section, reason), count in counted.items())
