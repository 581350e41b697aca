"""Haraka, from npm; a plugin of our own refuses one recipient and keeps what it took."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from tests.interop import ports, tools
from tests.interop.sandbox import Sandbox
from tests.interop.servers.server import DOMAINS, PASSWORD, REFUSED, USER, Running, Server, Site, files_below

_PLUGIN: Final = """'use strict';
const fs = require('fs');
const path = require('path');
exports.register = function () {
    this.register_hook('rcpt', 'rcpt');
    this.register_hook('queue', 'keep');
    this.register_hook('queue_outbound', 'keep');
};
exports.rcpt = function (next, connection, params) {
    if (params[0].address === REFUSED) return next(DENY, '5.1.1 no such mailbox');
    return next(DOMAINS.includes(params[0].host) ? OK : DENY);
};
exports.keep = function (next, connection) {
    const name = connection.transaction.uuid;
    const file = fs.createWriteStream(path.join(FOLDER, '.' + name));
    file.on('finish', () => fs.rename(path.join(FOLDER, '.' + name), path.join(FOLDER, name), () => next(OK)));
    connection.transaction.message_stream.pipe(file);
};
"""
# Without the file, Haraka computes parameters for a minute.
_SCRIPT: Final = """
openssl genpkey -genparam -algorithm DH -pkeyopt group:ffdhe2048 > config/dhparams.pem
exec {node} {haraka}/bin/haraka -c {folder}
"""


def _version() -> str:
    module = tools.node_module("Haraka")
    return str(json.loads((module / "package.json").read_text())["version"])


@contextmanager
def _run(site: Site) -> Iterator[Running]:
    plain, tls = ports.free(2)
    folder = site.folder
    config, plugins, mail = (folder / name for name in ("config", "plugins", "mail"))
    for each in (config, plugins, mail):
        each.mkdir()
    facts = {"REFUSED": REFUSED, "DOMAINS": list(DOMAINS), "FOLDER": str(mail)}
    constants = "".join(f"const {name} = {json.dumps(value)};\n" for name, value in facts.items())
    (plugins / "keep.js").write_text(_PLUGIN.replace("exports.register", constants + "exports.register", 1))
    listen = f"listen=127.0.0.1:{plain},127.0.0.1:{tls}\nsmtps_port={tls}\nnodes=0\n"
    (config / "smtp.ini").write_text(listen)
    (config / "plugins").write_text("tls\nauth/flat_file\nkeep\n")
    (config / "me").write_text("mx.client.example\n")
    (config / "loglevel").write_text("notice\n")
    certificate = f"key={site.certificate.key}\ncert={site.certificate.certificate}\n"
    (config / "tls.ini").write_text(certificate)
    (config / "auth_flat_file.ini").write_text(f"[core]\nmethods=PLAIN,LOGIN\n[users]\n{USER}={PASSWORD}\n")
    (config / "connection.ini").write_text("[message]\n[uuid]\n[max]\nbytes=31457280\n")
    script = _SCRIPT.format(node=tools.program("node"), haraka=tools.node_module("Haraka"), folder=folder)
    with Sandbox(folder, script) as sandbox:
        for port in (plain, tls):
            ports.wait_for(port, lambda: sandbox.is_running, lambda: sandbox.output)
        yield Running(
            urls={
                "plain": f"smtp://127.0.0.1:{plain}",
                "starttls": f"smtp+starttls://localhost:{plain}",
                "tls": f"smtps://localhost:{tls}",
                "login": f"smtp+starttls://localhost:{plain}",
            },
            taken=files_below(mail),
            not_offered={"seven_bit": "8BITMIME cannot be switched off"},
        )


HARAKA = Server(name="Haraka", version=_version, run=_run)
