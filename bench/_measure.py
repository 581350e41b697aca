"""What every bench shares: the machine, CPU time of a process, rounds in turn, the result as JSON. Run by none."""

import json
import os
import platform
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"
CORPUS = Path(os.environ.get("MAILWAKE_CORPUS") or ROOT.parent / "shared" / "corpus")

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int) -> float:
    """Return the user and system time that a process has used so far (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND


def peak_memory_mb(pid: int) -> float:
    """Return the most memory that a process had resident (Linux)."""
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return round(int(line.split()[1]) / 1024, 1)


def in_turn(rounds: int, contenders: Mapping[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Measure every contender once a round, in turn, so that a machine whose speed drifts is fair to all."""
    figures: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, measure in contenders.items():
            figures[name].append(measure())
    return figures


def median_ratio(ours: Iterable[float], theirs: Iterable[float]) -> float:
    """Return the median of theirs/ours, round by round: how many times better ours is, where less is better."""
    return round(statistics.median(other / own for own, other in zip(ours, theirs, strict=True)), 2)


def summary(figures: Iterable[float], digits: int = 3) -> dict[str, float]:
    """Return least, median and most of some figures."""
    values = sorted(figures)
    return {
        "min": round(values[0], digits),
        "median": round(statistics.median(values), digits),
        "max": round(values[-1], digits),
    }


def write(name: str, result: Mapping[str, object], packages: Iterable[str] = ()) -> None:
    """Write `bench/results/NAME.json` with the machine, the versions and the command, and print it."""
    whole = {
        "bench": name,
        "command": f"python -m bench.{name} {' '.join(sys.argv[1:])}".strip(),
        "taken_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
        "python": platform.python_version(),
        "packages": {package: version(package) for package in packages},
        **result,
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    text = json.dumps(whole, indent=2)
    (RESULTS / f"{name}.json").write_text(text + "\n")
    print(text)
