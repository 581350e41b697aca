"""How much memory there is, and when a process says that it has too little."""

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tracker.runtime import memory
from tracker.runtime.memory import MemoryWatch


@pytest.mark.parametrize(
    ("own", "limits", "found"),
    [
        ("0::/\n", {"": "max\n"}, None),
        ("0::/\n", {"": "1073741824\n"}, 1 << 30),
        ("0::/a.slice/b.scope\n", {"a.slice": "1000\n", "a.slice/b.scope": "max\n"}, 1000),
        ("0::/a.slice/b.scope\n", {"a.slice": "3000\n", "a.slice/b.scope": "2000\n"}, 2000),
        ("4:memory:/x\n0::/a\n", {"a": "77\n"}, 77),
        ("4:memory:/x\n", {"": "77\n"}, None),
        ("0::/../..\n", {"": "77\n"}, 77),
        ("", {}, None),
        ("0::/\n", {"": "soon\n"}, None),
    ],
)
def test_the_least_limit_of_the_control_groups_counts(
    tmp_path: Path, own: str, limits: dict[str, str], found: int | None
) -> None:
    """A container's limit may stand on its own group or on any above it."""
    root = tmp_path / "fs"
    root.mkdir()
    for group, text in limits.items():
        (root / group).mkdir(parents=True, exist_ok=True)
        (root / group / "memory.max").write_text(text)
    (tmp_path / "cgroup").write_text(own)

    assert memory.cgroup_limit_bytes(tmp_path / "cgroup", root) == found


def test_a_system_without_control_groups_has_no_limit_of_them(tmp_path: Path) -> None:
    """Neither file is there."""
    assert memory.cgroup_limit_bytes(tmp_path / "cgroup", tmp_path) is None


def test_a_process_has_some_of_what_there_is() -> None:
    """The figures of the system are read at all."""
    assert 1 << 20 < memory.resident_bytes() < memory.soft_limit_bytes() / 0.75


def test_the_watch_says_once_that_memory_is_short_and_once_that_it_is_not() -> None:
    """Below the limit is not enough: it must be a tenth below, or it would flap."""
    has = [50, 100, 120, 95, 91, 89, 95]
    with capture_logs() as lines:
        watch = MemoryWatch(100, lambda: has.pop(0))
        said = [watch.is_short() for _ in range(7)]

    assert said == [False, True, True, True, True, False, False]
    assert [line["event"] for line in lines] == ["memory_short", "memory_recovered"]


def test_large_blocks_go_back_to_the_system() -> None:
    """The setting is taken, or there is none; either way nothing else happens."""
    memory.return_what_is_freed()
