"""How much the witness may take, and how its process is confined.

The libraries that it reads with are quadratic in hostile mail, so that to meet a limit is no accident but the plan:
what the witness does not finish within it counts as unverified.
"""

import ctypes
import math
import os
import resource
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

MAX_MESSAGE_BYTES: Final = 4 * 1024 * 1024
"""A larger message is not asked about: it and its copy would stand in memory while they wait."""
MAX_WAITING: Final = 16
"""Messages that wait for the witness: with the largest, 64 MiB; more of them mean a share that is too large."""
CPU_S: Final = 5
"""For one message. Ordinary mail takes 0.05 s, a newsletter of 500 KB two."""
MEMORY_BYTES: Final = 512 * 1024 * 1024
"""Address space of the process. A megabyte of HTML makes a tree of 200 MB, and there are two."""
WALL_S: Final = 60.0
"""For one message, waiting for a processor included: the process is the last to get one."""
_NICE: Final = 19
_OOM_SCORE: Final = "1000"
_PR_SET_PDEATHSIG: Final = 1


def confine(*, is_background: bool) -> None:
    """Take from this process what it does not need: memory, priority, core dumps, and a life beyond its parent's."""
    if is_background:
        os.nice(_NICE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(ValueError, OSError):  # a stricter limit is there already, or the system has none (macOS)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    if sys.platform == "linux":
        with suppress(OSError):  # a container without /proc
            Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE, encoding="ascii")
        # Elsewhere the end of the pipe tells of the parent's death, and the limit of CPU comes first at the latest.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def allow_cpu() -> None:
    """Let this process use CPU_S from now on; SIGXCPU ends it then."""
    until_s = math.ceil(time.process_time() + CPU_S)
    resource.setrlimit(resource.RLIMIT_CPU, (until_s, resource.RLIM_INFINITY))
