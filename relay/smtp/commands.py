"""The arguments of EHLO, MAIL and RCPT: one strict grammar, on text, with no socket.

The library's parser decodes encoded words in addresses, lets NUL and CR pass, turns `a,b@c.d` into `a`, and
upper-cases the values of parameters. Here the string that was checked is the string that is sent, and what is wrong
becomes a `Reply` that says so without repeating what the client wrote.

Standards: RFC 5321 §4.1.1 to §4.1.3, RFC 1870 (SIZE), RFC 6152 (BODY), RFC 6531 §3.4 (SMTPUTF8), RFC 4954 §5 (AUTH=),
    RFC 3461 §4 (RET, ENVID, NOTIFY, ORCPT).
Departs from: RFC 5321 §3.3, which forbids the space in `MAIL FROM: <...>` that many programs send; it is accepted.
    RFC 5321 §4.5.1: `<Postmaster>` without a domain is refused, because there are no mailboxes here.
"""

import re
from dataclasses import dataclass
from typing import Final

from relay.core import dsnrequest
from relay.core import reply as replies
from relay.core.dsnrequest import DsnParameterError, RecipientRequest
from relay.core.reply import Reply
from tracker.contract.address import Address, NullSender, ReversePath, parse_path
from tracker.contract.errors import AddressError

# RFC 5321 §4.1.1.1 wants a domain or an address literal. Programs in the field also send names with underscores and
# bare IPv6 addresses; what matters is that nothing among them could end a comment or a line of a Received field.
_HELO: Final = re.compile(r"[A-Za-z0-9_.:\[\]-]{1,255}")
# RFC 5321 §4.1.2, esmtp-param; RFC 6531 §3.3: its value may be UTF-8
_PARAMETER: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([!-<>-~\xa0-\U0010ffff]+))?")
_BODY: Final = re.compile(r"7BIT|(8BITMIME)", re.IGNORECASE | re.ASCII)
_SIZE: Final = re.compile(r"[0-9]{1,20}")  # RFC 1870 §3


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """MAIL, understood: `MAIL FROM:<ana@shop.example> SIZE=9 BODY=8BITMIME RET=HDRS ENVID=QQ314159`."""

    reverse_path: ReversePath
    declared_size: int | None
    body_8bit: bool
    smtputf8: bool
    returned: str = ""
    envelope_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rcpt:
    """RCPT, understood: `RCPT TO:<bo@home.example> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;bo@home.example`."""

    recipient: Address
    request: RecipientRequest


def split_line(line: str) -> tuple[str, str]:
    """Split `mail from:<a@b.example> ` into `"MAIL"` and `"from:<a@b.example>"`.

    RFC 5321 §4.1.1: white space before the end of the line is tolerated.
    """
    verb, _, argument = line.partition(" ")
    return verb.upper() if verb.isascii() else verb, argument.strip(" ")


def parse_helo(argument: str) -> str | Reply:
    """Return the client's name, safe in a header field; or the reply that refuses it."""
    return argument if _HELO.fullmatch(argument) else replies.bad_helo()


def parse_mail(argument: str, *, max_message_bytes: int) -> Mail | Reply:
    """Parse what follows `MAIL `; a Reply says what is wrong with it."""
    parsed = _parse(argument, "FROM:")
    if isinstance(parsed, Reply):
        return parsed
    if isinstance(parsed, AddressError):
        return replies.bad_sender(str(parsed))
    path, parameters = parsed
    declared_size: int | None = None
    body_8bit = smtputf8 = False
    try:
        returned = dsnrequest.parse_returned(parameters.pop("RET", ""))
        envelope_id = dsnrequest.parse_envelope_id(parameters.pop("ENVID", ""))
    except DsnParameterError as error:
        return replies.bad_argument(str(error))
    for keyword, value in parameters.items():
        match keyword:
            case "SIZE":
                if value is None or not _SIZE.fullmatch(value):
                    return replies.bad_argument("SIZE takes a number of octets")
                declared_size = int(value)
                if declared_size > max_message_bytes:  # RFC 1870 §6.1
                    return replies.MESSAGE_TOO_BIG
            case "BODY":
                if value is None or not (body := _BODY.fullmatch(value)):
                    return replies.bad_argument("BODY is 7BIT or 8BITMIME")
                body_8bit = body[1] is not None
            case "SMTPUTF8":
                if value is not None:
                    return replies.bad_argument("SMTPUTF8 takes no value")
                smtputf8 = True
            case "AUTH":  # RFC 4954 §5: whom it names is believed of nobody, so it is as if `<>` were given
                if value is None:
                    return replies.bad_argument("AUTH takes a mailbox or <>")
            case _:
                return replies.parameter_not_offered(keyword)
    if not smtputf8 and not argument.isascii():
        return replies.SMTPUTF8_NEEDED
    return Mail(
        reverse_path=path,
        declared_size=declared_size,
        body_8bit=body_8bit,
        smtputf8=smtputf8,
        returned=returned,
        envelope_id=envelope_id,
    )


def parse_rcpt(argument: str, *, smtputf8: bool) -> Rcpt | Reply:
    """Parse what follows `RCPT `; a Reply says what is wrong with it."""
    parsed = _parse(argument, "TO:")
    if isinstance(parsed, Reply):
        return parsed
    if isinstance(parsed, AddressError):
        return replies.bad_recipient(str(parsed))
    path, parameters = parsed
    if isinstance(path, NullSender):
        return replies.bad_recipient("the path is empty")
    try:
        request = RecipientRequest(
            notify=dsnrequest.parse_notify(parameters.pop("NOTIFY", "")),
            original=dsnrequest.parse_original(parameters.pop("ORCPT", "")),
        )
    except DsnParameterError as error:
        return replies.bad_argument(str(error))
    for keyword in parameters:
        return replies.parameter_not_offered(keyword)
    if not smtputf8 and not argument.isascii():
        return replies.SMTPUTF8_NEEDED
    return Rcpt(recipient=path, request=request)


def _parse(argument: str, keyword: str) -> tuple[ReversePath, dict[str, str | None]] | AddressError | Reply:
    """Split `FROM:<path> A=b C` into the path and its parameters: keywords in upper case, values as they were sent."""
    if argument[: len(keyword)].upper() != keyword:
        return replies.bad_argument(f"The argument is {keyword}<address>")
    try:
        path, rest = parse_path(argument[len(keyword) :].lstrip(" "))
    except AddressError as error:
        return error
    parameters: dict[str, str | None] = {}
    for word in filter(None, rest.split(" ")):
        match = _PARAMETER.fullmatch(word)
        if match is None:
            return replies.bad_argument("A parameter is malformed")
        name = match[1].upper()
        if name in parameters:
            return replies.bad_argument("A parameter stands twice")
        parameters[name] = match[2]
    return path, parameters
