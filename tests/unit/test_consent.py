"""Persons, and the compact sets that processes hold of them."""

import random

import pytest

from relay.core.consent import Consents
from relay.core.reasons import SkipReason
from tracker.contract.consent import PERSON_BYTES, ConsentBook, Marks, Persons
from tracker.contract.settings import Consent

PERSONS = Persons(b"k" * 32)


@pytest.mark.parametrize(
    "same", ["Ana@client.example", "ANA@Client.EXAMPLE", '"ana"@client.example', '"\\ana"@client.example']
)
def test_spellings_of_one_mailbox_are_one_person(same: str) -> None:
    """Nobody who says no means one of them alone."""
    assert PERSONS.of(same) == PERSONS.of("ana@client.example")
    assert PERSONS.of("J\u00d6RG@x.example") == PERSONS.of("jo\u0308rg@x.example")


def test_other_mailboxes_and_other_keys_are_other_persons() -> None:
    """Without the key nobody can try addresses against a list."""
    ana = PERSONS.of("ana@client.example")
    assert len(ana) == PERSON_BYTES
    assert ana not in {
        PERSONS.of(other) for other in ("ana+x@client.example", "an.a@client.example", "ana@client.test")
    }
    assert Persons(b"other").of("ana@client.example") != ana


def test_a_set_of_marks_is_a_set() -> None:
    """Whatever the order and however often."""
    draw = random.Random(7)
    members = [draw.randbytes(16) for _ in range(2_000)]
    marks = Marks([*members, *members[:50]])
    assert len(marks) == 2_000
    assert all(member in marks for member in members)
    assert not any(draw.randbytes(16) in marks for _ in range(2_000))
    assert marks == Marks(reversed(members))
    assert b"x" * 16 not in Marks()


@pytest.mark.parametrize(
    ("decision", "rule", "objection"),
    [
        ("deny", "assume", SkipReason.CONSENT_DENIED),
        ("deny", "require", SkipReason.CONSENT_DENIED),
        ("allow", "assume", None),
        ("allow", "require", None),
        (None, "assume", None),
        (None, "require", SkipReason.NO_CONSENT),
        ("unread", "assume", None),
        ("unread", "require", SkipReason.NO_CONSENT),
    ],
)
def test_a_decision_means_what_the_set_says(decision: str | None, rule: Consent, objection: SkipReason | None) -> None:
    """Where the decisions could not be read, nobody has allowed anything."""
    ana = Marks([PERSONS.of("ana@client.example")])
    book = ConsentBook(allowed=ana if decision == "allow" else Marks(), denied=ana if decision == "deny" else Marks())
    consents = Consents(persons=PERSONS, book=None if decision == "unread" else book)
    assert consents.objection("Ana@client.example", rule) is objection
