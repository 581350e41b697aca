"""Whether a login may send a message: its envelope sender, and every mailbox of its From and Sender fields.

A login sends from its own domains alone. What is shown to the reader is the header, so the header is held to the same
rule as the envelope; and since programs disagree on how a crooked header is read, only a straight one passes: one From,
at most one Sender, plain mailboxes (mailboxes.py has the grammar). Nothing is mended: what was checked is what is sent.

`Resent-From` is not looked at: it tells who sent a message on, and no program shows it as the author (RFC 5322 §3.6.6).

Standards: RFC 5322 §3.6.2 (From, Sender), RFC 6409 §6.1 (a submission server may refuse a sender).
"""

import re
from typing import Final

from relay.core.headers import HeaderBlock
from relay.core.mailboxes import MailboxError, strict_mailboxes
from relay.core.reply import Reply
from tracker.contract.address import NullSender, ReversePath
from tracker.contract.credentials import Permission

# A field behind what some programs take for a line end, and others for a character of a value: VT, FF, FS, GS, RS; NEL
# and the two separators of Unicode in UTF-8.
_HIDDEN_FIELD: Final = re.compile(
    rb"(?:[\x0b\x0c\x1c-\x1e]|\xc2\x85|\xe2\x80[\xa8\xa9])[ \t]*+(?:from|sender)[ \t]*+:", re.IGNORECASE
)


def may_send_from(permission: Permission, reverse_path: ReversePath) -> bool:
    """Say whether a login may use an envelope sender; the null sender of reports it may, its From is checked later."""
    return isinstance(reverse_path, NullSender) or permission.allows_domain(reverse_path.domain)


def check_header(permission: Permission, header: HeaderBlock) -> Reply | None:
    """Return the reply that refuses a message of a login for its header, or None."""
    is_straight = header.is_sound and header.first == header.start
    if not is_straight or _HIDDEN_FIELD.search(header.raw, header.start, header.end):
        # Others may go on reading where we end, or begin elsewhere, and find another From there.
        return _refusal("The header is malformed or too long, so its sender cannot be told")
    return _check_field(permission, header, "From", at_least=1) or _check_field(
        permission, header, "Sender", at_least=0
    )


def is_refusal(reply: Reply) -> bool:
    """Say whether a reply to the final dot is one of `check_header`: no other has its codes."""
    return (reply.code, reply.enhanced) == (550, "5.7.1")


def _check_field(permission: Permission, header: HeaderBlock, name: str, *, at_least: int) -> Reply | None:
    fields = list(header.find(name))
    if len(fields) > 1:
        return _refusal(f"There is more than one {name} field")
    if len(fields) < at_least:
        return _refusal(f"There is no {name} field")
    for field in fields:
        try:
            header.raw[field.value : field.end].decode("utf-8")  # `value` would read it as Latin-1
            mailboxes = strict_mailboxes(header.value(field))
        except UnicodeDecodeError:
            return _refusal(f"The {name} field is not UTF-8")
        except MailboxError as error:
            return _refusal(f"The {name} field cannot be told for sure: {error}")
        if not all(permission.allows_domain(mailbox.domain) for mailbox in mailboxes):
            return _refusal(f"This login may not send from the domain of an address in {name}")
    return None


def _refusal(why: str) -> Reply:
    return Reply(code=550, enhanced="5.7.1", text=why)
