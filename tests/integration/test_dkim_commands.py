"""DKIM on the command line: `mailwake init` makes a key, `mailwake check` compares it with DNS."""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from relay import appconfig, dkimkeys
from relay.cli.main import main
from tests.integration.dns_server import answering
from tests.integration.serving import CONFIG, configure

_NAME = "mw1._domainkey.shop.example"


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


@pytest.mark.parametrize("algorithm", ["rsa-sha256", "ed25519-sha256"])
def test_init_makes_a_key_whose_line_check_finds(tmp_path: Path, algorithm: str) -> None:
    """The printed strings, put into DNS as they are, make the check content."""
    folder = tmp_path / "new"
    options = ["--ed25519"] if algorithm == "ed25519-sha256" else []

    done = _run("init", str(folder), "--dkim", "Shop.Example", "--selector", "mw1", *options)

    assert done.exit_code == 0, done.output
    assert (folder / "dkim.pem").stat().st_mode & 0o777 == 0o600
    config = appconfig.load(folder / "config.toml", {})
    (section,) = config.dkims.values()
    assert (section.domain, section.selector, section.key.algorithm) == ("shop.example", "mw1", algorithm)
    assert config.sets["default"].dkim in config.dkims
    (line,) = [line for line in done.output.splitlines() if line.startswith(f"{_NAME}. IN TXT ")]
    with answering({_NAME: [line.partition("TXT ")[2]]}) as resolver:
        with (folder / "config.toml").open("a") as file:
            file.write(f'[verification]\nresolver = "{resolver}"\n')
        assert _finding(folder / "config.toml")["outcome"] == "ok"


def test_init_writes_nothing_over_and_refuses_what_is_no_domain(tmp_path: Path) -> None:
    """A key that is lost cannot be made again; of a refused call nothing stays."""
    folder = tmp_path / "new"
    folder.mkdir()
    (folder / "dkim.pem").write_text("precious")

    done = _run("init", str(folder), "--dkim", "shop.example")

    assert done.exit_code == 2
    assert "there already" in done.output
    assert [path.name for path in folder.iterdir()] == ["dkim.pem"]
    assert (folder / "dkim.pem").read_text() == "precious"
    for wrong in (["--dkim", "shop..example"], ["--dkim", "shop.example", "--selector", "a_b"]):
        assert _run("init", str(tmp_path / "other"), *wrong).exit_code == 2
    assert not (tmp_path / "other").exists()


def test_check_tells_what_dns_has_and_what_to_publish(tmp_path: Path) -> None:
    """Nothing there, another key, revoked, a server that fails: each with its words."""
    key, pem = dkimkeys.make("rsa-sha256")
    config = _with_key(tmp_path, pem)
    other = dkimkeys.make("ed25519-sha256")[0].record()
    for texts, wrong in (
        ([], "no TXT record"),
        ([f'"{other}"'], "another kind of key"),
        (['"v=DKIM1; p="'], "revoked"),
        (["SERVFAIL"], "DNS does not answer"),
    ):
        with answering({_NAME: texts}) as resolver:
            finding = _finding(config, resolver)
        assert finding["outcome"] == "failed"
        assert wrong in finding["detail"]
        if wrong != "DNS does not answer":
            published = "".join(re.findall(r'"([^"]*)"', finding["remedy"]))
            assert published == key.record()


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    """Whoever reads it signs as the domain: like a password, in its own file or in the configuration."""
    _, pem = dkimkeys.make("ed25519-sha256")
    config = _with_key(tmp_path, pem)
    (tmp_path / "dkim.pem").chmod(0o640)

    done = _run("check", "--json", "--config", str(config))

    assert done.exit_code == 1
    finding = json.loads(done.output)
    assert finding["what"] == "dkim.shop.key"
    assert finding["remedy"] == f"run: chmod 600 {tmp_path / 'dkim.pem'}"

    config.write_text(config.read_text().replace('"file:dkim.pem"', f'"""{pem}"""'))
    assert _run("config", "show", "--config", str(config)).exit_code == 0
    assert "BEGIN" not in _run("config", "show", "--config", str(config)).output
    config.chmod(0o644)
    assert "others can read" in _run("check", "--config", str(config)).output


def _with_key(folder: Path, pem: str) -> Path:
    (folder / "dkim.pem").touch(mode=0o600)
    (folder / "dkim.pem").write_text(pem)
    table = '[dkim.shop]\ndomain = "shop.example"\nselector = "mw1"\nkey = "file:dkim.pem"\n'
    return configure(folder, CONFIG + table)


def _finding(config: Path, resolver: str | None = None) -> dict[str, str]:
    environ = {} if resolver is None else {"MAILWAKE__VERIFICATION__RESOLVER": resolver}
    done = CliRunner().invoke(main, ["check", "--json", "--config", str(config)], env=environ)
    (found,) = [entry for line in done.output.splitlines() if (entry := json.loads(line))["what"].startswith("dkim.")]
    finding: dict[str, str] = found
    return finding
