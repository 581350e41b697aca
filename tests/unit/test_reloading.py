"""What a reload takes up: every key is in force at once or named as one that wants a restart, and never both."""

from pathlib import Path

import pytest

from relay import appconfig
from relay.appconfig import Config
from relay.reloading import taken_up, wants_restart

_FILE = """
[relay]
listen = ["127.0.0.1:2525"]
allow_networks = ["127.0.0.0/8"]
[upstream.default]
url = "maildir:mail"
[configuration_set.default]
destinations = ["archive"]
[event_destination.archive]
type = "jsonl"
path = "events"
"""


def _config(folder: Path, *edits: tuple[str, str], more: str = "") -> Config:
    text = _FILE
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    path = folder / "config.toml"
    path.write_text(text + more)
    return appconfig.load(path, {})


@pytest.mark.parametrize(
    "edit, key",
    [
        (('listen = ["127.0.0.1:2525"]', 'listen = ["127.0.0.1:2526"]'), "relay.listen"),
        (("[relay]", '[relay]\nhostname = "other.example"'), "relay.hostname"),
        (("[upstream", '[spool]\ndirectory = "elsewhere"\n[upstream'), "spool.directory"),
        (("[upstream", "[tracking]\nverify_sample = 0.5\n[upstream"), "tracking.verify_sample"),
    ],
)
def test_what_wants_a_restart_is_named_and_stays(tmp_path: Path, edit: tuple[str, str], key: str) -> None:
    """Else two workers of one node could go by different files."""
    opened, after = _config(tmp_path), _config(tmp_path, edit)
    assert wants_restart(opened, after) == [key]

    assert dict(taken_up(opened, after).entries()) == dict(opened.entries())


@pytest.mark.parametrize(
    "edit",
    [
        ("[relay]", "[relay]\nmax_connections = 7"),
        ('url = "maildir:mail"', 'url = "maildir:other"'),
        ("[configuration_set.default]", "[configuration_set.default]\nopen_tracking = false"),
        ('path = "events"', 'path = "others"'),
        ("[upstream", '[spool]\nretry_for = "1d"\n[upstream'),
        ("[upstream", '[tracking]\ncollect_for = "7d"\n[upstream'),
        ("[upstream", '[upstream.second]\nurl = "maildir:second"\n[upstream'),
    ],
)
def test_what_is_in_force_at_once_is_not_named(tmp_path: Path, edit: tuple[str, str]) -> None:
    """An operator restarts only where it is needed."""
    opened, after = _config(tmp_path), _config(tmp_path, edit)
    assert wants_restart(opened, after) == []

    assert dict(taken_up(opened, after).entries()) == dict(after.entries())
    assert dict(taken_up(opened, after).entries()) != dict(opened.entries())


def test_certificates_are_taken_up_but_not_whether_there_are_any(tmp_path: Path) -> None:
    """A socket that listens in plain HTTP goes on doing so."""

    def tls(*names: str) -> str:
        pairs = ", ".join(f'{{ certificate = "{name}.pem", key = "{name}-key.pem" }}' for name in names)
        return f"[tracker.tls]\ncertificates = [{pairs}]\n"

    none, one, two = (_config(tmp_path, more=text) for text in ("", tls("a"), tls("a", "b")))

    assert (wants_restart(one, two), taken_up(one, two).tracker_tls) == ([], two.tracker_tls)
    assert (wants_restart(none, one), taken_up(none, one).tracker_tls) == (["tracker.tls"], none.tracker_tls)
    assert (wants_restart(one, none), taken_up(one, none).tracker_tls) == (["tracker.tls"], one.tracker_tls)


def test_a_set_may_name_a_destination_that_is_new(tmp_path: Path) -> None:
    """Both begin with the same reload."""
    new = '[event_destination.more]\ntype = "stdout"\n'
    opened, after = _config(tmp_path), _config(tmp_path, ('["archive"]', '["archive", "more"]'), more=new)
    config = taken_up(opened, after)

    assert wants_restart(opened, after) == []
    names = [destination.name for destination in config.settings().destinations_of("default")]
    assert names == ["archive", "more"]
