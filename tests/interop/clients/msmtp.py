"""msmtp, with all of its settings on the command line."""

from tests.interop import tools
from tests.interop.clients.client import Client, Order, Security, run
from tests.interop.outcome import NotOfferedError


def _version() -> str:
    return tools.output(tools.program("msmtp"), "--version").split()[2]


def _send(order: Order) -> None:
    if order.is_international:
        raise NotOfferedError("it has no SMTPUTF8")
    secured = order.security is not Security.NONE
    command = ["msmtp", "--file=/dev/null", f"--host={order.host}", f"--port={order.port}", f"--from={order.sender}"]
    command += ["--domain=client.example", f"--tls={'on' if secured else 'off'}"]
    if secured:
        command += [f"--tls-starttls={'on' if order.security is Security.STARTTLS else 'off'}"]
        command += [f"--tls-trust-file={order.authority}"]
    if order.user:
        (order.folder / "password").write_text(order.password)
        command += [f"--auth={order.mechanism.lower()}", f"--user={order.user}"]
        command += [f"--passwordeval=cat {order.folder / 'password'}"]
    # Without --read-envelope-from and --read-recipients the message passes as it is; it wants line ends of Unix.
    run(*command, "--", order.recipient, stdin=order.message.read_bytes().replace(b"\r\n", b"\n"))


MSMTP = Client(name="msmtp", version=_version, send=_send)
