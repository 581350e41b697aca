"""What a login may send: the envelope, and every mailbox of From and Sender, in all disguises of another's domain."""

from email import message_from_bytes, policy
from email.utils import getaddresses

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.core import headers, lineends
from relay.core.mailboxes import MAX_VALUE, MailboxError, strict_mailboxes
from relay.core.senders import check_header, may_send_from
from tracker.contract.address import NULL_SENDER, Address
from tracker.contract.credentials import Credential, CredentialBook, Permission

MINE = Permission(sender_domains=("shop.example", "xn--bcher-kva.example"))

GOOD = [
    "From: ana@shop.example",
    "From: <ana@shop.example>",
    "From: Ana B. Example <ana@shop.example>",
    'From: "Ana, of the shop" <ana@shop.example>',
    'From: "boss@bank.example" <ana@shop.example>',
    "From: ana@shop.example (Ana)",
    "From: (Ana) Ana <ana@shop.example> (Shop)",
    "From: =?utf-8?q?Ana_B=C3=BCcher?= <ana@shop.example>",
    "From: Ana Bücher <ana@bücher.example>",
    "From: ana@XN--BCHER-KVA.example",
    "From: ANA@SHOP.EXAMPLE",
    "From: ana@mail.eu.shop.example",
    'From: "ana b"@shop.example',
    "From: Ana\r\n <ana@shop.example>",
    "From: ana@shop.example, Bo <bo@news.shop.example>\r\nSender: ana@shop.example",
    "fROM: ana@shop.example",
    "Subject: from:\x1b$B hello\r\nFrom: ana@shop.example",
    "From: =?utf-8?q?Ana=0A?= <ana@shop.example>",
    "From: \uff1cAna\uff20Home\uff1e <ana@shop.example>",
    "From: j\u00f6rg\u3042@shop.example",
    "Subject: x\r\n \r\nFrom: ana@shop.example",
    "Resent-From: ceo@bank.example\r\nFrom: ana@shop.example",
]

BAD = {
    "another domain": "From: ceo@bank.example",
    "another domain behind a permitted one": "From: ana@shop.example, ceo@bank.example",
    "another domain before a permitted one": "From: ceo@bank.example, ana@shop.example",
    "a domain that ends alike": "From: ceo@myshop.example",
    "a domain that begins alike": "From: ceo@shop.example.bank.example",
    "the parent": "From: ceo@example",
    "another sender": "From: ana@shop.example\r\nSender: ceo@bank.example",
    "two From fields": "From: ana@shop.example\r\nFrom: ceo@bank.example",
    "two permitted From fields": "From: ana@shop.example\r\nFrom: ana@shop.example",
    "two From fields of other cases": "From: ana@shop.example\r\nfrom: ceo@bank.example",
    "two Sender fields": "From: ana@shop.example\r\nSender: ana@shop.example\r\nSender: ana@shop.example",
    "no From": "Subject: hello",
    "an empty From": "From: ",
    "a space before the colon": "From: ana@shop.example\r\nFrom : ceo@bank.example",
    "a line that is no field, then another From": "From: ana@shop.example\r\nnonsense\r\nFrom: ceo@bank.example",
    "a continuation before the first field": " x\r\nFrom: ana@shop.example",
    "a group": "From: Bank: ana@shop.example;",
    "an empty group": "From: undisclosed:;",
    "an address as an unquoted name": "From: ceo@bank.example <ana@shop.example>",
    "two angle addresses": "From: <ceo@bank.example> <ana@shop.example>",
    "an angle address in an angle address": "From: <<ceo@bank.example>ana@shop.example>",
    "an address in a comment": "From: ana@shop.example (ceo@bank.example)",
    "an angle address in a comment": "From: (<ceo@bank.example>) ana@shop.example",
    "a comment in a comment": "From: ana@shop.example (a (b))",
    "a comment inside an address": "From: ana@(shop.example)bank.example",
    "a quoted pair in a comment": "From: ana@shop.example (a\\)b)",
    "a route": "From: <@bank.example:ana@shop.example>",
    "a percent route to elsewhere": "From: <ana%shop.example@bank.example>",
    "an encoded word as the address": "From: =?utf-8?q?ceo=40bank=2Eexample?=",
    "an encoded word in the local part": "From: <=?utf-8?q?ceo=40bank.example=3E?=@shop.example>",
    "an encoded word in a quoted local part": 'From: <"=?utf-8?q?ceo=40bank.example?="@shop.example>',
    "an encoded word as the domain": "From: ana@=?utf-8?q?bank=2Eexample?=",
    "no domain": "From: ana",
    "white space in the address": "From: ana @shop.example",
    "white space in the angle address": "From: < ana@shop.example >",
    "two at signs": "From: ceo@bank.example@shop.example",
    "an address literal": "From: ana@[192.0.2.1]",
    "a final dot": "From: ana@shop.example.",
    "an open quote": 'From: "Ana <ana@shop.example>',
    "an open comment": "From: (Ana <ana@shop.example>",
    "an open angle": "From: Ana <ana@shop.example",
    "text behind the angle": "From: <ana@shop.example> ceo",
    "a semicolon between": "From: ana@shop.example; ceo@bank.example",
    "an empty entry": "From: ana@shop.example,, ana@shop.example",
    "a comma at the end": "From: ana@shop.example,",
    "a TAB in the address": "From: ana@shop\t.example",
    "a control character": "From: Ana\x01 <ana@shop.example>",
    "a control character of C1": "From: Ana\x85 <ana@shop.example>",
    "a full-width dot": "From: ana@shop\uff0eexample",
    "an ideographic full stop": "From: ana@shop\u3002example",
    "full-width letters": "From: ana@\uff53hop.example",
    "a soft hyphen": "From: ana@sh\u00adop.example",
    "a Cyrillic letter": "From: ana@sh\u043ep.example",
    "another spelling in Unicode": "From: ana@B\u00dcCHER.example",
    "a sharp s for two": "From: ana@bo\u00df.example",
    "a no-break space behind the address": "From: ana@shop.example\u00a0",
    "an ideographic space behind the address": "From: ana@shop.example\u3000",
    "a separator behind the address": "From: ana@shop.example\x1f",
    "a vertical tab before the address": "From:\x0bana@shop.example",
    "an mbox line": "From ceo@bank.example Wed Jan  2 03:04:05 2030\r\nFrom: ana@shop.example",
    "an mbox line that is quoted": ">From ceo@bank.example\r\nFrom: ana@shop.example",
    "an mbox line and what continues it": "From x\r\n From: ceo@bank.example\r\nFrom: ana@shop.example",
    "an mbox line that some trim to a field": "From \u00a0: ceo@bank.example\r\nFrom: ana@shop.example",
    "a field behind a form feed": "Subject: hi\x0cFrom: ceo@bank.example\r\nFrom: ana@shop.example",
    "a field behind a vertical tab": "From: ana@shop.example\r\nSubject: hi\x0b \tsender : ceo@bank.example",
    "a field behind NEL": "Subject: hi\u0085FROM:ceo@bank.example\r\nFrom: ana@shop.example",
    "a field behind a line separator": "Subject: hi\u2028From: ceo@bank.example\r\nFrom: ana@shop.example",
    "an address as a quoted local part": 'From: "ceo@bank.example"@shop.example',
    "an angle address as a quoted local part": 'From: "<ceo@bank.example>"@shop.example',
    "a list as a quoted local part": 'From: <"ceo@bank.example, ana"@shop.example>',
    "a quoted pair in a local part": 'From: <"ceo\\@bank.example"@shop.example>',
    "a full-width at sign in a local part": "From: ceo\uff20bank.example\uff0cx@shop.example",
    "a small at sign in a local part": "From: <ceo\ufe6bbank.example\uff1e@shop.example>",
    "an encoded line end in a name": "From: =?utf-8?q?ceo=40bank.example=0A?= <ana@shop.example>",
    "an encoded NUL in a name": "From: =?utf-8?b?Y2VvQGJhbmsuZXhhbXBsZQA=?= <ana@shop.example>",
    "an encoded NUL in two words": "From: =?utf-8?q?ceo=40bank.example?= =?utf-8?q?=00?= <ana@shop.example>",
}


def _refusal(header: str) -> str | None:
    reply = check_header(MINE, headers.scan(header.encode() + b"\r\n\r\nbody\r\n"))
    return None if reply is None else reply.line()


@pytest.mark.parametrize("header", GOOD)
def test_a_login_sends_as_its_own_domains(header: str) -> None:
    """Names, comments and several authors are mail as it is; sub-domains belong to the domain."""
    assert _refusal(header) is None


@pytest.mark.parametrize("header", BAD.values(), ids=BAD.keys())
def test_a_login_cannot_send_as_another_domain(header: str) -> None:
    """RFC 6409 §6.1; what programs read differently is refused, because the reader's may be another than ours."""
    refusal = _refusal(header)

    assert refusal is not None
    assert refusal.startswith("550 5.7.1 ")
    assert "bank" not in refusal


def test_a_from_that_is_not_utf_8_is_refused() -> None:
    """What one program reads as Latin-1 another reads otherwise."""
    reply = check_header(MINE, headers.scan(b"From: Ana\xff <ana@shop.example>\r\n\r\n"))

    assert reply is not None
    assert reply.text == "The From field is not UTF-8"


def test_a_header_that_is_not_read_to_its_end_is_refused() -> None:
    """Another From could stand behind what is read."""
    padding = b"X: y\r\n" * headers.MAX_LINES
    reply = check_header(
        MINE, headers.scan(b"From: ana@shop.example\r\n" + padding + b"From: ceo@bank.example\r\n\r\n")
    )

    assert reply is not None
    assert "too long" in reply.text


def test_the_envelope_is_held_to_the_same_domains() -> None:
    """The null sender of reports names nobody; its From is checked at the final dot."""
    assert may_send_from(MINE, Address.parse("ana@eu.shop.example"))
    assert may_send_from(MINE, NULL_SENDER)
    assert not may_send_from(MINE, Address.parse("ceo@bank.example"))
    assert not may_send_from(MINE, Address.parse("ceo@[192.0.2.1]"))


def test_a_value_that_is_too_long_is_refused() -> None:
    """A prefix that looks well says nothing of the rest."""
    with pytest.raises(MailboxError, match="too long"):
        strict_mailboxes("ana@shop.example," * (MAX_VALUE // 16))


@given(st.text(alphabet=st.sampled_from('ab@.,<>"\\() :;[]=?\t\u00fc'), max_size=40))
def test_what_is_read_strictly_is_read_alike_by_the_lenient_reading(value: str) -> None:
    """Where the strict grammar sees mailboxes, the lenient one sees the same first one."""
    from relay.core.mailboxes import first_mailbox

    try:
        found = strict_mailboxes(value)
    except MailboxError:
        return
    assert first_mailbox(value) == found[0]


_PIECES = [
    *("ana@shop.example", "<ana@shop.example>", "ceo@bank.example", "<ceo@bank.example>", "Ana", "Team:", "\u00fc"),
    *(" ", "\t", "\r\n", "\r\n ", "\n", "\r", "\x0b", "\x0c", "\x1c", "\u0085", "\u2028", "\uff0c", "\uff20", "\uff1e"),
    *(",", ";", ":", '"', "\\", "(", ")", "<", ">", "@", "=?utf-8?q?ceo=40bank.example?=", "From ceo@bank.example\r\n"),
    *(
        "From: ",
        "From:",
        "from : ",
        "Sender: ",
        "Subject: x",
        "From: ana@shop.example\r\n",
        "Sender: ana@shop.example\r\n",
    ),
]


@example(before=[], behind=["\r\n", "From: ", "ceo@bank.example"])
@given(before=st.lists(st.sampled_from(_PIECES), max_size=5), behind=st.lists(st.sampled_from(_PIECES), max_size=6))
def test_what_passes_is_read_alike_by_the_standard_library(before: list[str], behind: list[str]) -> None:
    """By its old parser and by its new one: neither finds an address of another domain in From or Sender."""
    sent = f"{''.join(before)}\r\nFrom: ana@shop.example{''.join(behind)}\r\n\r\nbody\r\n"
    raw = lineends.settle(sent.removeprefix("\r\n").encode())
    assert isinstance(raw, bytes)
    if check_header(MINE, headers.scan(raw)) is not None:
        return
    for parsing in (policy.compat32, policy.default):
        message = message_from_bytes(raw, policy=parsing)
        values = [str(value) for name in ("From", "Sender") for value in message.get_all(name, [])]
        found = [address for _, address in getaddresses(values)]
        assert found
        assert all(MINE.allows_domain(address.rpartition("@")[2].lower()) for address in found)


def test_the_file_wins_over_the_storage() -> None:
    """What the file declares is locked there; while the storage was not read, the book is not whole."""
    one, other = (Credential(name="news", password_hash=text, permission=MINE) for text in ("file", "storage"))

    assert CredentialBook(declared={"news": one}, stored={"news": other}).get("news") is one
    assert CredentialBook(declared={}, stored={"news": other}).get("news") is other
    assert CredentialBook(declared={}, stored=None).get("news") is None
    assert not CredentialBook(declared={"news": one}, stored=None).is_whole
