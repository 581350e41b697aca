"""The keys file: made once, readable to its owner alone, never replaced."""

import json
import os
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tracker.contract.errors import KeysError
from tracker.runtime import secrets

_NOW = datetime(2026, 1, 31, 12, 0, 0, 5, tzinfo=UTC)


def _create(path: Path) -> secrets.Secrets:
    return secrets.create(path, now=_NOW, entropy=os.urandom)


def test_a_keys_file_is_read_as_it_was_made(tmp_path: Path) -> None:
    """The file is whole, of mode 0600, and nothing else is left in the folder."""
    path = tmp_path / "var/keys.json"

    made = _create(path)
    read = secrets.load(path)

    assert (read.account, read.tokens.keys) == (made.account, made.tokens.keys)
    assert read.tokens.minting(_NOW) == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]
    assert json.loads(path.read_text())["version"] == 1


def test_a_keys_file_is_never_written_over(tmp_path: Path) -> None:
    """Two processes that start at once must not end with two sets of keys."""
    path = tmp_path / "keys.json"
    made = _create(path)

    with pytest.raises(KeysError, match="there already"):
        _create(path)
    assert secrets.load(path).account == made.account
    assert list(tmp_path.iterdir()) == [path]


def test_a_keys_file_that_is_gone_is_an_error(tmp_path: Path) -> None:
    """A silent new key would break every link that was sent."""
    with pytest.raises(KeysError, match="put it back from a backup"):
        secrets.load(tmp_path / "keys.json")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660])
def test_a_keys_file_that_others_can_use_is_refused(tmp_path: Path, mode: int) -> None:
    """Whoever has the keys can make links of ours that lead anywhere."""
    path = tmp_path / "keys.json"
    _create(path)
    path.chmod(mode)

    with pytest.raises(KeysError, match=r"chmod 600"):
        secrets.load(path)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"version": 2}, "newer release"),
        ({"keys": []}, "no key"),
        ({"account_secret": "AAAA"}, "account_secret"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_damaged_keys_file_says_what_is_wrong(tmp_path: Path, change: dict[str, object], what: str) -> None:
    """The operator learns what to do; nothing is guessed from half a file."""
    path = tmp_path / "keys.json"
    _create(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))

    with pytest.raises(KeysError, match=what):
        secrets.load(path)


def test_secrets_do_not_show_in_their_representation(tmp_path: Path) -> None:
    """A traceback or a log line with the object in it tells nothing."""
    made = _create(tmp_path / "keys.json")

    assert made.account.hex() not in repr(made)
    assert repr(made.tokens.keys[0].secret) not in repr(made)


def test_the_verification_key_is_of_the_account_alone(tmp_path: Path) -> None:
    """It is derived: the same at every load, another than the secret, another for each account."""
    one, other = _create(tmp_path / "a.json"), _create(tmp_path / "b.json")

    assert one.verification_key == secrets.load(tmp_path / "a.json").verification_key
    assert len({one.verification_key, other.verification_key, one.account}) == 3
