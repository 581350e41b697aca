"""An address taken out of what others share with its owner."""

import json

import pytest

from tracker.core.redaction import Redaction

ANA = "ana@client.example"


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("Ana B <ana@client.example>, Bo <bo@home.example>", "[forgotten], Bo <bo@home.example>"),
        ('Bo <bo@x.example>, "B, Ana" <ANA@Client.Example>', "Bo <bo@x.example>, [forgotten]"),
        ("ana@client.example", "[forgotten]"),
        ('"ana"@client.example', "[forgotten]"),
        ("https://shop.example/?to=ana%40client.example&x=1", "https://shop.example/?to=[forgotten]&x=1"),
        ("https://shop.example/?u=to%3Dana%40client.example", "https://shop.example/?u=to%3D[forgotten]"),
        ("bounce+ana=client.example@shop.example", "bounce+ana=client.example@shop.example"),
        ("bounce-to:ana=client.example@shop.example", "bounce-to:[forgotten]@shop.example"),
        ("550 5.1.1 <ana@client.example>: no such user", "[forgotten]"),
        ("write to ana@client.example.", "write to [forgotten]."),
        ("banana@client.example", "banana@client.example"),
        ("ana@client.example.org", "ana@client.example.org"),
        ("ana+x@client.example, x.ana@client.example", "ana+x@client.example, x.ana@client.example"),
        ('unfinished " <ana@client.example>', 'unfinished " [forgotten]'),
    ],
)
def test_an_address_goes_and_nothing_else(text: str, redacted: str) -> None:
    """With the display name where it is a mailbox; longer addresses are other people's."""
    assert Redaction(ANA).of_text(text) == redacted


def test_both_spellings_of_a_domain_are_one() -> None:
    """The envelope has A-labels; a header may not."""
    redaction = Redaction("ana@xn--bcher-kva.example")
    assert redaction.of_text("To ana@bücher.example, bo@bücher.example") == "To [forgotten], bo@bücher.example"
    raw = '{"to":"ana@bücher.example"}'.encode()
    assert json.loads(redaction.of_json(raw)) == {"to": "[forgotten]"}
    escaped = json.dumps({"to": "ana@bücher.example"}).encode()
    assert json.loads(redaction.of_json(escaped)) == {"to": "[forgotten]"}


def test_a_record_in_a_record_stays_one() -> None:
    """A notification of SNS has its record as a text."""
    inner = json.dumps({"mail": {"to": ["Bo <bo@x.example>", "Ana <ana@client.example>"]}, "n": 1})
    redacted = json.loads(Redaction(ANA).of_json(json.dumps({"Message": inner}).encode()))
    assert json.loads(redacted["Message"]) == {"mail": {"to": ["Bo <bo@x.example>", "[forgotten]"]}, "n": 1}


@pytest.mark.parametrize("subject", ["{to ana@client.example}", '{"a":' * 1_500 + '"ana@client.example"' + "}" * 1_500])
def test_a_text_that_looks_like_a_record_is_a_text(subject: str) -> None:
    """However deep somebody has nested it."""
    redacted = Redaction(ANA).of_json(json.dumps({"subject": subject}).encode())
    assert json.loads(redacted) == {"subject": subject.replace(ANA, "[forgotten]")}


def test_a_document_without_the_address_keeps_its_bytes() -> None:
    """Also where it has the domain."""
    raw = b'{ "to" : "bo@client.example" }'
    assert Redaction(ANA).of_json(raw) is raw
