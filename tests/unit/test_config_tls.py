"""`[tracker.tls]` in the configuration file."""

from pathlib import Path

import pytest

from tests.unit.test_config import SMALL, _load, _problems
from tracker.runtime.units import ListenAddress

_PAIR = '{ certificate = "a.pem", key = "a-key.pem" }'


@pytest.mark.parametrize(
    "tracker, key, wrong",
    [
        ('listen = ["https://127.0.0.1:443"]', "tracker.listen", "https://127.0.0.1:443 wants TLS, and there is no"),
        ('listen = ["http://127.0.0.1:1"]\n[tracker.tls]\ncertificates = [PAIR]', "tracker.tls", "no address of"),
        ('[tracker.tls]\ncertificate = "a.pem"', "tracker.tls", "a certificate and its key belong together"),
        ('[tracker.tls]\ncertificate="a"\nkey="b"\ncertificates = [PAIR]', "tracker.tls", "two ways to say one thing"),
        ('[tracker.tls]\ncertificates = [{ certificate = "a.pem" }]', "tracker.tls.certificates", "is missing"),
        ("[tracker.tls]\ncertificats = [PAIR]", "tracker.tls.certificats", "there is no such key"),
        ('listen = ["ftp://127.0.0.1:1"]', "tracker.listen", "is no IP address"),
    ],
)
def test_tls_of_the_tracking_host_that_cannot_be(tmp_path: Path, tracker: str, key: str, wrong: str) -> None:
    """Each is named with what to do."""
    problems = _problems(tmp_path, SMALL + "[tracker]\n" + tracker.replace("PAIR", _PAIR))

    assert wrong in problems[key]


def test_with_certificates_every_address_speaks_tls_but_those_in_http(tmp_path: Path) -> None:
    """Links that point to the first of them begin with https: then."""
    listen = 'listen = ["127.0.0.1:1", "http://127.0.0.1:2", "https://127.0.0.1:3"]'
    config = _load(tmp_path, f"{SMALL}[tracker]\n{listen}\n[tracker.tls]\ncertificates = [{_PAIR}]")

    assert [str(one) for one in config.tracker_listen] == ["https://127.0.0.1:1", "127.0.0.1:2", "https://127.0.0.1:3"]
    assert config.base_url() == "https://127.0.0.1:1"
    assert config.base_url(ListenAddress("127.0.0.1", 5)) == "https://127.0.0.1:5"
    assert config.tracker_tls.pairs[0].certificate == tmp_path / "a.pem"
