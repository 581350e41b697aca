"""A server program in mount and process namespaces of its own: it sees this machine with its packages added.

The root of the namespace is an overlay: below it this machine, above it a memory file system with what was unpacked.
So programs that are built for fixed paths and users (`/etc/exim4`, `/var/spool/smtpd`, user `opensmtpd`) find them,
and nothing outside of the run's folder is touched. The network is the machine's: servers listen on loopback, on high
ports. The first process is a shell that dies with us, and then the kernel ends every other one of the namespace:
nothing can be left running. (Were it the server itself, changing its user would undo its death signal.)

Limits: Linux, and root. Without them the servers that need it are left out, and the table says so.
"""

import os
import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.interop.outcome import AbsentError

_STOP_LIMIT_S: Final = 20.0
# Arguments: folder of the run, folder of unpacked packages (may be empty), lines for passwd, the script.
_ENTER: Final = """
folder=$1 packages=$2 users=$3 script=$4
stage=$folder/stage
mkdir -p "$stage"
mount -t tmpfs tmpfs "$stage"
mkdir "$stage/upper" "$stage/work" "$stage/merged"
for part in etc usr var; do
    if [ -n "$packages" ] && [ -d "$packages/$part" ]; then cp -a "$packages/$part" "$stage/upper/"; fi
done
mount -t overlay overlay -o "lowerdir=/,upperdir=$stage/upper,workdir=$stage/work" "$stage/merged"
mount -t proc proc "$stage/merged/proc"
mount --rbind /dev "$stage/merged/dev"
mkdir -p "$stage/merged$folder"
mount --bind "$folder" "$stage/merged$folder"
id=880
for user in $users; do
    grep -q "^$user:" /etc/passwd || echo "$user:x:$id:$id::/nonexistent:/bin/sh" >> "$stage/merged/etc/passwd"
    grep -q "^$user:" /etc/group || echo "$user:x:$id:" >> "$stage/merged/etc/group"
    id=$((id + 1))
done
cd "$folder"
chroot "$stage/merged" /bin/sh -e -c "cd '$folder'; $script" &
wait $!
"""


class Sandbox:
    """One program; use it as a context. `folder/output` has what it printed."""

    def __init__(self, folder: Path, script: str, *, packages: Path | None = None, users: tuple[str, ...] = ()) -> None:
        """Take the run's folder and a script whose last line is `exec PROGRAM` in the foreground."""
        self._folder = folder
        self._arguments = (str(folder), str(packages or ""), " ".join(users), script)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        if os.geteuid() != 0 or shutil.which("unshare") is None:
            raise AbsentError("namespaces need root, and unshare of util-linux")
        enter = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "/bin/sh", "-e", "-c", _ENTER, "sandbox"]
        with (self._folder / "output").open("wb") as output:
            self._process = subprocess.Popen(
                [*enter, *self._arguments], stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.kill()  # the kernel then ends the whole namespace
            self._process.wait(_STOP_LIMIT_S)

    @property
    def output(self) -> str:
        """What the program printed so far."""
        return (self._folder / "output").read_text(errors="replace")

    @property
    def is_running(self) -> bool:
        """False as soon as the program has ended."""
        return self._process is not None and self._process.poll() is None
