"""What is done with a message: the set, what narrows it, and what is refused."""

import pytest

from relay.core.controls import ALL, NONE, Controls, Wishes
from relay.core.policy import PAUSED, UNKNOWN_SET, Refuse, Track, Untouched, decide
from relay.core.reasons import SkipReason
from tests.unit.submissions import settings
from tracker.contract.address import NULL_SENDER, Address, ReversePath
from tracker.contract.settings import ConfigurationSet, SenderDomain, Settings

_ENVELOPE = Address.parse("bounces@mailer.example")
_SHOP = ConfigurationSet(name="shop", open_tracking=False)
_BOTH = settings(
    ConfigurationSet(name="default"),
    _SHOP,
    sender_domains={"shop.example": SenderDomain(domain="shop.example", configuration_set="shop")},
)


def _decide(
    from_value: str | None = "news@shop.example",
    *,
    controls: Controls | None = None,
    where: Settings = _BOTH,
    reverse_path: ReversePath = _ENVELOPE,
) -> Track | Untouched | Refuse:
    return decide(
        from_values=[] if from_value is None else [from_value],
        reverse_path=reverse_path,
        controls=controls or Controls(),
        settings=where,
    )


@pytest.mark.parametrize(
    ("from_value", "name", "domain"),
    [
        ("Shop <news@mail.shop.example>", "shop", "mail.shop.example"),
        ("other@other.example", "default", "other.example"),
        (None, "default", "mailer.example"),
        ("unreadable", "default", "mailer.example"),
    ],
)
def test_the_set_is_that_of_the_author_else_of_the_envelope(from_value: str | None, name: str, domain: str) -> None:
    """The first mailbox of the first From decides; without a readable one, the reverse-path."""
    decision = _decide(from_value)

    assert isinstance(decision, Track)
    assert (decision.configuration_set.name, decision.from_domain) == (name, domain)


def test_a_message_only_narrows_its_set() -> None:
    """The set says no opens; the message's wish for opens and HTML clicks gives HTML clicks."""
    decision = _decide(controls=Controls(wishes=Wishes(text_clicks=False)))

    assert isinstance(decision, Track)
    assert decision.wishes == Wishes(opens=False, text_clicks=False)


def test_an_unknown_set_is_refused() -> None:
    """554 5.7.1, nothing kept."""
    assert _decide(controls=Controls(configuration_set="nope")) == Refuse(reply=UNKNOWN_SET)


def test_a_paused_set_is_put_off() -> None:
    """451 4.7.1: the client keeps the message."""
    paused = settings(ConfigurationSet(name="default", paused=True))

    assert _decide(where=paused) == Refuse(reply=PAUSED)


def test_a_report_is_never_tracked() -> None:
    """The null sender marks reports; changing them can start a loop."""
    decision = _decide(reverse_path=NULL_SENDER)

    assert isinstance(decision, Track)
    assert (decision.wishes, decision.reason) == (NONE, SkipReason.NULL_SENDER)


def test_an_unreadable_control_header_tracks_nothing() -> None:
    """A mail is worth more than its statistics."""
    decision = _decide(controls=Controls(readable=False, wishes=NONE))

    assert isinstance(decision, Track)
    assert (decision.wishes, decision.reason) == (NONE, SkipReason.UNREADABLE_CONTROL_HEADER)


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        (settings(enabled=False), SkipReason.NOT_ENABLED),
        (settings(account_set=None), SkipReason.NO_CONFIGURATION_SET),
        (settings(scope="domain"), SkipReason.NO_CONFIGURATION_SET),
    ],
)
def test_without_a_set_or_tracking_the_message_passes_untouched(where: Settings, reason: SkipReason) -> None:
    """By the default upstream, with all its recipients together."""
    decision = _decide(where=where)

    assert decision == Untouched(upstream="default", from_domain="shop.example", reason=reason)


def test_wishes_of_a_set_are_its_switches() -> None:
    """Opens and clicks are switched separately."""
    decision = _decide(where=settings(ConfigurationSet(name="a")))

    assert isinstance(decision, Track)
    assert decision.wishes == ALL
