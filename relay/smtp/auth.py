"""AUTH: the exchanges of PLAIN and LOGIN, and whom they let in.

Owns the grammar of both mechanisms and the answers. Does not own reading lines (session.py), passwords (passwords.py)
or how often somebody may guess (guessing.py).

Standards: RFC 4954 (AUTH), RFC 4616 (PLAIN), draft-murchison-sasl-login-00 (LOGIN), RFC 4648 §4 (base64).
Departs from: RFC 4616 §2, which prepares names and passwords by SASLprep; here they are compared octet by octet.
"""

import binascii
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from relay.core import reply as replies
from relay.core.reply import Reply
from relay.smtp.passwords import Passwords
from tracker.contract.credentials import Credential, CredentialBook

MECHANISMS: Final = ("PLAIN", "LOGIN")
MAX_RESPONSE_BYTES: Final = 12_288  # RFC 4954 §4: of one line of the exchange, CRLF included
_USERNAME: Final = Reply(code=334, enhanced="", text="VXNlcm5hbWU6")
_PASSWORD: Final = Reply(code=334, enhanced="", text="UGFzc3dvcmQ6")
_GO_ON: Final = Reply(code=334, enhanced="", text="")

Ask = Callable[[Reply], Awaitable[bytes | Reply]]
"""Sends a challenge and returns the line of the answer, or the reply that refuses that line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Who a client says it is."""

    name: bytes
    password: bytes


class Gate:
    """Lets logins in by what is in force when they ask."""

    def __init__(self, book: Callable[[], CredentialBook], passwords: Passwords) -> None:
        self._book = book
        self._passwords = passwords

    async def admit(self, claim: Claim) -> Credential | Reply:
        """Return the login that a claim proves. A Reply refuses it, and never says whether the name is known."""
        book = self._book()
        try:
            credential = book.get(claim.name.decode())
        except UnicodeDecodeError:
            credential = None
        if await self._passwords.fits(credential.password_hash if credential else None, claim.password):
            return credential or replies.WRONG_LOGIN
        # A name that is not known may be one that the storage has, and the client must not give its password up.
        return replies.WRONG_LOGIN if credential is not None or book.is_whole else replies.LOGINS_UNKNOWN

    @property
    def has_logins(self) -> bool:
        """Say whether anybody could log in; while the storage was not read yet, somebody may."""
        book = self._book()
        return bool(book.declared or book.stored) or not book.is_whole

    def renewed(self, credential: Credential) -> Credential | None:
        """Return the login as it is now; None where it was removed or its password changed."""
        current = self._book().get(credential.name)
        return current if current is not None and current.password_hash == credential.password_hash else None


async def converse(argument: str, ask: Ask) -> Claim | Reply:
    """Hold the exchange that `AUTH PLAIN AGFuYQB4` begins, asking for what is missing."""
    mechanism, _, initial = argument.partition(" ")
    first = initial.strip(" ").encode("ascii", "replace") if initial else None
    match mechanism.upper():
        case "PLAIN":
            return await _plain(first, ask)
        case "LOGIN":
            return await _login(first, ask)
        case "":
            return replies.bad_argument("AUTH takes a mechanism")
        case _:
            return replies.NO_SUCH_MECHANISM


async def _plain(first: bytes | None, ask: Ask) -> Claim | Reply:
    message = await _response(first, _GO_ON, ask)
    if isinstance(message, Reply):
        return message
    parts = message.split(b"\0")
    if len(parts) != 3 or not parts[1]:  # RFC 4616 §2: authorization, name, password
        return replies.BAD_RESPONSE
    acting_as, name, password = parts
    # RFC 4616 §2: to act as somebody else is a permission that nobody has here.
    return Claim(name=name, password=password) if acting_as in (b"", name) else replies.WRONG_LOGIN


async def _login(first: bytes | None, ask: Ask) -> Claim | Reply:
    name = await _response(first, _USERNAME, ask)
    if isinstance(name, Reply):
        return name
    password = await _response(None, _PASSWORD, ask)
    if isinstance(password, Reply):
        return password
    if not name or b"\0" in name or b"\0" in password:
        return replies.BAD_RESPONSE
    return Claim(name=name, password=password)


async def _response(first: bytes | None, challenge: Reply, ask: Ask) -> bytes | Reply:
    """Decode what the client said at once, or after it was asked."""
    if first is not None:
        encoded = b"" if first == b"=" else first  # RFC 4954 §4: `=` is an empty one
    else:
        answer = await ask(challenge)
        if isinstance(answer, Reply):
            return answer
        if answer == b"*":
            return replies.AUTH_CANCELLED
        encoded = answer
    try:
        return binascii.a2b_base64(encoded, strict_mode=True)
    except binascii.Error:
        return replies.BAD_BASE64
