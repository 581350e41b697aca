"""What every tier shares: how thorough a run is, what the machine has, the installed package, and the loopback fence.

`MAILWAKE_SOAK=1` takes full counts; `HYPOTHESIS_PROFILE` is `dev`, `ci` or `soak`; `MAILWAKE_REQUIRE_ALL=1` turns
a skip for want of a tool into a failure.
"""

import ipaddress
import json
import os
import platform
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests import machine

# What the user's shell says about an installation of theirs is not about the ones under test.
for _name in [name for name in os.environ if name == "MAILWAKE_CONFIG" or name.startswith("MAILWAKE__")]:
    del os.environ[_name]

IS_SOAK = os.environ.get("MAILWAKE_SOAK") == "1"
SOAK_LIMIT_S = 7200

# No deadlines: machines are shared, and what must be linear has a test of its own. `ci` takes the same examples always.
settings.register_profile("dev", max_examples=10, deadline=None)
settings.register_profile("ci", max_examples=60, deadline=None, derandomize=True)
settings.register_profile(
    "soak", max_examples=2000, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what has a full count for `make soak`, and give it the time for it."""
    for item in items:
        if not isinstance(item, pytest.Function):
            continue
        if {"count_of", "record_soak"} & set(item.fixturenames):
            item.add_marker("soak")
        if IS_SOAK:
            item.add_marker(pytest.mark.timeout(SOAK_LIMIT_S), append=False)


@pytest.fixture(scope="session")
def require_tool() -> Callable[[str], str]:
    """Give `require_tool("swaks")`: the program's path, or a skip (in CI a failure) that names it."""
    return machine.require_tool


@pytest.fixture(scope="session")
def corpus() -> Path:
    """Give the folder of real mail, or skip: `eml/` has messages, `html/` has bodies."""
    return machine.require_corpus("eml").parent


@pytest.fixture(scope="session")
def count_of() -> Callable[[int, int], int]:
    """Give `count_of(200, 20_000)`: the first number under `make test`, the second under `make soak`."""
    return lambda few, full: full if IS_SOAK else few


@pytest.fixture(scope="session")
def record_soak() -> Callable[[str, Mapping[str, object]], None]:
    """Give `record_soak("kills", {...})`: under `make soak` it writes `bench/results/soak-kills.json`, else nothing."""

    def record(name: str, counts: Mapping[str, object]) -> None:
        if not IS_SOAK:
            return
        result = {
            "taken_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "python": platform.python_version(),
            "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
            **counts,
        }
        path = machine.ROOT / "bench" / "results" / f"soak-{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result, indent=2) + "\n")

    return record


@pytest.fixture(scope="session")
def installed_mailwake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the `mailwake` command of the built wheel, installed in an environment that cannot see this folder.

    The locked dependencies are lent to it by a .pth file. The editable install is not: a .pth file inside a folder that
    is lent so is not read.
    """
    folder = tmp_path_factory.mktemp("installed")
    run = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    wheels = folder / "wheels"
    _run(
        *run, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(wheels), str(machine.ROOT)
    )
    _run(sys.executable, "-m", "venv", "--without-pip", str(folder / "venv"))
    python = folder / "venv" / "bin" / "python"
    site = Path(_run(str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    (site / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (wheel,) = wheels.glob("mailwake-*.whl")
    _run(*run, "--python", str(python), "install", "--no-deps", "--no-index", str(wheel))
    return python.with_name("mailwake")


def _run(*command: str) -> str:
    outcome = subprocess.run(command, check=False, capture_output=True, text=True, cwd="/")
    assert outcome.returncode == 0, f"{command}: {outcome.stdout}{outcome.stderr}"
    return outcome.stdout


def _stay_on_loopback(event: str, args: tuple[object, ...]) -> None:
    """Refuse every socket of a test that leaves the machine, or that others could reach."""
    if event not in {"socket.bind", "socket.connect"}:
        return
    address = args[1]
    if not isinstance(address, tuple):  # a Unix socket has a path
        return
    host = str(address[0])
    try:
        is_loopback = ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        is_loopback = host == "localhost"
    if not is_loopback:
        message = f"{event} to {host or 'every interface'}: tests stay on loopback"
        raise RuntimeError(message)


sys.addaudithook(_stay_on_loopback)
