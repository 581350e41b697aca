"""Laws of a whole message, prepared, planned and rendered: what no edit touches stays."""

import re

from relay import witness
from relay.core import bodies, facts, headers, lineends, mime, plan, prepare, quoted_printable, render
from relay.core.copies import CopyMint, copy_of
from relay.core.linkrules import storable
from relay.core.mime import Part
from relay.core.plan import RewriteOptions, RewritePlan
from relay.core.policy import Track
from relay.core.prepare import Prepared, Site
from relay.core.reasons import SkipReason
from relay.core.reply import Reply
from tests.laws import mime as mime_laws
from tests.laws.fields import controls_of_a_block_only_narrow
from tests.unit.proofs import MINT, assert_only_edits_differ
from tests.unit.rewriting import NOTHING, FixedMint
from tests.unit.submissions import NOW, settings, submission
from tests.unit.tokens import COPY, DAY, KEYS
from tracker.contract.ids import MessageId
from tracker.contract.settings import Settings
from tracker.contract.token import Purpose
from tracker.core.location import location

MAX_WITNESSED = 4096
"""Bytes of a message that the witness, whose libraries are slow and quadratic, is asked about."""

_SITE = Site(hostname="relay.example.com", instance="relay1", max_line_bytes=1 << 30)
_SETTINGS = settings()
_ID = MessageId(bytes(16))
_MINTED = re.compile(rb"https://trace\.shop\.example/[li]/c1-")


def a_submission_is_prepared(message: bytes, where: Settings = _SETTINGS) -> None:
    """Prepared or refused, never an exception; control fields stay here, ours comes first, the rest is the same."""
    prepared = prepare.prepare(submission(message), site=_SITE, settings=where, message_id=_ID)
    if isinstance(prepared, Reply):
        assert prepared.code >= 400
        return
    settled = lineends.settle(message)
    assert isinstance(settled, bytes)
    controls_of_a_block_only_narrow(prepared.original)
    block = headers.scan(prepared.message)
    assert block.fields[0].name == b"received"
    assert not any(field.name in headers.CONTROLS for field in block.fields)
    assert prepared.message.endswith(settled[prepared.original.body :])
    _facts_tell_no_secret(message, prepared)
    if prepared.plan is not None:
        assert prepared.options is not None
        a_plan_keeps_its_promises(prepared.plan)
        _links_lead_where_they_did(prepared.plan)


def a_message_is_rewritten_as_promised(
    raw: bytes, chosen: RewriteOptions, token_characters: int, *, is_witnessed: bool
) -> None:
    """All laws of plan and render, for a message whose line ends are settled.

    The witness is asked where its parsers read HTML as browsers do: not about broken mark-up.
    """
    mint = FixedMint(token_characters=token_characters)
    made = plan.make(raw, chosen)
    copy = b"".join(render.render(made, mint))
    assert b"".join(render.render(made, mint)) == copy
    assert lineends.settle(copy) is copy
    a_plan_keeps_its_promises(made)
    if not made.parts:
        assert copy == raw
    if _MINTED.search(raw):  # the author's own text looks like what our mint makes
        return
    edited_lines_are_short(raw, copy, made)
    if mint == MINT and b"trace.shop.example/i/" not in raw:
        assert_only_edits_differ(raw, copy, made)
    a_copy_is_wrapped_no_further(copy, made, chosen)
    if is_witnessed and len(raw) <= MAX_WITNESSED:
        disagreements = witness.check(raw, copy, made, mint)
        assert disagreements == [], disagreements


def a_copy_is_wrapped_no_further(copy: bytes, made: RewritePlan, chosen: RewriteOptions) -> None:
    """A second relay of ours leaves our links; what the first one was told to leave, the copy does not tell."""
    again = plan.make(copy, chosen)
    assert not any(_MINTED.match(link.url.encode("utf-8", "surrogatepass")) for link in again.links)
    if not any(skip.reason in {SkipReason.OPT_OUT, SkipReason.MAX_LINKS} for skip in made.skips):
        assert again.links == ()


def without_tracking_only_our_own_marks_go(raw: bytes) -> None:
    """Nothing is tracked: the message is the same, but for opt-outs and placeholders that nobody must see."""
    made = plan.make(raw, NOTHING)
    copy = b"".join(render.render(made, FixedMint()))
    assert (made.links, made.pixel) == ((), False)
    assert _MINTED.search(raw) or not _MINTED.search(copy)
    if not made.parts:
        assert copy == raw


def a_plan_keeps_its_promises(made: RewritePlan) -> None:
    """Links are numbered, each place has one, every skip has its reason, edits are in order, apart and inside.

    A button for Outlook has the place of the anchor that is its twin, so places may be out of order.
    """
    assert [link.index for link in made.links] == list(range(len(made.links)))
    positions = [link.position for link in made.links]
    positions += [skip.position for skip in made.skips if skip.position is not None]
    assert len(set(positions)) == len(positions)
    assert [link.part for link in made.links] == sorted(link.part for link in made.links)  # HTML, then text
    for skip in made.skips:
        assert (skip.url is None) == (skip.position is None)
        assert skip.url is None or storable(skip.url) == skip.url or len(skip.url) == plan.MAX_SHOWN_URL
    end = 0
    for edit in made.parts:
        assert end <= edit.encoding_field[0] <= edit.encoding_field[1] <= edit.body[0] <= edit.body[1]
        end = edit.body[1]
    assert end <= len(made.message)
    if made.reason is not None:
        assert (made.links, made.parts, made.cuts, made.pixel) == ((), (), (), False)


def edited_lines_are_short(raw: bytes, copy: bytes, made: RewritePlan) -> None:
    """No line of an edited part is beyond 998 octets (RFC 5322 §2.1.1), nor a quoted one of ours beyond 76."""
    before, after = mime.scan(raw), mime.scan(copy)
    assert isinstance(before, Part) == isinstance(after, Part)
    if not isinstance(before, Part) or not isinstance(after, Part):
        return
    edited = {edit.section for edit in made.parts}
    for one, other in zip(before.walk(), after.walk(), strict=True):
        assert (other.section, other.type, other.parameters) == (one.section, one.type, one.parameters)
        if one.section not in edited:
            continue
        assert not isinstance(bodies.open_part(copy, other), SkipReason)
        lines = copy[slice(*other.body)].split(b"\r\n")
        known = set(raw[slice(*one.body)].split(b"\r\n")) if one.encoding == "quoted-printable" else set()
        most = bodies.MAX_LINE_OCTETS if other.encoding != "quoted-printable" else quoted_printable.MAX_LINE
        assert all(len(line) <= most or line in known for line in lines)


def _links_lead_where_they_did(made: RewritePlan) -> None:
    """Every link of a copy can be sealed, is read back to the letter, and has a Location."""
    mint = CopyMint(keys=KEYS, key_id=1, base_url="https://trace.shop.example", copy=COPY, day=DAY)
    for link in made.links:
        token = mint.link_url(link).removeprefix("https://trace.shop.example/l/")
        sealed = KEYS.read(token, Purpose.CLICK).link
        assert sealed is not None
        assert sealed.url == link.url
        assert location(link.url) is not None
    copy = b"".join(copy_of(made, mint))
    assert lineends.settle(copy) == copy
    assert headers.scan(copy).has("X-Mailwake-Copy")
    mime_laws.fields_tile_the_block(headers.scan(copy))


def _facts_tell_no_secret(message: bytes, prepared: Prepared) -> None:
    """Facts never raise, keep no Bcc, and no query of a link that is redacted."""
    record = facts.facts_of(submission(message), prepared, message_id=_ID, copies=(COPY,), at=NOW)
    names = {field.name.lower() for field in record.facts.headers}
    assert not names & {"bcc", "resent-bcc", "return-path"}
    for link in record.facts.links:
        assert not link.redacted or not set(link.url) & set("?#")
    if isinstance(prepared.decision, Track):
        assert record.facts.configuration_set == prepared.decision.configuration_set.name
