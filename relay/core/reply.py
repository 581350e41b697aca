"""Replies of SMTP, and the one sanitiser of every text from outside that goes on the wire, into a log or into a row.

Owns the shape of a reply and the replies that a client of ours can get; `docs/reference/smtp.md` lists them. When each
is given is decided where it is given (`relay/smtp`, `relay/core/policy.py`, `relay/pipeline.py`).

Standards: RFC 5321 §4.2 (replies), §4.5.3.1.5 (512 octets), RFC 2034 and RFC 3463 (enhanced codes).
"""

import re
from dataclasses import dataclass, replace
from typing import Final

MAX_LINE_BYTES: Final = 510  # RFC 5321 §4.5.3.1.5: 512 with the CRLF that `line` leaves out
_ENHANCED: Final = re.compile(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}")  # RFC 3463 §2
_UNPRINTABLE: Final = re.compile(r"[\x00-\x20\x7f-\x9f\u2028\u2029]+")


def sanitize(text: str, limit: int = 200) -> str:
    r"""Make a text from outside harmless: printable ASCII on one line, at most `limit` characters.

    Runs of white space and control characters become one space, every other character outside ASCII a `?`; a text that
    is cut ends in `...`. `"no\r\n250 ok"` becomes `"no 250 ok"`. The defence is against reply and log injection.
    """
    clean = _UNPRINTABLE.sub(" ", text).strip().encode("ascii", "replace").decode("ascii")
    return clean if len(clean) <= limit else clean[: max(limit - 3, 0)] + "..."[:limit]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One reply: `Reply(code=250, enhanced="2.0.0", text="Ok")`.

    `enhanced` is empty where RFC 2034 §4 has none: the greeting, the answers to EHLO and HELO, and 354.
    ValueError: a code outside RFC 5321 §4.2, an enhanced code that is malformed or of another class than the code.
    """

    code: int
    enhanced: str
    text: str

    def __post_init__(self) -> None:
        if not (200 <= self.code <= 599 and self.code // 10 % 10 <= 5):
            raise ValueError(f"{self.code} is no SMTP reply code")
        if self.enhanced and not (_ENHANCED.fullmatch(self.enhanced) and self.enhanced[0] == str(self.code)[0]):
            raise ValueError(f"{self.enhanced!r} is no enhanced status code for a reply {self.code}")

    @property
    def is_positive(self) -> bool:
        """The command succeeded, or its data are awaited (RFC 5321 §4.2.1: 2yz and 3yz)."""
        return self.code < 400

    def line(self) -> str:
        """Return the reply as it goes on the wire, without the CRLF: `"250 2.0.0 Ok"`; at most 510 octets of ASCII."""
        head = f"{self.code} {self.enhanced} " if self.enhanced else f"{self.code} "
        return head + sanitize(self.text, MAX_LINE_BYTES - len(head))


def multiline(code: int, texts: tuple[str, ...]) -> str:
    r"""Return a reply of several lines without enhanced codes, as EHLO gets it: `"250-a\r\n250 b"` for two texts."""
    marks = ["-"] * (len(texts) - 1) + [" "]
    return "\r\n".join(
        f"{code}{mark}{sanitize(text, MAX_LINE_BYTES - 4)}" for mark, text in zip(marks, texts, strict=True)
    )


# --- the connection ---------------------------------------------------------------------------------------


def greeting(hostname: str) -> Reply:
    """220 with our name first (RFC 5321 §4.2.1)."""
    return Reply(code=220, enhanced="", text=f"{hostname} ESMTP Mailwake")


def hello(hostname: str) -> Reply:
    """250 to HELO."""
    return Reply(code=250, enhanced="", text=hostname)


BYE: Final = Reply(code=221, enhanced="2.0.0", text="Bye")
SHUTTING_DOWN: Final = Reply(code=421, enhanced="4.3.2", text="Service is shutting down, try again")
SESSION_FAILED: Final = Reply(code=421, enhanced="4.3.0", text="Local error in the session, try again")
TIMED_OUT: Final = Reply(code=421, enhanced="4.4.2", text="Timed out, closing the connection")
TOO_MANY_CONNECTIONS: Final = Reply(code=421, enhanced="4.7.0", text="Too many connections, try again later")
NO_MEMORY_TO_CONNECT: Final = Reply(code=421, enhanced="4.3.2", text="Short of memory, try again later")
TOO_MANY_ERRORS: Final = Reply(code=421, enhanced="4.7.0", text="Too many errors or commands without mail, closing")
OUT_OF_STEP: Final = Reply(
    code=554, enhanced="5.5.0", text="Protocol synchronization error: data came before the reply it must wait for"
)
NOT_SMTP: Final = Reply(code=554, enhanced="5.5.0", text="This is no SMTP command, closing the connection")

# --- commands ---------------------------------------------------------------------------------------------

OK: Final = Reply(code=250, enhanced="2.0.0", text="Ok")
SENDER_OK: Final = Reply(code=250, enhanced="2.1.0", text="Ok")
RECIPIENT_OK: Final = Reply(code=250, enhanced="2.1.5", text="Ok")
HELP: Final = Reply(code=214, enhanced="2.0.0", text="EHLO HELO STARTTLS AUTH MAIL RCPT DATA RSET NOOP VRFY HELP QUIT")
NOT_VERIFIED: Final = Reply(
    code=252, enhanced="2.0.0", text="Cannot verify the address, but will take mail for it and attempt delivery"
)
READY_FOR_TLS: Final = Reply(code=220, enhanced="2.0.0", text="Ready to start TLS")
GO_AHEAD: Final = Reply(code=354, enhanced="", text="End data with <CR><LF>.<CR><LF>")
UNKNOWN_COMMAND: Final = Reply(code=500, enhanced="5.5.2", text="Command not recognized")
LINE_TOO_LONG: Final = Reply(code=500, enhanced="5.5.2", text="Command line too long")
BARE_LINE_END: Final = Reply(code=500, enhanced="5.5.2", text="Command lines end with CR LF, not with a bare LF")
BAD_CHARACTER: Final = Reply(code=500, enhanced="5.5.2", text="A command holds a control character or is not UTF-8")
NOT_OFFERED: Final = Reply(code=502, enhanced="5.5.1", text="Command not offered here")
HELO_FIRST: Final = Reply(code=503, enhanced="5.5.1", text="Send EHLO or HELO first")
MAIL_FIRST: Final = Reply(code=503, enhanced="5.5.1", text="Send MAIL first")
NESTED_MAIL: Final = Reply(code=503, enhanced="5.5.1", text="A transaction is open already: finish it, or send RSET")
NO_RECIPIENTS: Final = Reply(code=554, enhanced="5.5.1", text="No valid recipients")
AUTHENTICATION_REQUIRED: Final = Reply(
    code=530, enhanced="5.7.0", text="Authentication required: without it, mail is taken from allow_networks only"
)
TOO_MANY_RECIPIENTS: Final = Reply(code=452, enhanced="4.5.3", text="Too many recipients, send the rest in another one")
MESSAGE_TOO_BIG: Final = Reply(code=552, enhanced="5.3.4", text="Message is bigger than SIZE of EHLO allows")
SMTPUTF8_NEEDED: Final = Reply(
    code=553, enhanced="5.6.7", text="An address that is not ASCII needs the parameter SMTPUTF8 of MAIL"
)
TLS_FIRST: Final = Reply(code=530, enhanced="5.7.0", text="Encryption required: send STARTTLS first")
TLS_ALREADY: Final = Reply(code=503, enhanced="5.5.1", text="This connection is encrypted already")
LOGIN_CHANGED: Final = Reply(
    code=530, enhanced="5.7.0", text="The login of this session was changed or removed: authenticate again"
)
SENDER_NOT_ALLOWED: Final = Reply(
    code=550, enhanced="5.7.1", text="This login may not send from the domain of the envelope sender"
)

# --- AUTH (RFC 4954 §6) -----------------------------------------------------------------------------------

AUTHENTICATED: Final = Reply(code=235, enhanced="2.7.0", text="Authentication successful")
TOO_MANY_GUESSES: Final = Reply(code=421, enhanced="4.7.0", text="Too many failed logins, try again later")
LOGINS_UNKNOWN: Final = Reply(
    code=454, enhanced="4.7.0", text="Temporary authentication failure: the logins cannot be read now"
)
RESPONSE_TOO_LONG: Final = Reply(code=500, enhanced="5.5.6", text="Line of the authentication exchange is too long")
BAD_BASE64: Final = Reply(code=501, enhanced="5.5.2", text="The response is not base64")
BAD_RESPONSE: Final = Reply(code=501, enhanced="5.5.2", text="The response is not what the mechanism has")
AUTH_CANCELLED: Final = Reply(code=501, enhanced="5.7.0", text="Authentication cancelled")
AUTHENTICATED_ALREADY: Final = Reply(code=503, enhanced="5.5.1", text="This session is authenticated already")
AUTH_IN_TRANSACTION: Final = Reply(
    code=503, enhanced="5.5.1", text="AUTH stands before MAIL: finish the transaction, or send RSET"
)
NO_SUCH_MECHANISM: Final = Reply(
    code=504, enhanced="5.5.4", text="Mechanism not offered here: use one that EHLO lists behind AUTH"
)
WRONG_LOGIN: Final = Reply(code=535, enhanced="5.7.8", text="Authentication credentials invalid")
ENCRYPTION_REQUIRED: Final = Reply(
    code=538, enhanced="5.7.11", text="Encryption required: passwords are not taken in clear, send STARTTLS first"
)


def bad_argument(why: str) -> Reply:
    """501 with what is wrong; `why` is a text of ours."""
    return Reply(code=501, enhanced="5.5.4", text=why)


def bad_helo() -> Reply:
    """501 to EHLO or HELO: the name would not be safe in a Received field."""
    return Reply(code=501, enhanced="5.5.2", text="The argument is neither a host name nor an address literal")


def bad_sender(why: str) -> Reply:
    """501 to MAIL; `why` is the sentence of an AddressError, which never repeats the address."""
    return Reply(code=501, enhanced="5.1.7", text=f"Bad sender address: {why}")


def bad_recipient(why: str) -> Reply:
    """501 to RCPT; `why` as in `bad_sender`."""
    return Reply(code=501, enhanced="5.1.3", text=f"Bad recipient address: {why}")


def parameter_not_offered(keyword: str) -> Reply:
    """555 for a parameter of MAIL or RCPT that EHLO does not offer (RFC 5321 §4.1.1.11)."""
    return Reply(code=555, enhanced="5.5.4", text=f"Parameter {sanitize(keyword, 30)} not recognized")


# --- messages ---------------------------------------------------------------------------------------------


def queued(message_id: str) -> Reply:
    """250 to the final dot: the message is on disk, and ours to deliver."""
    return Reply(code=250, enhanced="2.0.0", text=f"Ok: queued as {message_id}")


def passed_on(code: int, text: str) -> Reply:
    """What the upstream said to a message, said to its client: `550`, `"5.1.1 no such user"`.

    A code that RFC 5321 does not have becomes 554; a text without an enhanced code of its class gets 5.0.0.
    """
    match = _ENHANCED.match(text)
    enhanced = match[0] if match is not None and match[0].startswith("5") else REFUSED_UPSTREAM.enhanced
    rest = text[match.end() :].lstrip() if match is not None else text
    known = 500 <= code <= 599 and code // 10 % 10 <= 5
    return replace(
        REFUSED_UPSTREAM,
        code=code if known else REFUSED_UPSTREAM.code,
        enhanced=enhanced,
        text=rest or REFUSED_UPSTREAM.text,
    )


def local_error(reference: str) -> Reply:
    """451: our fault, try again. `reference` finds the cause in our log; the wire never tells it."""
    return Reply(code=451, enhanced="4.3.0", text=f"Local error in processing, try again (reference {reference})")


TOO_MUCH_AT_A_TIME: Final = Reply(code=451, enhanced="4.3.2", text="Too much large mail at a time, try again later")
NO_MEMORY: Final = Reply(code=451, enhanced="4.3.2", text="Short of memory, try again later")
REFUSED_UPSTREAM: Final = Reply(code=554, enhanced="5.0.0", text="The upstream refused the message")
TOO_LATE: Final = Reply(code=451, enhanced="4.3.0", text="Taking the message over took too long, try again later")
SPOOL_FULL: Final = Reply(code=452, enhanced="4.3.1", text="Insufficient system storage, try again later")
