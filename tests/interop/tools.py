"""Where the programs of a run are, and how those that cannot be installed side by side are fetched.

    python -m tests.interop.tools        unpacks them into var/interop

Postfix, swaks, msmtp, curl and Node.js are taken as installed. OpenSMTPD and Exim conflict with Postfix as Debian
packages, so they are unpacked into a folder and run from there; nothing of them is configured or started on the
machine. Nodemailer, Haraka and aws-ses-v2-local come from npm, without running their install scripts.
"""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

from tests.interop.outcome import AbsentError
from tests.machine import ROOT

FOLDER: Final = Path(os.environ.get("MAILWAKE_INTEROP_TOOLS") or ROOT / "var" / "interop")
"""What was fetched: `packages/` has the Debian packages, `node_modules/` those of npm."""

PACKAGES: Final = FOLDER / "packages"

_DEBIAN: Final = (
    *("opensmtpd", "exim4-daemon-heavy", "exim4-base", "libmariadb3", "libspf2-2"),
    *("sasl2-bin", "libsasl2-modules", "libnet-ssleay-perl"),
)
_NPM: Final = ("nodemailer", "Haraka", "aws-ses-v2-local")


def program(name: str) -> str:
    """Return the path of an installed program. AbsentError: it is not there."""
    path = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}{os.pathsep}/usr/sbin")
    if path is None:
        raise AbsentError(f"{name} is not installed")
    return path


def unpacked(path: str) -> Path:
    """Return a file of the unpacked packages, by its absolute path in them. AbsentError: it was not fetched."""
    whole = PACKAGES / path.lstrip("/")
    if not whole.exists():
        raise AbsentError(f"{path} was not fetched: run python -m tests.interop.tools")
    return whole


def node_module(name: str) -> Path:
    """Return the folder of an npm package. AbsentError: it was not fetched, or there is no Node.js."""
    program("node")
    path = FOLDER / "node_modules" / name
    if not path.is_dir():
        raise AbsentError(f"{name} was not fetched: run python -m tests.interop.tools")
    return path


def output(*command: str | Path) -> str:
    """Return what a program prints, on both streams; it may fail, since some print their version so."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, stdin=subprocess.DEVNULL)
    return done.stdout + done.stderr


def fetch() -> None:
    """Fetch all of it; what is there already is fetched again."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    if shutil.which("apt-get"):
        downloads = FOLDER / "downloads"
        shutil.rmtree(downloads, ignore_errors=True)
        shutil.rmtree(PACKAGES, ignore_errors=True)
        downloads.mkdir()
        subprocess.run(["apt-get", "download", "--quiet", *_DEBIAN], cwd=downloads, check=True)
        for package in sorted(downloads.glob("*.deb")):
            subprocess.run(["dpkg-deb", "--extract", package, PACKAGES], check=True)
    if shutil.which("npm"):
        (FOLDER / "package.json").write_text('{"private": true}\n')
        install = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-progress", "--silent"]
        subprocess.run([*install, *_NPM], cwd=FOLDER, check=True)


if __name__ == "__main__":
    fetch()
