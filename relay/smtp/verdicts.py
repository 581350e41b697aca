"""What a reply of an upstream, or its absence, comes to: from the library's responses and exceptions to an `Attempt`.

Owns which text of an upstream is kept, sanitised and cut. What a code means in a phase is in `relay/core/attempt.py`.

Standards: RFC 5321 §4.2.1 (the first digit decides), §4.5.3.1.5 (a reply line has 512 octets; hostile ones have more).
"""

import re
import ssl
from typing import Final

from aiosmtplib.errors import SMTPException, SMTPResponseException, SMTPServerDisconnected, SMTPTimeoutError
from aiosmtplib.protocol import SMTPProtocol
from aiosmtplib.response import SMTPResponse

from relay.core.attempt import Attempt, Deferred, Phase, Unknown, UpstreamReply, of_reply
from relay.core.providers import Provider
from relay.core.reply import sanitize

_TEXT_CHARACTERS: Final = 400
_LOWEST, _HIGHEST = 200, 599
_REPLY_LINE: Final = re.compile(rb"([2-5][0-9][0-9])[ -]([^\r\n]*)")
_LONG: Final = 8192
_NO_REPLY: Final = "the upstream sent what is no reply"


def judge(reply: SMTPResponse | SMTPResponseException, phase: Phase, provider: Provider) -> Attempt:
    """Return what a reply means that ends an attempt in this phase."""
    if not _LOWEST <= reply.code <= _HIGHEST:
        return Unknown(detail=_NO_REPLY) if phase is Phase.FINAL_DOT else condition(phase, _NO_REPLY)
    return of_reply(UpstreamReply(reply.code, sanitize(reply.message, _TEXT_CHARACTERS)), phase, provider)


def condition(phase: Phase, detail: str) -> Deferred:
    """Return what it comes to that there is no reply: before MAIL the upstream is to blame."""
    of_upstream = phase not in (Phase.MAIL, Phase.RCPT, Phase.DATA, Phase.FINAL_DOT)
    return Deferred(reply=None, phase=phase, of_upstream=of_upstream, detail=detail)


def overlong(error: Exception, protocol: SMTPProtocol | None) -> SMTPResponse | None:
    """Return the reply whose line was too long for the library: its first three digits say all that counts.

    Without it, mail that such an upstream takes would be sent to it again and again.
    """
    if not isinstance(error, SMTPResponseException) or protocol is None:
        return None
    match = _REPLY_LINE.match(bytes(protocol._buffer[:_LONG]))  # noqa: SLF001 - pinned
    return SMTPResponse(int(match[1]), match[2].decode("latin-1")) if match is not None else None


def what_happened(error: BaseException) -> str:
    """Say what happened in words that are safe in a log: the upstream's own may be in the library's exception."""
    match error:
        case SMTPResponseException():
            return _NO_REPLY
        case ssl.SSLCertVerificationError():
            return f"the upstream's certificate is not valid: {sanitize(error.verify_message)}"
        case ssl.SSLError():
            return f"TLS failed: {sanitize(error.reason or type(error).__name__)}"
        case SMTPTimeoutError() | TimeoutError():
            return "no answer in time"
        case SMTPServerDisconnected() | ConnectionResetError() | BrokenPipeError():
            return "the connection was lost"
        case OSError() if error.strerror:
            return sanitize(error.strerror)
        case SMTPException():
            return sanitize(error.message)
        case _:
            return sanitize(str(error) or type(error).__name__)
