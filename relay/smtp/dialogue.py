"""What a client and we have said so far, and what each command is answered: the state of a session, with no socket.

Owns the order of commands, the open transaction, and the count of commands that bring no mail. Does not own the grammar
of arguments (commands.py) or anything that waits (session.py).

Standards: RFC 5321 §3.3, §4.1.1, §4.1.4; RFC 2034; RFC 3207 (STARTTLS); RFC 4954 §4 (AUTH).
Departs from: RFC 5321 §4.1.1.11, which ties parameters to EHLO; a client that said HELO may use them too.
"""

from typing import Final

from relay.core import reply as replies
from relay.core.dsnrequest import ANYTHING, DsnRequest, RecipientRequest
from relay.core.reply import Reply
from relay.core.senders import may_send_from
from relay.core.submission import Envelope
from relay.smtp.access import Access
from relay.smtp.auth import MECHANISMS
from relay.smtp.commands import Mail, parse_helo, parse_mail, parse_rcpt
from relay.smtp.options import MAX_RECIPIENT_OVERSHOOT, Admit, ListenerOptions
from tracker.contract.address import Address
from tracker.contract.credentials import Credential

_NOT_OFFERED: Final = frozenset({"BDAT", "ETRN", "EXPN", "TURN"})
_JUNK: Final = frozenset({"EHLO", "HELO", "HELP", "NOOP", "RSET", "VRFY"})


class Dialogue:
    """The state of one session; `helo` is empty until EHLO or HELO, `esmtp` tells which of them it was.

    `credential` is the login, None before AUTH; `trusted` peers may send without one; to `near` ones, trusted or on
    loopback, AUTH is offered in clear.
    """

    def __init__(self, options: ListenerOptions, admit: Admit, access: Access, *, trusted: bool, near: bool) -> None:
        self.helo = ""
        self.esmtp = False
        self.is_secure = False
        self.credential: Credential | None = None
        self._options = options
        self._admit = admit
        self._access = access
        self._trusted = trusted
        self._near = near
        self._mail: Mail | None = None
        self._recipients: dict[Address, RecipientRequest] = {}
        self._surplus_recipients = 0
        self._errors = 0
        self._junk = 0

    @property
    def keywords(self) -> tuple[str, ...]:
        """What EHLO offers, our name first; nothing that is not done in full."""
        size = f"SIZE {self._options.max_message_bytes}"
        reports = ("DSN",) if self._options.dsn else ()
        sign = (self._options.sign.line(),) if self._options.sign is not None else ()
        starttls = ("STARTTLS",) if self._access.tls is not None and not self.is_secure else ()
        auth = (f"AUTH {' '.join(MECHANISMS)}",) if self._refusal_of_auth() is None else ()
        always = ("PIPELINING", size, "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES")
        return (self._options.hostname, *always, *reports, *starttls, *auth, *sign)

    @property
    def may_send(self) -> bool:
        """Say whether mail is taken from this session."""
        return self._trusted or self.credential is not None

    def answer(self, verb: str, argument: str) -> Reply:
        """Do what a command asks, `("MAIL", "FROM:<ana@shop.example>")`; every command but AUTH and DATA.

        After READY_FOR_TLS, TLS begins and `secure` is called.
        """
        match verb:
            case "EHLO" | "HELO":
                return self._hello(argument, esmtp=verb == "EHLO")
            case "MAIL":
                return self._begin(argument)
            case "RCPT":
                return self._add_recipient(argument)
            case "STARTTLS":
                return self._starttls(argument)
            case "RSET" if not argument:
                self.reset()
                return replies.OK
            case "QUIT" if not argument:
                return replies.BYE
            case "RSET" | "QUIT":
                return replies.bad_argument(f"{verb} takes no argument")
            case "NOOP":
                return replies.OK
            case "VRFY":
                return replies.NOT_VERIFIED if argument else replies.bad_argument("VRFY takes an address")
            case "HELP":
                return replies.HELP
            case _:
                return replies.NOT_OFFERED if verb in _NOT_OFFERED else replies.UNKNOWN_COMMAND

    def envelope(self, argument: str) -> Envelope | Reply:
        """Return the envelope that DATA closes, or the reply that refuses DATA."""
        if self._mail is None:
            return replies.MAIL_FIRST if self.helo else replies.HELO_FIRST
        if argument:
            return replies.bad_argument("DATA takes no argument")
        if self._has_lost_login():
            self.reset()
            return replies.LOGIN_CHANGED
        if not self._recipients:
            return replies.NO_RECIPIENTS
        return Envelope(
            reverse_path=self._mail.reverse_path,
            recipients=tuple(self._recipients),
            body_8bit=self._mail.body_8bit,
            smtputf8=self._mail.smtputf8,
            declared_size=self._mail.declared_size,
            dsn=self._dsn_request(self._mail),
        )

    def refuse_auth(self) -> Reply | None:
        """Return why AUTH cannot begin now; None: it can."""
        if not self.helo:
            return replies.HELO_FIRST
        if self.credential is not None:  # RFC 4954 §4: one of them in a session
            return replies.AUTHENTICATED_ALREADY
        if self._mail is not None:
            return replies.AUTH_IN_TRANSACTION
        return self._refusal_of_auth()

    def secure(self) -> None:
        """Begin again inside TLS: what was said in clear may be another's (RFC 3207 §4.2)."""
        self.reset()
        self.helo, self.esmtp = "", False
        self.credential = None
        self.is_secure = True

    def reset(self) -> None:
        """Forget the transaction (RFC 5321 §4.1.1.5)."""
        self._mail = None
        self._recipients = {}
        self._surplus_recipients = 0

    def finish(self) -> None:
        """A message was handed over: the transaction is over, and the counts begin again, whatever became of it.

        A client that sends many messages over one connection must not be cut off because some are refused.
        """
        self.reset()
        self._errors = self._junk = 0

    def is_tiresome(self, verb: str, reply: Reply) -> bool:
        """Count a command by its answer; True when there were too many that brought no mail."""
        if reply is replies.TOO_MANY_RECIPIENTS:  # no fault: the client learns of the limit here
            self._surplus_recipients += 1
            self._errors += self._surplus_recipients > MAX_RECIPIENT_OVERSHOOT
        elif reply.code >= 500:
            self._errors += 1
        elif verb in _JUNK or reply.code >= 400:
            self._junk += 1
        return self._errors >= self._options.max_errors or self._junk > self._options.max_junk_commands

    def _hello(self, argument: str, *, esmtp: bool) -> Reply:
        name = parse_helo(argument)
        if isinstance(name, Reply):
            return name
        self.reset()  # RFC 5321 §4.1.4
        self.helo, self.esmtp = name, esmtp
        return replies.hello(self._options.hostname)

    def _begin(self, argument: str) -> Reply:
        if not self.helo:
            return replies.HELO_FIRST
        if self._access.require_tls and not self.is_secure:
            return replies.TLS_FIRST
        if self._has_lost_login():
            return replies.LOGIN_CHANGED
        if not self.may_send:
            return replies.AUTHENTICATION_REQUIRED
        if self._mail is not None:
            return replies.NESTED_MAIL
        mail = parse_mail(argument, max_message_bytes=self._options.max_message_bytes)
        if isinstance(mail, Reply):
            return mail
        if self.credential is not None and not may_send_from(self.credential.permission, mail.reverse_path):
            return replies.SENDER_NOT_ALLOWED
        refusal = self._admit()
        if refusal is not None:
            return refusal
        self._mail = mail
        return replies.SENDER_OK

    def _has_lost_login(self) -> bool:
        """Take the login as it is now; True where it was removed or its password changed, and nobody is logged in."""
        if self.credential is None:
            return False
        self.credential = self._access.gate.renewed(self.credential)
        return self.credential is None

    def _starttls(self, argument: str) -> Reply:
        if self._access.tls is None:
            return replies.NOT_OFFERED
        if self.is_secure:
            return replies.TLS_ALREADY
        return replies.bad_argument("STARTTLS takes no argument") if argument else replies.READY_FOR_TLS

    def _refusal_of_auth(self) -> Reply | None:
        """Return why nobody can log in over this connection as it is."""
        if not self._access.gate.has_logins:
            return replies.NOT_OFFERED
        if self.is_secure:
            return None
        if self._access.require_tls:
            return replies.TLS_FIRST
        return None if self._near else replies.ENCRYPTION_REQUIRED

    def _add_recipient(self, argument: str) -> Reply:
        if self._mail is None:
            return replies.MAIL_FIRST if self.helo else replies.HELO_FIRST
        rcpt = parse_rcpt(argument, smtputf8=self._mail.smtputf8)
        if isinstance(rcpt, Reply):
            return rcpt
        if rcpt.recipient in self._recipients:  # nobody gets two copies because a list holds an address twice
            return replies.RECIPIENT_OK
        if len(self._recipients) >= self._options.max_recipients:
            return replies.TOO_MANY_RECIPIENTS
        self._recipients[rcpt.recipient] = rcpt.request
        return replies.RECIPIENT_OK

    def _dsn_request(self, mail: Mail) -> DsnRequest:
        asked = tuple(self._recipients.values())
        return DsnRequest(
            returned=mail.returned,
            envelope_id=mail.envelope_id,
            recipients=asked if any(request != ANYTHING for request in asked) else (),
        )
