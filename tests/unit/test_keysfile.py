"""The keys file as a serving process sees it: what comes is taken up, what goes is not."""

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tracker.runtime import secrets
from tracker.runtime.keysfile import REFUSED, KeysFile

_NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


def _serve(path: Path) -> KeysFile:
    secrets.create(path, now=_NOW, entropy=os.urandom)
    return KeysFile(path, secrets.load(path))


def _refused() -> float:
    (metric,) = REFUSED.collect()
    return metric.samples[0].value


def test_a_key_that_is_added_is_seen_once(tmp_path: Path) -> None:
    """The next look has it, the one after that finds nothing new."""
    path = tmp_path / "keys.json"
    serving = _serve(path)
    with capture_logs() as logs:
        assert not serving.look()
        secrets.rotate(path, now=_NOW, entropy=os.urandom)
        assert serving.look()
        assert not serving.look()

    assert [key.key_id for key in serving.tokens.keys] == [1, 2]
    (line,) = logs
    assert (line["event"], len(line["keys"])) == ("keys_changed", 2)
    assert json.loads(path.read_text())["keys"][1]["secret"] not in str(logs)


def test_a_file_that_rests_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice a second for years: a look is one question to the kernel."""
    path = tmp_path / "keys.json"
    serving = _serve(path)
    monkeypatch.setattr("tracker.runtime.keysfile.time.time_ns", lambda: path.stat().st_ctime_ns + 3_000_000_000)
    serving.look()
    monkeypatch.setattr(secrets, "load", lambda _: pytest.fail("it was read"))

    assert not serving.look()


def _half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _less(path: Path) -> None:
    kept = json.loads(path.read_text())
    path.write_text(json.dumps({**kept, "keys": kept["keys"][1:]}))


def _another_secret(path: Path) -> None:
    kept = json.loads(path.read_text())
    kept["keys"][0]["secret"] = kept["account_secret"]
    path.write_text(json.dumps(kept))


def _another_account(path: Path) -> None:
    kept = json.loads(path.read_text())
    kept["account_secret"] = kept["keys"][0]["secret"]
    path.write_text(json.dumps(kept))


def _older(path: Path) -> None:
    path.unlink()
    secrets.create(path, now=_NOW, entropy=os.urandom)


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (Path.unlink, "put it back from a backup"),
        (_half, "is damaged"),
        (lambda path: path.write_bytes(b""), "is damaged"),
        (lambda path: path.chmod(0o644), "chmod 600"),
        (_less, "lacks keys that were in it, or has others in their place: 1;"),
        (_another_secret, "lacks keys that were in it, or has others in their place: 1;"),
        (_another_account, "another account"),
        (_older, "lacks keys"),
        (lambda path: (path.unlink(), path.mkdir()), "cannot be read"),
    ],
    ids=["gone", "half", "empty", "open", "less", "another secret", "another account", "another file", "a folder"],
)
def test_the_keys_of_before_stay_whatever_becomes_of_the_file(
    tmp_path: Path, harm: Callable[[Path], object], why: str
) -> None:
    """Links that worked go on working; it is said once, counted, and over when the file is right again."""
    path = tmp_path / "keys.json"
    serving = _serve(path)
    secrets.rotate(path, now=_NOW, entropy=os.urandom)
    serving.look()
    right, before = path.read_bytes(), serving.tokens
    with capture_logs() as logs:
        harm(path)
        assert [serving.look() for _ in range(3)] == [False] * 3
        assert serving.tokens is before
        assert _refused() == 1
        if path.is_dir():
            path.rmdir()
        path.write_bytes(right)
        path.chmod(0o600)
        assert not serving.look()

    assert _refused() == 0
    assert serving.tokens.keys == before.keys
    assert [line["event"] for line in logs] == ["keys_refused", "keys_accepted"]
    assert why in logs[0]["error"]
