"""OpenSMTPD, unpacked from Debian's package.

Limits: no TLS. The release in Debian 12 cannot use its keys with OpenSSL 3: every handshake ends in "missing private
key" (OpenSMTPD issue 1171, mended in a later release).
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from tests.interop import ports, tools
from tests.interop.sandbox import Sandbox
from tests.interop.servers.server import DOMAINS, REFUSED, Running, Server, Site, files_below

_CONFIG: Final = """
table everybody {{ "@" = "mailbox" }}
table refused {{ "{refused}" }}
smtp max-message-size "30M"
listen on 127.0.0.1 port {port} hostname mx.client.example
action "box" maildir "{folder}/mail" virtual <everybody>
match from any for any rcpt-to <refused> reject
{matches}
"""
_NO_TLS: Final = "this release cannot do TLS with OpenSSL 3 (OpenSMTPD issue 1171)"
_SCRIPT: Final = """
mkdir -p mail
chown mailbox mail
mkdir -p /var/lib/opensmtpd/empty /var/spool/smtpd
chown root:root /var/lib/opensmtpd/empty /var/spool/smtpd
chmod 0711 /var/lib/opensmtpd/empty /var/spool/smtpd
echo mx.client.example > /etc/mailname
exec smtpd -dv -f {folder}/smtpd.conf
"""


def _version() -> str:
    program = tools.unpacked("/usr/sbin/smtpd")
    found = re.search(r"OpenSMTPD (\S+)", tools.output(program, "-h"))
    return found[1] if found else ""


@contextmanager
def _run(site: Site) -> Iterator[Running]:
    (port,) = ports.free(1)
    folder = site.folder
    matches = "\n".join(f'match from any for domain "{domain}" action "box"' for domain in DOMAINS)
    config = folder / "smtpd.conf"
    config.write_text(_CONFIG.format(folder=folder, refused=REFUSED, port=port, matches=matches))
    config.chmod(0o600)
    script = _SCRIPT.format(folder=folder)
    users = ("opensmtpd", "opensmtpq", "mailbox")
    with Sandbox(folder, script, packages=tools.PACKAGES, users=users) as sandbox:
        ports.wait_for(port, lambda: sandbox.is_running, lambda: sandbox.output)
        yield Running(
            urls={"plain": f"smtp://127.0.0.1:{port}"},
            taken=files_below(folder / "mail"),
            not_offered={
                "starttls": _NO_TLS,
                "tls": _NO_TLS,
                "login": f"AUTH needs TLS; {_NO_TLS}",
                "seven_bit": "8BITMIME cannot be switched off",
                "smtputf8": "it has no SMTPUTF8",
            },
        )


OPENSMTPD = Server(name="OpenSMTPD", version=_version, run=_run)
