"""Address lists of header fields: the first mailbox decides the sender domain (RFC 5322 §3.4)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.mailboxes import first_mailbox, split
from tests.laws.fields import a_mailbox_is_read_as_it_stands


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("ana@shop.example", "ana@shop.example"),
        ("Ana <ana@Shop.Example>", "ana@shop.example"),
        ('"Shop, <fake@evil.example>" <ana@shop.example>', "ana@shop.example"),
        ("(note <x@evil.example>, y) ana@shop.example (Ana)", "ana@shop.example"),
        ("(nested (comment) still) Ana <ana@shop.example>", "ana@shop.example"),
        ("Team: ana@shop.example, bo@other.example;", "ana@shop.example"),
        ("ana@shop.example, bo@other.example", "ana@shop.example"),
        (" , ,ana@shop.example", "ana@shop.example"),
        ('"a\\"b, c" <ana@shop.example>', "ana@shop.example"),
        ('<"ana > b"@shop.example>', '"ana > b"@shop.example'),
    ],
)
def test_the_first_mailbox_is_found(value: str, expected: str) -> None:
    """Quoted names, comments and groups do not mislead."""
    assert str(first_mailbox(value)) == expected


@pytest.mark.parametrize(
    "value",
    ["", "Ana", "undisclosed:;", "Ana ana@shop.example", "<>", '"ana@shop.example', "(ana@shop.example", "a@b@c"],
)
def test_no_mailbox_is_made_up(value: str) -> None:
    """What the grammar does not read is no sender."""
    assert first_mailbox(value) is None


def test_a_list_is_split_at_its_commas_only() -> None:
    """Commas in names and comments stay."""
    value = '"Shop, Inc" <a@b.example>, c@d.example (x, y), Team: e@f.example, g@h.example;'

    assert split(value) == ['"Shop, Inc" <a@b.example>', "c@d.example (x, y)", "e@f.example", "g@h.example"]


@given(st.text(alphabet='ab@.<>,;:()"\\ é\r\n', max_size=60))
def test_any_value_is_read_without_an_exception(value: str) -> None:
    """A header is hostile text."""
    a_mailbox_is_read_as_it_stands(value)
