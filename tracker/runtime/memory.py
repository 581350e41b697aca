"""How much memory this process may have, how much it has, and whether that is too much to take on more work.

Owns the figures of the system and one answer, yes or no. What is refused then is up to whoever asks.

Theory: a process that is killed for its memory loses every connection and whatever was not on disk; one that says "try
again" a little earlier loses nothing. So work ends at a share of what there is, and begins again a little below it, for
what was freed comes back in pieces.

Limits: Linux. Elsewhere, and where /proc cannot be read, there is always enough. Limits of version 1 of control groups
are not known.
"""

import ctypes
import gc
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog
from prometheus_client import Gauge

SHORT: Final = Gauge(
    "mailwake_memory_short", "1 while new work is refused for want of memory.", multiprocess_mode="livemax"
)

_log = structlog.get_logger()

_SHARE: Final = 0.75  # of what there is: the rest is for the work that was taken on already
_RESUME: Final = 0.9  # of the limit, so that it does not flap
_CGROUPS: Final = Path("/sys/fs/cgroup")
_M_MMAP_THRESHOLD: Final = -3  # of <malloc.h>
_LARGE_BLOCK_BYTES: Final = 256 << 10
_SELF: Final = Path("/proc/self")


def return_what_is_freed() -> None:
    """Have large blocks come from the system and go back to it as soon as they are freed.

    Left alone, glibc raises that bound to the largest block that was ever freed, up to 32 MiB, and then keeps twice as
    much at the end of each thread's heap: after a few large messages a process held hundreds of megabytes of nothing.
    Other C libraries have no such setting, and nothing happens.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK_BYTES)


def spare_what_stays() -> None:
    """Take what is there by now out of the garbage collector's rounds: modules, settings, rules, open files.

    A round over all of it takes a tenth of a second, in which no request is answered. The collector is on afterwards,
    also where it was off for the start.
    """
    gc.freeze()
    gc.enable()


def soft_limit_bytes() -> int:
    """Return 75 % of what this process may have: of its control group, of `ulimit -v`, or of the machine."""
    there_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in (cgroup_limit_bytes(), resource.getrlimit(resource.RLIMIT_AS)[0]):
        if limit is not None and 0 < limit < there_bytes:  # RLIM_INFINITY is negative
            there_bytes = limit
    return int(there_bytes * _SHARE)


def cgroup_limit_bytes(own: Path = _SELF / "cgroup", root: Path = _CGROUPS) -> int | None:
    """Return the least `memory.max` of this process's control group and those above it; None where there is none."""
    try:
        lines = own.read_text("ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    path = next((line[3:].strip("/") for line in lines if line.startswith("0::")), None)
    if path is None:
        return None
    group = root / path
    limits = []
    for folder in (group, *group.parents):
        if not folder.is_relative_to(root):
            break
        try:
            limits.append(int((folder / "memory.max").read_text("ascii")))
        except (OSError, ValueError):  # not there, or "max"
            continue
    return min(limits, default=None)


def resident_bytes() -> int:
    """Return what this process has of the machine's memory; 0 where the system does not say."""
    try:
        pages = int((_SELF / "statm").read_bytes().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


class MemoryWatch:
    """Remembers whether there is too little. Looks each time that it is asked: 10 µs."""

    def __init__(self, limit_bytes: int, resident: Callable[[], int] = resident_bytes) -> None:
        """Take the limit, and how to look."""
        self._limit_bytes = limit_bytes
        self._resident = resident
        self._is_short = False

    def is_short(self) -> bool:
        """Say whether new work should be refused."""
        has_bytes = self._resident()
        is_short = has_bytes >= self._limit_bytes * (_RESUME if self._is_short else 1.0)
        if is_short != self._is_short:
            self._is_short = is_short
            SHORT.set(is_short)
            if is_short:
                _log.error("memory_short", has_bytes=has_bytes, limit_bytes=self._limit_bytes)
            else:
                _log.info("memory_recovered", has_bytes=has_bytes, limit_bytes=self._limit_bytes)
        return is_short
