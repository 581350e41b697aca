"""The keys file: made once, readable to its owner alone, never replaced; a rotation adds to it."""

import errno
import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
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


def test_a_rotation_adds_a_key_that_mints_ten_minutes_later(tmp_path: Path) -> None:
    """Everything that was in the file stays, and so do its mode and the folder's other files."""
    path = tmp_path / "keys.json"
    made = _create(path)

    key = secrets.rotate(path, now=_NOW, entropy=os.urandom)
    read = secrets.load(path)

    assert (key.key_id, key.mint_from) == (2, _NOW.replace(microsecond=0) + timedelta(minutes=10))
    assert read.account == made.account
    assert read.tokens.keys == (*made.tokens.keys, key)
    assert read.tokens.minting(_NOW + timedelta(minutes=9, seconds=59)) == 1
    assert read.tokens.minting(_NOW + timedelta(minutes=10)) == 2
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_rotations_at_once_lose_no_key(tmp_path: Path) -> None:
    """One waits for the other: each reads the file that the one before has written."""
    path = tmp_path / "keys.json"
    _create(path)
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: secrets.rotate(path, now=_NOW, entropy=os.urandom), range(24)))

    assert [key.key_id for key in secrets.load(path).tokens.keys] == list(range(1, 26))
    assert {key.key_id: key.secret for key in made} == {
        key.key_id: key.secret for key in secrets.load(path).tokens.keys if key.key_id > 1
    }


def test_a_later_time_may_be_named_and_an_earlier_one_not(tmp_path: Path) -> None:
    """A token of a key that another process does not know yet would be a link that leads nowhere."""
    path = tmp_path / "keys.json"
    _create(path)
    tomorrow = _NOW + timedelta(days=1)

    assert secrets.rotate(path, now=_NOW, entropy=os.urandom, mint_from=tomorrow).mint_from == tomorrow
    with pytest.raises(KeysError, match="at the earliest from 2026-01-31T12:10:00"):
        secrets.rotate(path, now=_NOW, entropy=os.urandom, mint_from=_NOW + timedelta(minutes=9))
    assert len(secrets.load(path).tokens.keys) == 2


def test_a_rotation_that_cannot_write_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new file is whole on the disk before it takes the old one's place."""
    path = tmp_path / "keys.json"
    _create(path)
    before = path.read_bytes()

    def fails(_descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fails)
        with pytest.raises(KeysError, match="cannot be written: Input/output error"):
            secrets.rotate(path, now=_NOW, entropy=os.urandom)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_to_the_keys_file_stays_one(tmp_path: Path) -> None:
    """The file that it leads to is the one that others have, and is in the backup."""
    path = tmp_path / "there" / "keys.json"
    _create(path)
    link = tmp_path / "keys.json"
    link.symlink_to(path)
    secrets.rotate(link, now=_NOW, entropy=os.urandom)

    assert link.is_symlink()
    assert len(secrets.load(path).tokens.keys) == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_rotation_by_root_leaves_the_file_to_its_owner(tmp_path: Path) -> None:
    """Else the service could not read its keys at its next start."""
    path = tmp_path / "keys.json"
    _create(path)
    os.chown(path, 4711, 4712)
    secrets.rotate(path, now=_NOW, entropy=os.urandom)

    assert (path.stat().st_uid, path.stat().st_gid) == (4711, 4712)


def test_a_keys_file_that_is_gone_is_not_rotated(tmp_path: Path) -> None:
    """There is nothing to add a key to, and a new file would break every link that was sent."""
    with pytest.raises(KeysError, match="put it back from a backup"):
        secrets.rotate(tmp_path / "keys.json", now=_NOW, entropy=os.urandom)
    assert not list(tmp_path.iterdir())
