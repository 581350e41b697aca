"""curl, as a program that sends a file."""

from tests.interop import tools
from tests.interop.clients.client import Client, Order, Security, run


def _version() -> str:
    return tools.output(tools.program("curl"), "--version").split()[1]


def _send(order: Order) -> None:
    scheme = "smtps" if order.security is Security.IMPLICIT else "smtp"
    command = ["curl", "--silent", "--verbose", "--url", f"{scheme}://{order.host}:{order.port}/client.example"]
    command += ["--mail-from", order.sender, "--mail-rcpt", order.recipient, "--upload-file", str(order.message)]
    if order.security is not Security.NONE:
        command += ["--ssl-reqd", "--cacert", str(order.authority)]
    if order.user:
        command += ["--user", f"{order.user}:{order.password}", "--login-options", f"AUTH={order.mechanism}"]
    run(*command)  # --verbose: else it says no reply code


CURL = Client(name="curl", version=_version, send=_send)
