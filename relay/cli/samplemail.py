"""The message that `mailwake send` and `mailwake demo` send: small, with what is tracked in it."""

from collections.abc import Sequence
from email import policy
from email.message import EmailMessage
from email.utils import format_datetime, localtime, make_msgid

from tracker.contract.address import Address

_TEXT = """\
Hello,

this is a sample message of Mailwake. Both links lead to example.com:

https://example.com/welcome?from=mailwake
https://example.com/catalogue

Each recipient gets a copy with links of their own.
"""
_HTML = """\
<!doctype html>
<html><body>
<p>Hello,</p>
<p>this is a sample message of Mailwake. Both links lead to example.com:
<a href="https://example.com/welcome?from=mailwake">Welcome</a> and
<a href="https://example.com/catalogue">Catalogue</a>.</p>
<p>Each recipient gets a copy with links of their own.</p>
</body></html>
"""


def sample(sender: Address, recipients: Sequence[Address]) -> bytes:
    """Make the sample as bytes with CRLF line ends."""
    message = EmailMessage(policy=policy.SMTPUTF8)
    message["From"] = str(sender)
    message["To"] = ", ".join(map(str, recipients))
    message["Subject"] = "A sample message"
    message["Date"] = format_datetime(localtime())
    message["Message-ID"] = make_msgid(domain=sender.domain)
    message.set_content(_TEXT)
    message.add_alternative(_HTML, subtype="html")
    return message.as_bytes()
