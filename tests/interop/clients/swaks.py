"""swaks; its TLS is a library of Perl that Debian only suggests, so it is fetched."""

import os

from tests.interop import tools
from tests.interop.clients.client import Client, Order, Security, run
from tests.interop.outcome import NotOfferedError


def _version() -> str:
    return tools.output(tools.program("swaks"), "--version").split()[2]


def _send(order: Order) -> None:
    if order.is_international:
        raise NotOfferedError("it has no SMTPUTF8")
    # It puts a line end of its own behind the file.
    message = order.folder / "without-last-line-end.eml"
    message.write_bytes(order.message.read_bytes().removesuffix(b"\r\n"))
    command = ["swaks", "--server", f"{order.host}:{order.port}", "--from", order.sender, "--to", order.recipient]
    command += ["--helo", "client.example", "--silent", "2", "--data", f"@{message}"]
    trust = ["--tls-verify", "--tls-ca-path", str(order.authority)]
    match order.security:
        case Security.STARTTLS:
            command += ["--tls", *trust]
        case Security.IMPLICIT:
            command += ["--tls-on-connect", *trust]
        case Security.NONE:
            pass
    if order.user:
        command += ["--auth", order.mechanism, "--auth-user", order.user, "--auth-password", order.password]
    libraries = tools.PACKAGES / "usr" / "lib"
    perl = [str(path.parents[1]) for path in libraries.glob("*/perl5/*/Net/SSLeay.pm")]
    run(*command, environment={**os.environ, "PERL5LIB": os.pathsep.join(perl)})


SWAKS = Client(name="swaks", version=_version, send=_send)
