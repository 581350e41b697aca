"""Which parts of a message may be edited, and why the others may not.

Signed and encrypted mail, reports, attachments and whatever is no plain text or HTML keep every byte. Where a part
might be a document rather than a body (a text file that is shown inline), it is a body only if there is no other.

A message that answers another by itself is left too; the fields that said so before Auto-Submitted was standardised
count as well. `Precedence: bulk` does not: every newsletter has it, and a bounce has the null sender.

Standards: RFC 1847 (signed, encrypted), RFC 2387 §3.2 (related: the root), RFC 3462 (report), RFC 3834 §5
(Auto-Submitted), RFC 6376, RFC 8617 (signatures over the body), RFC 8551 §3 (S/MIME).
"""

from dataclasses import dataclass
from typing import Final

from relay.core.headers import HeaderBlock
from relay.core.mime import Part
from relay.core.reasons import SkipReason

SIGNATURES: Final = ("DKIM-Signature", "ARC-Seal", "ARC-Message-Signature")
"""Fields that vouch for the body as it is."""

_CLOSED_MULTIPARTS: Final = {
    "multipart/signed": SkipReason.SIGNED,
    "multipart/encrypted": SkipReason.ENCRYPTED,
    "multipart/report": SkipReason.REPORT,
}
_LEFT_TYPES: Final = {
    "application/pkcs7-mime": SkipReason.ENCRYPTED,
    "application/x-pkcs7-mime": SkipReason.ENCRYPTED,
    "application/pgp-encrypted": SkipReason.ENCRYPTED,
    "text/calendar": SkipReason.CALENDAR,
    "text/x-amp-html": SkipReason.AMP,
}
_SIGNATURE_TYPES: Final = frozenset(
    {"application/pgp-signature", "application/pkcs7-signature", "application/x-pkcs7-signature"}
)
_EDITABLE: Final = frozenset({"text/html", "text/plain"})
_ID_BRACKETS: Final = " \t<>"  # some programs forget them in `start`
_AUTO_REPLIES: Final = ("X-Autoreply", "X-Autorespond")
_AUTO_PRECEDENCES: Final = frozenset({"auto_reply", "auto-reply"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The parts of a message: those that may be edited, those left with the reason, both in the order of the message.

    `pixel_scope` has the sections of the HTML parts among whom the last one gets the pixel: those of the first
    multipart/alternative that has any (a program shows the last it understands), else all.
    """

    edited: tuple[Part, ...]
    left: tuple[tuple[Part, SkipReason], ...]
    pixel_scope: frozenset[str]


def select(root: Part, *, resign: bool = False) -> Selection | SkipReason:
    """Sort the parts of a message, or say why nothing of it may be touched; `resign`: its signatures are no reason."""
    if not resign and any(root.header.has(name) for name in SIGNATURES):
        return SkipReason.DKIM_SIGNED
    if _is_automatic(root.header):
        return SkipReason.AUTO_SUBMITTED
    if not root.header.is_sound:
        return SkipReason.MALFORMED_HEADER
    bodies: list[Part] = []
    documents: list[Part] = []
    left: list[tuple[Part, SkipReason]] = []
    _sort(root, bodies, documents, left)
    if not bodies and len(documents) == 1:
        bodies, documents = documents, []
    left += [(part, SkipReason.ATTACHMENT) for part in documents]
    order = {part.section: number for number, part in enumerate(root.walk())}
    return Selection(
        edited=tuple(bodies),
        left=tuple(sorted(left, key=lambda item: order[item[0].section])),
        pixel_scope=_pixel_scope(root, bodies),
    )


def _sort(part: Part, bodies: list[Part], documents: list[Part], left: list[tuple[Part, SkipReason]]) -> None:
    reason = _reason_to_leave(part)
    if reason is not None:
        left.append((part, reason))
    elif part.type == "multipart/related":
        shown = _related_root(part)
        for child in part.children:
            if child is shown:
                _sort(child, bodies, documents, left)
            else:
                left.append((child, _reason_to_leave(child) or SkipReason.RELATED_PART))
    elif any(child.type in _SIGNATURE_TYPES for child in part.children):
        # Some programs sign so, and some gateways turn multipart/signed into that.
        left += [(child, _reason_to_leave(child) or SkipReason.SIGNED) for child in part.children]
    elif part.is_multipart:
        for child in part.children:
            _sort(child, bodies, documents, left)
    else:
        (bodies if part.filename is None else documents).append(part)


def _reason_to_leave(part: Part) -> SkipReason | None:
    if part.fault is not None:
        return part.fault
    if part.type in _CLOSED_MULTIPARTS:
        return _CLOSED_MULTIPARTS[part.type]
    if part.type.startswith("message/"):
        return SkipReason.MESSAGE_PART
    if part.disposition not in {"", "inline"}:
        return SkipReason.ATTACHMENT  # RFC 2183 §2.8: a kind that is not known is an attachment
    if part.is_multipart or part.type in _EDITABLE:
        return None
    default = SkipReason.OTHER_TEXT if part.type.startswith("text/") else SkipReason.NOT_TEXT
    return _LEFT_TYPES.get(part.type, default)


def _is_automatic(header: HeaderBlock) -> bool:
    if any(value.partition(";")[0].strip().lower() != "no" for value in header.values("Auto-Submitted")):
        return True
    if any(value.lower() != "no" for name in _AUTO_REPLIES for value in header.values(name)):
        return True
    return any(value.lower() in _AUTO_PRECEDENCES for value in header.values("Precedence"))


def _related_root(part: Part) -> Part | None:
    start = part.parameters.get("start", "").strip(_ID_BRACKETS)
    for child in part.children:
        if start and start in (value.strip(_ID_BRACKETS) for value in child.header.values("Content-ID")):
            return child
    return part.children[0] if part.children else None


def _pixel_scope(root: Part, bodies: list[Part]) -> frozenset[str]:
    html = frozenset(part.section for part in bodies if part.type == "text/html")
    for part in root.walk():
        if part.type == "multipart/alternative":
            inside = html.intersection(below.section for below in part.walk())
            if inside:
                return inside
    return html
