"""The words of a delivery report: what happened, and what its reader can do.

Owns the text for people; the fields for machines are in `dsn.py`. The subject of the message is shown as mail programs
show it, since it is how people know their mail; every text from outside is on one line and has no character that is
not shown (an attacker's line would look like ours).

Standards: RFC 3463 (what the enhanced codes mean), RFC 3461 §6.2 (what the text should hold).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from relay.core import encoded_words
from relay.core.reply import sanitize

SUBJECTS: Final = {
    "failed": "Your message could not be delivered",
    "relayed": "Your message was handed over",
    "delivered": "Your message was delivered",
}

_EXPIRED: Final = "5.4.7"
_MAX_REPLY: Final = 500
_MAX_ADDRESS: Final = 320
_MAX_SUBJECT: Final = 200
# Subject and detail of the enhanced code (RFC 3463 §3), the first that begins it.
_ADVICE: Final = (
    (r"\.1\.(?:1|2|3|6|10)$", "Look for a typing error in the address, or ask the recipient for the present one."),
    (r"\.2\.2$", "The recipient's mailbox is full. Try again later, or reach the recipient in another way."),
    (r"\.(?:2\.3|3\.4)$", "The message is too large for the recipient's server. Send a smaller one, or a link to it."),
    (r"\.4\.", "The recipient's server could not be reached. Send the message again later, if it still matters."),
    (r"\.6\.", "The recipient's server cannot handle this kind of message. Send it as plain text."),
    (r"\.7\.", "The recipient's server did not want it, by its rules. Show this report to who runs your mail."),
)
_OTHERWISE: Final = "If you do not know why, show this report to who runs your mail."


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What is told. `action` is `"failed"`, `"relayed"` or `"delivered"`; `reply` is empty where nobody answered.

    `subject` is the field of the message as it stands there; `reference` finds the copy in events and logs.
    """

    action: str
    hostname: str
    upstream_host: str
    recipient: str
    reply: str
    detail: str
    status: str
    subject: str
    arrived: str
    reference: str


def text_of(story: Story) -> str:
    """Return the text, lines ending in CRLF but for the last."""
    lines = [
        f"This is the mail system at {story.hostname}.",
        "",
        *(_failed(story) if story.action == "failed" else _taken(story)),
        "",
        "The message:",
        f"    Subject: {_one_line(encoded_words.decode(story.subject), _MAX_SUBJECT) or '(none)'}",
        f"    Sent: {story.arrived}",
        f"    Reference: {story.reference}",
        "",
        "This report is about this one recipient. A machine wrote it; answers to it are not read.",
    ]
    return "\r\n".join(lines)


def _failed(story: Story) -> Iterable[str]:
    yield "Your message could not be delivered to this recipient:"
    yield ""
    yield f"    {_one_line(story.recipient, _MAX_ADDRESS)}"
    yield ""
    if story.status == _EXPIRED:
        yield "It was tried again and again for as long as mail is kept here, and is given up now."
    else:
        yield "It was refused, and is not tried again."
    host = story.upstream_host or "The mail server"
    if story.reply:
        yield f"{host} answered: {sanitize(story.reply, _MAX_REPLY)}"
    else:
        yield f"What happened: {sanitize(story.detail, _MAX_REPLY) or 'there was no answer'}"
    yield ""
    yield "What you can do:"
    yield f"    {_advice(story.status)}"


def _taken(story: Story) -> Iterable[str]:
    if story.action == "delivered":
        yield "You asked to be told: your message was delivered to this recipient."
    else:
        yield "You asked to be told: your message was handed to the next mail server for this recipient."
        yield "That server does not report deliveries, so this is the last that you hear, unless it fails there."
    yield ""
    yield f"    {_one_line(story.recipient, _MAX_ADDRESS)}"
    yield ""
    yield f"{story.upstream_host or 'The mail server'} answered: {sanitize(story.reply, _MAX_REPLY)}"


def _advice(status: str) -> str:
    return next((advice for pattern, advice in _ADVICE if re.search(pattern, status)), _OTHERWISE)


def _one_line(text: str, limit: int) -> str:
    """Show a text for people without what is not seen: no control character, no change of direction, no line end."""
    line = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    return line if len(line) <= limit else line[: limit - 3] + "..."
