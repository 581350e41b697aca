"""RET, ENVID, NOTIFY and ORCPT: what the grammar lets through is safe in a report."""

import re
from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from relay.core import dsnrequest, headers
from relay.core.dsnrequest import ANYTHING, DsnParameterError, DsnRequest, RecipientRequest

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=120) | st.text("+=;\\x{}09AFDa@.é", max_size=40)


def test_what_is_not_given_is_nothing() -> None:
    """An empty value stands for a parameter that the client did not send."""
    assert dsnrequest.parse_returned("") == ""
    assert dsnrequest.parse_envelope_id("") == ""
    assert dsnrequest.parse_notify("") == ""
    assert dsnrequest.parse_original("") == ""


def test_words_are_kept_in_one_spelling() -> None:
    """RFC 3461 §4: keywords in any case, conditions in any order."""
    assert dsnrequest.parse_returned("full") == "FULL"
    assert dsnrequest.parse_notify("never") == "NEVER"
    assert dsnrequest.parse_notify("Delay,failure") == "FAILURE,DELAY"


def test_what_is_wanted() -> None:
    """RFC 3461 §4.1: a failure is reported unless something else was asked; a success only when asked."""
    wants = {
        notify: (RecipientRequest(notify=notify).wants_failure, RecipientRequest(notify=notify).wants_success)
        for notify in ("", "NEVER", "FAILURE", "SUCCESS", "SUCCESS,FAILURE", "DELAY")
    }

    assert wants == {
        "": (True, False),
        "NEVER": (False, False),
        "FAILURE": (True, False),
        "SUCCESS": (False, True),
        "SUCCESS,FAILURE": (True, True),
        "DELAY": (False, False),
    }


def test_a_request_of_some_recipients() -> None:
    """A transaction has the requests of its own recipients, in its own order."""
    never, success = RecipientRequest(notify="NEVER"), RecipientRequest(notify="SUCCESS")
    request = DsnRequest(returned="FULL", envelope_id="x", recipients=(never, success))

    assert request.only((1,)) == DsnRequest(returned="FULL", envelope_id="x", recipients=(success,))
    assert DsnRequest(returned="FULL").only((5,)).of(0) == ANYTHING


def test_values_are_shown_decoded_and_in_ascii() -> None:
    """RFC 3461 §6.3: reports have what xtext stands for; RFC 6533 §3: addresses in UTF-8 have their escaped form."""
    assert DsnRequest(envelope_id="a+2Bb+20c").shown_envelope_id() == "a+b c"
    assert RecipientRequest(original="rfc822;a+2Bb@x.example").shown_original() == "rfc822; a+b@x.example"
    assert RecipientRequest(original="UTF-8;jö\\x{F6}@x").shown_original() == "UTF-8; j\\x{F6}\\x{F6}@x"
    assert ANYTHING.shown_original() == ""


@given(value=_TEXT | _TEXT.map("rfc822;".__add__) | _TEXT.map("utf-8;".__add__))
def test_whatever_is_let_through_makes_one_field(value: str) -> None:
    """A header of the report is one line of printable ASCII, whatever a client found to write (header injection)."""
    shown = []
    with suppress(DsnParameterError):
        shown.append(DsnRequest(envelope_id=dsnrequest.parse_envelope_id(value)).shown_envelope_id())
    with suppress(DsnParameterError):
        shown.append(RecipientRequest(original=dsnrequest.parse_original(value)).shown_original())

    for text in shown:
        assert re.fullmatch(r"[ -~]*", text)
        headers.make_field("X", text)
