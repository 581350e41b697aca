"""What recipients decided, at acceptance and while mail waits."""

import itertools

import pytest

from relay.core.attempt import CopyForm
from relay.core.consent import NOBODY_SPOKE, Consents
from relay.core.prepare import Site
from relay.pipeline import Pipeline, Ports
from relay.spool.entry import SpoolEntry, decode, encode
from tests.unit.submissions import HTML, NOW, settings, submission
from tracker.contract.consent import ConsentBook, Marks, Persons
from tracker.contract.events import CopyFacts, Skipped
from tracker.contract.ids import MessageId
from tracker.contract.settings import ConfigurationSet, Consent
from tracker.contract.token import TokenKey, TokenKeys

ANA, BO = "ana@client.example", "bo@home.example"
PERSONS = Persons(b"k")
KEYS = TokenKeys([TokenKey(key_id=1, secret=bytes(32), mint_from=NOW)])
SIGNED = b"DKIM-Signature: v=1\r\n" + HTML


def _book(*, allowed: str = "", denied: str = "") -> Consents:
    return Consents(
        persons=PERSONS,
        book=ConsentBook(allowed=Marks([PERSONS.of(allowed)]), denied=Marks([PERSONS.of(denied)])),
    )


class _Relay:
    """A pipeline whose spool is a list; `consents` are those in force."""

    def __init__(self, rule: Consent, consents: Consents) -> None:
        counter = itertools.count(1)
        self.kept: list[tuple[SpoolEntry, bytes]] = []
        self.consents = consents
        self.settings = settings(ConfigurationSet(name="default", consent=rule))
        ports = Ports(
            settings=lambda: self.settings,
            keys=lambda: KEYS,
            put=self._put,
            take_out=self._take_out,
            queue=lambda _: None,
            clock=lambda: NOW,
            entropy=lambda size: next(counter).to_bytes(size, "big"),
            consents=lambda: self.consents,
        )
        self.pipeline = Pipeline(Site(hostname="relay.example.com", instance="relay1"), ports)

    async def _put(self, entry: SpoolEntry, message: bytes) -> None:
        self.kept.append((decode(encode(entry)), message))

    async def _take_out(self, message: MessageId) -> None:
        raise AssertionError(message)

    async def accept(self, message: bytes = HTML) -> tuple[CopyFacts, ...]:
        await self.pipeline.accept(submission(message, ANA, BO))
        return self.kept[0][0].accepted.copies

    def tracked(self) -> list[bool]:
        """Say of each recipient's copy whether it has a pixel or a link of ours."""
        ((entry, message),) = self.kept
        copies = [b"".join(self.pipeline.copy_of(entry, message, row, CopyForm(upstream="d")) or ()) for row in (0, 1)]
        assert all(copy.startswith(b"X-Mailwake-Copy: ") for copy in copies)
        return [b"https://trace.shop.example/" in copy for copy in copies]


@pytest.mark.parametrize(
    ("rule", "consents", "reasons"),
    [
        ("assume", NOBODY_SPOKE, (None, None)),
        ("assume", _book(denied="ANA@client.example"), ("consent_denied", None)),
        ("assume", Consents(persons=PERSONS, book=None), (None, None)),
        ("require", NOBODY_SPOKE, ("no_consent", "no_consent")),
        ("require", _book(allowed=ANA), (None, "no_consent")),
        ("require", _book(allowed=ANA, denied=BO), (None, "consent_denied")),
        ("require", Consents(persons=PERSONS, book=None), ("no_consent", "no_consent")),
    ],
)
async def test_each_copy_is_tracked_as_its_recipient_decided(
    rule: Consent, consents: Consents, reasons: tuple[str | None, ...]
) -> None:
    """And says why not, alone; the others of the message get theirs."""
    relay = _Relay(rule, consents)
    copies = await relay.accept()

    assert [copy.opens for copy in copies] == [reason is None for reason in reasons]
    assert [copy.clicks for copy in copies] == [reason is None for reason in reasons]
    skipped = [() if reason is None else (Skipped(reason=reason),) for reason in reasons]
    assert [copy.skipped for copy in copies] == skipped
    assert relay.tracked() == [reason is None for reason in reasons]


async def test_a_message_that_is_left_for_another_reason_says_that_one() -> None:
    """Nothing would be tracked anyhow."""
    relay = _Relay("require", NOBODY_SPOKE)
    assert [copy.skipped for copy in await relay.accept(SIGNED)] == [(), ()]
    assert [skip.reason for skip in relay.kept[0][0].accepted.facts.skipped] == ["dkim_signed"]


async def test_a_denial_takes_tracking_from_mail_that_waits_and_an_allowance_gives_none() -> None:
    """It was accepted without; its Send says so."""
    relay = _Relay("assume", _book(denied=ANA))
    await relay.accept()
    assert relay.tracked() == [False, True]
    relay.consents = _book(allowed=ANA, denied=BO)
    assert relay.tracked() == [False, False]


async def test_a_set_that_comes_to_require_consent_takes_tracking_from_mail_that_waits() -> None:
    """Later settings may only take away."""
    relay = _Relay("assume", _book(allowed=BO))
    await relay.accept()
    relay.settings = settings(ConfigurationSet(name="default", consent="require"))
    assert relay.tracked() == [False, True]
