"""Control headers: ours and other services'; each may only narrow, and one that cannot be read tracks nothing."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.controls import ALL, NONE, Controls, Wishes, names, read


def _controls(*fields: tuple[str, str]) -> Controls:
    def values(name: str) -> Sequence[str]:
        return [value for field, value in fields if field.lower() == name.lower()]

    return read(values)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("X-Mailwake-Track", "none", NONE),
        ("X-Mailwake-Track", "opens", Wishes(html_clicks=False, text_clicks=False)),
        ("X-Mailwake-Track", "clicks", Wishes(opens=False)),
        ("X-Mailwake-Track", " Opens , Clicks ", ALL),
        ("X-PM-TrackOpens", "false", Wishes(opens=False)),
        ("X-PM-TrackLinks", "None", Wishes(html_clicks=False, text_clicks=False)),
        ("X-PM-TrackLinks", "HtmlOnly", Wishes(text_clicks=False)),
        ("X-PM-TrackLinks", "TextOnly", Wishes(html_clicks=False)),
        ("X-MC-Track", "opens", Wishes(html_clicks=False, text_clicks=False)),
        ("X-MC-Track", "opens,clicks_htmlonly", Wishes(text_clicks=False)),
        ("X-MC-Track", "opens,clicks", ALL),
        ("X-MC-Track", "none", NONE),
        ("X-Mailgun-Track", "no", NONE),
        ("X-Mailgun-Track-Opens", "no", Wishes(opens=False)),
        ("X-Mailgun-Track-Clicks", "htmlonly", Wishes(text_clicks=False)),
        ("X-Mailgun-Track-Clicks", "no", Wishes(html_clicks=False, text_clicks=False)),
        (
            "X-SMTPAPI",
            '{"filters":{"clicktrack":{"settings":{"enable":0}},"opentrack":{"settings":{"enable":1}}}}',
            Wishes(html_clicks=False, text_clicks=False),
        ),
        ("X-SMTPAPI", '{"filters":{"clicktrack":{"settings":{"enable_text":false}}}}', Wishes(text_clicks=False)),
        ("X-SMTPAPI", '{"category":"spring"}', ALL),
        ("X-MSYS-API", '{"options":{"open_tracking":false}}', Wishes(opens=False)),
        ("X-MSYS-API", '{"options":{"click_tracking":"false"}}', Wishes(html_clicks=False, text_clicks=False)),
    ],
)
def test_a_header_narrows_what_is_tracked(name: str, value: str, expected: Wishes) -> None:
    """Mail written for another service keeps its meaning."""
    controls = _controls((name, value))

    assert controls.readable
    assert controls.wishes == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-Mailwake-Track", "everything"),
        ("X-Mailwake-Track", ""),
        ("X-Mailwake-Track", "none, opens"),
        ("X-Mailwake-Track", "none; rcpt=nobody"),
        ("X-Mailwake-Track", "none; to=a@b.example"),
        ("X-PM-TrackOpens", "perhaps"),
        ("X-PM-TrackLinks", "some"),
        ("X-MC-Track", "clicks_all_of_them"),
        ("X-Mailgun-Track-Clicks", "maybe"),
        ("X-SMTPAPI", "{"),
        ("X-SMTPAPI", '{"filters": 1}'),
        ("X-MSYS-API", "[" * 30_000),
        ("X-MSYS-API", '{"options":{"open_tracking":[]}}'),
    ],
)
def test_a_header_that_cannot_be_read_tracks_nothing(name: str, value: str) -> None:
    """Whoever wrote it meant to restrict."""
    controls = _controls((name, value), ("X-SES-CONFIGURATION-SET", "promo"))

    assert not controls.readable
    assert controls.wishes == NONE
    assert controls.configuration_set == "promo"


def test_one_recipient_may_be_left_out() -> None:
    """`rcpt=` narrows for that recipient alone; the domain's case does not matter."""
    controls = _controls(
        ("X-Mailwake-Track", "none; rcpt=ana@Client.Example"),
        ("X-Mailwake-Track", "opens; rcpt=bo@client.example; rcpt=cy@client.example"),
        ("X-Mailwake-Track", "opens, clicks"),
    )

    assert controls.wishes_of("ana@client.example") == NONE
    assert controls.wishes_of("cy@client.example") == Wishes(html_clicks=False, text_clicks=False)
    assert controls.wishes_of("di@client.example") == ALL


def test_a_recipient_gets_no_more_than_the_message() -> None:
    """A recipient's header narrows what the message allows, and never widens it."""
    controls = _controls(("X-Mailwake-Track", "none"), ("X-Mailwake-Track", "opens; rcpt=ana@client.example"))

    assert controls.wishes_of("ana@client.example") == NONE


def test_tags_are_read_as_ses_reads_them() -> None:
    """Pairs that SES would refuse, and its reserved names, are left out."""
    controls = _controls(
        ("X-SES-MESSAGE-TAGS", "campaign=nov, kind = promo,bad,=x,y=,ses:operation=SendEmail,a b=c"),
        ("X-SES-MESSAGE-TAGS", "more=1"),
    )

    assert controls.tags == (("campaign", "nov"), ("kind", "promo"), ("more", "1"))


def test_the_set_is_named_by_either_header() -> None:
    """SES's header comes first; an empty one names nothing."""
    assert _controls(("X-Mailwake-Configuration-Set", " b ")).configuration_set == "b"
    assert _controls(("X-Mailwake-Configuration-Set", "b"), ("X-SES-CONFIGURATION-SET", "a")).configuration_set == "a"
    assert _controls(("X-SES-CONFIGURATION-SET", " ")).configuration_set is None


@given(st.sampled_from(sorted(names())), st.text(max_size=60))
def test_any_value_is_read_without_an_exception_and_widens_nothing(name: str, value: str) -> None:
    """Hostile headers give values."""
    controls = _controls((name, value), ("X-PM-TrackOpens", "no"))

    assert not controls.wishes.opens
