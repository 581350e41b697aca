"""The control headers of a message: which set it names, its tags, and what it asks us not to track.

Ours, SES's and those of other services (Postmark, Mandrill, Mailgun, SendGrid, SparkPost), so that mail written for
them needs no edit. Each may only narrow what the configuration set does. One that cannot be read is a reason to track
nothing: whoever wrote it meant to restrict, and a mail is worth more than its statistics.

Does not remove the headers; `headers.py` does.
"""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from tracker.contract.address import Address
from tracker.contract.errors import AddressError

Values = Callable[[str], Sequence[str]]
"""Gives the unfolded values of every field of a name, in the order of the message."""

MAX_JSON: Final = 65_536
"""Characters of X-SMTPAPI and X-MSYS-API that are read; SendGrid itself stops at 100 KB for the whole message."""
MAX_TAGS: Final = 50
"""Tags a message may have: SES's own limit of message tags."""

_TAG: Final = re.compile(r"[A-Za-z0-9_.@-]{1,256}")  # the characters and length that SES allows
_YES: Final = frozenset({"yes", "true", "on", "1"})
_NO: Final = frozenset({"no", "false", "off", "0"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What a message, or one recipient of it, allows to be tracked."""

    opens: bool = True
    html_clicks: bool = True
    text_clicks: bool = True

    def narrowed(self, other: "Wishes") -> "Wishes":
        """Return what both allow."""
        return Wishes(
            opens=self.opens and other.opens,
            html_clicks=self.html_clicks and other.html_clicks,
            text_clicks=self.text_clicks and other.text_clicks,
        )


ALL: Final = Wishes()
NONE: Final = Wishes(opens=False, html_clicks=False, text_clicks=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Controls:
    """What the control headers say. `readable` is False where one of them could not be understood.

    `by_recipient` has the wishes of single recipients under the address as the envelope prints it.
    """

    configuration_set: str | None = None
    tags: tuple[tuple[str, str], ...] = ()
    wishes: Wishes = ALL
    by_recipient: tuple[tuple[str, Wishes], ...] = ()
    readable: bool = True

    def wishes_of(self, recipient: str) -> Wishes:
        """Return what may be tracked of a recipient: the message's wishes, narrowed by the recipient's own."""
        wishes = self.wishes
        for address, own in self.by_recipient:
            if address.casefold() == recipient.casefold():
                wishes = wishes.narrowed(own)
        return wishes


class _UnreadableError(ValueError):
    """A control header cannot be understood."""


def read(values: Values) -> Controls:
    """Read every control header; never raises, whatever they hold."""
    controls = Controls(configuration_set=_set_name(values), tags=_tags(values("X-SES-MESSAGE-TAGS")))
    try:
        wishes, by_recipient = _own_track(values("X-Mailwake-Track"))
        for other in (
            _postmark(values),
            _mandrill(values("X-MC-Track")),
            _mailgun(values),
            _sendgrid(values("X-SMTPAPI")),
            _sparkpost(values("X-MSYS-API")),
        ):
            wishes = wishes.narrowed(other)
    except _UnreadableError:
        return replace(controls, wishes=NONE, readable=False)
    return replace(controls, wishes=wishes, by_recipient=tuple(by_recipient))


def _set_name(values: Values) -> str | None:
    for field in ("X-SES-CONFIGURATION-SET", "X-Mailwake-Configuration-Set"):
        for value in values(field):
            if value.strip():
                return value.strip()
    return None


def _tags(fields: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """`k=v, k2=v2`; a pair that SES would refuse is left out, `ses:` names among them (`:` is no tag character)."""
    found: list[tuple[str, str]] = []
    for field in fields:
        for pair in field.split(","):
            name, _, value = pair.partition("=")
            if _TAG.fullmatch(name.strip()) and _TAG.fullmatch(value.strip()):
                found.append((name.strip(), value.strip()))
    return tuple(found[:MAX_TAGS])


def _own_track(fields: Sequence[str]) -> tuple[Wishes, list[tuple[str, Wishes]]]:
    """`opens, clicks | none`, with `; rcpt=a@b.example` for one recipient each; the header may be repeated."""
    general = ALL
    by_recipient: list[tuple[str, Wishes]] = []
    for field in fields:
        what, *parameters = field.split(";")
        words = _words(what)
        if not words or not words <= {"opens", "clicks", "none"} or ("none" in words and len(words) > 1):
            raise _UnreadableError
        wishes = Wishes(opens="opens" in words, html_clicks="clicks" in words, text_clicks="clicks" in words)
        recipients = [_recipient(parameter) for parameter in parameters if parameter.strip()]
        if recipients:
            by_recipient += [(recipient, wishes) for recipient in recipients]
        else:
            general = general.narrowed(wishes)
    return general, by_recipient


def _recipient(parameter: str) -> str:
    name, _, address = parameter.partition("=")
    if name.strip().lower() != "rcpt":
        raise _UnreadableError
    try:
        return str(Address.parse(address.strip().strip("<>")))
    except AddressError as error:
        raise _UnreadableError from error


def _postmark(values: Values) -> Wishes:
    """X-PM-TrackOpens: true|false. X-PM-TrackLinks: None|HtmlAndText|HtmlOnly|TextOnly."""
    wishes = ALL
    for value in values("X-PM-TrackOpens"):
        wishes = wishes.narrowed(Wishes(opens=_flag(value)))
    for value in values("X-PM-TrackLinks"):
        links = {
            "none": (False, False),
            "htmlandtext": (True, True),
            "htmlonly": (True, False),
            "textonly": (False, True),
        }
        if value.strip().lower() not in links:
            raise _UnreadableError
        in_html, in_text = links[value.strip().lower()]
        wishes = wishes.narrowed(Wishes(html_clicks=in_html, text_clicks=in_text))
    return wishes


def _mandrill(fields: Sequence[str]) -> Wishes:
    """X-MC-Track: a list of opens, clicks (or clicks_all), clicks_htmlonly, clicks_textonly; none of them: nothing."""
    wishes = ALL
    for field in fields:
        words = _words(field)
        if not words <= {"opens", "clicks", "clicks_all", "clicks_htmlonly", "clicks_textonly", "none", "false"}:
            raise _UnreadableError
        both = bool(words & {"clicks", "clicks_all"})
        own = Wishes(
            opens="opens" in words,
            html_clicks=both or "clicks_htmlonly" in words,
            text_clicks=both or "clicks_textonly" in words,
        )
        wishes = wishes.narrowed(own)
    return wishes


def _mailgun(values: Values) -> Wishes:
    """X-Mailgun-Track, -Track-Opens: yes|no. X-Mailgun-Track-Clicks: yes|no|htmlonly."""
    wishes = ALL
    for value in values("X-Mailgun-Track"):
        wishes = wishes if _flag(value) else NONE
    for value in values("X-Mailgun-Track-Opens"):
        wishes = wishes.narrowed(Wishes(opens=_flag(value)))
    for value in values("X-Mailgun-Track-Clicks"):
        html_only = value.strip().lower() == "htmlonly"
        wanted = html_only or _flag(value)
        wishes = wishes.narrowed(Wishes(html_clicks=wanted, text_clicks=wanted and not html_only))
    return wishes


def _sendgrid(fields: Sequence[str]) -> Wishes:
    """X-SMTPAPI: `{"filters": {"opentrack": {"settings": {"enable": 0}}, "clicktrack": {… "enable_text": false}}}`."""
    wishes = ALL
    for field in fields:
        filters = _member(_json(field), "filters")
        opened = _member(_member(filters, "opentrack"), "settings")
        clicked = _member(_member(filters, "clicktrack"), "settings")
        in_html = _json_flag(clicked, "enable")
        own = Wishes(
            opens=_json_flag(opened, "enable"),
            html_clicks=in_html,
            text_clicks=in_html and _json_flag(clicked, "enable_text"),
        )
        wishes = wishes.narrowed(own)
    return wishes


def _sparkpost(fields: Sequence[str]) -> Wishes:
    """X-MSYS-API: `{"options": {"open_tracking": false, "click_tracking": false}}`."""
    wishes = ALL
    for field in fields:
        options = _member(_json(field), "options")
        clicks = _json_flag(options, "click_tracking")
        own = Wishes(opens=_json_flag(options, "open_tracking"), html_clicks=clicks, text_clicks=clicks)
        wishes = wishes.narrowed(own)
    return wishes


def _words(value: str) -> set[str]:
    return {word.strip().lower() for word in value.split(",") if word.strip()}


def _flag(value: str) -> bool:
    word = value.strip().lower()
    if word in _YES or word in _NO:
        return word in _YES
    raise _UnreadableError


def _json(field: str) -> object:
    if len(field) > MAX_JSON:
        raise _UnreadableError
    try:
        return json.loads(field)
    except (ValueError, RecursionError) as error:
        raise _UnreadableError from error


def _member(value: object, name: str) -> object:
    """Return a member of an object, None where there is no such member; anything but an object is unreadable."""
    if value is None:
        return None
    if not isinstance(value, dict):
        raise _UnreadableError
    return value.get(name)


def _json_flag(settings: object, name: str) -> bool:
    value = _member(settings, name)
    if value is None:
        return True
    if isinstance(value, bool | int):
        return bool(value)
    if isinstance(value, str):
        return _flag(value)
    raise _UnreadableError


def names() -> Iterable[str]:
    """Name every field that is read here; `headers.py` takes them out of what leaves."""
    yield from ("X-SES-CONFIGURATION-SET", "X-Mailwake-Configuration-Set", "X-SES-MESSAGE-TAGS", "X-Mailwake-Track")
    yield from ("X-PM-TrackOpens", "X-PM-TrackLinks", "X-MC-Track", "X-SMTPAPI", "X-MSYS-API")
    yield from ("X-Mailgun-Track", "X-Mailgun-Track-Opens", "X-Mailgun-Track-Clicks")
