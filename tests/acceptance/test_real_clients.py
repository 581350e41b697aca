"""The installed relay and real clients: what `make interop` does at length, with what every CI machine has."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.interop import certificates
from tests.interop.clients import checks
from tests.interop.clients.checks import PASSWORD, USER, Scene
from tests.interop.clients.client import Client
from tests.interop.clients.curl import CURL
from tests.interop.clients.msmtp import MSMTP
from tests.interop.clients.python_smtplib import PYTHON
from tests.interop.clients.swaks import SWAKS
from tests.interop.relay import Relay, credential, secured

Relays = tuple[Relay, Relay, Path]


@pytest.fixture(scope="module")
def relays(installed_mailwake: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relays]:
    """Give a relay that trusts loopback, one that takes nothing without a login, and the authority of their TLS."""
    folder = tmp_path_factory.mktemp("clients")
    certificate = certificates.make(folder / "tls")
    listen = '"127.0.0.1:0", "smtps://127.0.0.1:0"'
    tls = secured(certificate)
    login = tls + credential(USER, PASSWORD, "shop.example")
    with (
        Relay(installed_mailwake, folder / "trusting", listen=listen, more=tls) as trusting,
        Relay(installed_mailwake, folder / "strict", listen=listen, networks="", more=login) as strict,
    ):
        yield trusting, strict, certificate.authority


@pytest.mark.parametrize("client", [SWAKS, CURL, MSMTP], ids=lambda client: client.name)
def test_a_program_hands_over_its_message_octet_for_octet(
    relays: Relays, client: Client, tmp_path: Path, require_tool: Callable[[str], str]
) -> None:
    """The copy in the maildir is what the program was given, behind our trace fields."""
    require_tool(client.name)

    checks.plain(_scene(relays, client, tmp_path))


@pytest.mark.parametrize("client", [PYTHON, CURL, MSMTP], ids=lambda client: client.name)
@pytest.mark.parametrize(
    "check", [checks.auth_plain, checks.auth_login, checks.wrong_password, checks.foreign_sender, checks.no_login]
)
def test_a_program_logs_in_over_tls(
    relays: Relays,
    client: Client,
    check: Callable[[Scene], str],
    tmp_path: Path,
    require_tool: Callable[[str], str],
) -> None:
    """PLAIN and LOGIN, over STARTTLS and TLS at once, the certificate verified; and what is refused."""
    if client is not PYTHON:
        require_tool(client.name)

    check(_scene(relays, client, tmp_path))


@pytest.mark.parametrize("client", [PYTHON, CURL], ids=lambda client: client.name)
def test_a_program_sends_addresses_in_utf_8(
    relays: Relays, client: Client, tmp_path: Path, require_tool: Callable[[str], str]
) -> None:
    """SMTPUTF8 as these two speak it; the header in UTF-8 arrives as it was."""
    if client is not PYTHON:
        require_tool(client.name)

    checks.international(_scene(relays, client, tmp_path))


def _scene(relays: Relays, client: Client, folder: Path) -> Scene:
    trusting, strict, authority = relays
    return Scene(client=client, trusting=trusting, strict=strict, authority=authority, folder=folder)
