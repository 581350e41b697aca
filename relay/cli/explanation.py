"""All that `mailwake explain` says of one message: its values, and how they are found out.

Owns what is measured: sizes, growth, and where Gmail clips. The rewriting is the relay's own (`sample.py`); how it is
printed is `explain.py`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from relay.cli.codes import sentences
from relay.cli.sample import Sample
from relay.core import base64_body, headers, mime, quoted_printable
from relay.core.copies import CopyMint
from relay.core.mime import Part
from relay.core.plan import Link, RewritePlan, Skip
from relay.core.policy import Track, Untouched
from relay.core.prepare import Prepared
from relay.core.reasons import SkipReason
from relay.testimony import Question, question_of
from tracker.contract.settings import Settings
from tracker.contract.urls import without_query

CLIP_BYTES: Final = 102 * 1024
"""Of decoded HTML: there Gmail clips a message, and never loads what stands behind."""
TRACKED: Final = "tracked"
EDITED: Final = "edited"
UNCHANGED: Final = "nothing to change"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainedPart:
    """A part: `outcome` is `edited`, `nothing to change`, or the code of why it was left.

    `size_bytes` and `growth_bytes` are of the body as it is sent; `decoded_bytes` and `decoded_after_bytes` without
    transfer encoding, before and after.
    """

    section: str
    type: str
    encoding: str
    charset: str | None
    outcome: str
    size_bytes: int
    growth_bytes: int
    decoded_bytes: int
    decoded_after_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainedLink:
    """A link: `outcome` is `tracked`, or the code of why it was left; `url` is what may be stored of it.

    `position` is its number among all links, `index` among those that are tracked. `redacted`: events hold no query of
    it.
    """

    position: int
    index: int | None
    part: Literal["html", "text"]
    section: str
    url: str
    tags: dict[str, str]
    text: str
    outcome: str
    redacted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """Where the bytes come from: control fields that leave (negative), fields of ours that come, and what is edited."""

    total_bytes: int
    fields_out_bytes: int
    fields_in_bytes: int
    edits_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainedWitness:
    """What the witness says: `agrees`, `disagrees` and in what, or `unverified` and why."""

    outcome: Literal["agrees", "disagrees", "unverified"]
    disagreements: tuple[str, ...] = ()
    why: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """All of it. `reason` is the code of why the whole message is left alone; `codes` has the sentence of each code.

    `witness` is None where no copy is made, as for a message that no set applies to.
    """

    configuration_set: str | None
    because: str
    reason: str | None
    pixel: bool
    size_bytes: int
    growth: Growth
    parts: tuple[ExplainedPart, ...]
    links: tuple[ExplainedLink, ...]
    codes: Mapping[str, str]
    warnings: tuple[str, ...]
    witness: ExplainedWitness | None


def explained(
    sample: Sample, settings: Settings, question: Question | None, witness: ExplainedWitness | None
) -> Explanation:
    """Put together what is known; `question` has the copy, None where none is made."""
    prepared, plan = sample.prepared, sample.prepared.plan
    copy = prepared.message if question is None else question.copy
    reason = prepared.decision.reason if plan is None else plan.reason or prepared.decision.reason
    parts = _parts(prepared.message, copy, plan)
    links = tuple(sorted(_links(plan), key=lambda link: link.position)) if plan is not None else ()
    occurring = {reason, *(part.outcome for part in parts), *(link.outcome for link in links)}
    decision = prepared.decision
    return Explanation(
        configuration_set=decision.configuration_set.name if isinstance(decision, Track) else None,
        because=_because(prepared, settings),
        reason=None if reason is None else reason.value,
        pixel=plan is not None and plan.pixel,
        size_bytes=sample.size_bytes,
        growth=_growth(sample, copy, question),
        parts=parts,
        links=links,
        codes={code: sentence for code, sentence in sentences().items() if code in occurring},
        warnings=tuple(_clip_warnings(parts, has_pixel=plan is not None and plan.pixel)),
        witness=witness,
    )


def question_about(sample: Sample, mint: CopyMint) -> Question | None:
    """Make the copy and the question about it; None where the message passes as it is, without a copy of its own."""
    return None if sample.prepared.plan is None else question_of(sample.prepared.plan, mint)


def _because(prepared: Prepared, settings: Settings) -> str:
    """Say why this set: the steps of `Settings.choose_set`, in words."""
    decision = prepared.decision
    named = prepared.controls.configuration_set
    if isinstance(decision, Untouched):
        return "tracking is not enabled" if not settings.enabled else "no set applies"
    if named is not None and named in settings.sets:
        return "the message names it"
    entry = settings.sender_domain_of(decision.from_domain) if settings.scope != "account" else None
    if entry is not None:
        return f"it is the set of sender domain {entry.domain}"
    return "it is the account's set"


def _growth(sample: Sample, copy: bytes, question: Question | None) -> Growth:
    original, kept = sample.prepared.original.raw, sample.prepared.message
    fields_out = len(headers.strip_controls(original)) - len(original) + sample.forced_bytes
    own_field = 0 if question is None else len(question.promise.field)
    edits = len(copy) - len(kept) - own_field
    total = len(copy) - sample.size_bytes
    return Growth(
        total_bytes=total,
        fields_out_bytes=fields_out,
        fields_in_bytes=total - fields_out - edits,
        edits_bytes=edits,
    )


def _parts(message: bytes, copy: bytes, plan: RewritePlan | None) -> tuple[ExplainedPart, ...]:
    before, after = mime.scan(message), mime.scan(copy)
    if isinstance(before, SkipReason) or isinstance(after, SkipReason) or plan is None:
        return ()
    edited = {edit.section for edit in plan.parts}
    left = {skip.section: skip.reason.value for skip in plan.skips if skip.url is None}
    whole = plan.reason.value if plan.reason is not None else UNCHANGED
    return tuple(
        ExplainedPart(
            section=part.section,
            type=part.type,
            encoding=part.encoding,
            charset=part.charset,
            outcome=EDITED if part.section in edited else _reason_of(part.section, left) or whole,
            size_bytes=_size(part),
            growth_bytes=_size(copied) - _size(part),
            decoded_bytes=_decoded_bytes(message, part),
            decoded_after_bytes=_decoded_bytes(copy, copied),
        )
        for part, copied in zip(before.walk(), after.walk(), strict=True)
        if not part.is_multipart
    )


def _reason_of(section: str, left: Mapping[str, str]) -> str | None:
    """Return why a part was left: its own reason, else that of the part it stands in (a signed one, say)."""
    while section and section not in left:
        section = section.rpartition(".")[0]
    return left.get(section)


def _size(part: Part) -> int:
    return part.body[1] - part.body[0]


def _decoded_bytes(message: bytes, part: Part) -> int:
    """Return how large a body is without its encoding; as it is where that cannot be undone."""
    body = message[slice(*part.body)]
    if part.encoding == "quoted-printable":
        return len(quoted_printable.decode(body).text)
    if part.encoding == "base64" and (decoded := base64_body.decode(body)) is not None:
        return len(decoded.raw)
    return len(body)


def _links(plan: RewritePlan) -> Iterator[ExplainedLink]:
    for link in plan.links:
        yield _tracked(link)
    types = _types(plan.message)
    for skip in plan.skips:
        if skip.url is not None:
            yield _left(skip, types.get(skip.section, ""))


def _tracked(link: Link) -> ExplainedLink:
    return ExplainedLink(
        position=link.position,
        index=link.index,
        part=link.part,
        section=link.section,
        url=without_query(link.url) if link.redact else link.url,
        tags=dict(link.tags),
        text=link.text,
        outcome=TRACKED,
        redacted=link.redact,
    )


def _left(skip: Skip, type_of_part: str) -> ExplainedLink:
    return ExplainedLink(
        position=skip.position or 0,
        index=None,
        part="html" if type_of_part == "text/html" else "text",
        section=skip.section,
        url=skip.url or "",
        tags={},
        text=skip.text,
        outcome=skip.reason.value,
        redacted=False,
    )


def _types(message: bytes) -> dict[str, str]:
    root = mime.scan(message)
    return {} if isinstance(root, SkipReason) else {part.section: part.type for part in root.walk()}


def _clip_warnings(parts: tuple[ExplainedPart, ...], *, has_pixel: bool) -> Iterator[str]:
    for part in parts:
        before, after = part.decoded_bytes, part.decoded_after_bytes
        if part.type != "text/html" or part.outcome not in {EDITED, UNCHANGED} or max(before, after) <= CLIP_BYTES:
            continue
        what = f"the HTML of part {part.section} has {kilobytes(before)} before and {kilobytes(after)} after"
        why = "it is too long as it was written" if before > CLIP_BYTES else "tracking makes it too long"
        clips = f"Gmail clips a message beyond {kilobytes(CLIP_BYTES)}"
        remedy = f"Shorten it by {kilobytes(after - CLIP_BYTES)}"
        if has_pixel:
            clips += " and never loads a pixel behind that, so that opens are missing"
            remedy += ", or write {{ses:openTracker}} near the beginning of the body: the pixel stands there then"
        yield f"{what}: {why}. {clips}. {remedy}."


def kilobytes(size_bytes: int) -> str:
    """Print a size as people do: `101.9 KB`, of 1,024 bytes."""
    return f"{size_bytes / 1024:,.1f} KB" if abs(size_bytes) >= 1024 else f"{size_bytes} B"
