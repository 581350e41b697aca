r"""What a client asks of delivery reports: the parameters RET, ENVID, NOTIFY and ORCPT, as values.

Owns their grammar, and what is due by them. The values are kept as they were sent, so that the next server reads what
the client wrote; decoded they stand only in a report. What is decoded is printable: `ORCPT=rfc822;a+0D+0ABcc:+20b`
would else become a field of the report (header injection). Octets above 127 stay as they were written.

Standards: RFC 3461 §4.1 (NOTIFY), §4.2 (ORCPT), §4.3 (RET), §4.4 (ENVID), §5.2 (what is due); RFC 6533 §3 (`utf-8`).
"""

import re
from dataclasses import dataclass
from typing import Final

MAX_ENVELOPE_ID: Final = 100  # RFC 3461 §4.4
MAX_ORIGINAL: Final = 500  # RFC 3461 §4.2

_CONDITIONS: Final = ("SUCCESS", "FAILURE", "DELAY")
_NEVER: Final = "NEVER"
# RFC 3461 §4, without control characters. Octets above 127 are how Postfix writes an address of SMTPUTF8.
_XTEXT: Final = re.compile(r"(?:[!-*,-<>-~]|\+[2-9A-F][0-9A-F])+")
_HEX: Final = re.compile(r"\+([2-7][0-9A-F])")
_DELETE: Final = "+7F"
_ADDRESS_TYPE: Final = re.compile(r"[A-Za-z0-9-]{1,40}")
_UTF8_ADDRESS: Final = re.compile(r"(?:[!-*,-<>-\[\]-~\xa0-\U0010ffff]|\\x\{[0-9A-F]{2,6}\})+")  # RFC 6533 §3
_NOT_XTEXT: Final = re.compile(r"[^!-*,-<>-\[\]-~]")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipientRequest:
    """What was asked at RCPT.

    `notify` is empty where nothing was asked, `"NEVER"`, or any of `"SUCCESS,FAILURE,DELAY"` in this order; `original`
    is the value of ORCPT as it was sent (`"rfc822;ana+2Blist@a.example"`), empty where there was none.
    """

    notify: str = ""
    original: str = ""

    @property
    def wants_failure(self) -> bool:
        """A report is due when the copy cannot be delivered; RFC 3461 §4.1: also where nothing was asked."""
        return not self.notify or "FAILURE" in self.notify

    @property
    def wants_success(self) -> bool:
        """A report is due when the copy was delivered, or handed to a server that will not report."""
        return "SUCCESS" in self.notify

    def shown_original(self) -> str:
        """Return ORCPT as a report shows it, `"rfc822; ana+list@a.example"`; in ASCII, empty where there was none."""
        kind, _, value = self.original.partition(";")
        if not value:
            return ""
        return f"{kind}; {utf8_address(value, escaped=True) if kind.lower() == 'utf-8' else _decoded(value)}"


ANYTHING: Final = RecipientRequest()


@dataclass(frozen=True, slots=True, kw_only=True)
class DsnRequest:
    """What was asked at MAIL, and of each recipient.

    `returned` is `"FULL"`, `"HDRS"` or empty; `envelope_id` is the value of ENVID as it was sent. `recipients` stand in
    the order of the envelope's, or are none where nobody was spoken of.
    """

    returned: str = ""
    envelope_id: str = ""
    recipients: tuple[RecipientRequest, ...] = ()

    def of(self, index: int) -> RecipientRequest:
        """Return what was asked for recipient number `index`."""
        return self.recipients[index] if self.recipients else ANYTHING

    def only(self, indexes: tuple[int, ...]) -> "DsnRequest":
        """Return the request of a transaction with these recipients alone."""
        chosen = tuple(self.recipients[index] for index in indexes) if self.recipients else ()
        return DsnRequest(returned=self.returned, envelope_id=self.envelope_id, recipients=chosen)

    def shown_envelope_id(self) -> str:
        """Return ENVID as a report shows it, decoded."""
        return _decoded(self.envelope_id)


NO_REQUEST: Final = DsnRequest()
NO_REPORT_OF_A_REPORT: Final = DsnRequest(recipients=(RecipientRequest(notify=_NEVER),))
"""RFC 3461 §6.1: what a report itself may ask."""


class DsnParameterError(ValueError):
    """A parameter breaks its grammar; the message is a sentence of ours, without what the client wrote."""


# Each takes a parameter's value: empty where the client did not give the parameter, None where it gave no value.


def parse_returned(value: str | None) -> str:
    """Return RET in upper case. DsnParameterError: it is neither FULL nor HDRS."""
    if value is None or value.upper() not in {"", "FULL", "HDRS"}:
        raise DsnParameterError("RET is FULL or HDRS")
    return value.upper()


def parse_envelope_id(value: str | None) -> str:
    """Return ENVID as it is. DsnParameterError: it is too long, no xtext, or not printable when decoded."""
    if value is None or len(value) > MAX_ENVELOPE_ID or not _is_xtext(value):
        raise DsnParameterError(f"ENVID takes at most {MAX_ENVELOPE_ID} characters of xtext")
    return value


def parse_notify(value: str | None) -> str:
    """Return NOTIFY in upper case and one order.

    DsnParameterError: another word, one that stands twice, or NEVER with others.
    """
    words = value.upper().split(",") if value else []
    if words == [_NEVER]:
        return _NEVER
    if value is None or len(set(words)) != len(words) or not set(words) <= set(_CONDITIONS):
        raise DsnParameterError("NOTIFY is NEVER, or a list of SUCCESS, FAILURE and DELAY, each once")
    return ",".join(condition for condition in _CONDITIONS if condition in words)


def parse_original(value: str | None) -> str:
    """Return ORCPT as it is. DsnParameterError: too long, without a type, or no address that its type allows."""
    kind, _, address = (value or "").partition(";")
    pattern = _UTF8_ADDRESS if kind.lower() == "utf-8" else _XTEXT
    is_right = _ADDRESS_TYPE.fullmatch(kind) and pattern.fullmatch(address) and _DELETE not in address
    if value is None or (value and not (is_right and len(value) <= MAX_ORIGINAL)):
        raise DsnParameterError("ORCPT takes a type, a semicolon, and an address as xtext")
    return value


def utf8_address(address: str, *, escaped: bool = False) -> str:
    r"""Write an address in ASCII (RFC 6533 §3, utf-8-addr-xtext): `"jörg@a.example"` gives `"j\x{F6}rg@a.example"`.

    `escaped`: what looks like an escape already is one.
    """
    pattern = re.compile(r"[^ -~]") if escaped else _NOT_XTEXT
    return pattern.sub(lambda found: f"\\x{{{ord(found.group()):02X}}}", address)


def _is_xtext(value: str) -> bool:
    return not value or (_XTEXT.fullmatch(value) is not None and _DELETE not in value)


def _decoded(xtext: str) -> str:
    return _HEX.sub(lambda found: chr(int(found[1], 16)), xtext)
