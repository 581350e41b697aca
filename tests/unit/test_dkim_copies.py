"""Which copies are signed, by whom, and whose signatures go: the steps from a submission to the bytes that leave."""

import itertools
from collections.abc import Mapping

import pytest

from relay import dkimkeys
from relay.core import dkim
from relay.core.attempt import CopyForm
from relay.core.dkim import Signer
from relay.core.outgoing import NO_FIELDS, OutgoingFields
from relay.core.prepare import Site
from relay.pipeline import Pipeline, Ports
from relay.spool.entry import SpoolEntry, decode, encode
from tests.unit.submissions import HTML, NOW, settings, submission
from tracker.contract.ids import MessageId
from tracker.contract.settings import ConfigurationSet, Settings
from tracker.contract.token import TokenKey, TokenKeys

_KEYS = TokenKeys([TokenKey(key_id=1, secret=bytes(32), mint_from=NOW)])
_SHOP = dkimkeys.make("ed25519-sha256")[0].signer("shop.example", "mw1")
_NEW = dkimkeys.make("ed25519-sha256")[0].signer("shop.example", "mw2")
_AUTHORS = (
    b"DKIM-Signature: v=1; d=shop.example; s=old; b=x\r\n",
    b"dkim-signature: v=1; d=esp.example;\r\n s=a; l=10; b=x\r\n",
    b"ARC-Seal: i=1; b=x\r\n",
    b"ARC-Message-Signature: i=1; b=x\r\n",
    b"ARC-Authentication-Results: i=1; mail.example; dkim=pass\r\n",
)
_RESIGN = ConfigurationSet(name="default", dkim="shop", on_signed="resign")
_TRACKED = b"https://trace.shop.example/l/"


class _Relay:
    """A pipeline whose spool holds one message."""

    def __init__(self, chosen: ConfigurationSet, **changes: object) -> None:
        counter = itertools.count(1)
        self.settings: Settings = settings(chosen, **{"dkim_domains": {"shop": "shop.example"}, **changes})
        self.fields = NO_FIELDS
        self.signers: Mapping[str, Signer] = {"shop": _SHOP}
        ports = Ports(
            settings=lambda: self.settings,
            keys=lambda: _KEYS,
            put=self._put,
            take_out=self._take_out,
            queue=lambda _: None,
            clock=lambda: NOW,
            entropy=lambda size: next(counter).to_bytes(size, "big"),
            signers=lambda: self.signers,
            fields=lambda _: self.fields,
        )
        self._pipeline = Pipeline(Site(hostname="relay.example.com", instance="relay1"), ports)

    async def _put(self, entry: SpoolEntry, message: bytes) -> None:
        self.entry, self.message = decode(encode(entry)), message

    async def _take_out(self, message: MessageId) -> None:
        raise AssertionError(f"{message} was safe in time")

    async def copies(self, message: bytes, *recipients: str) -> list[bytes]:
        reply = await self._pipeline.accept(submission(message, *recipients))
        assert reply.code == 250, reply
        return self.again()

    def again(self) -> list[bytes]:
        rows = range(len(self.entry.recipients))
        return [self.copy(row) for row in rows]

    def copy(self, row: int, *, seven_bit: bool = False) -> bytes:
        form = CopyForm(upstream="default", seven_bit=seven_bit)
        copy = self._pipeline.copy_of(self.entry, self.message, row, form)
        assert copy is not None
        return b"".join(copy)


def _is_signed_by(copy: bytes, signer: Signer, *, replaced: tuple[str, ...] = ()) -> bool:
    """Say whether the first field is the very signature that this signer makes of all that is behind it."""
    end = copy.index(b"\r\n", copy.index(b" b=")) + 2
    while copy[end : end + 1] == b" ":
        end = copy.index(b"\r\n", end) + 2
    return dkim.signature([copy[end:]], signer, at=NOW, replaced=replaced) == copy[:end]


async def test_every_copy_of_a_set_is_signed_as_it_leaves() -> None:
    """Each over its own tokens and its own X-Mailwake-Copy, the same on every attempt."""
    relay = _Relay(ConfigurationSet(name="default", dkim="shop"))

    copies = await relay.copies(HTML, "ana@client.example", "bo@client.example")

    assert all(_is_signed_by(copy, _SHOP) for copy in copies)
    assert all(b"x-mailwake-copy" in copy.partition(b"bh=")[0] for copy in copies)
    assert len(set(copies)) == 2
    assert relay.again() == copies


async def test_a_set_that_tracks_nothing_signs_as_well() -> None:
    """Signing belongs to the set, not to rewriting."""
    quiet = ConfigurationSet(name="default", dkim="shop", open_tracking=False, html_links=False, text_links=False)

    (copy,) = await _Relay(quiet).copies(HTML)

    assert _is_signed_by(copy, _SHOP)


@pytest.mark.parametrize("chosen", [ConfigurationSet(name="default"), _RESIGN])
async def test_mail_that_passes_untouched_is_not_signed(chosen: ConfigurationSet) -> None:
    """No set, no signature: of its header only Received is new."""
    relay = _Relay(chosen, enabled=False)

    (copy,) = await relay.copies(b"".join(_AUTHORS) + HTML)

    assert copy.endswith(b"".join(_AUTHORS) + HTML)
    assert copy.startswith(b"Received: ")


async def test_signatures_of_the_author_go_where_they_would_be_broken() -> None:
    """All of them, whatever their case and folding; one of ours takes their place."""
    (copy,) = await _Relay(_RESIGN).copies(b"".join(_AUTHORS) + HTML)

    assert _TRACKED in copy
    assert _is_signed_by(copy, _SHOP)
    assert copy.lower().count(b"dkim-signature:") == 1
    assert b"ARC-" not in copy


async def test_signatures_of_the_author_stay_where_nothing_is_rewritten() -> None:
    """They still hold; ours stands beside them. So it is, too, for a recipient who is not tracked."""
    plain = b"From: news@shop.example\r\nSubject: Hi\r\n\r\nNo link.\r\n"
    (copy,) = await _Relay(_RESIGN).copies(b"".join(_AUTHORS) + plain)
    assert copy.endswith(b"".join(_AUTHORS) + plain)
    assert _is_signed_by(copy, _SHOP)

    wish = b"X-Mailwake-Track: none; rcpt=bo@client.example\r\n"
    ana, bo = await _Relay(_RESIGN).copies(wish + b"".join(_AUTHORS) + HTML, "ana@client.example", "bo@client.example")
    assert _TRACKED in ana
    assert b"ARC-" not in ana
    assert bo.endswith(b"".join(_AUTHORS) + HTML)
    assert _is_signed_by(bo, _SHOP)


@pytest.mark.parametrize(
    ("from_field", "is_rewritten"),
    [
        (b"From: news@shop.example", True),
        (b"From: Shop <a@news.shop.example>", True),
        (b"From: a@other.example", False),
        (b"From: a@shop.example, b@other.example", False),
        (b"From: a@shop.example\r\nFrom: a@shop.example", False),
        (b"From: nobody", False),
        (b"Sender: a@shop.example", False),
    ],
)
async def test_only_a_signature_for_the_author_takes_the_place_of_the_authors(
    from_field: bytes, is_rewritten: bool
) -> None:
    """RFC 7489 §3.1.1: else the mail would fail the policy of its author's domain. It is left, with the reason."""
    relay = _Relay(_RESIGN)
    _, _, rest = HTML.partition(b"\r\n")

    (copy,) = await relay.copies(_AUTHORS[0] + from_field + b"\r\n" + rest)

    assert (_TRACKED in copy) is is_rewritten
    assert (_AUTHORS[0] in copy) is not is_rewritten
    reasons = [skipped.reason for skipped in relay.entry.accepted.facts.skipped]
    assert reasons == ([] if is_rewritten else ["dkim_signed"])


async def test_without_resign_signed_mail_is_left_and_signed_beside() -> None:
    """The default: the author's signature is worth more than a statistic."""
    (copy,) = await _Relay(ConfigurationSet(name="default", dkim="shop")).copies(_AUTHORS[0] + HTML)

    assert copy.endswith(_AUTHORS[0] + HTML)
    assert _is_signed_by(copy, _SHOP)


async def test_mail_that_waits_keeps_its_table_while_that_is_there() -> None:
    """A second attempt is the same mail, also where its set names another table now."""
    relay = _Relay(_RESIGN)
    first = await relay.copies(HTML)
    relay.signers = {"shop": _SHOP, "new": _NEW}
    relay.settings = settings(ConfigurationSet(name="default", dkim="new"), dkim_domains={"new": "shop.example"})

    assert relay.again() == first


async def test_mail_that_waits_is_signed_by_the_table_of_its_set_when_its_own_has_gone() -> None:
    """A key that was rotated under another name; later settings may take a signature away, never bounce mail."""
    relay = _Relay(_RESIGN)
    await relay.copies(HTML)

    relay.signers = {"new": _NEW}
    relay.settings = settings(ConfigurationSet(name="default", dkim="new"), dkim_domains={"new": "shop.example"})
    (copy,) = relay.again()
    assert _is_signed_by(copy, _NEW)

    relay.signers = {}
    relay.settings = settings(ConfigurationSet(name="default"))
    (copy,) = relay.again()
    assert copy.startswith(b"X-Mailwake-Copy: ")
    assert _TRACKED in copy


async def test_the_signature_is_over_what_the_upstream_gets() -> None:
    """Over the fields that it wants and the 7 bits that it takes; not over fields that it writes anew."""
    relay = _Relay(ConfigurationSet(name="default", dkim="shop"))
    relay.fields = OutgoingFields(always=(("Reply-To", "help@shop.example"),), replaced=("Subject",))
    await relay.copies(HTML.replace(b">Lamp<", ">Leuchten für alle<".encode()))

    copy, in_seven_bits = relay.copy(0), relay.copy(0, seven_bit=True)

    assert not copy.isascii()
    assert in_seven_bits.isascii()
    for made in (copy, in_seven_bits):
        assert _is_signed_by(made, _SHOP, replaced=("Subject",))
        names = made.partition(b"bh=")[0].replace(b"\r\n ", b"")
        assert b"reply-to:reply-to:" in names
        assert b"subject" not in names
