"""Postfix as the client: an instance of its own with Mailwake as its relay host, fed by SMTP.

What is asked of an order becomes the configuration, so every order starts an instance and ends it.
"""

import re
import smtplib
import time
from pathlib import Path
from typing import Final

from tests.interop import ports, tools
from tests.interop.clients.client import Client, Order, RefusedError, Security
from tests.interop.sandbox import Sandbox

_LIMIT_S: Final = 20.0
_MAIN: Final = """
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
maillog_file = {folder}/log
maillog_file_prefixes = {folder}
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = app.shop.example
mydestination =
mynetworks = 127.0.0.0/8
alias_maps =
alias_database =
local_recipient_maps =
smtputf8_enable = yes
smtpd_relay_restrictions = permit_mynetworks, reject
relayhost = [{host}]:{port}
smtp_host_lookup = native
smtp_tls_security_level = {level}
smtp_tls_wrappermode = {wrapper}
smtp_tls_CAfile = {authority}
smtp_tls_secure_cert_match = hostname
smtp_sasl_auth_enable = {auth}
smtp_sasl_password_maps = inline:{{ {{ [{host}]:{port} = {user}:{password} }} }}
smtp_sasl_mechanism_filter = {mechanism}
smtp_sasl_security_options = noanonymous
cyrus_sasl_config_path = {folder}
"""
_MASTER: Final = """
{port} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
smtp unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
anvil unix - - n - 1 anvil
proxymap unix - - n - - proxymap
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""
_SCRIPT: Final = """
mkdir -p queue data
chown postfix data
postfix -c {folder} set-permissions >/dev/null 2>&1 || true
exec postfix -c {folder} start-fg
"""


def _version() -> str:
    tools.program("postfix")
    return tools.output(tools.program("postconf"), "-h", "mail_version").strip()


def _send(order: Order) -> None:
    (port,) = ports.free(1)
    folder = order.folder
    (folder / "main.cf").write_text(
        _MAIN.format(
            folder=folder,
            host=order.host,
            port=order.port,
            level={Security.NONE: "none"}.get(order.security, "secure"),
            wrapper="yes" if order.security is Security.IMPLICIT else "no",
            authority=order.authority,
            auth="yes" if order.user else "no",
            user=order.user,
            password=order.password,
            mechanism=order.mechanism,
        )
    )
    (folder / "master.cf").write_text(_MASTER.format(port=port))
    with Sandbox(folder, _SCRIPT.format(folder=folder), packages=tools.PACKAGES) as sandbox:
        ports.wait_for(port, lambda: sandbox.is_running, lambda: sandbox.output)
        message = order.message.read_bytes()
        options = [] if message.isascii() else ["BODY=8BITMIME"]
        with smtplib.SMTP("127.0.0.1", port, timeout=30) as smtp:
            smtp.ehlo("app.shop.example")
            international = ["SMTPUTF8"] if order.is_international else []
            smtp.sendmail(order.sender, [order.recipient], message, mail_options=[*options, *international])
        _wait_until_sent(folder / "log")


def _wait_until_sent(log: Path) -> None:
    """Read the log for the one line that says what came of it."""
    deadline = time.monotonic() + _LIMIT_S
    while True:
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        ends = [line for line in lines if "/smtp[" in line and " status=" in line]
        if ends:
            if " status=sent " not in ends[-1]:
                raise RefusedError(ends[-1].partition(": ")[2])
            return
        warnings = [line for line in lines if re.search(r"(?:fatal|panic|error):", line)]
        if time.monotonic() > deadline:
            raise RefusedError("nothing was sent: " + " / ".join((warnings or lines)[-4:]))
        time.sleep(0.1)


POSTFIX = Client(name="Postfix", version=_version, send=_send)
