"""Every fuzz target keeps its laws on its seeds and on all input that once broke one; without the engine."""

import re

import pytest

from fuzz.choices import Choices
from fuzz.shrink import shrink
from fuzz.targets import FOUND, TARGETS, Target

_INPUTS = [
    pytest.param(target, data, id=f"{target.name} {name}")
    for target in TARGETS.values()
    for name, data in target.inputs()
]


@pytest.mark.parametrize(("target", "data"), _INPUTS)
def test_no_law_is_broken_again(target: Target, data: bytes) -> None:
    """What fuzzing found is mended, and stays so; `fuzz/found` keeps each input."""
    target.run(data)


@pytest.mark.parametrize("target", TARGETS.values(), ids=lambda target: target.name)
def test_a_target_takes_any_bytes(target: Target) -> None:
    """None at all, every byte once, and more of them than the choices need."""
    for data in (b"", b"\0", bytes(range(1, 256)), b"\x03" * target.max_bytes):
        target.run(data)


@pytest.mark.parametrize("target", TARGETS.values(), ids=lambda target: target.name)
def test_a_target_can_be_searched(target: Target) -> None:
    """It has seeds that fit, and words that the engine's dictionary can hold."""
    assert target.seeds
    assert max(map(len, target.seeds)) <= target.max_bytes
    assert all(0 < len(word) <= 128 for word in target.words)
    assert target.share > 0


def test_a_finding_is_made_small() -> None:
    """What is left breaks the same law at the same line, and is as plain as can be."""

    def run(data: bytes) -> None:
        assert b"<a" not in data or b"\xff" not in data
        assert data != b""  # another law, which the smallest input would break

    assert shrink(run, b"some <a href=x>\x80\xff\xfe long text") == b"<a\xff"
    assert shrink(run, b"nothing is broken") == b"nothing is broken"


def test_what_was_found_is_named_after_what_it_shows() -> None:
    """A file of a target that is gone would never be run; a hash as name tells nobody anything."""
    for path in FOUND.rglob("*"):
        if path.is_file():
            assert path.parent.name in TARGETS
            assert re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)+\.bin", path.name), path


def test_choices_are_taken_from_the_front_and_never_end() -> None:
    """A small change of the bytes is a small change of the input, and every input is one."""
    choices = Choices("\x05\x01\x02abcé".encode())

    assert choices.number(3) == 2
    assert choices.number(1000) == 258
    assert choices.raw(2) == b"ab"
    assert choices.has_more
    assert choices.rest() == "cé".encode()
    assert (choices.number(7), choices.flag(), choices.one_of("xyz"), choices.rest()) == (0, False, "x", b"")
