"""Nodemailer of npm, in a process of Node.js."""

import json
import os
from typing import Final

from tests.interop import tools
from tests.interop.clients.client import Client, Order, Security, run

_SCRIPT: Final = """
const fs = require('fs');
const order = JSON.parse(process.argv[1]);
const transport = require('nodemailer').createTransport(order.transport);
const envelope = { from: order.sender, to: [order.recipient], use8BitMime: order.eight_bit };
transport.sendMail({ envelope, raw: fs.readFileSync(order.message) })
    .then(() => process.exit(0), error => { console.error(error.message); process.exit(1); });
"""


def _version() -> str:
    return str(json.loads((tools.node_module("nodemailer") / "package.json").read_text())["version"])


def _send(order: Order) -> None:
    transport: dict[str, object] = {
        "host": order.host,
        "port": order.port,
        "name": "client.example",
        "secure": order.security is Security.IMPLICIT,
        "requireTLS": order.security is Security.STARTTLS,
        "ignoreTLS": order.security is Security.NONE,
    }
    if order.user:
        transport["auth"] = {"user": order.user, "pass": order.password}
        transport["authMethod"] = order.mechanism
    told = {
        "transport": transport,
        "sender": order.sender,
        "recipient": order.recipient,
        "message": str(order.message),
        "eight_bit": not order.message.read_bytes().isascii(),
    }
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "NODE_PATH": str(tools.FOLDER / "node_modules"),
        "NODE_EXTRA_CA_CERTS": str(order.authority),
    }
    run(tools.program("node"), "-e", _SCRIPT, json.dumps(told), environment=environment)


NODEMAILER = Client(name="Nodemailer", version=_version, send=_send)
