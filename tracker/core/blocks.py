"""Which links somebody stopped, and why: by message, configuration set, sender domain or destination host.

Owns how a token is compared with what was stopped. All that is needed stands in the token; nothing is asked. A token of
mail that was accepted before there were labels names neither set nor sender domain: message and host stop its links.

A sender domain stands for its sub-domains too, as in `[sender_domain.NAME]`. A host is one host, and `*.bank.example`
all below it, as in `skip_hosts`. What is compared is the host that a browser would go to (`location.host_of`), whatever
the author's URL looks like: `https://good.example@EVIL.example.:8443/` leads to `evil.example`.

Limits: a destination that redirects to a host that is stopped is not seen.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, Self, assert_never

from tracker.contract.address import normalize_domain
from tracker.contract.errors import AddressError, IdError
from tracker.contract.ids import MessageId
from tracker.contract.token import TokenPayload
from tracker.core.location import host_of

MAX_REASON_CHARACTERS: Final = 200  # a sentence; it is a page that people see
_MAX_SET_CHARACTERS: Final = 64  # as in the names of the file
_NOT_OF_A_HOST: Final = frozenset("/\\?#@*")


class BlockKind(StrEnum):
    """What a block is about."""

    MESSAGE = "message"
    SET = "set"
    DOMAIN = "domain"
    HOST = "host"


# What a visitor reads where no reason was given: true, and telling of nobody.
_REASONS: Final = {
    BlockKind.MESSAGE: "its message was withdrawn",
    BlockKind.SET: "mail of its kind was withdrawn",
    BlockKind.DOMAIN: "the mail of its sender was stopped",
    BlockKind.HOST: "its destination was stopped",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One thing that is stopped; `value` is as `normal_value` gives it, `reason` what a visitor is told, or empty."""

    kind: BlockKind
    value: str
    reason: str
    added_at: datetime


@dataclass(frozen=True, slots=True)
class Blocks:
    """All that is stopped, with the reason of each."""

    reasons: Mapping[tuple[BlockKind, str], str]

    @classmethod
    def of(cls, blocks: Iterable[Block]) -> Self:
        """Make it of a list."""
        return cls({(one.kind, one.value): printable_reason(one.reason) or _REASONS[one.kind] for one in blocks})

    def reason(self, payload: TokenPayload) -> str | None:
        """Return why the links of this token are stopped, None where they are not. Total; no loop over the blocks."""
        reasons = self.reasons
        if not reasons:
            return None
        for key in _keys(payload):
            if key in reasons:
                return reasons[key]
        return None


def normal_value(kind: BlockKind, text: str) -> str | None:
    """Return a value as it is compared: `"EVIL.example."` gives `"evil.example"`; None where it can be none."""
    match kind:
        case BlockKind.MESSAGE:
            try:
                return str(MessageId.parse(text))
            except IdError:
                return None
        case BlockKind.SET:
            return text if 0 < len(text) <= _MAX_SET_CHARACTERS and text.isascii() and text.isprintable() else None
        case BlockKind.DOMAIN:
            try:
                return normalize_domain(text.removesuffix("."))
            except AddressError:
                return None
        case BlockKind.HOST:
            return _host_pattern(text)
        case _ as never:
            assert_never(never)


def printable_reason(text: str) -> str:
    """Return a reason as one line of at most `MAX_REASON_CHARACTERS`, without a full stop at its end."""
    line = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    return line[:MAX_REASON_CHARACTERS].rstrip(" .")


def _keys(payload: TokenPayload) -> Iterator[tuple[BlockKind, str]]:
    """Yield all that a token could be stopped by."""
    yield BlockKind.MESSAGE, str(payload.copy.message)
    yield BlockKind.SET, payload.configuration_set
    for domain in _suffixes(payload.from_domain):
        yield BlockKind.DOMAIN, domain
    if payload.link is not None:
        host = host_of(payload.link.url)
        yield BlockKind.HOST, host
        for domain in _suffixes(host.partition(".")[2]):
            yield BlockKind.HOST, f"*.{domain}"


def _suffixes(domain: str) -> Iterator[str]:
    """`a.shop.example`, `shop.example`, `example`."""
    while domain:
        yield domain
        domain = domain.partition(".")[2]


def _host_pattern(text: str) -> str | None:
    star = "*." if text.startswith("*.") else ""
    name = text.removeprefix("*.")
    has_port = ":" in name.rpartition("]")[2]
    if has_port or _NOT_OF_A_HOST.intersection(name) or not name.isprintable() or " " in name:
        return None
    host = host_of(f"http://{name}/")
    is_address = host.startswith("[") or host.rpartition(".")[2].isdigit()
    return star + host if host and not (star and is_address) else None
