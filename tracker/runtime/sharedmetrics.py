"""The metrics of several processes as one: files that each maps into its memory, added up by whoever is asked.

Owns the folder of the library's multi-process mode. The library decides for that mode when it is imported, so `prepare`
comes before anything that counts is loaded; this module imports it only where it must be there already.

Limits: in this mode there are no `process_…` and `python_…` metrics, which are of one process.
"""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
_PREFIX: Final = "metrics-"


def prepare(run_directory: Path) -> Path:
    """Make the folder of this process and those that it will fork, and remove what killed ones have left. OSError."""
    if "prometheus_client" in sys.modules:
        raise RuntimeError("the metrics of this process are counted already, and cannot be shared any more")
    run_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for left in run_directory.glob(f"{_PREFIX}*"):
        if not _lives(left.name.removeprefix(_PREFIX)):
            shutil.rmtree(left, ignore_errors=True)
    directory = run_directory / f"{_PREFIX}{os.getpid()}"
    directory.mkdir(mode=0o700)
    os.environ[VARIABLE] = str(directory)
    return directory


@contextmanager
def removed(directory: Path | None) -> Iterator[None]:
    """Remove the folder at the end."""
    try:
        yield
    finally:
        if directory is not None:
            shutil.rmtree(directory, ignore_errors=True)


def forget(pid: int) -> None:
    """Take what a process that is gone says of its present out of the sums; what it has counted stays in them."""
    from prometheus_client import multiprocess  # noqa: PLC0415 - see above

    multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]


def _lives(pid: str) -> bool:
    with suppress(ValueError, ProcessLookupError):
        try:
            os.kill(int(pid), 0)
        except PermissionError:
            return True
        return True
    return False
