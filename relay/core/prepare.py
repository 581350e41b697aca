"""A submission made ready for the spool: checked, its header settled, its rewriting planned. All that is pure of it.

The same function serves the relay, `mailwake explain` and `mailwake rewrite`, so what they show is what happens.

Order: line ends, limits, loop check, control headers, the sender's permission, policy, header (our Received in, control
headers out), plan. The plan is of the bytes that are stored, so its offsets hold for every later reader of the spool
file.
"""

from dataclasses import dataclass
from typing import Final, Literal, assert_never

from relay.core import dkim, headers, lineends, mailboxes, plan, senders
from relay.core.controls import Controls, read
from relay.core.headers import HeaderBlock
from relay.core.lineends import LineEndFault
from relay.core.linkrules import LinkRules
from relay.core.plan import RewriteOptions, RewritePlan
from relay.core.policy import Refuse, Track, Untouched, decide
from relay.core.reasons import SkipReason
from relay.core.reply import Reply
from relay.core.submission import Session, Submission
from tracker.contract.ids import MessageId
from tracker.contract.settings import ConfigurationSet, Settings

LOOP: Final = Reply(code=554, enhanced="5.4.6", text="Too many hops, this message is in a loop")
NUL: Final = Reply(code=550, enhanced="5.6.0", text="The message holds a NUL character")
BARE_LINE_END: Final = Reply(code=550, enhanced="5.6.0", text="The message holds a CR or LF that stands alone")

LINE_TOO_LONG: Final = Reply(code=554, enhanced="5.6.0", text="A line of the message is longer than is taken here")
HEADER_TOO_LARGE: Final = Reply(code=552, enhanced="5.3.4", text="The header of the message is too large")


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What the relay says of itself, and how it takes stray line ends, long lines and large headers."""

    hostname: str
    instance: str
    bare_line_ends: lineends.Mode = "normalize"
    max_line_bytes: int = 64 << 10
    large_headers: Literal["untracked", "reject"] = "untracked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A message that is accepted but for the disk.

    `message` is what the spool keeps; `is_8bit`: it is not ASCII alone. `plan` is None where it passes untouched;
    `original` is the header block as the client sent it, control headers included.
    """

    message: bytes
    is_8bit: bool
    original: HeaderBlock
    controls: Controls
    decision: Track | Untouched
    options: RewriteOptions | None
    plan: RewritePlan | None


def prepare(submission: Submission, *, site: Site, settings: Settings, message_id: MessageId) -> Prepared | Reply:
    """Prepare a submission; a Reply is its refusal, and nothing of it is kept."""
    settled = lineends.settle(submission.message, site.bare_line_ends)
    if isinstance(settled, LineEndFault):
        return NUL if settled is LineEndFault.NUL else BARE_LINE_END
    if lineends.has_line_over(settled, site.max_line_bytes):
        return LINE_TOO_LONG
    original = headers.scan(settled)
    if original.is_cut and site.large_headers == "reject":
        return HEADER_TOO_LARGE
    if headers.is_looping(original, site.instance):
        return LOOP
    controls = read(original.values)
    permission = submission.session.permission
    if permission is not None and (refusal := senders.check_header(permission, original)) is not None:
        return refusal
    decision = decide(
        from_values=original.values("From"),
        reverse_path=submission.envelope.reverse_path,
        controls=controls,
        settings=settings,
        permission=permission,
    )
    if isinstance(decision, Refuse):
        return decision.reply
    trace = _received(submission, site, message_id)
    # In this order: a line that was no field must not become the first line, and an mbox line for what comes in next.
    message = headers.strip_controls(headers.prepend(settled, trace))
    options = _options(decision, settings, original)
    return Prepared(
        message=message,
        is_8bit=not message.isascii(),
        original=original,
        controls=controls,
        decision=decision,
        options=options,
        plan=None if options is None else plan.make(message, options),
    )


def _options(decision: Track | Untouched, settings: Settings, original: HeaderBlock) -> RewriteOptions | None:
    match decision:
        case Untouched():
            return None
        case Track(configuration_set=chosen, from_domain=from_domain, wishes=wishes, reason=reason):
            return RewriteOptions(
                open_tracking=wishes.opens,
                html_links=wishes.html_clicks,
                text_links=wishes.text_clicks,
                max_links=settings.max_links,
                rules=LinkRules(
                    own_hosts=settings.own_hosts,
                    skip_hosts=chosen.skip_hosts,
                    skip_url_text=chosen.skip_url_text,
                    sensitive=chosen.sensitive_links,
                ),
                # Whatever stands beyond what was read of the header may have asked for no tracking.
                leave=SkipReason.HEADER_TOO_LARGE if reason is None and original.is_cut else reason,
                resign=_may_resign(chosen, settings, original),
                configuration_set=chosen.name,
                from_domain=from_domain,
            )
        case _ as never:
            assert_never(never)


def _may_resign(chosen: ConfigurationSet, settings: Settings, original: HeaderBlock) -> bool:
    """Say whether our signature may take the place of the author's: it speaks for the same author.

    Else a message of another domain would arrive with no signature of its author's, and fail that domain's DMARC policy
    (RFC 7489 §3.1.1). Of several authors nobody can speak for all.
    """
    if chosen.on_signed != "resign" or chosen.dkim is None:
        return False
    authors = [mailbox for value in original.values("From") for mailbox in mailboxes.split(value)]
    author = mailboxes.first_mailbox(authors[0]) if len(authors) == 1 else None
    return author is not None and dkim.is_aligned(settings.dkim_domains[chosen.dkim], author.domain)


def _received(submission: Submission, site: Site, message_id: MessageId) -> bytes:
    return headers.received(
        helo=submission.session.helo,
        client_address=submission.session.client_address,
        host=site.hostname,
        instance=site.instance,
        protocol=_protocol(submission.session, smtputf8=submission.envelope.smtputf8),
        queued_as=str(message_id),
        at=submission.received_at,
    )


def _protocol(session: Session, *, smtputf8: bool) -> str:
    """Name the protocol as RFC 3848 and RFC 6531 §4.3 do: SMTP, ESMTP, ESMTPSA, UTF8SMTP."""
    if not session.esmtp:
        return "SMTP"
    secured = ("S" if session.tls else "") + ("A" if session.caller else "")
    return ("UTF8SMTP" if smtputf8 else "ESMTP") + secured
