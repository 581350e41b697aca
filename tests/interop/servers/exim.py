"""Exim, unpacked from Debian's package."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from tests.interop import ports, tools
from tests.interop.sandbox import Sandbox
from tests.interop.servers.server import DOMAINS, PASSWORD, REFUSED, USER, Running, Server, Site, files_below

_CONFIG: Final = """
primary_hostname = mx.client.example
local_interfaces = 127.0.0.1
daemon_smtp_ports = {plain} : {tls} : {login}
tls_on_connect_ports = {tls}
spool_directory = {folder}/spool
log_file_path = {folder}/log-%s
pid_file_path = {folder}/pid
tls_advertise_hosts = *
tls_certificate = {folder}/certificate.pem
tls_privatekey = {folder}/key.pem
smtputf8_advertise_hosts = *
message_size_limit = 30M
acl_smtp_rcpt = rcpt
queue_run_in_order
begin acl
rcpt:
  deny condition = ${{if eq{{$received_port}}{{{login}}}}}
       !authenticated = *
       message = 5.7.0 authentication required
  deny local_parts = {refused}
       message = 5.1.1 no such mailbox
  accept domains = {domains}
  deny message = 5.7.1 relaying denied
begin routers
local:
  driver = accept
  transport = box
begin transports
box:
  driver = appendfile
  directory = {folder}/mail
  maildir_format
  create_directory
  return_path_add
  delivery_date_add
  envelope_to_add
  user = Debian-exim
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_set_id = $auth2
  server_condition = ${{if and{{{{eq{{$auth2}}{{{user}}}}}{{eq{{$auth3}}{{{password}}}}}}}}}
  server_advertise_condition = ${{if def:tls_in_cipher}}
login:
  driver = plaintext
  public_name = LOGIN
  server_prompts = <| Username: | Password:
  server_set_id = $auth1
  server_condition = ${{if and{{{{eq{{$auth1}}{{{user}}}}}{{eq{{$auth2}}{{{password}}}}}}}}}
  server_advertise_condition = ${{if def:tls_in_cipher}}
"""
_SCRIPT: Final = """
mkdir -p mail spool /etc/exim4
cp {certificate} certificate.pem
cp {key} key.pem
chown -R Debian-exim:Debian-exim .
cp exim.conf /etc/exim4/exim4.conf
chown root:root /etc/exim4/exim4.conf
chmod 0644 /etc/exim4/exim4.conf
exec exim4 -bdf -q1m
"""


def _version() -> str:
    tools.unpacked("/usr/sbin/exim4")
    (package,) = (tools.FOLDER / "downloads").glob("exim4-daemon-heavy_*.deb")
    found = re.search(r"_([0-9.]+)", package.name)
    return found[1] if found else ""


@contextmanager
def _run(site: Site) -> Iterator[Running]:
    plain, tls, login = ports.free(3)
    folder = site.folder
    (folder / "exim.conf").write_text(
        _CONFIG.format(
            folder=folder,
            plain=plain,
            tls=tls,
            login=login,
            refused=REFUSED.partition("@")[0],
            domains=" : ".join(DOMAINS),
            user=USER,
            password=PASSWORD,
        )
    )
    script = _SCRIPT.format(certificate=site.certificate.certificate, key=site.certificate.key)
    with Sandbox(folder, script, packages=tools.PACKAGES, users=("Debian-exim",)) as sandbox:
        for port in (plain, tls, login):
            ports.wait_for(port, lambda: sandbox.is_running, lambda: sandbox.output)
        yield Running(
            urls={
                "plain": f"smtp://127.0.0.1:{plain}",
                "starttls": f"smtp+starttls://localhost:{plain}",
                "tls": f"smtps://localhost:{tls}",
                "login": f"smtp+starttls://localhost:{login}",
            },
            taken=files_below(folder / "mail"),
            not_offered={"seven_bit": "8BITMIME is offered on every port or on none"},
        )


EXIM = Server(name="Exim", version=_version, run=_run)
