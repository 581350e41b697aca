"""What a process asked of the system, as strace wrote it down: calls with when they began and when they ended.

The order of the lines is that in which strace saw a call begin and end; it lets a process go on only after it has
looked. So a call whose end is before another's beginning, here, was over before that one began.
"""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

TRACED: Final = "fsync,fdatasync,rename,renameat,renameat2,unlink,write,pwrite64,writev,sendto,sendmsg"

_CALL: Final = re.compile(r"^(\d+)\s+(\w+)\((.*)\) += (-?\d+)")
_BEGUN: Final = re.compile(r"^(\d+)\s+(\w+)\((.*) <unfinished \.\.\.>$")
_ENDED: Final = re.compile(r"^(\d+)\s+<\.\.\. (\w+) resumed>(.*)\) += (-?\d+)")
_PATH: Final = re.compile(r"^\d+<([^>]*)>")
_SHOWN_OCTETS: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Call:
    """`arguments` as strace shows them, `path` that of the descriptor they begin with; `began`, `ended`: its lines."""

    name: str
    arguments: str
    result: int
    began: int
    ended: int

    @property
    def path(self) -> str:
        """The file, folder or socket that the call is about, "" where it is named otherwise."""
        found = _PATH.match(self.arguments)
        return found[1] if found else ""


def tracing(strace: str, into: Path) -> tuple[str, ...]:
    """Return the command that a program is traced under; it stays the parent's own child (`-D`)."""
    return (strace, "-D", "-f", "-yy", "-s", str(_SHOWN_OCTETS), "-e", f"trace={TRACED}", "-o", str(into))


def can_trace(strace: str) -> bool:
    """Say whether a process may be traced here: in some containers it may not."""
    return subprocess.run([strace, "-o", "/dev/null", "true"], capture_output=True, check=False).returncode == 0


def read(path: Path) -> list[Call]:
    """Return the calls that ended, in the order in which they began."""
    calls: list[Call] = []
    begun: dict[tuple[str, str], tuple[int, str]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines()):
        if found := _BEGUN.match(line):
            begun[found[1], found[2]] = number, found[3]
        elif found := _ENDED.match(line):
            began, arguments = begun.pop((found[1], found[2]), (number, ""))
            calls.append(Call(found[2], arguments + found[3], int(found[4]), began, number))
        elif found := _CALL.match(line):
            calls.append(Call(found[2], found[3], int(found[4]), number, number))
    return sorted(calls, key=lambda call: call.began)
