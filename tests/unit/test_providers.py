"""What replies of providers mean, and what is put on mail for them."""

import json

import pytest

from relay.core import controls, headers, providers
from relay.core.providers import NO_TRACKING, PROVIDERS, Provider

_UUID = "6c1f3f0e-0000-4000-8000-000000000000"
_SES_ID = f"0100018f3c2a9b4e-{_UUID}-000000"


@pytest.mark.parametrize(
    "code, text",
    [
        (454, "4.7.0 Throttling failure: Maximum sending rate exceeded."),
        (454, "Throttling failure: Daily message quota exceeded"),
        (421, "4.7.28 Gmail has detected an unusual rate of unsolicited mail"),
        (450, "4.7.28 slow down"),
        (450, "4.7.1 Error: too much mail from 192.0.2.1"),
        (421, "4.7.0 mx.example Error: too many connections from 192.0.2.1"),
        (451, "4.7.1 You have exceeded 100 messages per hour"),
        (452, "4.3.2 Rate limit reached, try later"),
    ],
)
def test_these_replies_say_slower(code: int, text: str) -> None:
    """By every provider's client, the generic one included."""
    assert all(providers.is_throttling(code, text, provider) for provider in PROVIDERS)


@pytest.mark.parametrize(
    "code, text",
    [
        (450, "4.2.1 The user you are trying to contact is receiving mail at a rate that prevents more per hour"),
        (452, "4.2.2 The mailbox is over quota, daily quota exceeded"),
        (452, "4.5.3 Too many recipients"),
        (451, "4.7.1 Greylisted, please try again in 5 minutes"),
        (451, "4.3.0 Temporary failure, please separate your mail"),
        (550, "5.7.1 Sending rate exceeded"),
        (250, "2.0.0 throttled"),
        (450, "4.7.280 no such code"),
    ],
)
def test_these_do_not(code: int, text: str) -> None:
    """About a recipient, about a message, or no 4xx: everybody would be slowed down for one."""
    assert not any(providers.is_throttling(code, text, provider) for provider in PROVIDERS)


@pytest.mark.parametrize(
    "provider, text, expected",
    [
        ("generic", "2.0.0 Ok: queued as 4F2C1A", "4F2C1A"),
        ("generic", "OK id=1vX2ab-000001-3x", "1vX2ab-000001-3x"),
        ("generic", "2.0.0 4d9a1b5e Message accepted for delivery", "4d9a1b5e"),
        ("generic", "Message Queued (5B1C0F4A-1.1)", "5B1C0F4A-1.1"),
        ("ses", f"Ok {_SES_ID}", _SES_ID),
        ("postmark", f"2.0.0 Ok: queued as {_UUID}", _UUID),
        ("sendgrid", "Ok: queued as XDVZ3N2ISCCbQnS_EG5_Kg", "XDVZ3N2ISCCbQnS_EG5_Kg"),
        ("mailgun", "Great success", ""),
        ("mailgun", "Queued. id=<20260301.1@mg.shop.example>", "20260301.1@mg.shop.example"),
        ("sparkpost", "2.0.0 OK 5B/3F-12345-ABCDEF01", "5B/3F-12345-ABCDEF01"),
        ("sparkpost", "2.0.0 Ok: queued as 77", "77"),
        ("ses", "2.0.0 Ok: queued as 77", ""),
        ("generic", "2.0.0 thank you", ""),
    ],
)  # fmt: skip
def test_the_upstreams_own_id_is_found(provider: Provider, text: str, expected: str) -> None:
    """It is what one asks the provider's support about."""
    assert providers.message_id(text, provider) == expected


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_fields_of_a_provider_ask_for_no_tracking(provider: Provider) -> None:
    """Read by our own reader of the same headers, they forbid opens and clicks; each can be written."""
    block = headers.scan(b"".join(headers.make_field(*field) for field in NO_TRACKING[provider]) + b"\r\n")
    wishes = controls.read(block.values)

    assert wishes.readable
    assert wishes.wishes.opens is wishes.wishes.html_clicks is (provider in ("generic", "ses"))
    for _, value in NO_TRACKING[provider]:
        assert not value.startswith("{") or json.loads(value)
