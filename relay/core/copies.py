"""One recipient's copy of a message: tokens sealed, slices put together. Deterministic: a retry is the same mail.

Owns which header a copy bears. The tokens depend on the key, the copy's id, the day of acceptance and the links: on
nothing that changes between two attempts.
"""

from dataclasses import dataclass
from datetime import date

from relay.core import headers
from relay.core.plan import Link, RewritePlan
from relay.core.render import render
from tracker.contract import urls
from tracker.contract.ids import CopyId
from tracker.contract.token import BodyPart, LinkPayload, Purpose, TokenKeys, TokenPayload

COPY_HEADER = "X-Mailwake-Copy"
"""Bears the copy's id on every attempt, so that whoever removes duplicates can."""

_CLICK = Purpose.CLICK  # slow to find in its enumeration (CPython 3.11)
_PART = {"html": BodyPart.HTML, "text": BodyPart.TEXT}


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyMint:
    """Makes the URLs of one copy (a `relay.core.render.Mint`). `sample`: they redirect, and are never recorded.

    `configuration_set` and `from_domain` are those of the options that the message was planned with: the room for its
    URLs depends on them.
    """

    keys: TokenKeys
    key_id: int
    base_url: str
    copy: CopyId
    day: date
    configuration_set: str = ""
    from_domain: str = ""
    sample: bool = False

    def link_url(self, link: Link) -> str:
        """Return the URL that stands for a link in this copy."""
        payload = TokenPayload(
            copy=self.copy,
            day=self.day,
            configuration_set=self.configuration_set,
            from_domain=self.from_domain,
            link=LinkPayload(index=link.index, part=_PART[link.part], url=link.url),
            sample=self.sample,
            redact=link.redact,
        )
        return urls.make(self.base_url, _CLICK, self.keys.seal(payload, self.key_id))

    def pixel_url(self) -> str:
        """Return the URL of this copy's pixel."""
        payload = TokenPayload(
            copy=self.copy,
            day=self.day,
            configuration_set=self.configuration_set,
            from_domain=self.from_domain,
            sample=self.sample,
        )
        return urls.make(self.base_url, Purpose.OPEN, self.keys.seal(payload, self.key_id))


def copy_of(plan: RewritePlan, mint: CopyMint) -> list[bytes | memoryview]:
    """Return the copy as slices: the message as the plan rewrites it, this copy's own field first in its header."""
    head, *rest = render(plan, mint)
    at = headers.first_field_at(plan.message)
    view = memoryview(head)
    return [view[:at], headers.make_field(COPY_HEADER, str(mint.copy)), view[at:], *rest]


def marked(message: bytes, copy: CopyId) -> list[bytes | memoryview]:
    """Return the copy that is the message as it was accepted, but for the field of the copy."""
    at = headers.first_field_at(message)
    view = memoryview(message)
    return [view[:at], headers.make_field(COPY_HEADER, str(copy)), view[at:]]
