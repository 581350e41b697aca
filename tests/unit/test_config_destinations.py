"""`[event_destination.NAME]`: each key where its type takes it, and an error that says what to do where not."""

from pathlib import Path

import pytest

from relay import appconfig
from tracker.contract.settings import EventDestination
from tracker.runtime.configfile import ConfigError

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
_FILE = """
[relay]
allow_networks = ["127.0.0.0/8"]
[upstream.default]
url = "maildir:mail"
[configuration_set.default]
[event_destination.a]
"""
_HOOK = f'type = "webhook"\nurl = "https://events.shop.example/hook"\nsecret = "{SECRET}"\n'


def _write(folder: Path, table: str, mode: int = 0o600) -> Path:
    path = folder / "config.toml"
    path.write_text(_FILE + table)
    path.chmod(mode)
    return path


def _load(folder: Path, table: str, **environ: str) -> EventDestination:
    return appconfig.load(_write(folder, table), environ).settings().destinations["a"]


def _problem(folder: Path, table: str, key: str = "") -> str:
    with pytest.raises(ConfigError) as raised:
        appconfig.load(_write(folder, table), {})
    (problem,) = raised.value.problems
    assert problem.key == f"event_destination.a{'.' if key else ''}{key}"
    assert problem.remedy
    return f"{problem.wrong} - {problem.remedy}"


def test_a_webhook_has_its_keys(tmp_path: Path) -> None:
    """Those that are left out have the defaults of the page."""
    found = _load(tmp_path, _HOOK)
    assert (found.url, found.secrets, found.batch, found.allow_private) == (
        "https://events.shop.example/hook",
        (SECRET,),
        1,
        False,
    )
    found = _load(tmp_path, _HOOK + 'batch = 100\nexclude_machine = true\nformat = "tencent"\n')
    assert (found.batch, found.exclude_machine, found.format) == (100, True, "tencent")
    found = _load(
        tmp_path, _HOOK.replace("https://events.shop.example", "http://127.0.0.1:3000") + "allow_private = true"
    )
    assert found.allow_private


def test_nats_has_its_keys(tmp_path: Path) -> None:
    """One server may stand alone."""
    found = _load(tmp_path, 'type = "nats"\nservers = "nats://127.0.0.1:4222"\ncredentials = "bus.creds"\n')
    assert (found.servers, found.stream, found.credentials) == (
        ("nats://127.0.0.1:4222",),
        "MAILWAKE",
        tmp_path / "bus.creds",
    )


@pytest.mark.parametrize(
    "table, key, wrong",
    [
        ('type = "kafka"', "type", "input should be"),
        ('type = "webhook"', "", "webhook needs a url"),
        ('type = "webhook"\nurl = "https://a.example/"', "", "webhook needs a secret"),
        (_HOOK + 'path = "x"', "", "path belongs to jsonl"),
        (_HOOK + 'servers = ["nats://a"]\nstream = "x"', "", "servers and stream belong to nats"),
        ('type = "stdout"\nbatch = 2', "", "batch belongs to webhook"),
        ('type = "jsonl"\npath = "x"\nallow_private = true', "", "allow_private belongs to webhook"),
        ('type = "nats"', "", "nats needs servers"),
        ('type = "nats"\nservers = ["127.0.0.1:4222"]', "servers", "is no server"),
        ('type = "nats"\nservers = ["nats://user:pw@127.0.0.1"]', "servers", "a server holds a login"),
        ('type = "nats"\nservers = ["nats://a"]\nstream = "a.b"', "stream", "string should match"),
        (_HOOK + "batch = 0", "batch", "greater than or equal to 1"),
        (_HOOK + "batch = 101", "batch", "less than or equal to 100"),
        (_HOOK + 'batch = 2\nformat = "sns"', "", "an SNS notification has one event"),
        (_HOOK + 'format = "xml"', "format", "input should be"),
        (_HOOK.replace("https", "http"), "url", "http: can be read"),
        (_HOOK.replace("events.shop.example", "10.0.0.1"), "url", "10.0.0.1 is a private address"),
        (_HOOK.replace(SECRET, "whsec_c2hvcnQ="), "secret", "it has 5 bytes, not 24 to 64"),
        (_HOOK.replace(SECRET, "hunter2-hunter2"), "secret", "does not begin with whsec_"),
    ],
)
def test_what_does_not_fit_says_what_to_do(tmp_path: Path, table: str, key: str, wrong: str) -> None:
    """One problem each, at its key; a secret is not shown."""
    problem = _problem(tmp_path, table, key)
    assert wrong in problem
    assert "hunter2" not in problem


def test_secrets_come_from_elsewhere_and_from_several_places(tmp_path: Path) -> None:
    """Of a list each may; `config show` says from where, and masks them."""
    (tmp_path / "new").write_text(SECRET + "\n")
    (tmp_path / "new").chmod(0o600)
    table = _HOOK.replace(f'"{SECRET}"', '["env:OLD", "file:new"]')
    assert _load(tmp_path, table, OLD=SECRET).secrets == (SECRET, SECRET)
    config = appconfig.load(_write(tmp_path, table), {"OLD": SECRET})
    assert config.source.origins["event_destination.a.secret"] == "env:OLD, file:new"
    assert SECRET not in repr(config.settings().destinations)
    assert SECRET not in repr(config.destinations)


def test_a_secret_that_others_can_read_is_refused(tmp_path: Path) -> None:
    """In the file itself, also beside one from the environment; in a file of its own too."""
    _write(tmp_path, _HOOK.replace(f'"{SECRET}"', f'["env:OLD", "{SECRET}"]'), mode=0o644)
    with pytest.raises(ConfigError, match=r"event_destination\.a\.secret: stands in a file that others can read"):
        appconfig.load(tmp_path / "config.toml", {"OLD": SECRET})
    (tmp_path / "new").write_text(SECRET)
    (tmp_path / "new").chmod(0o644)
    problem = _problem(tmp_path, _HOOK.replace(SECRET, "file:new"), "secret")
    assert "who could sign with it" in problem
    path = _write(tmp_path, _HOOK.replace(SECRET, "env:OLD"), mode=0o644)
    assert appconfig.load(path, {"OLD": SECRET}).settings().destinations["a"].secrets == (SECRET,)
