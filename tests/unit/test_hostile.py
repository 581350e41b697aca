"""Mail that is built to cost: what becomes of it at full size, how its cost grows, and what memory it takes.

`bench/hostile.py` has the seconds and megabytes; nothing here looks at the clock.
"""

import tracemalloc
from collections.abc import Callable

import pytest

from relay.core.copies import CopyMint, copy_of
from relay.core.facts import facts_of
from relay.core.prepare import Prepared, Site, prepare
from relay.core.reply import Reply
from tests import hostile_mail
from tests.growth import is_linear
from tests.hostile_mail import MAIL
from tests.unit.submissions import HTML, NOW, settings, submission
from tests.unit.tokens import COPY, DAY, KEYS

MOST_MEMORY_BYTES = 100_000_000
"""Above the message's own size."""

_SITE = Site(hostname="relay.example.com", instance="relay1", max_line_bytes=1 << 30)
_MINT = CopyMint(keys=KEYS, key_id=1, base_url="https://trace.shop.example", copy=COPY, day=DAY)

_OUTCOMES = {
    "20,000 parts": "too_many_parts",
    "20,000 empty parts": "too_many_parts",
    "1,000 parts": "rewritten",
    "depth 5,000": "too_deep",
    "depth 5,000, one boundary": "too_many_parts",
    "messages in messages": "message_part",
    "near boundaries": "too_many_parts",
    "boundaries with white space": "too_many_parts",
    "a boundary of one dash": "too_many_parts",
    "10 MB of header": "header_too_large",
    "10 MB of short fields": "header_too_large",
    "10 MB of a part's header": "header_too_large",
    "10 MB of header before Bcc": "header_too_large",
    "one field of 10 MB": "header_too_large",
    "one field of 10 MB, folded": "header_too_large",
    "one field of 10 MB: Content-Type": "header_too_large",
    "one field of 10 MB: To": "header_too_large",
    "one field of 10 MB: From": "header_too_large",
    "one field of 10 MB: Subject": "header_too_large",
    "20 MB of base64 in one line": "too_large",
    "1 MB of base64 in one line": "too_complex",
    "20 MB of base64 in one line, attached": "rewritten",
    "20 MB of base64 in one line, a picture": "not_text",
    "25 MB of line ends": "too_large",
    "25 MB of line ends in text": "too_large",
    "10 MB of bare line ends": "too_large",
    "10 MB of bare carriage returns": "too_large",
    "10 MB of mixed line ends": "too_large",
    "25 MB of text": "too_large",
    "3 MB of quoted-printable": "rewritten",
    "25 parts of 1 MB": "rewritten",
}
_REASONS = {"header_too_large", "malformed_content_type", "unreadable_control_header"}
_NO_HEADER = {"no header": "no link", "a name without a colon": "rewritten"}
"""Text that nobody put a header before is plain text."""
_LISTED = ("anchors begun", "attributes", "declarations", "comments begun", "end tags begun", "references begun")


@pytest.mark.parametrize("name", hostile_mail.STRUCTURES)
def test_hostile_structures_end_as_they_should(name: str) -> None:
    """Parts, depth, headers, long lines, line ends: untouched with its reason, or rewritten; never an exception.

    Nothing keeps a list of what a stranger wrote ten million times.
    """
    message = _full(name)
    _accept(HTML)
    tracemalloc.start()
    try:
        outcome = _outcome(message)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert outcome == _OUTCOMES[name]
    assert peak < MOST_MEMORY_BYTES


@pytest.mark.parametrize("name", hostile_mail.FIELDS)
def test_hostile_fields_end_as_they_should(name: str) -> None:
    """A megabyte of one field is a header that is too large; within the limit it is read. Only a loop is refused."""
    outcome = _outcome(_full(name))
    if name.startswith("Received"):
        assert outcome == "554"
    elif "within" in name:
        assert outcome in {"rewritten", "no link", *_REASONS}
    else:
        assert outcome == _NO_HEADER.get(name, "header_too_large")


@pytest.mark.parametrize("place", ["html", "attribute", "text", "quoted-printable"])
@pytest.mark.parametrize("unit", _LISTED)
def test_a_megabyte_of_beginnings_is_read_to_its_end(place: str, unit: str) -> None:
    """The link in front of it is wrapped, whatever the rest may be."""
    prepared = _accept(_full(f"{place}: {unit}"))
    assert isinstance(prepared, Prepared)
    assert prepared.plan is not None
    assert [link.url for link in prepared.plan.links] == ["https://shop.example/lamp"]


@pytest.mark.parametrize(
    "place", ["html", "attribute", "text", "quoted-printable as it is", "quoted-printable", "base64"]
)
def test_the_cost_of_a_hostile_body_grows_with_it(place: str, count_of: Callable[[int, int], int]) -> None:
    """From the first line to the first copy, and not faster; `make soak` takes every unit, `make test` a third."""
    names = [name for name in hostile_mail.BODIES if name.startswith(f"{place}: ")]
    for name in names[:: count_of(3, 1)]:
        make = MAIL[name][0]
        assert is_linear(lambda size: _accept(make(size)), 4_000), name  # noqa: B023 - called before the next round


@pytest.mark.parametrize(
    "name", [*hostile_mail.STRUCTURES, *(name for name in hostile_mail.FIELDS if "within" not in name)]
)
def test_the_cost_of_a_hostile_structure_grows_with_it(name: str) -> None:
    """The same for parts, headers and fields, around the sizes at which limits end the work."""
    make = MAIL[name][0]
    assert is_linear(lambda size: _accept(make(size)), 12_000)


def test_what_is_not_read_of_a_header_cannot_open_what_it_closes() -> None:
    """A header that asks for no tracking may stand beyond what is read, so nothing is tracked."""
    message = b"X-A: b\r\n" * 1000 + b"X-Mailwake-Track: none\r\n" + HTML
    prepared = _accept(message)
    assert isinstance(prepared, Prepared)
    assert prepared.plan is not None
    assert prepared.plan.reason == "header_too_large"
    assert b"X-Mailwake-Track" not in prepared.message


def _full(name: str) -> bytes:
    make, size = MAIL[name]
    return make(size)


def _accept(message: bytes) -> Prepared | Reply:
    """Do all that is done with a message before its first copy is sent."""
    prepared = prepare(submission(message), site=_SITE, settings=settings(), message_id=COPY.message)
    if isinstance(prepared, Prepared):
        facts_of(submission(message), prepared, message_id=COPY.message, copies=(COPY,), at=NOW)
        if prepared.plan is not None:
            copy_of(prepared.plan, _MINT)
    return prepared


def _outcome(message: bytes) -> str:
    """Say in one word what became of a message: a code of reply, `rewritten`, or the reason why not."""
    prepared = _accept(message)
    if isinstance(prepared, Reply):
        return str(prepared.code)
    plan = prepared.plan
    assert plan is not None
    if plan.reason is not None:
        assert copy_of(plan, _MINT)[-1] == memoryview(prepared.message)[-len(copy_of(plan, _MINT)[-1]) :]
        return plan.reason.value
    if plan.parts:
        return "rewritten"
    return ", ".join(sorted({skip.reason.value for skip in plan.skips})) or "no link"
