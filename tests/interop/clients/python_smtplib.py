"""smtplib of the Python that runs this."""

import base64
import platform
import smtplib
import ssl

from tests.interop.clients.client import Client, Order, RefusedError, Security


def _send(order: Order) -> None:
    context = ssl.create_default_context(cafile=str(order.authority))
    message = order.message.read_bytes()
    options = [] if message.isascii() else ["BODY=8BITMIME"]
    if order.is_international:
        options.append("SMTPUTF8")
    try:
        with _connected(order, context) as smtp:
            smtp.ehlo("client.example")
            if order.security is Security.STARTTLS:
                smtp.starttls(context=context)
                smtp.ehlo("client.example")
            if order.user:
                _login(smtp, order)
            smtp.sendmail(order.sender, [order.recipient], message, mail_options=options)
    except smtplib.SMTPException as error:
        raise RefusedError(str(error)) from error


def _connected(order: Order, context: ssl.SSLContext) -> smtplib.SMTP:
    if order.security is Security.IMPLICIT:
        return smtplib.SMTP_SSL(order.host, order.port, timeout=30, context=context)
    return smtplib.SMTP(order.host, order.port, timeout=30)


def _login(smtp: smtplib.SMTP, order: Order) -> None:
    smtp.user, smtp.password = order.user, order.password
    method = smtp.auth_plain if order.mechanism == "PLAIN" else smtp.auth_login
    code, text = smtp.auth(order.mechanism, method)
    if code != 235:
        raise RefusedError(f"{code} {base64.b64encode(text).decode()}")


PYTHON = Client(name="Python smtplib", version=platform.python_version, send=_send)
