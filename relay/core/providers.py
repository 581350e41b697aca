"""What is particular to a provider of upstreams: its own tracking switched off, its id in a reply, its throttling.

Owns the tables. Does not decide what follows from a throttling reply: that is `relay/spool/rate.py`.

Sources, the providers' documentation: Amazon SES "Errors related to the sending quotas", "Amazon SES header fields";
Postmark "Tracking opens" and "Tracking links"; SendGrid "Settings" of X-SMTPAPI; Mailgun "Pass sending options";
SparkPost "SMTP API". RFC 3463 §3.8 and the registry of enhanced codes (4.7.28: mail flood).

Theory:
    A reply that says "slower" is told from one that says "not this mail" by its words. Words about a recipient (a full
    mailbox, too many recipients of one transaction) are left out by their enhanced codes, X.2.X and X.5.3: to slow
    everybody down for them would be wrong.

Limits: Amazon SES has no header that switches tracking off: name a configuration set that does not track in
`set_headers`. Postmark tracks opens all the same where its server is set to.
"""

import re
from typing import Final, Literal, get_args

Provider = Literal["generic", "ses", "postmark", "sendgrid", "mailgun", "sparkpost"]
PROVIDERS: Final[tuple[Provider, ...]] = get_args(Provider)

NO_TRACKING: Final[dict[Provider, tuple[tuple[str, str], ...]]] = {
    "generic": (),
    "ses": (),
    "postmark": (("X-PM-TrackOpens", "false"), ("X-PM-TrackLinks", "None")),
    "sendgrid": (
        (
            "X-SMTPAPI",
            '{"filters": {"clicktrack": {"settings": {"enable": 0}}, "opentrack": {"settings": {"enable": 0}}}}',
        ),
    ),
    "mailgun": (("X-Mailgun-Track", "no"), ("X-Mailgun-Track-Clicks", "no"), ("X-Mailgun-Track-Opens", "no")),
    "sparkpost": (("X-MSYS-API", '{"options": {"open_tracking": false, "click_tracking": false}}'),),
}
"""Header fields that switch the provider's own open and click tracking off."""

REPLACED: Final[dict[Provider, tuple[str, ...]]] = {
    "generic": (),
    "ses": ("Date", "Message-ID"),
    "postmark": (),
    "sendgrid": (),
    "mailgun": (),
    "sparkpost": (),
}
"""Header fields that the provider writes anew: a signature over them would break."""

_ANY: Final = (
    r"\bthrottl"  # Amazon SES: Throttling failure; others "throttled"
    r"|\brate[ -]?limit"
    r"|\b(?:sending|message|mail|connection|request|maximum) rate\b"
    r"|\brate (?:is |was )?exceeded"
    r"|\btoo (?:many|much) (?:concurrent |simultaneous |open |smtp )*(?:messages|e?mails?|mail|requests|connections)\b"
    r"|\btoo many recipients from\b"  # Postfix, smtpd_client_recipient_rate_limit
    r"|\bper (?:second|minute|hour|day)\b"
    r"|\b(?:message|sending|daily|hourly|email) (?:quota|limit) (?:was |is |has been )?(?:exceeded|reached)"
)
_THROTTLING: Final[dict[Provider, re.Pattern[str]]] = {
    "generic": re.compile(_ANY, re.IGNORECASE),
    "ses": re.compile(_ANY, re.IGNORECASE),
    "postmark": re.compile(_ANY + r"|\bsending too fast\b", re.IGNORECASE),
    "sendgrid": re.compile(_ANY + r"|\bmaximum credits exceeded\b", re.IGNORECASE),
    "mailgun": re.compile(_ANY + r"|\bis not allowed to send more\b", re.IGNORECASE),
    "sparkpost": re.compile(_ANY + r"|\bexceeded (?:sending|custom|daily|hourly) ", re.IGNORECASE),
}
_THROTTLING_CODES: Final = frozenset({421, 450, 451, 452, 454})
_FLOOD: Final = re.compile(r"4\.7\.28(?![0-9.])")
_OF_RECIPIENT: Final = re.compile(r"4\.(?:2\.\d{1,3}|5\.3)(?![0-9.])")

_ID: Final = r"([\w.@/+=-]{1,128})"
_QUEUED_AS: Final = r"\bqueued as <?" + _ID  # Postfix, Postmark, SendGrid, Mailwake
_MESSAGE_ID: Final[dict[Provider, re.Pattern[str]]] = {
    "generic": re.compile(
        _QUEUED_AS
        + rf"|\bid=<?{_ID}"  # Exim
        + rf"|^2\.0\.0 {_ID} Message accepted for delivery"  # sendmail, OpenSMTPD
        + rf"|\bMessage Queued \({_ID}\)",  # Haraka
        re.IGNORECASE | re.ASCII,
    ),
    "ses": re.compile(r"\bOk ([0-9a-f]{16}-[0-9a-f-]{1,100})", re.IGNORECASE | re.ASCII),
    "postmark": re.compile(_QUEUED_AS, re.IGNORECASE | re.ASCII),
    "sendgrid": re.compile(_QUEUED_AS, re.IGNORECASE | re.ASCII),
    "mailgun": re.compile(r"\bid=<?" + _ID + "|" + _QUEUED_AS, re.IGNORECASE | re.ASCII),
    "sparkpost": re.compile(_QUEUED_AS + r"|\bOK ([0-9A-F]{2}/[0-9A-F/-]{4,64})", re.IGNORECASE | re.ASCII),
}


def is_throttling(code: int, text: str, provider: Provider) -> bool:
    """Say whether a reply means that we send too fast: `454`, `"4.7.0 Throttling failure: Maximum sending rate"`."""
    if code not in _THROTTLING_CODES or _OF_RECIPIENT.match(text):
        return False
    return _FLOOD.match(text) is not None or _THROTTLING[provider].search(text) is not None


def message_id(text: str, provider: Provider) -> str:
    """Return the upstream's own id of a copy from its reply to the final dot, "" where it tells none."""
    match = _MESSAGE_ID[provider].search(text)
    if match is None:
        return ""
    return next((group for group in match.groups() if group), "").rstrip(".")
