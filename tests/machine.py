"""What this machine has that tests may ask for: tools beside Python, and the corpus of real mail.

Owns the rule of what a lack means. A missing tool skips the test, visibly; under `MAILWAKE_REQUIRE_ALL=1`, which CI
sets, it fails. The corpus is not part of the project and most machines lack it: without it the test is skipped in any
case, unless `MAILWAKE_CORPUS` names a folder that is not there.
"""

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).resolve().parent.parent
"""The root of the repository."""

CORPUS = Path(os.environ.get("MAILWAKE_CORPUS") or ROOT.parent / "shared" / "corpus")
"""Where real mail lies, if it does: `eml/` has messages, `html/` has bodies."""


def require_tool(name: str) -> str:
    """Return the path of a program, such as `"/usr/bin/swaks"`; skip the test, or in CI fail it, if there is none."""
    path = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}{os.pathsep}/usr/sbin")
    if path is None:
        lacking(f"{name} is not installed")
    return path


def require_corpus(folder: str) -> Path:
    """Return a folder of the corpus, such as `require_corpus("eml")`; skip the running test where there is none."""
    path = CORPUS / folder
    if not path.is_dir():
        if "MAILWAKE_CORPUS" in os.environ:
            pytest.fail(f"MAILWAKE_CORPUS names a corpus that has no folder {folder}")
        pytest.skip("the corpus of real mail is not here; MAILWAKE_CORPUS names another place")
    return path


def lacking(what: str) -> NoReturn:
    """Skip the running test for want of something, or fail it where everything is required."""
    if os.environ.get("MAILWAKE_REQUIRE_ALL") == "1":
        pytest.fail(f"{what}, and MAILWAKE_REQUIRE_ALL is set")
    pytest.skip(what)
