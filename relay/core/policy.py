"""What is done with a message: tracked by a set, passed untouched, or refused. The decision alone, as a value.

Order of choice (the same for `serve`, `explain` and `rewrite`): the set that the message names, the set of the sender
domain, the account's set; then what the message's own headers narrow.
"""

from dataclasses import dataclass
from typing import Final

from relay.core.controls import NONE, Controls, Wishes
from relay.core.mailboxes import first_mailbox
from relay.core.reasons import SkipReason
from relay.core.reply import Reply
from tracker.contract.address import Address, NullSender, ReversePath
from tracker.contract.credentials import Permission
from tracker.contract.settings import ConfigurationSet, Settings, UnknownSet

UNKNOWN_SET: Final = Reply(code=554, enhanced="5.7.1", text="There is no configuration set of the name in the header")
SET_NOT_ALLOWED: Final = Reply(
    code=554, enhanced="5.7.1", text="This login may not use the configuration set of the name in the header"
)
PAUSED: Final = Reply(code=451, enhanced="4.7.1", text="Sending with this configuration set is paused; try again later")


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """Each recipient gets a copy of their own; `wishes` is what set and message allow, before a recipient's own."""

    configuration_set: ConfigurationSet
    from_domain: str
    wishes: Wishes
    reason: SkipReason | None = None
    """Set where nothing of the message may be touched, whatever the set tracks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Untouched:
    """The message passes as it is, with all its recipients in one transaction."""

    upstream: str
    from_domain: str
    reason: SkipReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Refuse:
    """Nothing is kept; the client gets this reply."""

    reply: Reply


Decision = Track | Untouched | Refuse


def decide(
    *,
    from_values: list[str],
    reverse_path: ReversePath,
    controls: Controls,
    settings: Settings,
    permission: Permission | None = None,
) -> Decision:
    """Decide on one message. `from_values` are the unfolded values of its `From` fields, in order.

    `permission` is that of the login, None where there is none: then any set may be named.
    """
    named = controls.configuration_set
    if permission is not None and named is not None and not permission.allows_set(named):
        return Refuse(reply=SET_NOT_ALLOWED)
    from_domain = sender_domain(from_values, reverse_path)
    if not settings.enabled:
        return Untouched(upstream=settings.default_upstream, from_domain=from_domain, reason=SkipReason.NOT_ENABLED)
    chosen = settings.choose_set(named=controls.configuration_set, sender_domain=from_domain or None)
    if isinstance(chosen, UnknownSet):
        return Refuse(reply=UNKNOWN_SET)
    if chosen is None:
        return Untouched(
            upstream=settings.default_upstream, from_domain=from_domain, reason=SkipReason.NO_CONFIGURATION_SET
        )
    if chosen.paused:
        return Refuse(reply=PAUSED)
    wishes = Wishes(opens=chosen.open_tracking, html_clicks=chosen.html_links, text_clicks=chosen.text_links)
    reason = None
    if isinstance(reverse_path, NullSender):
        # A report must not be tracked: whoever reads it is no audience, and a changed report can start a loop.
        wishes, reason = NONE, SkipReason.NULL_SENDER
    elif not controls.readable:
        wishes, reason = NONE, SkipReason.UNREADABLE_CONTROL_HEADER
    return Track(
        configuration_set=chosen, from_domain=from_domain, wishes=wishes.narrowed(controls.wishes), reason=reason
    )


def sender_domain(from_values: list[str], reverse_path: ReversePath) -> str:
    """Return the domain of the first mailbox of the first `From`, else the envelope's, else an empty text."""
    author = first_mailbox(from_values[0]) if from_values else None
    if author is not None:
        return author.domain
    return reverse_path.domain if isinstance(reverse_path, Address) else ""
