"""Postfix, as installed, with a configuration, a queue and mailboxes of its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from tests.interop import ports, tools
from tests.interop.sandbox import Sandbox
from tests.interop.servers.server import DOMAINS, PASSWORD, REFUSED, USER, Running, Server, Site, files_below

_MAIN: Final = """
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
maillog_file = {folder}/log
maillog_file_prefixes = {folder}
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = mx.client.example
mydestination =
mynetworks = 127.0.0.0/8
alias_maps =
local_recipient_maps =
alias_database =
virtual_mailbox_domains = {domains}
virtual_mailbox_base = {folder}/mail
virtual_mailbox_maps = static:box/
virtual_uid_maps = static:65534
virtual_gid_maps = static:65534
virtual_mailbox_limit = 0
smtputf8_enable = yes
smtpd_recipient_restrictions =
    check_recipient_access inline:{{ {{ {refused} = 550 5.1.1 no such mailbox }} }}, reject_unauth_destination
smtpd_tls_security_level = may
smtpd_tls_cert_file = {certificate}
smtpd_tls_key_file = {key}
smtpd_tls_received_header = yes
smtpd_sasl_auth_enable = yes
smtpd_tls_auth_only = yes
smtpd_sasl_type = cyrus
smtpd_sasl_path = smtpd
smtpd_sasl_local_domain = mx.client.example
cyrus_sasl_config_path = {folder}/sasl
"""
_MASTER: Final = """
{plain} inet n - n - - smtpd
{tls} inet n - n - - smtpd -o smtpd_tls_wrappermode=yes
{login} inet n - n - - smtpd -o smtpd_tls_security_level=encrypt
    -o smtpd_client_restrictions=permit_sasl_authenticated,reject
{seven_bit} inet n - n - - smtpd -o smtpd_discard_ehlo_keywords=8bitmime,smtputf8
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
virtual unix - n n - - virtual
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
anvil unix - - n - 1 anvil
proxymap unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
showq unix n - n - - showq
postlog unix-dgram n - n - 1 postlogd
"""
_SASL: Final = """
pwcheck_method: auxprop
auxprop_plugin: sasldb
sasldb_path: {folder}/sasl/users
mech_list: PLAIN LOGIN
"""
_SCRIPT: Final = """
mkdir -p queue data mail sasl
chown postfix data
chown 65534:65534 mail
echo {password} | saslpasswd2 -p -c -f {folder}/sasl/users -u mx.client.example {user}
chown postfix sasl/users
postfix -c {folder} set-permissions >/dev/null 2>&1 || true
exec postfix -c {folder} start-fg
"""


def _version() -> str:
    tools.program("postfix")
    tools.unpacked("/usr/sbin/saslpasswd2")
    return tools.output(tools.program("postconf"), "-h", "mail_version").strip()


@contextmanager
def _run(site: Site) -> Iterator[Running]:
    names = ("plain", "tls", "login", "seven_bit")
    port = dict(zip(names, ports.free(len(names)), strict=True))
    folder = site.folder
    (folder / "sasl").mkdir()
    (folder / "main.cf").write_text(
        _MAIN.format(
            folder=folder,
            domains=", ".join(DOMAINS),
            refused=REFUSED,
            certificate=site.certificate.certificate,
            key=site.certificate.key,
        )
    )
    (folder / "master.cf").write_text(_MASTER.format(**port))
    (folder / "sasl" / "smtpd.conf").write_text(_SASL.format(folder=folder))
    script = _SCRIPT.format(folder=folder, user=USER, password=PASSWORD)
    with Sandbox(folder, script, packages=tools.PACKAGES) as sandbox:
        for each in port.values():
            ports.wait_for(each, lambda: sandbox.is_running, lambda: sandbox.output)
        yield Running(
            urls={
                "plain": f"smtp://127.0.0.1:{port['plain']}",
                "starttls": f"smtp+starttls://localhost:{port['plain']}",
                "tls": f"smtps://localhost:{port['tls']}",
                "login": f"smtp+starttls://localhost:{port['login']}",
                "seven_bit": f"smtp://127.0.0.1:{port['seven_bit']}",
            },
            taken=files_below(folder / "mail"),
        )


POSTFIX = Server(name="Postfix", version=_version, run=_run)
